"""The breaker's shell.

`shell` brackets calls and tells, `of_key` is the handle of one key, `controls` what both have,
`make` the factory.
"""

from resilient._policies.breaker.make import breaker
from resilient._policies.breaker.of_key import BreakerOfKey
from resilient._policies.breaker.shell import Breaker

__all__ = ["Breaker", "BreakerOfKey", "breaker"]

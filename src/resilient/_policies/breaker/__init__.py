"""The breaker's shell.

`admitting` admits calls and ends them, `fast_path` is what a call does without the lock, `shell`
the policy, `controls` what it and the handle of a key have in common, `make` the factory.
"""

from resilient._policies.breaker.make import breaker
from resilient._policies.breaker.shell import Breaker, BreakerOfKey

__all__ = ["Breaker", "BreakerOfKey", "breaker"]

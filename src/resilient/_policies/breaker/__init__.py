"""The breaker's shell: `shell` brackets calls and tells, `make` holds the factory."""

from resilient._policies.breaker.make import breaker
from resilient._policies.breaker.shell import Breaker, BreakerOfKey

__all__ = ["Breaker", "BreakerOfKey", "breaker"]

"""How caches of the same thing tell each other that a key is no longer true.

`Invalidation` is what ``cache(invalidation=...)`` takes, `InProcessInvalidation` the channel
between the caches of one process.
"""

from resilient._policies.cache.invalidation import InProcessInvalidation, Invalidation

__all__ = ["InProcessInvalidation", "Invalidation"]

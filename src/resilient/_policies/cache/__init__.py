"""The cache's shell.

`shell` the policy, `store` its entries, `fetch` its runs and refreshes, `invalidation` how caches
hear of each other, `make` the factory.
"""

from resilient._policies.cache.invalidation import InProcessInvalidation, Invalidation
from resilient._policies.cache.make import cache
from resilient._policies.cache.shell import Cache, CacheStats

__all__ = ["Cache", "CacheStats", "InProcessInvalidation", "Invalidation", "cache"]

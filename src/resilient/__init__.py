"""Keeps calls fast and safe while the things they depend on are not."""

import typing as _t

from resilient import errors
from resilient._core.breaker import BreakerState, BreakerStats
from resilient._policies.backoff import Backoff, backoff
from resilient._policies.breaker import Breaker, breaker
from resilient._policies.common.calls import Call
from resilient._policies.common.policy import Policy, policies, policy_of
from resilient._policies.deadline import (
    Deadline,
    carry,
    current_deadline,
    deadline,
    detached,
    remaining,
)
from resilient._policies.pipeline import Pipeline, pipeline
from resilient._policies.retry import Retry, RetryBudget, RetryStats, retry
from resilient._policies.singleflight import SingleFlight, SingleFlightStats, singleflight
from resilient._policies.timeout import Timeout, TimeoutStats, timeout
from resilient.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    Rejected,
    ResilienceError,
)

if _t.TYPE_CHECKING:
    from resilient import events, testing
    from resilient._core.bloom import BloomFilter
    from resilient._policies.adaptive_limit import AdaptiveLimit, AdaptiveLimitStats, adaptive_limit
    from resilient._policies.bulkhead import Bulkhead, BulkheadStats, bulkhead
    from resilient._policies.cache import Cache, CacheStats, cache
    from resilient._policies.fallback import Fallback, FallbackStats, fallback
    from resilient._policies.health import health
    from resilient._policies.hedge import Hedge, HedgeStats, hedge
    from resilient._policies.lint import Finding, lint
    from resilient._policies.protect import Protection, protect
    from resilient._policies.rate_limit import RateLimit, RateLimitStats, rate_limit
    from resilient._policies.throttle import Throttle, ThrottleStats, throttle

__all__ = [
    "AdaptiveLimit",
    "AdaptiveLimitStats",
    "Backoff",
    "BloomFilter",
    "Breaker",
    "BreakerState",
    "BreakerStats",
    "Bulkhead",
    "BulkheadFull",
    "BulkheadStats",
    "Cache",
    "CacheStats",
    "Call",
    "CircuitOpen",
    "Deadline",
    "DeadlineExceeded",
    "Fallback",
    "FallbackStats",
    "Finding",
    "Hedge",
    "HedgeStats",
    "Overloaded",
    "Pipeline",
    "Policy",
    "Protection",
    "RateLimit",
    "RateLimitStats",
    "RateLimited",
    "Rejected",
    "ResilienceError",
    "Retry",
    "RetryBudget",
    "RetryStats",
    "SingleFlight",
    "SingleFlightStats",
    "Throttle",
    "ThrottleStats",
    "Timeout",
    "TimeoutStats",
    "adaptive_limit",
    "backoff",
    "breaker",
    "bulkhead",
    "cache",
    "carry",
    "current_deadline",
    "deadline",
    "detached",
    "errors",
    "events",
    "fallback",
    "health",
    "hedge",
    "lint",
    "pipeline",
    "policies",
    "policy_of",
    "protect",
    "rate_limit",
    "remaining",
    "retry",
    "singleflight",
    "testing",
    "throttle",
    "timeout",
]


_LATE = {
    name: f"resilient.{module}"
    for module, names in {
        "_core.bloom": "BloomFilter",
        "_policies.adaptive_limit": "AdaptiveLimit AdaptiveLimitStats adaptive_limit",
        "_policies.bulkhead": "Bulkhead BulkheadStats bulkhead",
        "_policies.cache": "Cache CacheStats cache",
        "_policies.fallback": "Fallback FallbackStats fallback",
        "_policies.health": "health",
        "_policies.hedge": "Hedge HedgeStats hedge",
        "_policies.lint": "Finding lint",
        "_policies.protect": "Protection protect",
        "_policies.rate_limit": "RateLimit RateLimitStats rate_limit",
        "_policies.throttle": "Throttle ThrottleStats throttle",
    }.items()
    for name in names.split()
}
"""Where the names are that are loaded when they are asked for: most programs need few of them."""


def __getattr__(name: str) -> object:
    """Load what is asked for the first time."""
    from importlib import import_module  # noqa: PLC0415  # see above

    if name in {"events", "testing"}:
        return import_module(f"resilient.{name}")
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_LATE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)

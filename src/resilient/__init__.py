"""Keeps calls fast and safe while the things they depend on are not."""

import typing as _t

from resilient import errors
from resilient._core.bloom import BloomFilter
from resilient._core.breaker import BreakerState, BreakerStats
from resilient._policies.adaptive_limit import AdaptiveLimit, AdaptiveLimitStats, adaptive_limit
from resilient._policies.backoff import Backoff, backoff
from resilient._policies.base import Call, Policy, policies, policy_of
from resilient._policies.breaker import Breaker, breaker
from resilient._policies.bulkhead import Bulkhead, BulkheadStats, bulkhead
from resilient._policies.cache import Cache, CacheStats, cache
from resilient._policies.deadline import (
    Deadline,
    carry,
    current_deadline,
    deadline,
    detached,
    remaining,
)
from resilient._policies.fallback import Fallback, FallbackStats, fallback
from resilient._policies.hedge import Hedge, HedgeStats, hedge
from resilient._policies.lint import Finding, lint
from resilient._policies.pipeline import Pipeline, pipeline
from resilient._policies.protect import Protection, protect
from resilient._policies.rate_limit import RateLimit, RateLimitStats, rate_limit
from resilient._policies.retry import Retry, RetryBudget, RetryStats, retry
from resilient._policies.singleflight import SingleFlight, SingleFlightStats, singleflight
from resilient._policies.throttle import Throttle, ThrottleStats, throttle
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


def __getattr__(name: str) -> object:
    """Load `events` and `testing` when they are asked for: most programs never do."""
    if name not in {"events", "testing"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # see above

    return import_module(f"resilient.{name}")

"""Circuit breaker: `machine` holds the rules and the permits, `values` what goes in and out."""

from resilient._core.breaker.machine import BreakerCore, Permit, SharedRejection
from resilient._core.breaker.values import (
    BY_HAND,
    COUNTING,
    REJECTING,
    TRANSITIONS,
    BreakerConfig,
    BreakerState,
    BreakerStats,
    Moved,
    Refusal,
    Transition,
    Why,
    WouldOpen,
)  # fmt: skip

__all__ = [
    "BY_HAND", "COUNTING", "REJECTING", "TRANSITIONS", "BreakerConfig", "BreakerCore",
    "BreakerState", "BreakerStats", "Moved", "Permit", "Refusal", "SharedRejection", "Transition",
    "Why", "WouldOpen",
]  # fmt: skip

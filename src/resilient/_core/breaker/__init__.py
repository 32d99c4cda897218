"""Circuit breaker: `machine` holds the rules, `values` what goes in and comes out."""

from resilient._core.breaker.machine import OUT_OF_ORDER, BreakerCore
from resilient._core.breaker.values import (
    BY_HAND,
    COUNTING,
    TRANSITIONS,
    BreakerRule,
    BreakerState,
    BreakerStats,
    Moved,
    Permit,
    Refusal,
    Shut,
    Transition,
    Why,
    WouldOpen,
)

__all__ = [
    "BY_HAND",
    "COUNTING",
    "OUT_OF_ORDER",
    "TRANSITIONS",
    "BreakerCore",
    "BreakerRule",
    "BreakerState",
    "BreakerStats",
    "Moved",
    "Permit",
    "Refusal",
    "Shut",
    "Transition",
    "Why",
    "WouldOpen",
]

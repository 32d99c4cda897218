"""Adaptive limit: a bound on concurrency that follows the latency.

`algorithms` says how the limit follows, `sampling` what it follows, `places` who gets in.
"""

from resilient._core.adaptive_limit.algorithms import ALGORITHMS, Algorithm
from resilient._core.adaptive_limit.places import (
    AdaptiveLimitConfig,
    AdaptiveLimitCore,
    Ticket,
)  # fmt: skip
from resilient._core.adaptive_limit.sampling import Outcome

__all__ = [
    "ALGORITHMS", "AdaptiveLimitConfig", "AdaptiveLimitCore", "Algorithm", "Outcome", "Ticket",
]  # fmt: skip

"""Adaptive limit: a bound on concurrency that follows the latency.

`algorithms` says how the limit follows, `sampling` what it follows, `places` who gets in.
"""

from resilient._core.adaptive_limit.algorithms import ALGORITHMS, Algorithm
from resilient._core.adaptive_limit.places import (
    AdaptiveLimitCore,
    LimitRule,
    PriorityWaiter,
    Ticket,
)
from resilient._core.adaptive_limit.sampling import Outcome

__all__ = [
    "ALGORITHMS",
    "AdaptiveLimitCore",
    "Algorithm",
    "LimitRule",
    "Outcome",
    "PriorityWaiter",
    "Ticket",
]

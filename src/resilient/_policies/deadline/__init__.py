"""Deadlines.

`block` is one limit around one block, `ambient` what code below it may ask, `here` what a policy
asks, `cause` who is behind a cancellation.
"""

from resilient._policies.deadline.ambient import (
    carry,
    current_deadline,
    deadline,
    detached,
    remaining,
)
from resilient._policies.deadline.block import Deadline

__all__ = ["Deadline", "carry", "current_deadline", "deadline", "detached", "remaining"]

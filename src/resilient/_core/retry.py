"""Retry: when to try again, and why not.

The reasons are asked in this order, so that the dearest comes last:

1. *not_retryable*: the error is none of those that may be repeated.
2. *attempts*, *stop*: enough was tried.
3. *deadline*: what is left is not more than the wait.
4. *budget*: asked only when a retry would otherwise happen (the shell asks it,
   since it is shared).
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from typing import Final, Literal

Reason = Literal["attempts", "deadline", "budget", "not_retryable", "stop"]
REASONS: Final[tuple[Reason, ...]] = ("attempts", "deadline", "budget", "not_retryable", "stop")

StopReason = Reason | Literal["wait_failed", "stop_failed"]
"""Why no more is tried: a reason, or which strategy failed. That counts as *stop*."""


def reason_to_stop(
    attempt: int,
    attempts: int | None,
    stopped: bool,  # noqa: FBT001  # by position: on the path of every failure
    wait: float,
    left: float,
) -> Reason | None:
    """What speaks against another try, after *attempt* (from 1) failed and may be repeated. *wait*
    is what the strategy and the error ask for, *left* what remains of the deadline.
    """
    if attempts is not None and attempt >= attempts:
        return "attempts"
    if stopped:
        return "stop"
    return "deadline" if left <= wait else None


def max_retry_after(errors: Iterator[BaseException] | tuple[BaseException | None, ...]) -> float:
    """The largest usable ``retry_after`` of *errors*; 0 if there is none."""
    return max((retry_after_of(error) for error in errors), default=0.0)


def retry_after_of(error: BaseException | None) -> float:
    """The ``retry_after`` of *error*, seconds or a `timedelta`; 0 if it has none that is usable."""
    try:
        value = getattr(error, "retry_after", None)
        if value is None:
            return 0.0
        if isinstance(value, dt.timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return 0.0
        return float(value) if 0 <= value <= sys.float_info.max else 0.0
    except Exception:  # noqa: BLE001  # a property that fails, or a number that does not compare
        return 0.0

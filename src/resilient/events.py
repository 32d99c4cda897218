"""What policies tell: frozen records, and `subscribe` to hear them.

An event says what was decided and when; it changes nothing. Every one has

* ``policy``: the name of the policy that decided,
* ``kind``: the kind of that policy (``"breaker"``, ``"retry"``, …),
* ``at``: the instant of the decision (monotonic seconds, not a wall time), and
* ``key``: of a keyed policy, the key that it was about; else ``None``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from resilient._core.breaker import BreakerState
from resilient._core.retry import Reason
from resilient._runtime.notify import Subscription, subscribe

__all__ = [
    "CallRejected",
    "DeadlineExpired",
    "Event",
    "FlightJoined",
    "RetryGaveUp",
    "RetryScheduled",
    "StateChanged",
    "Subscription",
    "WouldHaveOpened",
    "subscribe",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events share."""

    policy: str
    kind: str
    at: float
    key: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """A breaker moved; ``reason`` is the watch that tripped, or what else made it."""

    old: BreakerState
    new: BreakerState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveOpened(Event):
    """A breaker in METRICS_ONLY would have opened: once in each generation."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRejected(Event):
    """A policy did not make a call; the fields are those of the error."""

    reason: str
    retry_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """Attempt number ``attempt`` failed; another will follow after ``wait`` seconds.

    ``error`` is ``None`` after an unwanted result.
    """

    attempt: int
    wait: float
    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryGaveUp(Event):
    """No more is tried; ``error`` is ``None`` after an unwanted result."""

    reason: Reason
    attempts: int
    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineExpired(Event):
    """A deadline or timeout of ``seconds`` cut its block short."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightJoined(Event):
    """A caller waits for a run that another one began."""

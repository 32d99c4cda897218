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
    "CallRejected", "DeadlineExpired", "Event", "FallbackUsed", "FlightJoined", "HedgeLaunched",
    "LimitChanged", "RetryGaveUp", "RetryScheduled", "StaleServed", "StateChanged",
    "Subscription", "WouldHaveOpened", "subscribe",
]  # fmt: skip


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
class LimitChanged(Event):
    """An adaptive limit follows the latency."""

    old: int
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeLaunched(Event):
    """Attempt number ``attempt`` of a call (2 for the first hedge) began beside the others.

    ``waited`` seconds after the call did.
    """

    attempt: int
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackUsed(Event):
    """A call failed with ``error``, and the fallback is asked instead.

    ``error`` is ``None`` after an unwanted result.
    """

    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleServed(Event):
    """A refresh failed with ``error``, and the old value, ``age`` seconds old, was served.

    ``error`` is ``None`` if the refresh was late.
    """

    age: float
    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightJoined(Event):
    """A caller waits for a run that another one began."""

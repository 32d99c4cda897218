"""What a run leaves behind: a record of each call, and what was seen around them.

All instants are seconds from the start of the run.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


class Outcome(enum.StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    """Turned away before anything was sent."""
    FAILED = "failed"
    """A named error: of httpx2, of this library, a timeout or a 5xx answer."""
    STRANGE = "strange"
    """Any other error: a defect of the client, or of what guards it."""
    LOST = "lost"
    """Neither: a deadline and a second after the run's end it had not ended, or it ended as
    cancelled, though nobody had cancelled it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `arrived` is when it was due, `began` when its task ran for the first time."""

    arrived: float
    began: float
    ended: float
    outcome: Outcome
    error: str | None
    sent: int

    @property
    def seconds(self) -> float:
        """How long the caller waited."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Stall:
    """A time for part of which, `away` seconds, the machine did not run the client's process."""

    begin: float
    end: float
    away: float


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the breaker's state."""

    at: float
    old: str
    new: str
    reason: str


@dataclass(slots=True)
class Ledger:
    """All that is known of one client in one run; it grows while the run goes on."""

    calls: list[Call] = field(default_factory=list)
    ended_in: dict[int, list[Call]] = field(default_factory=dict)
    stalls: list[Stall] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    state: str | None = None
    accepted: dict[int, int] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)
    latest_start: float = 0.0

    def add(self, calls: Iterable[Call]) -> None:
        """Keep the record of some more calls."""
        for call in calls:
            self.calls.append(call)
            self.ended_in.setdefault(math.floor(call.ended), []).append(call)

    @property
    def sent(self) -> int:
        """Requests that arrived at the proxy."""
        return sum(self.accepted.values())

    def outcomes(self) -> Counter[Outcome]:
        """How many calls ended in which way."""
        return Counter(call.outcome for call in self.calls)

    def errors(self) -> Counter[str]:
        """How many calls ended in which error."""
        return Counter(call.error for call in self.calls if call.error is not None)

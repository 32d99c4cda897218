"""What goes into a breaker's rules, and what comes out: frozen values."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple


class BreakerState(enum.StrEnum):
    """What a breaker does with a call; a string, which is its value.

    CLOSED lets it through, OPEN rejects it, HALF_OPEN lets a few probes through.
    By hand: FORCED_OPEN rejects until `reset`, DISABLED lets through and records
    nothing, METRICS_ONLY lets through, records, and tells once when it would have opened.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


S = BreakerState
TRANSITIONS: Final = (
    (S.CLOSED, "a watch trips", S.OPEN),
    (S.OPEN, "cooldown over, next call", S.HALF_OPEN),
    (S.HALF_OPEN, "enough probes failed", S.OPEN),
    (S.HALF_OPEN, "all probes are in", S.CLOSED),
)
BY_HAND: Final = (
    ("force_open", S.FORCED_OPEN),
    ("disable", S.DISABLED),
    ("metrics_only", S.METRICS_ONLY),
    ("reset", S.CLOSED),
)
COUNTING: Final = (S.CLOSED, S.METRICS_ONLY)
REJECTING: Final = (S.OPEN, S.HALF_OPEN, S.FORCED_OPEN)


class BreakerConfig(NamedTuple):
    """The settings of a breaker; its factory checks the ranges."""

    consecutive_failures: int | None
    failure_rate: float | None
    slow: float | None
    slow_rate: float
    window: float
    window_calls: int | None
    minimum: int
    cooldown: Callable[[int, float], float]  # (k-th opening in a row, draw) -> seconds
    probes: int
    probe_lease: float
    tolerance: float = 0.0  # failures in a row more, where a failure came for each success


class Why(NamedTuple):
    """What made a breaker move: `watch` is one word, the rest are its figures."""

    watch: str
    bad: int
    calls: int

    def __str__(self) -> str:
        match self.watch:
            case "consecutive_failures":
                return f"{self.bad} failure{'s' * (self.bad > 1)} in a row"
            case "probes":
                return f"{self.bad} of {self.calls} probes failed"
            case "slow_probes":
                return f"{self.bad} of {self.calls} probes were slow"
            case "trip":
                return "tripped by an error"
            case "failure_rate" | "slow_rate":
                rate = f"{self.bad / self.calls:.0%} of {self.calls} calls"
                return f"{self.watch.replace('_', ' ')} {rate}"
            case _:
                return self.watch.replace("_", " ")


class Transition(NamedTuple):
    """A change of state."""

    old: BreakerState
    new: BreakerState
    why: Why
    at: float
    key: Hashable = None


class WouldOpen(NamedTuple):
    """METRICS_ONLY: a watch tripped, and nothing was done about it."""

    why: Why
    at: float
    key: Hashable = None


Moved = Transition | WouldOpen


class Refusal(NamedTuple):
    """The call must not be made."""

    retry_after: float | None
    reason: str
    why: Why | None


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """A breaker at one instant. Totals cover its whole life, the rates its window.

    ``calls = successes + failures + ignored + in_flight``; rejections are apart.
    ``slow`` are the calls that lasted too long, cancelled ones among them. The rates are ``None``
    below the minimum of calls. ``opened`` is how often it opened, ``retry_after`` what is left of
    the cooldown.
    """

    name: str
    state: BreakerState
    generation: int
    calls: int
    successes: int
    failures: int
    slow: int
    ignored: int
    rejected: int
    in_flight: int
    failure_rate: float | None
    slow_rate: float | None
    opened: int
    retry_after: float | None

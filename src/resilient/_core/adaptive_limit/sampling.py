"""What an adaptive limit knows of the latency.

1. Calls that ended are summed up in a window; a limit is judged once for each, so that the
   calls of one traffic jam count once. A window ends when it holds `ENOUGH` calls, and twice
   as many as were in flight (those that end first are the short ones), and has lasted as long
   as two calls do. If they are slow to come, `ENOUGH` calls or `FEW_DROPS` will do after `LONG`,
   and whatever there is after `LONGEST`.
2. The latency without load is a slow mean, of the windows that are not longer than chance may
   make them. It falls faster than it rises.
3. A mean that is never seen again may be out of date: the service has become slower, or our calls
   wait for each other. So after `TRUSTED` seconds, or the time of `CALLS` calls, it is measured
   anew, with half of what was in flight, by calls that begin when the others have ended. If they
   are quicker, calls were waiting, and it is halved again, until that changes nothing: then the
   mean is that of a call alone. A queue of our own could never be told from a slow service
   otherwise, and what a latency says that is as it ever was is no proof: so it is measured after
   the first window, too, and every `VERIFIED` seconds, where half of the limit is in use. Fewer
   than `GENTLE` calls must do with half of the limit, which some calls at once hardly notice: in a
   lasting overload the next measuring goes further, with the limit that this one has left.
4. Calls that were cancelled or rejected are no samples; who ended in a time-out is a *drop*,
   and its time a lower bound of what it would have taken (L7).

The measuring with fewer calls in flight is after ProbeRTT of BBR (Cardwell et al., 2016).
"""

from __future__ import annotations

import enum
import math
from typing import Final, NamedTuple

ENOUGH: Final = 10
LONG: Final = 1.0
LONGEST: Final = 10.0
FEW_DROPS: Final = 2
TRUSTED: Final = 5.0
CALLS: Final = 10
FALLS: Final = 0.1
RISES: Final = 0.02
VERIFIED: Final = 60.0
"""Seconds, or the time of `CALLS` calls, for which what was measured needs no other proof."""
GENTLE: Final = 5.0
WAITED: Final = 0.8
"""Half of the calls must be quicker than this share, or they did not wait for each other."""


class Outcome(enum.Enum):
    """How a call ended, for the limit."""

    SAMPLE = "sample"
    DROP = "drop"
    IGNORED = "ignored"


class Reading(NamedTuple):
    """What one window says.

    ``mean`` seconds a call, give or take ``error``; at most ``peak`` calls were in flight;
    ``dropped`` is the share of drops.
    """

    mean: float
    error: float
    peak: int
    dropped: float


class Sampler:
    """The present window."""

    __slots__ = ("_count", "_drops", "_since", "_squares", "_sum", "peak")

    def __init__(self, now: float) -> None:
        self.clear(now)

    def clear(self, now: float) -> None:
        """Begin a window."""
        self._since = now
        self._count = self._drops = self.peak = 0
        self._sum = self._squares = 0.0

    def add(self, latency: float, outcome: Outcome, now: float) -> None:
        """One more call has ended. The first one's beginning is the window's."""
        if not self._count:
            self._since = max(self._since, now - latency)
        self._count += 1
        self._drops += outcome is Outcome.DROP
        self._sum += latency
        self._squares += latency * latency

    def read(self, now: float, latency: float) -> Reading | None:
        """What the window says, if it is over, for calls that last about *latency*."""
        age = now - self._since
        if not self._count or not self._over(age, min(2 * latency, LONGEST)):
            return None
        mean = self._sum / self._count
        error = mean  # of a few calls nobody knows how far they are spread
        if self._count >= ENOUGH:
            error = math.sqrt(max(0.0, self._squares / self._count - mean * mean) / self._count)
        return Reading(mean, error, self.peak, self._drops / self._count)

    def _over(self, age: float, two_calls: float) -> bool:
        if self._count >= max(ENOUGH, 2 * self.peak):
            return age >= two_calls
        if self._count >= ENOUGH:
            return age >= max(LONG, two_calls)
        return age >= (LONG if self._drops >= FEW_DROPS else LONGEST)


class Baseline:
    """The latency without load, ``unloaded``; None before the first window.

    While it is measured, at most ``cap`` calls, never fewer than *least*, are to be in flight.
    """

    __slots__ = (
        "_before", "_due_at", "_fell", "_floor", "_least", "_measured_from", "_proven", "_seen_at",
        "cap", "unloaded",
    )  # fmt: skip

    def __init__(self, now: float, least: int) -> None:
        self.unloaded: float | None = None
        self.cap = math.inf
        self._least = self._floor = float(least)
        self._seen_at = self._due_at = now
        self._before = 0.0  # the mean at the cap before this one
        self._fell = False  # whether calls were quicker with fewer in flight
        self._proven = 0.0  # what was measured last
        self._measured_from = -math.inf  # calls that began before say nothing of the cap

    @property
    def measuring(self) -> bool:
        """Whether fewer calls are to be in flight, to measure."""
        return self.cap != math.inf

    def takes(self, began: float) -> bool:
        """Whether a call that began then tells of what is in force."""
        return began >= self._measured_from

    def learn(self, reading: Reading, limit: float, now: float) -> float | None:
        """Take a window under *limit* into account. If it was for the measuring, and so for nothing
        else, return how many calls may be in flight by what was found, ``inf`` for no such bound.
        """
        if self.measuring:
            return self._measure(reading, now)
        mean, known = reading.mean, self.unloaded
        if known is None:
            self._know(mean, now, TRUSTED)
        elif mean - reading.error <= known:  # else it says that there is a queue
            self.unloaded = known + (FALLS if mean < known else RISES) * (mean - known)
            self._seen_at = now
            if now >= self._due_at and 2 * reading.peak > limit:
                self._begin(limit, reading, now)
        elif now - self._seen_at >= max(TRUSTED, CALLS * known):
            self._begin(limit, reading, now)
        return None

    def _begin(self, limit: float, reading: Reading, now: float) -> None:
        """Begin to measure."""
        self._fell = False
        self._floor = max(self._least, min(limit / 2, GENTLE))
        self._lower(min(limit, reading.peak), reading.mean, now)

    def _measure(self, reading: Reading, now: float) -> float:
        """The window of one cap: lower it again while that makes calls quicker."""
        cap, mean = self.cap, reading.mean
        proven = mean - reading.error <= self._proven
        waited = mean + reading.error < WAITED * self._before
        self._fell = self._fell or waited
        if waited and not proven and cap > self._floor:
            self._lower(cap, mean, now)
            return math.inf
        self.cap, self._proven = math.inf, mean
        self._know(mean, now, VERIFIED)
        return 4 * cap if self._fell else math.inf

    def _lower(self, used: float, mean: float, now: float) -> None:
        """Halve what may be in flight."""
        self.cap, self._before = max(self._floor, used / 2), mean
        self._measured_from = now + mean

    def _know(self, mean: float, now: float, trusted: float) -> None:
        self.unloaded, self._seen_at = mean, now
        self._due_at = now + max(trusted, CALLS * mean)

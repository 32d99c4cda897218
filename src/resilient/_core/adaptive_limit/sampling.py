"""What an adaptive limit knows of the latency.

1. Calls that ended are summed up in a window; a limit is judged once for each, so that the
   calls of one traffic jam count once. A window ends when it holds `ENOUGH` calls, and twice
   as many as were in flight (those that end first are the short ones), and has lasted as long
   as two calls do. If they are slow to come, `ENOUGH` calls or `FEW_DROPS` will do after `LONG`,
   and whatever there is after `LONGEST`.
2. The latency without load is a slow mean, of the windows that are not longer than chance may
   make them. It falls faster than it rises.
3. A mean that is never seen again may be out of date: the service has become slower, and not
   because of us. So after `TRUSTED` seconds, or the time of `CALLS` calls, it is measured anew,
   with the limit halved until the calls that began before have ended. A standing queue could
   never be told from a slow service otherwise.
4. Calls that were cancelled or rejected are no samples; who ended in a time-out is a *drop*,
   and its time a lower bound of what it would have taken (L7).

The measuring with a halved limit is after ProbeRTT of BBR (Cardwell et al., 2016).
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
    """The latency without load, ``unloaded``; None before the first window."""

    __slots__ = ("_probe_from", "_seen_at", "unloaded")

    def __init__(self, now: float) -> None:
        self.unloaded: float | None = None
        self._seen_at = now
        self._probe_from = math.inf  # calls that began before say nothing of the halved limit

    @property
    def probing(self) -> bool:
        """Whether the limit is to be halved, to measure."""
        return self._probe_from != math.inf

    def takes(self, began: float) -> bool:
        """Whether a call that began then tells of the limit that is in force."""
        return not self.probing or began >= self._probe_from

    def learn(self, reading: Reading, now: float) -> bool:
        """Take a window into account; True if it was the measuring, and no other."""
        mean, known = reading.mean, self.unloaded
        if self.probing or known is None:
            probed = self.probing
            self.unloaded, self._seen_at, self._probe_from = mean, now, math.inf
            return probed
        if mean - reading.error <= known:  # else it says that there is a queue
            self.unloaded = known + (FALLS if mean < known else RISES) * (mean - known)
            self._seen_at = now
        elif now - self._seen_at >= max(TRUSTED, CALLS * known):
            self._seen_at, self._probe_from = now, now + mean
        return False

"""Hedge: when a second attempt may begin beside the first.

1. After a fixed time, or after a quantile of the latencies of its own successes, once
   there are `HISTORY` of them (H4). Never sooner than `SOONEST`: timers are no finer.
2. An attempt that fails with ``on`` is replaced at once; any other error ends the call (H2).
3. At most ``most`` attempts more than the first; each must be paid for, and is of use only while
   time is left (H4).
4. Hedges are for single calls that are slow. If many are at once, the dependency is, and more calls
   would make it slower: so by default at most one in ten of the calls of late is hedged, and no
   more than two at once. A budget remembers seconds, which is too long for that.
5. The first acceptable result wins (H1). If all fail, the first attempt's error is the call's
   (H3). An attempt that was not made, because it was rejected, is not replaced and ends nothing.

J. Dean and L. A. Barroso, "The Tail at Scale" (2013).
"""

from __future__ import annotations

import math
from typing import Final

from resilient._core.histogram import Histogram

HISTORY: Final = 20
SOONEST: Final = 0.001
ONE_IN: Final = 10
AT_ONCE: Final = 2


class Share:
    """How many hedges the calls of late have earned."""

    __slots__ = ("_earned", "_seen")

    def __init__(self) -> None:
        self._earned, self._seen = AT_ONCE * ONE_IN, 0

    def take(self, calls: int) -> bool:
        """Whether one more hedge may be, now that so many *calls* were made in all."""
        self._earned = min(AT_ONCE * ONE_IN, self._earned + calls - self._seen)
        self._seen = calls
        if self._earned < ONE_IN:
            return False
        self._earned -= ONE_IN
        return True


class HedgeDelay:
    """When to hedge: after ``seconds``, or after the quantile ``share`` of the successes."""

    __slots__ = ("_asked_at", "_known", "latencies", "seconds", "share")

    def __init__(self, seconds: float | None, share: float) -> None:
        self.seconds, self.share = seconds, share
        self.renew()

    def renew(self) -> None:
        """Start as new."""
        self.latencies = Histogram()
        self._asked_at, self._known = 0, math.nan

    def succeeded(self, seconds: float) -> None:
        """An attempt has won after *seconds*."""
        if self.seconds is None:
            self.latencies.add(max(0.0, seconds))

    def after(self) -> float | None:
        """Seconds after which another attempt begins; ``None`` while nobody knows.

        A quantile is read anew when a sixteenth more has been seen.
        """
        if self.seconds is not None:
            return self.seconds
        seen = self.latencies.seen
        if seen < HISTORY:
            return None
        if math.isnan(self._known) or seen - self._asked_at >= min(seen, 1000) / 16:
            self._known, self._asked_at = self.latencies.quantile(self.share), seen
        return max(SOONEST, self._known)

"""Latencies in logarithmic buckets: bounded memory, and a quantile within five percent.

1. A bucket ends five percent above its beginning; from a microsecond to a day.
2. `quantile` is the upper end of the bucket in which it falls: never less than it truly is.
3. Every `FULL` values all counts are halved: so old ones fade, and a change shows after a
   hundred calls.

The idea is that of HdrHistogram (G. Tene) and of DDSketch (Masson, Rim and Lee, 2019).
"""

from __future__ import annotations

import math
from array import array
from itertools import accumulate
from typing import Final

GROWTH: Final = 1.05
LEAST: Final = 1e-6
BUCKETS: Final = 516
FULL: Final = 200.0
_PER_LOG: Final = 1 / math.log(GROWTH)


class Histogram:
    """How long calls took, of late."""

    __slots__ = ("_counts", "_faded", "seen")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._counts = array("d", bytes(8 * BUCKETS))
        self._faded = 0.0  # the sum of all counts
        self.seen = 0  # values since the beginning, faded or not

    def add(self, seconds: float) -> None:
        """One more value, at least 0."""
        place = 0
        if seconds > LEAST:
            place = min(BUCKETS - 1, math.ceil(math.log(seconds / LEAST) * _PER_LOG - 1e-9))
        self._counts[place] += 1
        self._faded += 1
        self.seen += 1
        if self._faded >= FULL:
            self._counts = array("d", [count / 2 for count in self._counts])
            self._faded /= 2

    def quantile(self, q: float) -> float:
        """What a share *q* of the values does not exceed, in (0, 1]; there must be a value."""
        rank = max(q * self._faded - 1e-9, math.ulp(0.0))
        place = next(place for place, upto in enumerate(accumulate(self._counts)) if upto >= rank)
        return LEAST * GROWTH**place

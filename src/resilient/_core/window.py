"""What a breaker remembers of the recent calls.

1. A time window drops nothing younger than its length and everything older
   than 1.1 times its length (B4); after an idle time longer than that it is empty.
2. A count window holds exactly the last n calls.
3. Successes of a time window are not written here: they are read off a running
   total, which callers raise without a lock. The window remembers only what the
   total was when each bucket began. A call that was cancelled, and was slow, is in no
   total: for it the bucket began with one less.
4. Until ``until`` there is nothing to `roll`, and a success may be counted in the total alone if
   the window ``reads_total``.

Twelve buckets of 0.0913 of the length: the eleven that came before the present
one span 1.004 lengths, with it they reach back 1.096 at the most, so that rounding
can move neither end over its mark.
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import Final

BUCKETS: Final = 12
SHARE: Final = 0.0913


class NoWindow:
    """Remembers nothing but whether the last call failed: for a breaker that watches no rate. The
    others have its interface. *total* is how many calls have succeeded so far.
    """

    __slots__ = ("failures", "slow", "until")

    reads_total = True

    def __init__(self) -> None:
        self.until = math.inf
        self.failures = self.slow = 0

    def clear(self, now: float, total: int) -> None:  # noqa: ARG002  # there is little to forget
        """Forget everything."""
        self.failures = self.slow = 0

    def roll(self, now: float, total: int) -> None:
        """Bring it to *now*."""

    def calls(self, total: int) -> int:  # noqa: ARG002  # it holds none
        """How many calls it holds."""
        return 0

    def add(self, *, failed: bool, slow: bool) -> None:  # noqa: ARG002  # none is watched for
        """Add one call, which was counted in the total before, if it succeeded."""
        self.failures = int(failed)

    def skip_success(self) -> None:
        """Leave the next success of the total out: it belongs to an older generation."""

    def add_to_calls(self) -> None:
        """Count one call, about to be added, that is no failure and in no total."""


class CountWindow(NoWindow):
    """The last *length* calls, exactly: two bits each in a ring."""

    __slots__ = ("_at", "_calls", "_length", "_ring")

    reads_total = False

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self.clear(0.0, 0)

    def clear(self, now: float, total: int) -> None:
        super().clear(now, total)
        self._ring = bytearray()
        self._at = self._calls = 0

    def calls(self, total: int) -> int:  # noqa: ARG002  # it counts for itself
        return self._calls

    def add(self, *, failed: bool, slow: bool) -> None:
        """Add one call; the oldest makes room for it."""
        mark = failed + 2 * slow
        if self._calls < self._length:
            self._ring.append(mark)
            self._calls += 1
        else:
            gone = self._ring[self._at]
            self.failures -= gone & 1
            self.slow -= gone >> 1
            self._ring[self._at] = mark
            self._at = (self._at + 1) % self._length
        self.failures += failed
        self.slow += slow


class TimeWindow(NoWindow):
    """The calls of the last *length* seconds, in buckets.

    ``since`` and ``until`` are the ends of the present bucket: what happens between
    them needs no `roll`.
    """

    __slots__ = ("_bad", "_base", "_good", "_old_good", "_slot", "_slow", "_width", "since")

    def __init__(self, length: float, now: float, total: int) -> None:
        self._width = max(length * SHARE, sys.float_info.min)  # it is divided by
        self.clear(now, total)

    def clear(self, now: float, total: int) -> None:
        self._good: array[int] | None = None  # each made when there is something to count
        self._bad: array[int] | None = None
        self._slow: array[int] | None = None
        self._slot = 0
        self._base = total  # the total when the present bucket began
        self._old_good = 0  # successes in the other buckets
        self.failures = self.slow = 0
        self.since, self.until = now, now + self._width

    def calls(self, total: int) -> int:
        return self._old_good + (total - self._base) + self.failures

    def skip_success(self) -> None:
        self._base += 1

    def add_to_calls(self) -> None:
        self._base -= 1

    def add(self, *, failed: bool, slow: bool) -> None:
        """Add one call to the present bucket; a success stands in the total already."""
        if failed:
            if self._bad is None:
                self._bad = _row()
            self._bad[self._slot] += 1
            self.failures += 1
        if slow:
            if self._slow is None:
                self._slow = _row()
            self._slow[self._slot] += 1
            self.slow += 1

    def roll(self, now: float, total: int) -> None:
        """See `Window.roll`; *now* must not lie before `since`."""
        if now < self.until:
            return
        steps = (now - self.since) / self._width
        if steps > BUCKETS:  # nothing of it is young enough, and whole steps would only drift
            self.clear(now, total)
            return
        for _ in range(max(1, math.floor(steps))):
            self._next(total)

    def _next(self, total: int) -> None:
        good = total - self._base
        if good:
            if self._good is None:
                self._good = _row()
            self._good[self._slot] = good
            self._old_good += good
        self._base = total
        self._slot = slot = (self._slot + 1) % BUCKETS
        self._old_good -= _take(self._good, slot)
        self.failures -= _take(self._bad, slot)
        self.slow -= _take(self._slow, slot)
        self.since, self.until = self.until, self.until + self._width


def _row() -> array[int]:
    return array("q", bytes(8 * BUCKETS))


def _take(row: array[int] | None, slot: int) -> int:
    """Empty one bucket of *row*, and say what was in it."""
    if row is None:
        return 0
    count, row[slot] = row[slot], 0
    return count

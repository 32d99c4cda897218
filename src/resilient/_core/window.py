"""What a breaker remembers of the recent calls.

1. A time window drops nothing younger than its length and everything older
   than 1.1 times its length (B4); after an idle time longer than that it is empty.
2. A count window holds exactly the last n calls.
3. Successes of a time window are not written here: they are read off a running
   total, which callers raise without a lock. The window remembers only what the
   total was when each bucket began.

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


class TimeWindow:
    """The calls of the last *length* seconds, in buckets.

    ``since`` and ``until`` are the ends of the present bucket: what happens between
    them needs no `roll`.
    """

    __slots__ = (
        "_bad",
        "_base",
        "_good",
        "_old_good",
        "_slot",
        "_slow",
        "_width",
        "failures",
        "since",
        "slow",
        "until",
    )

    def __init__(self, length: float, now: float, total: int) -> None:
        self._width = max(length * SHARE, sys.float_info.min)  # it is divided by
        self.clear(now, total)

    def clear(self, now: float, total: int) -> None:
        """Forget everything; *total* successes have been before."""
        self._good: array[int] | None = None  # each made when there is something to count
        self._bad: array[int] | None = None
        self._slow: array[int] | None = None
        self._slot = 0
        self._base = total  # the total when the present bucket began
        self._old_good = 0  # successes in the other buckets
        self.failures = self.slow = 0
        self.since, self.until = now, now + self._width

    def calls(self, total: int) -> int:
        """How many calls it holds, when there have been *total* successes."""
        return self._old_good + (total - self._base) + self.failures

    def skip_success(self) -> None:
        """Leave the next success of the total out: it belongs to an older generation."""
        self._base += 1

    def add_failure(self, *, slow: bool) -> None:
        """One more failure in the present bucket."""
        if self._bad is None:
            self._bad = _row()
        self._bad[self._slot] += 1
        self.failures += 1
        if slow:
            self.add_slow()

    def add_slow(self) -> None:
        """One of the calls of the present bucket was slow."""
        if self._slow is None:
            self._slow = _row()
        self._slow[self._slot] += 1
        self.slow += 1

    def roll(self, now: float, total: int) -> None:
        """Bring it to *now*, which must not lie before `since`."""
        if now < self.until:
            return
        steps = (now - self.since) / self._width
        if steps > BUCKETS:  # nothing of it is young enough, and whole steps would only drift
            self.clear(now, total)
            return
        for _ in range(max(1, math.floor(steps))):
            self._next(total)

    def shift(self, seconds: float) -> None:
        """The clock stepped back by *seconds*: take it as one that stood still."""
        self.since -= seconds
        self.until -= seconds

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


class CountWindow:
    """The last *length* calls, exactly: two bits each in a ring."""

    __slots__ = ("_at", "_length", "_ring", "calls", "failures", "slow")

    def __init__(self, length: int) -> None:
        self._length = length
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._ring = bytearray()
        self._at = 0
        self.calls = self.failures = self.slow = 0

    def add(self, *, failed: bool, slow: bool) -> None:
        """One more call; the oldest makes room for it."""
        mark = failed + 2 * slow
        if self.calls < self._length:
            self._ring.append(mark)
            self.calls += 1
        else:
            gone = self._ring[self._at]
            self.failures -= gone & 1
            self.slow -= gone >> 1
            self._ring[self._at] = mark
            self._at = (self._at + 1) % self._length
        self.failures += failed
        self.slow += slow

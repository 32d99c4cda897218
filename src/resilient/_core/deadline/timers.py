"""What ends when: the deadlines of one event loop, with one timer of it, or a cache's values.

1. `push` has the loop's timer set where it must go off earlier (`arm`, which is the shell's);
   `first_due` takes out the earliest, once its time has come. Nothing here looks at a clock.
2. A limit that never fires is the common case: taking out the last one pushed is
   a `pop`, any other is marked dead and dropped when it is met.
3. An entry is its row of the heap, ``[at, sequence, item]``, and no object more. No two
   sequence numbers are equal, so items are not compared.
4. When most of the heap is dead it is built anew, so that it never holds more
   than twice the living ones (and a few).
5. An interrupt may come at any call. So a row is in the heap as long as it lives, and a dead one is
   never counted twice: what is counted too little stays a little longer.

Hashed and hierarchical wheels (Varghese and Lauck, 1987) would be the other way;
a heap in C is smaller, exact, and faster in Python.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
FEW: Final = 64


Entry = list[Any]
"""One limit in the queue; its item is None when it is dead."""


class TimerQueue(Generic[T]):
    """What is to happen when, earliest first; at one instant in the order of pushing."""

    __slots__ = ("_dead", "_heap", "_sequence", "armed_at")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._sequence = count()
        self._dead = 0
        self.armed_at = math.inf  # when the loop's timer goes off

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, at: float, item: T) -> Entry:
        """Put *item* in; `arm` the loop's timer if *at* is before `armed_at`."""
        heappush(self._heap, entry := [at, next(self._sequence), item])
        if at < self.armed_at:
            self.arm(at)
        return entry

    def arm(self, at: float) -> None:
        """Let the loop's timer go off at *at*: for whoever has a loop."""

    def remove(self, entry: Entry) -> None:
        """Take *entry* out; doing it twice, or after it was due, does nothing."""
        if entry[2] is None:
            return
        entry[2] = None
        if self._heap[-1] is entry:
            self._heap.pop()
        else:
            self._dead += 1
        if self._dead:
            self._tidy()

    def first_due(self, now: float) -> T | None:
        """Take out the earliest, if the time has come for it."""
        if self._dead:
            self._tidy()
        if self.next_at() > now or not self._heap:
            return None
        entry = self._heap[0]
        item: T = entry[2]
        entry[2] = None
        self._dead += 1  # dropped when it is met
        return item

    def next_at(self) -> float:
        """When the earliest is due; infinity if there is none."""
        while self._heap and self._heap[0][2] is None:
            self._dead -= 1
            heappop(self._heap)
        return float(self._heap[0][0]) if self._heap else math.inf

    def _tidy(self) -> None:
        """Drop the dead when they are most of the heap."""
        heap: list[Entry] = []
        if self._dead != len(self._heap):
            if self._dead <= FEW or self._dead * 2 <= len(self._heap):
                return
            heap = [row for row in self._heap if row[2] is not None]
            heapify(heap)
        self._heap, self._dead = heap, 0

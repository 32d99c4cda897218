"""Deadlines of one event loop: a queue that needs one timer of the loop.

1. `push` says whether the loop's timer must be set earlier; `due` takes out what
   the time has come for. Nothing here looks at a clock.
2. A limit that never fires is the common case: taking out the last one pushed is
   a `pop`, any other is marked dead and dropped when its turn comes.
3. When most of the heap is dead it is built anew, so that it never holds more
   than twice the living ones (and a few).

Hashed and hierarchical wheels (Varghese and Lauck, 1987) would be the other way;
a heap in C is smaller, exact, and faster in Python.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Generic, TypeVar

T = TypeVar("T")
FEW: Final = 64


class Entry(Generic[T]):
    """One limit in the queue; `item` is None when it is dead."""

    __slots__ = ("item",)

    def __init__(self, item: T) -> None:
        self.item: T | None = item


class TimerQueue(Generic[T]):
    """What is to happen when, earliest first; at one instant in the order of pushing."""

    __slots__ = ("_dead", "_heap", "_turns", "armed_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry[T]]] = []
        self._turns = count()
        self._dead = 0
        self.armed_at = math.inf  # when the loop's timer goes off

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, at: float, item: T) -> Entry[T]:
        """Put *item* in; set the loop's timer if *at* is before `armed_at`."""
        turn = next(self._turns)
        entry = Entry(item)
        heappush(self._heap, (at, turn, entry))
        return entry

    def remove(self, entry: Entry[T]) -> None:
        """Take *entry* out; doing it twice, or after it was due, does nothing."""
        if entry.item is None:
            return
        entry.item = None
        if self._heap[-1][2] is entry:
            self._heap.pop()
        else:
            self._dead += 1
        if self._dead:
            self._tidy()

    def due(self, now: float) -> list[T]:
        """Take out what the time has come for."""
        heap, items = self._heap, list[T]()
        while heap and (heap[0][2].item is None or heap[0][0] <= now):
            entry = heappop(heap)[2]
            if entry.item is None:
                self._dead -= 1
            else:
                items.append(entry.item)
                entry.item = None
        if self._dead:
            self._tidy()
        return items

    def next_at(self) -> float:
        """When the earliest is due; infinity if there is none."""
        while self._heap and self._heap[0][2].item is None:
            heappop(self._heap)
            self._dead -= 1
        return self._heap[0][0] if self._heap else math.inf

    def _tidy(self) -> None:
        """Drop the dead when they are most of the heap."""
        heap = self._heap
        if self._dead == len(heap):
            heap.clear()
            self._dead = 0
        elif self._dead > FEW and self._dead * 2 > len(heap):
            self._heap = [row for row in heap if row[2].item is not None]
            heapify(self._heap)
            self._dead = 0

"""A fair wait queue: who waits, and who goes on.

1. The highest priority is first; among equals callers wait in the order of arrival (L1).
2. What becomes free is handed over: the waiter is out of the queue and has it in one step, so
   that nobody can come between (L1).
3. A waiter that leaves takes nothing with it: what it was handed meanwhile is its own to give back
   (L1).
4. Whoever is to go on is put into ``woken``, for the shell to wake outside its lock.
5. However many wait, to join and to leave is a search in the sorted priorities that are there: each
   has a line of its own.

After trio's ``ParkingLot``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, MutableSequence
from operator import itemgetter
from typing import Any

PRIORITY = itemgetter(0)


class Waiter:
    """One caller in a queue.

    ``given`` when it has what it waits for; ``shed`` when a more important caller has taken its
    place in the queue. ``state`` is what it waits at, ``cost`` how much of it it wants.
    """

    __slots__ = ("cost", "given", "priority", "shed", "state")

    def __init__(self, priority: float = 0.0, cost: int = 1) -> None:
        self.priority, self.cost = priority, cost
        self.state: Any = None
        self.given = self.shed = False


Line = tuple[float, OrderedDict[Waiter, None]]
"""A priority, and those who wait with it, in the order of arrival."""


class WaitQueue:
    """Callers that wait, by priority, and first come first served among equals."""

    __slots__ = ("_length", "_lines", "cost", "woken")

    def __init__(self, woken: MutableSequence[Waiter]) -> None:
        self.woken = woken
        self._lines: list[Line] = []  # the highest priority last; none of them is empty
        self._length = 0
        self.cost = 0
        """Of all who wait."""

    def __bool__(self) -> bool:
        return bool(self._lines)  # not by the length, which an interrupt may make wrong

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Waiter]:
        for _, line in reversed(self._lines):
            yield from line

    def first(self) -> Waiter:
        """The next to go on: of those with the highest priority the one that has waited longest.
        There must be one.
        """
        return next(iter(self._lines[-1][1]))

    def last(self) -> Waiter:
        """The last to go on: of those with the lowest priority the one that came last. There must
        be one.
        """
        return next(reversed(self._lines[0][1]))

    def join(self, waiter: Waiter) -> None:
        """Let *waiter* wait behind those of its priority."""
        at, line = self._line_of(waiter)
        # First: an interrupt may leave them too great, but never below 0.
        self._length, self.cost = self._length + 1, self.cost + waiter.cost
        if line is None:
            self._lines.insert(at, (waiter.priority, OrderedDict({waiter: None})))
        else:
            line[waiter] = None

    def leave(self, waiter: Waiter) -> bool:
        """Take *waiter* out, if it is there; true if it was the first."""
        at, line = self._line_of(waiter)
        if line is None or waiter not in line:
            return False
        was_first = self.first() is waiter
        if len(line) == 1:
            del self._lines[at]
        else:
            del line[waiter]
        self._length, self.cost = self._length - 1, self.cost - waiter.cost
        return was_first

    def hand_over(self, waiter: Waiter) -> None:
        """Give *waiter* what became free, and let it go on."""
        self.leave(waiter)
        waiter.given = True
        self.woken.append(waiter)

    def mend(self) -> None:
        """Go on after a step that was cut short: count anew."""
        waiting = list(self)
        self._length, self.cost = len(waiting), sum(waiter.cost for waiter in waiting)

    def shed(self, waiter: Waiter) -> None:
        """Turn *waiter* out, without anything."""
        self.leave(waiter)
        waiter.shed = True
        self.woken.append(waiter)

    def wake_first(self) -> None:
        """Let the first look for itself, if there is one."""
        if self._lines:
            self.woken.append(self.first())

    def _line_of(self, waiter: Waiter) -> tuple[int, OrderedDict[Waiter, None] | None]:
        """Where the line of the priority of *waiter* is, or would be, and the line if it is."""
        at = bisect_left(self._lines, waiter.priority, key=PRIORITY)
        if at < len(self._lines) and self._lines[at][0] == waiter.priority:
            return at, self._lines[at][1]
        return at, None

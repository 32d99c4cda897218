"""A fair wait queue: who waits, and who goes on.

1. Callers wait in the order of arrival (L1).
2. What becomes free is handed over: the waiter is out of the queue and has it in one step, so
   that nobody can come between (L1).
3. A waiter that leaves takes nothing with it: what it was handed meanwhile is its own to give back
   (L1).
4. Whoever is to go on is put into ``woken``, for the shell to wake outside its lock.

After trio's ``ParkingLot``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any


class Waiter:
    """One caller in a queue.

    ``given`` when it has what it waits for; ``shed`` when a more important caller has taken its
    place in the queue. ``state`` is what it waits at.
    """

    __slots__ = ("given", "priority", "shed", "state")

    state: Any

    def __init__(self, priority: float = 0.0) -> None:
        self.priority = priority
        self.given = self.shed = False


class WaitQueue:
    """Callers that wait, first come first served."""

    __slots__ = ("_waiting", "_woken")

    def __init__(self, woken: list[Waiter]) -> None:
        self._woken = woken
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiting)

    def __reversed__(self) -> Iterator[Waiter]:
        return reversed(self._waiting)

    def first(self) -> Waiter:
        """The one that has waited longest; there must be one."""
        return next(iter(self._waiting))

    def join(self, waiter: Waiter) -> None:
        """Let *waiter* wait behind the others."""
        self._waiting[waiter] = None

    def leave(self, waiter: Waiter) -> bool:
        """Take *waiter* out, if it is there; true if it was the first."""
        was_first = bool(self._waiting) and self.first() is waiter
        self._waiting.pop(waiter, None)
        return was_first

    def hand_over(self, waiter: Waiter) -> None:
        """Give *waiter* what became free, and let it go on."""
        del self._waiting[waiter]
        waiter.given = True
        self._woken.append(waiter)

    def shed(self, waiter: Waiter) -> None:
        """Turn *waiter* out, without anything."""
        del self._waiting[waiter]
        waiter.shed = True
        self._woken.append(waiter)

    def wake_first(self) -> None:
        """Let the first look for itself, if there is one."""
        if self._waiting:
            self._woken.append(self.first())

"""A state per key, bounded.

1. At most ``max_keys`` are kept. When a new one does not fit, the least recently used
   that is idle and healthy goes first, then the least recently used that is idle;
   one in use never goes, so that their number may pass the bound while all are in use.
2. What goes is handed back, so that its totals can be kept. With its key it is laid aside in
   ``evicted`` too, for whoever had the lock to let go of after it: a key may end in code of the
   user's.
3. `get` needs no lock: it is one look-up, and notes the use in the entry itself.
   The heap learns of uses when somebody must go: it is lazy, and exact.
   Whoever looks up and uses a state without the lock may do so while it is made to go:
   `retire` is asked last, and can still say that it has come into use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """One key's state and when it was last used."""

    __slots__ = ("key", "state", "used")

    def __init__(self, key: Hashable, state: T, used: int) -> None:
        self.key, self.state, self.used = key, state, used


class Keys(Generic[T]):
    """The states by key, least recently used out first."""

    def __init__(
        self,
        max_keys: int,
        *,
        idle: Callable[[T], bool],
        healthy: Callable[[T], bool],
        retire: Callable[[T], bool] | None = None,
    ) -> None:
        self._max_keys = max_keys
        self._idle, self._healthy, self._retire = idle, healthy, retire
        self.slots: dict[Hashable, Slot[T]] = {}
        self.uses = count()
        self.evicted: deque[Slot[T]] = deque()
        self._heap: list[tuple[int, Slot[T]]] = []

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(tuple(self.slots))

    def states(self) -> list[T]:
        """Every state that is kept."""
        return [slot.state for slot in tuple(self.slots.values())]

    def peek(self, key: Hashable) -> T | None:
        """The state of *key*, without using it."""
        slot = self.slots.get(key)
        return None if slot is None else slot.state

    def get(self, key: Hashable) -> T | None:
        """The state of *key*, now the most recently used."""
        slot = self.slots.get(key)
        if slot is None:
            return None
        slot.used = next(self.uses)
        return slot.state

    def add(self, key: Hashable, state: T) -> list[T]:
        """Keep *state* for a new *key*; hand back what had to go."""
        gone: list[T] = []
        while len(self.slots) >= self._max_keys:
            slot = self._evict()
            if slot is None:
                break
            gone.append(slot.state)
        slot = self.slots[key] = Slot(key, state, next(self.uses))
        heappush(self._heap, (slot.used, slot))
        return gone

    def clear(self) -> None:
        """All have to go."""
        self.evicted.extend(self.slots.values())
        self.slots.clear()
        self._heap.clear()

    def _evict(self) -> Slot[T] | None:
        passed: list[tuple[int, Slot[T]]] = []
        second: Slot[T] | None = None
        chosen: Slot[T] | None = None
        while self._heap:
            used, slot = heappop(self._heap)
            if used != slot.used:
                heappush(self._heap, (slot.used, slot))
            elif not self._idle(slot.state):
                passed.append((used, slot))
            elif self._healthy(slot.state):
                chosen = slot
                break
            else:
                second = second or slot
                passed.append((used, slot))
        chosen = chosen or second
        if chosen is not None and self._retire is not None and not self._retire(chosen.state):
            passed.append((chosen.used, chosen))
            chosen = None
        self._heap.extend(row for row in passed if row[1] is not chosen)
        heapify(self._heap)
        if chosen is not None:
            del self.slots[chosen.key]
            self.evicted.append(chosen)
        return chosen

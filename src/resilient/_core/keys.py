"""A state per key, bounded.

1. At most ``max_keys`` are kept. When a new one does not fit, the least recently used that is idle
   and healthy goes first, then the least recently used that is idle. One in use never goes: while
   all are in use there may be more than the bound, and later insertions evict more than one each
   until the table is back within it.
2. Peers choose keys, so an insertion costs amortised O(log n) whatever the states are, and no
   single insertion pays for all of them. Two lines of slots make it so. Each slot stands in one:

   * ``ready``, a heap by the use that the slot had when it was put there: its *stamp*. It learns of
     later uses when the slot comes to the top. That step is paid for by the use.
   * ``doubtful``, slots that were busy or not healthy when they were last looked at, in rotation.

3. To make room, a few slots at the front of ``doubtful`` are looked at again, and those that have
   become idle and healthy go to ``ready``. Then ``ready`` gives its slots, least recently used
   first: one that is idle and healthy is evicted, another goes to ``doubtful``. If none is found,
   the least recently used idle one goes of those at the front of ``doubtful``.
4. So rule 1 is exact while no more than `LOOKS` slots are doubtful and no more than `STEPS` were
   used since the last insertion. Beyond that, the one that goes is the least recently used of those
   that were looked at.
5. What goes is handed back, so that its totals can be kept. With its key it is laid aside in
   ``evicted`` too, for whoever had the lock to let go of after it: a key may end in code of the
   user's.
6. An insertion may be cut short anywhere, by an interrupt or by a key that refuses to be compared,
   with a slot in no line, or in a line that is gone. So the next one lines all up anew.
7. `get` needs no lock: it is one look-up, and notes the use in the slot itself. Whoever looks up
   and uses a state without the lock may do so while it is made to go: `retire` is asked last, and
   can still say that it has come into use.

The rotation is the second chance of F. J. Corbató's CLOCK algorithm (1968).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count, islice
from operator import attrgetter
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LOOKS: Final = 8
"""How many doubtful slots an insertion looks at, to see whether they have become ready."""
STEPS: Final = 64
"""How many ready slots an insertion takes from the heap at most."""
CHOICE: Final = 32
"""Of how many doubtful slots the least recently used idle one goes, if none is ready."""
USED = attrgetter("used")


class Slot(Generic[T]):
    """One key's state, when it was last used, and when its place in the heap says it was."""

    __slots__ = ("key", "stamp", "state", "used")

    def __init__(self, key: Hashable, state: T, used: int) -> None:
        self.key, self.state, self.used, self.stamp = key, state, used, used

    def __lt__(self, other: Slot[T]) -> bool:
        return self.stamp < other.stamp


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
        self.uses = count()
        self.evicted: deque[object] = deque()
        self._lined_up = True
        self._start()

    def _start(self) -> None:
        self.slots: dict[Hashable, Slot[T]] = {}
        self._ready: list[Slot[T]] = []
        self._doubtful: deque[Slot[T]] = deque()

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
        gone: list[Slot[T]] = []
        if not self._lined_up:
            self._line_up()
        self._lined_up = False
        if (over := len(self.slots) + 1 - self._max_keys) > 0:
            gone = self._take_ready(over)
            if len(gone) < over:
                gone += self._take_doubtful(over - len(gone))
        slot = self.slots[key] = Slot(key, state, next(self.uses))
        heappush(self._ready, slot)
        self._lined_up = True
        return [slot.state for slot in gone]

    def clear(self) -> None:
        """All have to go. One step, however many they are."""
        self.evicted += self.slots, self._ready, self._doubtful
        self._lined_up = False
        self._start()
        self._lined_up = True

    def _line_up(self) -> None:
        """Let every slot stand in one line again. Without a look at a key, which may refuse."""
        kept = {*self.slots.values()}
        doubtful = [slot for slot in self._doubtful if slot in kept]
        ready = [*kept.difference(doubtful)]
        heapify(ready)
        self._ready, self._doubtful = ready, deque(doubtful)

    def _take_ready(self, most: int) -> list[Slot[T]]:
        """Evict at most *most* slots that are idle and healthy, least recently used first."""
        self._look_again()
        gone: list[Slot[T]] = []
        ready, used_since = self._ready, list[Slot[T]]()  # both are heaps
        for _ in range(STEPS):
            if len(gone) == most or not (ready or used_since):
                break
            from_ready = ready and not (used_since and used_since[0] < ready[0])
            slot = heappop(ready if from_ready else used_since)
            if slot.used != slot.stamp:
                slot.stamp = slot.used
                heappush(used_since, slot)
            else:
                self._try_evict(slot, gone)
        else:
            while used_since and not gone:
                self._try_evict(heappop(used_since), gone)
        for slot in used_since:
            heappush(ready, slot)
        return gone

    def _look_again(self) -> None:
        """Let a few doubtful slots go back to the heap, if they are idle and healthy by now."""
        for _ in range(min(LOOKS, len(self._doubtful))):
            slot = self._doubtful[0]
            if self._idle(slot.state) and self._healthy(slot.state):
                heappush(self._ready, self._doubtful.popleft())
            else:
                self._doubtful.rotate(-1)

    def _try_evict(self, slot: Slot[T], gone: list[Slot[T]]) -> None:
        """Evict *slot*, which is in no line, if it is idle and healthy; else it is doubtful."""
        if self._idle(slot.state) and self._healthy(slot.state) and self._evict(slot):
            gone.append(slot)
        else:
            self._doubtful.append(slot)

    def _take_doubtful(self, most: int) -> list[Slot[T]]:
        """Evict at most *most* idle slots of those at the front, least recently used first."""
        gone: list[Slot[T]] = []
        idle = [one for one in islice(self._doubtful, CHOICE) if self._idle(one.state)]
        for slot in sorted(idle, key=USED):
            if len(gone) == most:
                break
            if self._evict(slot):
                self._doubtful.remove(slot)
                gone.append(slot)
        return gone

    def _evict(self, slot: Slot[T]) -> bool:
        """Take *slot* out of the table, unless it has just come into use."""
        if self._retire is not None and not self._retire(slot.state):
            return False
        del self.slots[slot.key]
        self.evicted.append(slot)
        return True

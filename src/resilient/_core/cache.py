"""Cache: what is kept, for how long, and what is still good for something.

1. An entry is fresh until ``ends_at``; after it, until ``stale_until``, it is better than an
   error, and no more (C4). From ``refresh_at`` on it is time to look for a new one (C8).
2. At most ``most`` entries are kept: the least recently used goes first.
3. What is dropped is gone: no run that began before may bring its result in afterwards (C6).
   So a run asks leave to keep it, `begin`, and loses that leave when its key is dropped.
4. `dict.get` may be used while others change the dict. `OrderedDict.move_to_end` must be one step:
   so ``order`` goes by the entries, which are equal to nothing else. To compare keys is code of
   the user's, in which threads change; an `OrderedDict` that is changed meanwhile brings the
   interpreter down. So who only looks needs no turn (the shell's lock). Nor does who only ends
   something, `end` and `refresh_over`: the collector may do it, wherever the thread is.
   Everything else here needs one.
5. What goes, a value or a key, is laid aside in ``departed``, for whoever had the turn to let go
   of after it: it may end in code of the user's.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from resilient._core.tally import Tally


@dataclass(frozen=True, slots=True)
class CacheRule:
    """What a cache was told, in seconds."""

    ttl: float
    most: int
    negative_ttl: float | None
    stale: float
    jitter: float
    refresh_ahead: float | None


class Entry:
    """One value, and how long it is good."""

    __slots__ = (
        "ends_at", "negative", "refresh_at", "refreshing", "stale_until", "stored_at", "value",
    )  # fmt: skip

    def __init__(self, value: Any, *, negative: bool) -> None:
        self.value, self.negative = value, negative
        self.refreshing = False
        self.stored_at = self.ends_at = self.stale_until = self.refresh_at = -math.inf


class Fetching:
    """The runs for one key that are under way, and whether their results may be kept."""

    __slots__ = ("key", "runs", "wanted")

    def __init__(self, key: Hashable) -> None:
        self.key, self.runs, self.wanted = key, 0, True


class CacheCore:
    """The entries of one cache."""

    __slots__ = ("_ended", "_fetching", "_rule", "departed", "entries", "evictions", "order")

    def __init__(self, rule: CacheRule) -> None:
        self._rule = rule
        self.entries: dict[Hashable, Entry] = {}
        self.order: OrderedDict[Entry, Hashable] = OrderedDict()  # the least recently used first
        self._fetching: dict[Hashable, Fetching] = {}
        self._ended: deque[Fetching] = deque()  # one for each run that is over, to be counted
        self.departed: deque[object] = deque()
        self.evictions = Tally()

    def begin(self, key: Hashable) -> Fetching:
        """A run for *key* begins."""
        self._count_ended()
        fetching = self._fetching.get(key)
        if fetching is None:
            fetching = self._fetching[key] = Fetching(key)
        fetching.runs += 1
        return fetching

    def end(self, fetching: Fetching) -> None:
        """A run is over."""
        self._ended.append(fetching)

    def keep(self, key: Hashable, entry: Entry, now: float, u: float) -> None:
        """Keep *entry*, for as long as *u*, a draw from [0, 1), says within the jitter."""
        rule = self._rule
        ttl = rule.ttl
        if entry.negative:
            assert rule.negative_ttl is not None
            ttl = rule.negative_ttl
        lives = ttl * (1 - rule.jitter + 2 * rule.jitter * u)
        entry.stored_at = now
        entry.ends_at = entry.stale_until = entry.refresh_at = now + lives
        if not entry.negative:
            entry.stale_until = entry.ends_at + rule.stale
            ahead = rule.refresh_ahead
            entry.refresh_at = math.inf if ahead is None else entry.ends_at - ahead
        before = self.entries.get(key)
        self.entries[key] = entry
        if before is not None:
            key = self.order.pop(before)  # the very one that the dict has
            self.departed.append(before)
        self.order[entry] = key
        while len(self.order) > rule.most:
            last, key = self.order.popitem(last=False)
            del self.entries[key]
            self.departed.append((last, key))
            self.evictions.up()

    def claim_refresh(self, key: Hashable, entry: Entry, now: float) -> bool:
        """Whether it is time to refresh *entry*, and nobody does it yet; then the caller does."""
        if entry.refreshing or now < entry.refresh_at or self.entries.get(key) is not entry:
            return False
        entry.refreshing = True
        return True

    def refresh_over(self, entry: Entry, now: float, *, failed: bool) -> None:
        """The refresh of *entry* has ended, and may be claimed anew, if the entry is still there.

        If it *failed*, the next one waits a little: a tenth of what there is ahead.
        """
        if failed:
            assert self._rule.refresh_ahead is not None
            entry.refresh_at = now + self._rule.refresh_ahead / 10
        entry.refreshing = False

    def fresh(self, key: Hashable, now: float) -> Entry | None:
        """The entry of *key*, if it is fresh."""
        entry = self.entries.get(key)
        return entry if entry is not None and now < entry.ends_at else None

    def better_than_nothing(self, key: Hashable, now: float) -> Entry | None:
        """The entry of *key*, if it may be served in place of an error."""
        entry = self.entries.get(key)
        return entry if entry is not None and now < entry.stale_until else None

    def drop(self, key: Hashable) -> None:
        """Forget *key*, and what is on its way."""
        fetching = self._fetching.pop(key, None)
        if fetching is not None:
            fetching.wanted = False
            self.departed.append(fetching)
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.departed.append((entry, self.order.pop(entry)))

    def clear(self) -> None:
        """Forget everything, and what is on its way."""
        self._count_ended()
        self.departed.extend(self.order.items())
        self.entries.clear()
        self.order.clear()
        for fetching in self._fetching.values():
            fetching.wanted = False
        self.departed.extend(self._fetching.values())
        self._fetching.clear()

    def step_back(self, seconds: float) -> None:
        """The clock reads so much less than just now, and is taken as one that stood still."""
        for entry in tuple(self.entries.values()):  # others may be looking
            entry.stored_at -= seconds
            entry.ends_at -= seconds
            entry.stale_until -= seconds
            entry.refresh_at -= seconds

    def _count_ended(self) -> None:
        while self._ended:
            fetching = self._ended.popleft()
            self.departed.append(fetching)
            fetching.runs -= 1
            if not fetching.runs and self._fetching.get(fetching.key) is fetching:
                del self._fetching[fetching.key]

"""Cache: what is kept, for how long, and what is still good for something.

1. An entry is fresh until ``ends_at``; after it, until ``stale_until``, it is better than an
   error or a long wait, and no more (C4). From ``refresh_at`` on it is time to look for a new one
   (C8).
2. At most ``max_size`` entries are kept. Where room is needed, what is not even good for something
   any more goes first, the earliest end before the others, then the least recently used (C3). The
   ends are in a heap: to find one is no search through what is kept.
3. What is dropped is gone: no run that began before may bring its result in afterwards (C6).
   So a run asks leave to keep it, `begin`, and loses that leave when its key is dropped.
4. `dict.get` may be used while others change the dict. `OrderedDict.move_to_end` must be one step:
   so ``order`` goes by the entries, which are equal to nothing else. To compare keys is code of
   the user's, in which threads change; an `OrderedDict` that is changed meanwhile brings the
   interpreter down. So a call that only looks needs no lock (the shell's). Nor does one that only
   ends something, `end` and `refresh_over`: the collector may do it, wherever the thread is.
   Everything else here needs one.
5. An interrupt may come at any call. So an entry is among the ends first, then in ``order``, then
   in ``entries``, and leaves them the other way round: what is in ``order`` alone goes when its
   turn comes, and what is among the ends alone is passed over there.
6. What goes, a value or a key, is laid aside in ``evicted``, for whoever had the lock to let go
   of after it: it may end in code of the user's.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, NamedTuple

from resilient._core.counter import Counter
from resilient._core.deadline.timers import Entry as Row
from resilient._core.deadline.timers import TimerQueue


class CacheConfig(NamedTuple):
    """What a cache was told, in seconds. Without *ttl* each result has one of its own."""

    ttl: float | None
    max_size: int
    negative_ttl: float | None
    stale: float
    jitter: float
    refresh_ahead: float | None


class Entry:
    """One value, and how long it is good."""

    __slots__ = (
        "end", "ends_at", "negative", "refresh_at", "refreshing", "stale_until", "stored_at",
        "value",
    )  # fmt: skip

    def __init__(self, value: Any, *, negative: bool) -> None:
        self.value, self.negative = value, negative
        self.refreshing = False
        self.end: Row | None = None  # its row among the ends, if it has an end
        self.stored_at = self.ends_at = self.stale_until = self.refresh_at = -math.inf


class StaleResult:
    """A run failed with ``error``, or without one was late; this entry is served in its place."""

    __slots__ = ("entry", "error")

    def __init__(self, entry: Entry, error: Exception | None) -> None:
        self.entry, self.error = entry, error


class Fetching:
    """The runs for one key that are under way, and whether their results may be kept."""

    __slots__ = ("key", "runs", "wanted")

    def __init__(self, key: Hashable) -> None:
        self.key, self.runs, self.wanted = key, 0, True


class CacheCore:
    """The entries of one cache."""

    __slots__ = (
        "_config", "_ended", "_ends", "_fetching", "entries", "evicted", "evictions", "order",
    )  # fmt: skip

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self.entries: dict[Hashable, Entry] = {}
        self.order: OrderedDict[Entry, Hashable] = OrderedDict()  # the least recently used first
        self._ends: TimerQueue[Entry] = TimerQueue()
        self._fetching: dict[Hashable, Fetching] = {}
        self._ended: deque[Fetching] = deque()  # one for each run that is over, to be counted
        self.evicted: deque[object] = deque()
        self.evictions = Counter()

    def begin(self, key: Hashable) -> Fetching:
        """A run for *key* begins."""
        self._count_ended()
        fetching = self._fetching.get(key)
        if fetching is None or not fetching.wanted:  # that was dropped, and interrupted there
            fetching = self._fetching[key] = Fetching(key)
        fetching.runs += 1
        return fetching

    def end(self, fetching: Fetching) -> None:
        """A run is over."""
        self._ended.append(fetching)

    def keep(
        self, key: Hashable, entry: Entry, now: float, draw: float, own: float | None = None
    ) -> None:
        """Keep *entry*, for as long as *draw*, from [0, 1), says within the jitter; around its
        *own* lifetime, if it has one.
        """
        config = self._config
        ttl = config.negative_ttl if entry.negative else own or config.ttl
        assert ttl is not None
        lives = ttl * (1 - config.jitter + 2 * config.jitter * draw)
        entry.stored_at = now
        entry.ends_at = entry.stale_until = entry.refresh_at = now + lives
        if not entry.negative:
            entry.stale_until = entry.ends_at + config.stale
            if (ahead := config.refresh_ahead) is None:
                entry.refresh_at = math.inf
            else:  # a result that lives shortly can't be refreshed long before its end
                entry.refresh_at -= ahead if own is None else min(ahead, lives / 2)
        before = self.entries.get(key)
        if before is not None:
            key = self.order.get(before, key)  # the very one that the dict has
        if entry.stale_until < math.inf:
            entry.end = self._ends.push(entry.stale_until, entry)
        self.order[entry] = key
        self.entries[key] = entry
        if before is not None:
            self._take_out(before)
            self.evicted.append(before)
        while len(self.order) > config.max_size:
            self._make_room(now)

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
            assert self._config.refresh_ahead is not None
            ahead = min(self._config.refresh_ahead, entry.ends_at - entry.stored_at)
            entry.refresh_at = now + ahead / 10
        entry.refreshing = False

    def fresh(self, key: Hashable, now: float) -> Entry | None:
        """The entry of *key*, if it is fresh."""
        entry = self.entries.get(key)
        return entry if entry is not None and now < entry.ends_at else None

    def stale_entry(self, key: Hashable, now: float) -> Entry | None:
        """The entry of *key*, if it may be served in place of an error, or of a long wait."""
        entry = self.entries.get(key)
        return entry if entry is not None and now < entry.stale_until else None

    def stale_result(self, key: Hashable, now: float, error: Exception) -> StaleResult | None:
        """What may be served in place of *error*."""
        entry = self.stale_entry(key, now)
        return None if entry is None else StaleResult(entry, error)

    def late_result(self, key: Hashable, now: float) -> StaleResult | None:
        """What may be served to a caller that waits no longer. Not a fresh entry: the run is over
        then.
        """
        entry = self.stale_entry(key, now)
        return None if entry is None or now < entry.ends_at else StaleResult(entry, None)

    def drop(self, key: Hashable) -> None:
        """Forget *key*, and what is on its way."""
        fetching = self._fetching.get(key)
        if fetching is not None:
            fetching.wanted = False
            self.evicted.append(fetching)
            self._fetching.pop(key, None)
        self.discard(key)

    def discard(self, key: Hashable) -> None:
        """Keep nothing under *key*. The runs that are under way may."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.evicted.append((entry, self._take_out(entry)))

    def clear(self) -> None:
        """Forget everything, and what is on its way."""
        self._count_ended()
        self.evicted.extend(self.order.items())
        self.entries.clear()
        self.order.clear()
        self._ends = TimerQueue()
        for fetching in self._fetching.values():
            fetching.wanted = False
        self.evicted.extend(self._fetching.values())
        self._fetching.clear()

    def _make_room(self, now: float) -> None:
        """Let one entry go: the first that has ended, or the least recently used."""
        entry = self._ends.first_due(now) or next(iter(self.order))
        if entry not in self.order:
            return
        key = self.order[entry]
        if self.entries.get(key) is entry:
            del self.entries[key]
            next(self.evictions.increment)
        self._take_out(entry)
        self.evicted.append((entry, key))

    def _take_out(self, entry: Entry) -> Hashable:
        """Let *entry* be neither in the order of use nor among the ends; returns its key."""
        key = self.order.pop(entry, None)
        if entry.end is not None:
            self._ends.remove(entry.end)
        return key

    def _count_ended(self) -> None:
        while self._ended:
            fetching = self._ended.popleft()
            self.evicted.append(fetching)
            fetching.runs -= 1
            if not fetching.runs and self._fetching.get(fetching.key) is fetching:
                del self._fetching[fetching.key]

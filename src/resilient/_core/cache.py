"""Cache: what is kept, for how long, and what is still good for something.

1. An entry is fresh until ``ends_at``; after it, until ``stale_until``, it is better than an
   error, and no more (C4). From ``refresh_at`` on it is time to look for a new one (C8).
2. At most ``most`` entries are kept: the least recently used goes first.
3. What is dropped is gone: no run that began before may bring its result in afterwards (C6).
   So a run asks leave to keep it, `begin`, and loses that leave when its key is dropped.
4. `OrderedDict.get` and `move_to_end` are one step each: who only looks needs no turn (the
   shell's lock); everything here does.
"""

from __future__ import annotations

import math
from collections import OrderedDict
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

    __slots__ = ("runs", "wanted")

    def __init__(self) -> None:
        self.runs, self.wanted = 0, True


class CacheCore:
    """The entries of one cache."""

    __slots__ = ("_fetching", "_rule", "_seen", "entries", "evictions")

    def __init__(self, rule: CacheRule) -> None:
        self._rule = rule
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._fetching: dict[Hashable, Fetching] = {}
        self._seen = -math.inf
        self.evictions = Tally()

    def begin(self, key: Hashable) -> Fetching:
        """A run for *key* begins."""
        fetching = self._fetching.get(key)
        if fetching is None:
            fetching = self._fetching[key] = Fetching()
        fetching.runs += 1
        return fetching

    def end(self, key: Hashable, fetching: Fetching) -> None:
        """A run for *key* is over."""
        fetching.runs -= 1
        if not fetching.runs and self._fetching.get(key) is fetching:
            del self._fetching[key]

    def keep(self, key: Hashable, entry: Entry, now: float, u: float) -> None:
        """Keep *entry*, for as long as *u*, a draw from [0, 1), says within the jitter."""
        rule = self._rule
        ttl = rule.ttl
        if entry.negative:
            assert rule.negative_ttl is not None
            ttl = rule.negative_ttl
        lives = ttl * (1 - rule.jitter + 2 * rule.jitter * u)
        self._seen = entry.stored_at = now
        entry.ends_at = entry.stale_until = entry.refresh_at = now + lives
        if not entry.negative:
            entry.stale_until = entry.ends_at + rule.stale
            ahead = rule.refresh_ahead
            entry.refresh_at = math.inf if ahead is None else entry.ends_at - ahead
        self.entries[key] = entry
        self.entries.move_to_end(key)
        while len(self.entries) > rule.most:
            self.entries.popitem(last=False)
            self.evictions.up()

    def claim_refresh(self, key: Hashable, now: float) -> bool:
        """Whether it is time to refresh *key*, and nobody does it yet; then the caller does."""
        entry = self.entries.get(key)
        if entry is None or entry.refreshing or now < entry.refresh_at:
            return False
        entry.refreshing = True
        return True

    def refresh_failed(self, key: Hashable, now: float) -> None:
        """Let the next refresh of *key* wait a little: a tenth of what there is ahead."""
        entry = self.entries.get(key)
        if entry is not None:
            assert self._rule.refresh_ahead is not None
            entry.refreshing, entry.refresh_at = False, now + self._rule.refresh_ahead / 10

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
        self.entries.pop(key, None)
        fetching = self._fetching.pop(key, None)
        if fetching is not None:
            fetching.wanted = False

    def clear(self) -> None:
        """Forget everything, and what is on its way."""
        self.entries.clear()
        for fetching in self._fetching.values():
            fetching.wanted = False
        self._fetching.clear()

    def clock_changed(self, now: float) -> None:
        """Another clock was installed: if it reads less than before, it stood still."""
        back = self._seen - now
        if back <= 0:
            return
        self._seen = now
        for entry in self.entries.values():
            entry.stored_at -= back
            entry.ends_at -= back
            entry.stale_until -= back
            entry.refresh_at -= back

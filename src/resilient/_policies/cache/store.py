"""A cache's entries with all that a run of it needs: the rule, the lock, chance and totals."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from resilient._core.cache import CacheConfig, CacheCore, Entry, Fetching
from resilient._core.checks import check_seconds
from resilient._core.counter import Counter
from resilient._core.functions import at_once, copied
from resilient._policies.cache.invalidation import Invalidation
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import left_here
from resilient._policies.singleflight import SingleFlight
from resilient._runtime import clock, notify, rng
from resilient._runtime.keying import Key, user_key

TOTALS: Final = (
    "hits", "misses", "negative_hits", "stale_served", "refreshes", "refresh_failed",
    "refused",
)  # fmt: skip


class Settings(NamedTuple):
    """The settings of a cache, checked by its factory."""

    config: CacheConfig
    ttl: Callable[[Any], object] | None  # of a result, where the config has none
    negative: Callable[[Any], object] | None
    patience: float
    copy: Callable[[Any], Any] | None
    exists: Callable[[Any], object] | None
    invalidation: Invalidation | None
    key: Key | None
    rng: random.Random | None


class CacheStore:
    """What a cache keeps, and how its runs change it."""

    def __init__(self, settings: Settings, lock: threading.Lock, flight: SingleFlight) -> None:
        self._settings, self._lock, self.flight = settings, lock, flight
        self.core = CacheCore(settings.config)
        self.counters = {total: Counter() for total in TOTALS}
        self.generation = 0  # how often it was reset
        self._complain = notify.FaultLog()

    def begin(self, key: Hashable) -> Fetching:
        """Begin a run; its result may be kept unless *key* is dropped meanwhile."""
        with self._lock:
            fetching = self.core.begin(key)
        self.core.evicted.clear()
        return fetching

    def keep(self, key: Hashable, result: Any, fetching: Fetching) -> Any:
        """Keep the *result* of a run, unless the key was dropped meanwhile; if it can't be kept, no
        older one is either. Return what was to be kept: of what its caller may change a copy.
        """
        if (copy := self._settings.copy) is not None:
            try:
                result = copied(copy, result)
            except Exception as fault:  # noqa: BLE001  # the caller of the run wants no copy
                self._complain(copy, fault, "copy function")
                self._end_older(key, fetching)
                return result
        entry = Entry(result, negative=self._is_negative(result))
        asked = self._settings.ttl
        ttl = None if asked is None or entry.negative else self._ttl_of(asked, result)
        if ttl == 0:
            self._end_older(key, fetching)
            return result
        own = self._settings.rng
        draw = rng.draw() if own is None else own.random()
        with self._lock:
            if fetching.wanted:
                self.core.keep(key, entry, clock.now(), draw, ttl)
        self.core.evicted.clear()
        return result

    def _end_older(self, key: Hashable, fetching: Fetching) -> None:
        """A run has a newer result that is not kept."""
        with self._lock:
            if fetching.wanted:
                self.core.discard(key)
        self.core.evicted.clear()

    def drop(self, key: Hashable) -> None:
        """Forget *key* of every function, and let nobody join a run that began before."""
        with self._lock:
            for one in self.flight._scopes.keys(key):
                self.core.drop(one)
        self.flight.forget(key)
        self.core.evicted.clear()

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            self.core.clear()
        self.flight._forget_all()
        self.core.evicted.clear()

    def claim_refresh(self, key: Hashable, entry: Entry, now: float) -> bool:
        """Whether the caller is to refresh *entry*: its time has come, and nobody else does."""
        if entry.refreshing or entry.negative:
            return False
        with self._lock:
            claimed = self.core.claim_refresh(key, entry, now)
        if claimed:
            next(self.counters["refreshes"].increment)
        return claimed

    def refreshed(self, entry: Entry, generation: int, *, failed: bool) -> None:
        """The refresh of *entry* is over. Takes no lock: the collector may be anywhere."""
        if failed and generation == self.generation:
            next(self.counters["refresh_failed"].increment)
        self.core.refresh_over(entry, clock.now(), failed=failed)

    def patience(self, key: Hashable) -> float | None:
        """So many seconds a caller waits at most for the run of *key*, and is then served the old
        value. ``None`` if there is none, or if the caller has the time.
        """
        patience = self._settings.patience
        if not self._settings.config.stale or (patience == math.inf and deadline_here() is None):
            return None
        seconds = min(patience, 0.9 * left_here())
        if seconds == math.inf or self.core.stale_entry(key, clock.now()) is None:
            return None
        return seconds

    def known_missing(self, key: Hashable, argument: Callable[[], Any]) -> bool:
        """Whether there is surely nothing under *key*, or the *argument*, by ``exists``."""
        exists = self._settings.exists
        assert exists is not None
        try:
            if at_once(exists(user_key(key) if self._settings.key is not None else argument())):
                return False
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self._complain(exists, fault)
            return False
        next(self.counters["refused"].increment)
        return True

    def _is_negative(self, result: Any) -> bool:
        if self._settings.config.negative_ttl is None:
            return False
        asked = self._settings.negative
        if asked is None:
            return result is None
        try:
            return bool(at_once(asked(result)))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self._complain(asked, fault)
            return False

    def _ttl_of(self, asked: Callable[[Any], object], result: Any) -> float:
        """How long *result* lives, 0 if nobody can say."""
        try:
            return check_seconds("ttl", at_once(asked(result)), finite=False)
        except Exception as fault:  # noqa: BLE001  # the same
            self._complain(asked, fault, "ttl function")
            return 0.0

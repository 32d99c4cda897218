"""The cache policy: what a call finds, and what is told of it."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeVar, final

from resilient._core.cache import CacheCore, CacheRule, Entry, Fetching
from resilient._core.tally import Tally
from resilient._policies.cache.fetch import Fetch, Old
from resilient._policies.cache.invalidation import Invalidation
from resilient._policies.deadline.ambient import not_expired
from resilient._policies.deadline.block import deadline_here
from resilient._policies.singleflight import SingleFlight
from resilient._policies.widening import Widening
from resilient._runtime import clock, dice, notify
from resilient._runtime.decorate import AnyFunction, innermost
from resilient._runtime.keying import Key, KeyOf, arguments_key, hashable, key_of

T_co = TypeVar("T_co", covariant=True)
PLAIN = frozenset((str, int, bytes))
"""Types whose values equal none of another of them: one such argument is a key by itself."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Totals of a cache, and how many entries it holds.

    ``calls = hits + negative_hits + misses + refused``: those who wait for another's run are
    misses as well, and *refused* ones are those that ``exists`` knew to be in vain. Of the
    misses, ``stale_served`` got an old value because the run failed. ``refreshes`` were begun ahead
    of an entry's end, ``refresh_failed`` of them in vain.
    """

    name: str
    calls: int
    hits: int
    misses: int
    negative_hits: int
    stale_served: int
    refreshes: int
    refresh_failed: int
    refused: int
    evictions: int
    size: int


TOTALS = (
    "hits", "misses", "negative_hits", "stale_served", "refreshes", "refresh_failed",
    "refused",
)  # fmt: skip
OF_A_CALL = ("hits", "negative_hits", "misses", "refused")
"""What a call may be: one of these."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a cache was told, checked by its factory."""

    rule: CacheRule
    negative: Callable[[Any], object] | None
    exists: Callable[[Any], object] | None
    invalidation: Invalidation | None
    key: Key | None
    rng: random.Random | None


@final
class Cache(Widening[T_co]):
    """Remembers what a function returned; `cache` makes it."""

    kind = "cache"

    def __init__(self, name: str | None, settings: Settings) -> None:
        super().__init__(name)
        self._settings = settings
        self._core = CacheCore(settings.rule)
        self._entries = self._core.entries
        self._totals = {total: Tally() for total in TOTALS}
        self._complained = False
        self._read = clock.now  # of the clock that is installed
        self.generation = 0  # begun anew so often
        self.flight = SingleFlight(name, part_of=self.kind)
        self.flight.outbox = self.outbox  # one policy, one order
        if settings.invalidation is not None:
            settings.invalidation.subscribe(Ear(self))
        self.list_me()

    def stats(self) -> CacheStats:
        """A snapshot; see `CacheStats`."""
        with self._lock:
            totals = {total: self._totals[total].read() for total in reversed(TOTALS)}
            return CacheStats(
                name=self.name,
                calls=sum(totals[total] for total in OF_A_CALL),
                evictions=self._core.evictions.read(),
                size=len(self._entries),
                **totals,
            )

    def key_of(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Hashable:
        """The key of a call of *fn*, the function that was decorated: for `invalidate`.

        Of a method it may be that of an object, ``key_of(shop.price, "A-17")``, or that of the
        class, with the object before the other arguments.

        Raises:
            TypeError: the arguments can't be hashed.
        """
        if isinstance(fn, MethodType) and innermost(fn.__func__) is not fn.__func__:
            return self._finder(fn.__func__)(fn.__self__, *args, **kwargs)  # as its wrapper sees it
        return self._finder(fn)(*args, **kwargs)

    def invalidate(self, key: Hashable) -> None:
        """Forget what is known of *key*, and tell the other caches of `invalidation`.

        Callers who come later start a new run; what a run brings that is under way now is served
        to those who wait for it, and not kept.
        """
        self._drop(hashable(key))
        if self._settings.invalidation is not None:
            self._settings.invalidation.publish(key)

    def clear(self) -> None:
        """Forget everything, in this cache alone."""
        with self._lock:
            self._core.clear()
        self.flight.forget_all()
        self._core.departed.clear()

    def adopt(self, name: str) -> None:
        """See `PolicyBase.adopt`."""
        super().adopt(name)
        self.flight.adopt(name)

    def renew(self) -> None:
        """See `PolicyBase.renew`."""
        self.generation += 1
        self.clear()
        with self._lock:
            self._core.evictions.zero()
            for total in self._totals.values():
                total.zero()
        self.flight.renew()

    def clock_changed(self) -> None:
        """See `PolicyBase.clock_changed`.

        The clock before this one tells how far it had come: hits, which are many, note nothing.
        """
        before, self._read = self._read, clock.now
        back = before() - clock.now()
        if back > 0:
            with self._lock:
                self._core.step_back(back)

    def forked(self) -> None:
        """See `PolicyBase.forked`."""
        self.flight.forked()
        for entry in self._entries.values():
            entry.refreshing = False

    # Wrappers: a hit is a look, a reading of the clock and two ticks, without a turn.

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`."""
        find, entries, used = self._finder(fn), self._entries, self._core.order.move_to_end
        hits = self._totals["hits"].ticks
        function, plain = innermost(fn), self._settings.key is None

        def cached(*args: Any, **kwargs: Any) -> Any:
            if plain and not kwargs and len(args) == 1 and type(args[0]) in PLAIN:
                key: Hashable = (function, args[0])
            else:
                key = find(*args, **kwargs)
            now = clock.now()
            if deadline_here() is not None:
                not_expired(self.name, now)
            entry = entries.get(key)
            if entry is None or now >= entry.ends_at:
                return self._miss(Fetch(self, key, fn, args, kwargs))
            if now >= entry.refresh_at and self._claims(key, entry, now):
                Fetch(self, key, fn, args, kwargs, claimed=entry).refresh()
            try:  # noqa: SIM105  # on every hit
                used(entry)
            except KeyError:  # it was dropped just now
                pass
            if entry.negative:
                return self._negative(entry)
            next(hits)
            return entry.value

        return cached

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""
        find, entries, used = self._finder(fn), self._entries, self._core.order.move_to_end
        hits = self._totals["hits"].ticks
        function, plain = innermost(fn), self._settings.key is None

        async def cached(*args: Any, **kwargs: Any) -> Any:
            if plain and not kwargs and len(args) == 1 and type(args[0]) in PLAIN:
                key: Hashable = (function, args[0])
            else:
                key = find(*args, **kwargs)
            now = clock.now()
            if deadline_here() is not None:
                not_expired(self.name, now)
            entry = entries.get(key)
            if entry is None or now >= entry.ends_at:
                return await self._miss_async(Fetch(self, key, fn, args, kwargs))
            if now >= entry.refresh_at and self._claims(key, entry, now):
                Fetch(self, key, fn, args, kwargs, claimed=entry).refresh_async()
            try:  # noqa: SIM105  # on every hit
                used(entry)
            except KeyError:  # it was dropped just now
                pass
            if entry.negative:
                return self._negative(entry)
            next(hits)
            return entry.value

        return cached

    def _finder(self, fn: AnyFunction) -> KeyOf:
        if self._settings.key is not None:
            find = key_of(self._settings.key, fn)
            return lambda *args, **kwargs: hashable(find(*args, **kwargs))
        function = innermost(fn)
        arguments_key(function, (), {})  # refused at once, if no call of it can have a key
        single = self._settings.exists is not None

        def by_arguments(*args: Any, **kwargs: Any) -> Hashable:
            if not kwargs and len(args) == 1 and type(args[0]) in PLAIN:
                return function, args[0]  # as the wrappers say
            if single and len(args) + len(kwargs) != 1:
                raise TypeError(
                    f"exists is asked for a key, and this call of {function!r} has no single "
                    "argument: pass key="
                )
            return arguments_key(function, args, kwargs)

        return by_arguments

    # What a call does that finds nothing.

    def _miss(self, fetch: Fetch) -> Any:
        if self._is_in_vain(fetch):
            return None
        self._totals["misses"].up()
        return self._handed(fetch, self.flight.fly(fetch.key, fetch.run))

    async def _miss_async(self, fetch: Fetch) -> Any:
        if self._is_in_vain(fetch):
            return None
        self._totals["misses"].up()
        return self._handed(fetch, await self.flight.fly_async(fetch.key, fetch.run_async, (), {}))

    def _is_in_vain(self, fetch: Fetch) -> bool:
        """Whether there is surely nothing under the key of *fetch*, so that nobody need ask."""
        exists = self._settings.exists
        if exists is None:
            return False
        try:
            if exists(fetch.key if self._settings.key is not None else fetch.argument):
                return False
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self._complain(exists, fault)
            return False
        self._totals["refused"].up()
        return True

    def _handed(self, fetch: Fetch, result: Any) -> Any:
        if not isinstance(result, Old):
            return result
        if fetch.generation == self.generation:
            self._totals["stale_served"].up()
        if notify.listening:
            from resilient.events import StaleServed  # noqa: PLC0415  # whoever listens has loaded it

            now = clock.now()
            age = now - result.entry.stored_at
            self.outbox.put(
                StaleServed(policy=self.name, kind=self.kind, at=now, age=age, error=result.error)
            )
            self.outbox.deliver()
        return result.entry.value

    def _negative(self, entry: Entry) -> Any:
        self._totals["negative_hits"].up()
        return entry.value

    def _claims(self, key: Hashable, entry: Entry, now: float) -> bool:
        if entry.refreshing or entry.negative:
            return False
        with self._lock:
            claimed = self._core.claim_refresh(key, entry, now)
        if claimed:
            self._totals["refreshes"].up()
        return claimed

    # What a run asks and tells.

    def fresh(self, key: Hashable) -> Entry | None:
        """The entry of *key*, if it is fresh."""
        return self._core.fresh(key, clock.now())

    def begin(self, key: Hashable) -> Fetching:
        """A run begins."""
        with self._lock:
            fetching = self._core.begin(key)
        self._core.departed.clear()
        return fetching

    def end(self, fetching: Fetching) -> None:
        """A run is over. Takes no lock: the collector may be anywhere."""
        self._core.end(fetching)

    def keep(self, key: Hashable, result: Any, fetching: Fetching) -> None:
        """A run has brought *result*: keep it, unless the key was dropped meanwhile."""
        entry = Entry(result, negative=self._is_negative(result))
        u = (dice.draw if self._settings.rng is None else self._settings.rng.random)()
        with self._lock:
            if fetching.wanted:
                self._core.keep(key, entry, clock.now(), u)
        self._core.departed.clear()

    def better_than_nothing(self, key: Hashable) -> Entry | None:
        """The old value of *key*, if it may be served now."""
        return self._core.better_than_nothing(key, clock.now())

    def refreshed(self, fetch: Fetch, entry: Entry, *, failed: bool) -> None:
        """The refresh of *entry* is over. Takes no lock: the collector may be anywhere."""
        if failed and fetch.generation == self.generation:
            self._totals["refresh_failed"].up()
        self._core.refresh_over(entry, clock.now(), failed=failed)

    def _is_negative(self, result: Any) -> bool:
        if self._settings.rule.negative_ttl is None:
            return False
        asked = self._settings.negative
        if asked is None:
            return result is None
        try:
            return bool(asked(result))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self._complain(asked, fault)
            return False

    def _complain(self, predicate: object, fault: Exception) -> None:
        if not self._complained:
            self._complained = True
            notify.predicate_failed(predicate, fault)

    def _drop(self, key: Hashable) -> None:
        with self._lock:
            self._core.drop(key)
        self.flight.forget(key)
        self._core.departed.clear()


@final
class Ear:
    """What a channel holds of a cache: it must not keep it alive."""

    __slots__ = ("_cache",)

    def __init__(self, cache: Cache[Any]) -> None:
        self._cache = weakref.ref(cache)

    @property
    def gone(self) -> bool:
        """Whether there is nobody left to hear."""
        return self._cache() is None

    def __call__(self, key: Hashable, /) -> None:
        """*key* is no longer true."""
        if (cache := self._cache()) is not None:
            cache._drop(key)  # one module

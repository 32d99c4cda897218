"""The cache policy: what a call finds, and what is told of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeVar, final

from resilient._core.cache import StaleResult
from resilient._core.functions import at_once, copied
from resilient._policies.cache.fetch import NOT_RUN, CacheExecution
from resilient._policies.cache.store import TOTALS, CacheStore, Settings
from resilient._policies.common.widening import Widening
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import check_deadline
from resilient._policies.singleflight import SingleFlight
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction, innermost
from resilient._runtime.keying import KeyOf, Scope, arguments_key, hashable, key_of, user_key

T_co = TypeVar("T_co", covariant=True)
PLAIN = frozenset((str, int, bytes))
"""Types whose values equal none of another of them: one such argument is a key by itself."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Totals of a cache, and how many entries it holds.

    ``calls = hits + negative_hits + misses + refused``: those who wait for another's run are
    misses as well, and *refused* ones are those that ``exists`` knew to be in vain. Of the
    misses, ``stale_served`` got an old value because the run failed or was late. ``refreshes`` were
    begun ahead of an entry's end, ``refresh_failed`` of them in vain.
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


OF_A_CALL = ("hits", "negative_hits", "misses", "refused")
"""What a call may be: one of these."""


@final
class Cache(Widening[T_co]):
    """Remembers what a function returned; `cache` makes it."""

    kind = "cache"

    def __init__(self, name: str | None, settings: Settings) -> None:
        super().__init__(name)
        self._settings = settings
        self._flight = SingleFlight(name, part_of=self.kind)
        self._flight._outbox = self._outbox  # one policy, one order
        self._store = CacheStore(settings, self._lock, self._flight)
        if settings.invalidation is not None:
            settings.invalidation.subscribe(InvalidationListener(self))
        self._register()

    def stats(self) -> CacheStats:
        """A snapshot; see `CacheStats`."""
        core, counters = self._store.core, self._store.counters
        with self._lock:
            totals = {total: counters[total].read() for total in reversed(TOTALS)}
            return CacheStats(
                name=self.name,
                calls=sum(totals[total] for total in OF_A_CALL),
                evictions=core.evictions.read(),
                size=len(core.entries),
                **totals,
            )

    def key_of(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Hashable:
        """The key of a call of *fn*, the function that was decorated: for `invalidate`.

        With ``key=`` it is what that says, else the function and the arguments.

        Of a method it may be that of an object, ``key_of(shop.price, "A-17")``, or that of the
        class, with the object before the other arguments.

        Raises:
            TypeError: the arguments can't be hashed.
        """
        if isinstance(fn, MethodType) and innermost(fn.__func__) is not fn.__func__:
            args, fn = (fn.__self__, *args), fn.__func__  # as its wrapper sees it
        return hashable(self._finder(fn)(*args, **kwargs))

    def invalidate(self, key: Hashable) -> None:
        """Forget what is known of *key*, of every function that the cache guards, and tell the
        other caches of `invalidation`.

        Callers who come later start a new run; what a run brings that is under way now is served
        to those who wait for it, and not kept.
        """
        self._store.drop(hashable(key))
        if self._settings.invalidation is not None:
            at_once(self._settings.invalidation.publish(key))  # type: ignore[func-returns-value]  # None, if it was written as a function

    def clear(self) -> None:
        """Forget everything, in this cache alone."""
        self._store.clear()

    def _default_name(self, name: str) -> None:
        super()._default_name(name)
        self._flight._default_name(name)

    def _reset(self) -> None:
        self._store.generation += 1
        self._store.clear()
        with self._lock:
            self._store.core.evictions.reset()
            for counter in self._store.counters.values():
                counter.reset()
        self._flight._reset()

    def _forked(self) -> None:
        self._flight._forked()
        for entry in self._store.core.entries.values():
            entry.refreshing = False

    # Wrappers: a hit is a look, a reading of the clock and two increments, without the lock.

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        find, scope, store = self._finder(fn), self._scope(fn), self._store
        entries, used = store.core.entries, store.core.order.move_to_end
        hits, negative_hits = (store.counters[one].increment for one in ("hits", "negative_hits"))
        function, plain, copy = innermost(fn), self._settings.key is None, self._settings.copy

        def cached(*args: Any, **kwargs: Any) -> Any:
            if plain and not kwargs and len(args) == 1 and type(args[0]) in PLAIN:
                key: Hashable = (function, args[0])
            else:
                key = find(*args, **kwargs)
                if scope is not None:
                    key = scope, key
            now = clock.now()
            if deadline_here() is not None:
                check_deadline(self.name, now)
            try:
                entry = entries.get(key)
            except TypeError:
                hashable(user_key(key))  # says it better
                raise
            if entry is None or now >= entry.ends_at:
                return self._miss(CacheExecution(store, key, fn, args, kwargs))
            if now >= entry.refresh_at and store.claim_refresh(key, entry, now):
                CacheExecution(store, key, fn, args, kwargs, claimed=entry).refresh()
            try:  # noqa: SIM105  # on every hit
                used(entry)
            except KeyError:  # it was dropped just now
                pass
            next(negative_hits if entry.negative else hits)
            return entry.value if copy is None else copy(entry.value)

        return cached

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        find, scope, store = self._finder(fn), self._scope(fn), self._store
        entries, used = store.core.entries, store.core.order.move_to_end
        hits, negative_hits = (store.counters[one].increment for one in ("hits", "negative_hits"))
        function, plain, copy = innermost(fn), self._settings.key is None, self._settings.copy

        async def cached(*args: Any, **kwargs: Any) -> Any:
            if plain and not kwargs and len(args) == 1 and type(args[0]) in PLAIN:
                key: Hashable = (function, args[0])
            else:
                key = find(*args, **kwargs)
                if scope is not None:
                    key = scope, key
            now = clock.now()
            if deadline_here() is not None:
                check_deadline(self.name, now)
            try:
                entry = entries.get(key)
            except TypeError:
                hashable(user_key(key))  # says it better
                raise
            if entry is None or now >= entry.ends_at:
                return await self._miss_async(CacheExecution(store, key, fn, args, kwargs))
            if now >= entry.refresh_at and store.claim_refresh(key, entry, now):
                CacheExecution(store, key, fn, args, kwargs, claimed=entry).refresh_async()
            try:  # noqa: SIM105  # on every hit
                used(entry)
            except KeyError:  # it was dropped just now
                pass
            next(negative_hits if entry.negative else hits)
            return entry.value if copy is None else copy(entry.value)

        return cached

    def _finder(self, fn: AnyFunction) -> KeyOf:
        """How to read off a call of *fn* what its user knows as the key."""
        if self._settings.key is not None:
            return key_of(self._settings.key, fn)
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

    def _scope(self, fn: AnyFunction) -> Scope | None:
        """What keys of *fn* are kept under; ``None`` without ``key=``, since they hold it."""
        return None if self._settings.key is None else self._flight._scopes.find(innermost(fn))

    # What a call does that finds nothing.

    def _miss(self, run: CacheExecution) -> Any:
        store = self._store
        at_once(user_key(run.key))
        if self._settings.exists is not None and store.known_missing(run.key, run.argument):
            return None
        next(store.counters["misses"].increment)
        if (seconds := store.patience(run.key)) is not None:
            return self._handed(run, run.within(seconds))
        return self._handed(run, self._flight._fly_sync(run.key, run.run))

    async def _miss_async(self, run: CacheExecution) -> Any:
        store = self._store
        at_once(user_key(run.key))
        if self._settings.exists is not None and store.known_missing(run.key, run.argument):
            return None
        next(store.counters["misses"].increment)
        if (seconds := store.patience(run.key)) is not None:
            return self._handed(run, await run.within_async(seconds))
        goes_on = store.core.stale_entry(run.key, clock.now()) is not None
        found = await self._flight._fly(run.key, run.run_async, (), {}, goes_on=goes_on)
        return self._handed(run, found)

    def _handed(self, execution: CacheExecution, result: Any) -> Any:
        """What a caller gets of what came of a run."""
        copy = self._settings.copy
        if isinstance(result, StaleResult):
            if execution.generation == self._store.generation:
                next(self._store.counters["stale_served"].increment)
            if notify.listening:
                age = clock.now() - result.entry.stored_at
                self._emit("StaleServed", age=age, error=result.error)
                self._outbox.deliver()
            result = result.entry.value
        elif copy is not None and execution.result is not NOT_RUN:
            return execution.result
        return result if copy is None else copied(copy, result)


@final
class InvalidationListener:
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
            cache._store.drop(key)

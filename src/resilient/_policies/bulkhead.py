"""Bulkhead: a bound on the calls that are under way at once."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from types import CoroutineType
from typing import Any, cast, final

from resilient._core.bulkhead import BulkheadCore
from resilient._core.checks import Seconds, seconds, text, whole
from resilient._policies.bracketing import OfKey, Queueing
from resilient._policies.deadline.ambient import not_expired
from resilient._policies.deadline.block import deadline_here
from resilient._policies.waiting import Sleeper
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, refuse_coroutine
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient.errors import BulkheadFull


@dataclass(frozen=True, slots=True)
class BulkheadStats:
    """What a bulkhead holds, and its totals.

    ``calls`` were let through, ``rejected`` ones not; who left the queue by itself (cancelled, or
    at its deadline) is in neither. Of a keyed bulkhead ``limit`` is that of each key.
    """

    name: str
    limit: int
    in_flight: int
    queued: int
    calls: int
    rejected: int


@final
class Bulkhead(Queueing[BulkheadCore]):
    """Bounds the calls that are under way at once; `bulkhead` makes it.

    Decorates functions, sync and async; guards blocks, ``async with pool as call:``, which wait
    as a decorated call does; and hands out single calls, `admit`, which never wait.
    """

    kind = "bulkhead"
    error = BulkheadFull
    reason = "full"

    def __init__(  # noqa: PLR0917  # made in one place
        self, name: str | None, limit: int, room: int, max_wait: float, key: Key | None, most: int
    ) -> None:
        super().__init__(name, key, most)
        self._first_limit = self._limit = limit
        self._room, self.max_wait = room, max_wait
        self.begin()

    def resize(self, limit: int) -> None:
        """Let at most *limit* calls be under way at once.

        More applies at once, to those who wait as well; fewer cuts nobody short: until running
        calls have ended there may be more of them than *limit*. With keys, it is for every key,
        present and future.

        Args:
            limit: at least 1.
        """
        whole("limit", limit)
        with self._lock:
            self.drain(clock.now())
            self._limit = limit
            for core in self.cores():
                core.resize(limit)
        self.after()

    def of(self, key: Hashable) -> BulkheadOfKey:
        """See `Bracketing.of`."""
        return BulkheadOfKey(self, self.checked(key))

    def resize_key(self, key: Hashable, limit: int) -> None:
        """`resize` for one key, for as long as it is kept."""
        whole("limit", limit)
        with self._lock:
            self.drain(clock.now())
            self.core_of(key).resize(limit)
        self.after()

    def new_core(self, key: Hashable) -> BulkheadCore:
        """See `Bracketing.new_core`."""
        return BulkheadCore(self._limit, self._room, self.woken, key)

    def take_place(self, core: BulkheadCore, priority: float, now: float) -> BulkheadCore | None:  # noqa: ARG002  # places know neither
        """See `Bracketing.take_place`: the ticket is the core, or a waiter that has not begun."""
        return core if core.enter() else None

    def ticket(self, waiter: Sleeper) -> BulkheadCore:
        """See `Queueing.ticket`."""
        return cast("BulkheadCore", waiter.core)

    def settle(self, ticket: BulkheadCore | Sleeper, now: float) -> None:  # noqa: ARG002  # places know no time
        """See `Bracketing.settle`."""
        if isinstance(ticket, Sleeper):
            ticket.core.give_up(ticket)
        else:
            ticket.leave()

    def healthy(self, core: BulkheadCore) -> bool:
        """See `Bracketing.healthy`."""
        return core.limit == self._limit

    def describe(self, core: BulkheadCore) -> str:
        """See `Bracketing.describe`."""
        queue = f", {len(core.queue)} of {core.room} queued" if core.room else ""
        return f"{core.in_flight()} of {core.limit} in flight{queue}"

    def stats(self) -> BulkheadStats:
        """A snapshot; see `BulkheadStats`."""
        found = cast("BulkheadStats", super().stats())
        return found if self._keys is None else replace(found, limit=self._limit)

    def stats_of(self, cores: list[BulkheadCore], totals: dict[str, int]) -> BulkheadStats:
        """See `Bracketing.stats_of`."""
        return BulkheadStats(
            name=self.name,
            limit=cores[0].limit if cores else self._limit,
            in_flight=sum(core.in_flight() for core in cores),
            queued=sum(len(core.queue) for core in cores),
            **totals,
        )

    def _even_out(self, core: BulkheadCore) -> None:
        """Somebody joined the queue of *core* while a place was given back."""
        with self._lock:
            core.even_out()
        self.after()

    def renew(self) -> None:
        """See `PolicyBase.renew`."""
        self._limit = self._first_limit
        super().renew()

    # Wrappers: flat, since they run on every call. While places are free, and nobody wants the
    # one that is given back, a call is a pop and an append.

    def wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper`."""

        def limited(*args: Any, **kwargs: Any) -> Any:
            if find is not None:
                core = self.enter(find(*args, **kwargs), 0.0)
            else:
                if deadline_here() is not None:
                    not_expired(self.name, clock.now())
                core = self.only
                try:
                    core.offered.pop()
                    entered = True
                except IndexError:
                    entered = False
                if entered:
                    next(core.calls.ticks)
                else:
                    core = self.enter(None, 0.0)
            try:
                result = fn(*args, **kwargs)
                if type(result) is CoroutineType:
                    refuse_coroutine(fn, result)
            except BaseException:
                self.end(core)
                raise
            if core.wanted:
                self.end(core)
            else:
                core.free.append(None)
                if core.wanted:
                    self._even_out(core)
            return result

        return limited

    def wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper_async`."""

        async def limited(*args: Any, **kwargs: Any) -> Any:
            if find is not None:
                core = await self.enter_async(find(*args, **kwargs), 0.0)
            else:
                if deadline_here() is not None:
                    not_expired(self.name, clock.now())
                core = self.only
                try:
                    core.offered.pop()
                    entered = True
                except IndexError:
                    entered = False
                if entered:
                    next(core.calls.ticks)
                else:
                    core = await self.enter_async(None, 0.0)
            try:
                result = await fn(*args, **kwargs)
            except BaseException:
                self.end(core)
                raise
            if core.wanted:
                self.end(core)
            else:
                core.free.append(None)
                if core.wanted:
                    self._even_out(core)
            return result

        return limited


@final
class BulkheadOfKey(OfKey[BulkheadCore]):
    """One key of a keyed bulkhead."""

    def resize(self, limit: int) -> None:
        """See `Bulkhead.resize`: for this key, for as long as it is kept."""
        cast("Bulkhead", self._policy).resize_key(self._key, limit)

    def stats(self) -> BulkheadStats:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        return cast("BulkheadStats", super().stats())


def bulkhead(
    limit: int,
    *,
    queue: int = 0,
    max_wait: Seconds | None = None,
    key: Key | None = None,
    max_keys: int = 1024,
    name: str | None = None,
) -> Bulkhead:
    """Bound the calls that are under way at once, so that a slow dependency can't take everything.

    Who finds no place waits in the queue, in the order of arrival, across tasks, loops and
    threads. A sync function in a thread with a running event loop does not wait.

    Args:
        limit: calls at once, at least 1.
        queue: callers that may wait, at least 0.
        max_wait: seconds that one waits at most, at least 0; ``None`` for no limit but the
            deadline.
        key: a function of the call's arguments, or the name of a parameter: places for each key.
        max_keys: how many keys are kept, at least 1: the least recently used idle one goes first.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        BulkheadFull: from a call: no place and no room in the queue (``reason`` is ``"full"``),
            *max_wait* is over (``"max_wait"``), or waiting would block an event loop
            (``"would_block"``).
        DeadlineExceeded: from a call, ``started`` false: the deadline came first.

    Source:
        M. T. Nygard, *Release It!*, 2nd ed. (2018), ch. 5, "Bulkheads".
    """
    if callable(limit):
        raise TypeError(
            f"limit must be a whole number, not {limit!r}: write @bulkhead(10), with parentheses"
        )
    return Bulkhead(
        text("name", name, instead="@bulkhead(10)"),
        whole("limit", limit),
        whole("queue", queue, least=0),
        math.inf if max_wait is None else seconds("max_wait", max_wait, finite=False),
        check_key(key),
        whole("max_keys", max_keys),
    )

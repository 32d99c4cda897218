"""Bulkhead: a bound on the calls that are under way at once."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, cast, final

from resilient._core.bulkhead import BulkheadCore
from resilient._core.checks import Seconds, check_int, check_name, check_seconds
from resilient._policies.common.factory import factory
from resilient._policies.common.keyed import OfKey, Totals
from resilient._policies.common.queueing import QueueingPolicy
from resilient._policies.common.waiting import Sleeper
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import check_deadline
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, plain_type
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
class Bulkhead(QueueingPolicy[BulkheadCore]):
    """Bounds the calls that are under way at once; `bulkhead` makes it.

    Decorates functions, sync and async; guards blocks, ``async with pool as call:``, which wait
    as a decorated call does; and hands out single calls, `admit`, which never wait.
    """

    kind = "bulkhead"
    _error = BulkheadFull
    _reason = "full"

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        name: str | None,
        limit: int,
        max_queue: int,
        max_wait: float,
        key: Key | None,
        max_keys: int,
    ) -> None:
        self._first_limit = self._limit = limit
        self._max_queue, self._max_wait = max_queue, max_wait
        super().__init__(name, key, max_keys)

    def resize(self, limit: int) -> None:
        """Let at most *limit* calls be under way at once.

        More applies at once, to callers that wait as well. Fewer cuts nobody short: until running
        calls have ended there may be more of them than *limit*. With keys, it is for every key,
        present and future.

        Args:
            limit: at least 0, which pauses: no call begins until it is raised, and those who wait
                keep their place in the queue.
        """
        check_int("limit", limit, least=0)

        def begin() -> None:
            self._limit = limit

        def resize(state: BulkheadCore, _now: float) -> None:
            if self._limit == limit:  # else there was another one meanwhile, which sees to the rest
                state.resize(limit)

        self._visit(resize, begin)

    def of(self, key: Hashable) -> BulkheadOfKey:
        return BulkheadOfKey(self, self._states.checked(self, key))

    def _resize_key(self, key: Hashable, limit: int) -> None:
        """`resize` for one key, for as long as it is kept."""
        check_int("limit", limit, least=0)
        self._locked(lambda _now: self._states.find(key).resize(limit))

    def _new_state(self, key: Hashable) -> BulkheadCore:
        return BulkheadCore(self._limit, self._max_queue, self._woken, key)

    def _try_acquire(
        self,
        state: BulkheadCore,
        priority: float,  # noqa: ARG002  # places know none
        cost: int,  # noqa: ARG002  # a place for each
        now: float,  # noqa: ARG002  # places know no time
    ) -> BulkheadCore | None:
        """See `QueueingPolicy._try_acquire`: the ticket is the state."""
        return state if state.try_acquire() else None

    def _ticket(self, waiter: Sleeper) -> BulkheadCore:
        state: BulkheadCore = waiter.state
        next(state.calls.increment)
        return state

    def _release(self, ticket: BulkheadCore | Sleeper, now: float) -> None:  # noqa: ARG002  # places know no time
        if isinstance(ticket, Sleeper):
            if ticket.state is not None:  # else it was interrupted before it arrived
                ticket.state.give_up(ticket)
        else:
            ticket.release()

    def _is_healthy(self, state: BulkheadCore) -> bool:
        return state.limit == self._limit

    def _explain(self, state: BulkheadCore) -> str:
        queue = f", {len(state.queue)} of {state.max_queue} queued" if state.max_queue else ""
        return f"{state.in_flight()} of {state.limit} in flight{queue}"

    def stats(self) -> BulkheadStats:
        """A snapshot; see `BulkheadStats`."""
        found = cast("BulkheadStats", super().stats())
        return replace(found, limit=self._limit) if self._states.is_keyed else found

    def _read(self, state: BulkheadCore, now: float) -> tuple[int, int, int]:  # noqa: ARG002  # places know no time
        return state.limit, state.in_flight(), len(state.queue)

    def _stats_of(self, readings: list[tuple[int, int, int]], totals: Totals) -> BulkheadStats:
        return BulkheadStats(
            name=self.name,
            limit=readings[0][0] if readings else self._limit,
            in_flight=sum(in_flight for _, in_flight, _ in readings),
            queued=sum(queued for _, _, queued in readings),
            calls=totals.get("calls", 0),
            rejected=totals.get("rejected", 0),
        )

    def _even_out(self, state: BulkheadCore) -> None:
        """A caller joined the queue of *state* while a place was given back: let it have that."""
        self._locked(lambda _now: state.even_out())

    def _reset(self) -> None:
        self._limit = self._first_limit
        super()._reset()

    # Wrappers: flat, since they run on every call. While places are free, and nobody wants the
    # one that is given back, a call is a pop and an append.

    def _wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        states = self._states
        plain: type | None = None  # the type that it returned last

        def limited(*args: Any, **kwargs: Any) -> Any:
            nonlocal plain
            if find is not None:
                state = self._acquire_sync(find(*args, **kwargs), 0.0)
            else:
                if deadline_here() is not None:
                    check_deadline(self.name, clock.now())
                state = states.only
                try:
                    state.offered.pop()
                    entered = True
                except IndexError:
                    entered = False
                if entered:
                    next(state.calls.increment)
                else:
                    state = self._acquire_sync(None, 0.0)
            try:
                result = fn(*args, **kwargs)
                if type(result) is not plain:
                    plain = plain_type(fn, result)
            except BaseException:
                ended = self._ended
                ended += (state,)  # first, and no call: the stack may have no room for one
                self._settle_ended()
                raise
            if state.wanted:
                self._end(state)
            else:
                try:
                    state.free.append(None)
                finally:  # also if it is interrupted
                    if state.wanted:
                        self._even_out(state)
            return result

        return limited

    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        states = self._states

        async def limited(*args: Any, **kwargs: Any) -> Any:
            if find is not None:
                state = await self._acquire(find(*args, **kwargs), 0.0)
            else:
                if deadline_here() is not None:
                    check_deadline(self.name, clock.now())
                state = states.only
                try:
                    state.offered.pop()
                    entered = True
                except IndexError:
                    entered = False
                if entered:
                    next(state.calls.increment)
                else:
                    state = await self._acquire(None, 0.0)
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                ended = self._ended
                ended += (state,)  # first, and no call: the stack may have no room for one
                self._settle_ended(error)
                raise
            if state.wanted:
                self._end(state)
            else:
                try:
                    state.free.append(None)
                finally:  # also if it is interrupted
                    if state.wanted:
                        self._even_out(state)
            return result

        return limited


@final
class BulkheadOfKey(OfKey[Bulkhead, BulkheadStats]):
    """One key of a keyed bulkhead."""

    def resize(self, limit: int) -> None:
        """See `Bulkhead.resize`: for this key, for as long as it is kept."""
        self._policy._resize_key(self._key, limit)


@factory("bulkhead(10)")
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
        check_name("name", name, instead="@bulkhead(10)"),
        check_int("limit", limit),
        check_int("queue", queue, least=0),
        math.inf if max_wait is None else check_seconds("max_wait", max_wait, finite=False),
        check_key(key),
        check_int("max_keys", max_keys),
    )

"""The single-flight policy: who joins whom. How a run runs and a caller waits is in `backends`.

Joining is one decision in two worlds, loops and threads, which are read side by side here.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, final

from resilient._core.counter import Counter
from resilient._core.functions import copied, is_coroutine_function
from resilient._core.singleflight import FlightTable
from resilient._policies.common.policy import PolicyBase
from resilient._policies.common.shared import set_once
from resilient._policies.common.waiting import on_loop
from resilient._policies.deadline.block import Deadline, deadline_here
from resilient._policies.deadline.here import check_deadline, enforced_here
from resilient._policies.singleflight.backends import (
    AsyncExecution,
    AsyncioExecution,
    LoopTable,
    ThreadExecution,
    TrioExecution,
    Waiting,
    asyncio_table,
    is_of,
    note_wait,
    running,
    trio_table,
)
from resilient._runtime import background, clock, loops, notify
from resilient._runtime.decorate import (
    AnyFunction,
    check_function,
    innermost,
    not_awaitable,
)
from resilient._runtime.keying import (
    Key,
    KeyOf,
    Scopes,
    arguments_key,
    hashable,
    key_of,
    user_key,
)
from resilient._runtime.registry import Registry
from resilient._runtime.signal import Signal
from resilient.errors import Rejected

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SingleFlightStats:
    """Totals of a single-flight.

    ``calls = runs + joined``, once those who wait have been served (in plain threads they are
    counted as joined then). Calls that were refused are in none of them. ``in_flight`` runs are
    under way.
    """

    name: str
    calls: int
    runs: int
    joined: int
    in_flight: int


@final
class SingleFlight(PolicyBase):
    """Lets callers of the same thing share one run; `singleflight` makes it."""

    kind = "singleflight"

    def __init__(
        self,
        name: str | None,
        key: Key | None = None,
        copy: Callable[[Any], Any] | None = None,
        *,
        part_of: str | None = None,
    ) -> None:
        super().__init__(name)
        self._key, self._copy = key, copy
        self._scopes = Scopes(self._lock)
        self._calls, self._runs, self._joined = Counter(), Counter(), Counter()
        self._threads: FlightTable[ThreadExecution] = FlightTable()
        self._tables: Registry[LoopTable] = Registry()
        self._recent: Callable[[], LoopTable | None] = lambda: None  # the table used last, weakly
        if part_of is None:
            self._register()
        else:  # another policy's, of that kind
            set_once(self, "kind", part_of)

    def do(self, key: Hashable, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run *fn*, or join the run of whoever asked `do` for the same *key*, whatever function
        they gave.

        For an ``async def`` returns the awaitable.
        """
        hashable(key)
        check_function(fn)
        if is_coroutine_function(fn):
            return cast("R", self._fly(key, fn, args, kwargs))
        return cast("R", self._fly_sync(key, functools.partial(fn, *args, **kwargs)))

    def forget(self, key: Hashable) -> None:
        """Let later callers with *key* start a new run, of whatever function.

        One under way still serves those who wait for it.
        """
        keys = self._scopes.keys(hashable(key))
        with self._lock:
            for one in keys:
                self._threads.forget(one)
        for table in self._tables.living():
            for one in keys:
                table.forget(one)

    def _forget_all(self) -> None:
        """`forget` every key."""
        with self._lock:
            self._threads.forget_all()
        for table in self._tables.living():
            table.forget_all()

    def stats(self) -> SingleFlightStats:
        """A snapshot; see `SingleFlightStats`."""
        with self._lock:
            flying = len(self._threads.flying)
            joined, runs, calls = self._joined.read(), self._runs.read(), self._calls.read()
        flying += sum(table.in_flight for table in self._tables.living())
        return SingleFlightStats(self.name, calls, runs, joined, flying)

    def _reset(self) -> None:
        with self._lock:
            for total in (self._calls, self._runs, self._joined):
                total.reset()
            self._threads = FlightTable()
        for table in self._tables.living():
            table.forget_all()

    def _forked(self) -> None:
        """See `PolicyBase._forked`: the threads and loops that ran are not in the child."""
        self._threads = FlightTable()
        for table in self._tables.living():
            table.forget_all()
            table.flying.clear()

    # Wrappers.

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        find = self._finder(fn)

        def flying(*args: Any, **kwargs: Any) -> Any:
            return self._fly_sync(find(*args, **kwargs), functools.partial(fn, *args, **kwargs))

        return flying

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        find = self._finder(fn)

        async def flying(*args: Any, **kwargs: Any) -> Any:
            return await self._fly(find(*args, **kwargs), fn, args, kwargs)

        return flying

    def _finder(self, fn: AnyFunction) -> KeyOf:
        function = innermost(fn)
        if self._key is not None:
            find, scope = key_of(self._key, fn), self._scopes.find(function)
            return lambda *args, **kwargs: (scope, hashable(find(*args, **kwargs)))
        return lambda *args, **kwargs: arguments_key(function, args, kwargs)

    # In async code.

    async def _fly(
        self,
        key: Hashable,
        fn: AnyFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        goes_on: bool = False,
    ) -> Any:
        """Join the run for *key*, or begin one of *fn*. If it *goes on* without this caller, it is
        not cancelled when this one leaves, nor limited by its deadline.
        """
        limit = None if deadline_here() is None else check_deadline(self.name, clock.now())
        loop = loops.running_loop()
        if loop is not None and loops.current_task(loop) is not None:
            table, read = self._table_of(loop), clock.now
            new_run: type[AsyncExecution] = AsyncioExecution
        else:
            table, read = trio_table(self, self._tables.add), loops.trio_reading()
            new_run = TrioExecution
        until = math.inf if limit is None or goes_on else limit._at_by(read)
        within = running.get()
        run = table.find(key)
        if run is not None:
            run = self._join(table, run, until)
        if first := run is None:
            run = new_run(key, read, self.name, fn, args, kwargs, table.end)
            run.detached = goes_on
            self._lead(table, run, until)
        next(self._calls.increment)
        waiter: Any = run.waiter()
        try:
            if limit is None and not within:
                await waiter
            else:
                await self._wait_within(run, waiter, limit)
        except BaseException:
            run.unwait(waiter)
            if not run.done and table.leave(run, goes_on=goes_on):
                run.cancel()
            raise
        try:
            return self._handed(run.outcome(), first=first)
        finally:
            del run  # which has the error, and this frame is in its traceback

    def _lead(self, table: LoopTable, run: AsyncExecution, until: float) -> None:
        """Begin *run*, and be the first who waits for it."""
        next(self._runs.increment)
        try:
            table.begin(run)
            table.join(run, until)
            note_wait(self.name, run)
            run.start()
        except BaseException:  # an interrupt: nobody may wait for what perhaps never began
            run.done = True
            table.end(run)
            raise

    def _table_of(self, loop: asyncio.AbstractEventLoop) -> LoopTable:
        table = self._recent()
        if not is_of(table, loop):
            table = asyncio_table(self, loop, self._tables.add)
            self._recent = weakref.ref(table)
        return table

    async def _wait_within(
        self, run: AsyncExecution, waiter: Awaitable[object], limit: Deadline | None
    ) -> None:
        """Wait as part of other runs, or under a limit, which counts for *run*."""
        with Waiting(run, limit):
            if limit is None or enforced_here(limit):
                await waiter
            else:
                with Deadline(math.inf, self.name, None):  # an inherited limit interrupts nothing
                    await waiter

    def _join(self, table: LoopTable, run: AsyncExecution, until: float) -> AsyncExecution | None:
        if run.doomed:
            table.forget(run.key)
            return None
        note_wait(self.name, run)
        table.join(run, until)
        run.extend()
        next(self._joined.increment)
        if notify.listening:
            self._tell_joined(run.key)
        return run

    # In plain threads.

    def _fly_sync(self, key: Hashable, fn: Callable[[], Any]) -> Any:
        """Join the run for *key*, or begin one of *fn*."""
        limit = None if deadline_here() is None else check_deadline(self.name, clock.now())
        run = mine = ThreadExecution(key)  # made first, so that an interrupt finds it to be ended
        handled = sys.exception()
        try:
            run, signal = self._lead_or_join(mine, limit)
            next(self._calls.increment)
            while signal is not None:
                if notify.listening:
                    self._tell_joined(key)
                self._wait(run, signal, limit)
                if not run.interrupted:
                    return self._handed(run.outcome(), first=False)
                run, signal = self._lead_or_join(mine, limit)
            with Waiting(mine, limit):
                next(self._runs.increment)
                mine.result = not_awaitable(fn, mine.run(self._name or self.kind, fn))
        except BaseException as error:
            if mine.led:
                mine.error, mine.trace = error, error.__traceback__
                mine.keep_context(error, handled)
            raise
        finally:
            if mine.led:
                mine.done = True
                try:
                    self._end(mine)
                except BaseException:  # an interrupt: nobody may be left waiting
                    self._end(mine)
                    raise
            result = mine.result
            del run, mine, handled  # a run has its error, and this frame is in its traceback
        try:
            return result
        finally:
            del result  # perhaps a stale one, which has its error

    def _end(self, run: ThreadExecution) -> None:
        try:
            with self._lock:
                self._threads.end(run)
        finally:
            run.wake()

    def _lead_or_join(
        self, mine: ThreadExecution, limit: Deadline | None
    ) -> tuple[ThreadExecution, Signal | None]:
        """Begin the caller's own run, or wait for the one that is there: then with a signal that
        its end gives.
        """
        until = math.inf if limit is None else limit._at_by(clock.now)
        with self._lock:
            run = self._threads.find(mine.key)
            if run is None:
                mine.led = True
                self._threads.begin(mine)
                self._threads.join(mine, until)
                note_wait(self.name, mine)
                return mine, None
            if not on_loop():
                note_wait(self.name, run)
                self._threads.join(run, until)
                run.extend()
                run.signals[signal := Signal()] = None
                return run, signal
        raise self._would_block(mine.key)

    def _fly_aside(
        self, key: Hashable, fn: Callable[[], Any], seconds: float, context: Context
    ) -> tuple[Any] | None:
        """Join the run for *key*, or let one of *fn* begin in a thread of its own. Wait for it at
        most so many *seconds*: what it brings, or ``None``, and it goes on. Never wait where tasks
        would.
        """
        run = mine = ThreadExecution(key)  # made first, so that an interrupt finds it to be ended
        signal = Signal()
        try:
            with self._lock:
                if (found := self._threads.find(key)) is None:
                    mine.led = True
                    self._threads.begin(mine)
                    self._threads.join(mine, math.inf)  # for its own thread
                else:
                    run = found
                note_wait(self.name, run)
                self._threads.join(run, math.inf)
                run.extend()
                run.signals[signal] = None
            if mine.led:
                self._start_aside(mine, fn, context)
                mine.led = False
            elif notify.listening:
                self._tell_joined(key)
            next(self._calls.increment)
            self._wait(run, signal, None, clock.now() + (0.0 if on_loop() else seconds))
            ended = run.done and (run is mine or not run.interrupted)
            return (run.outcome(),) if ended else None
        except BaseException as error:
            if mine.led:  # whoever waits tries anew
                mine.error, mine.done = error, True
                try:
                    self._end(mine)
                except BaseException:  # as in `_fly_sync`
                    self._end(mine)
                    raise
            raise
        finally:
            del run, mine

    def _start_aside(self, run: ThreadExecution, fn: Callable[[], Any], context: Context) -> None:
        work = functools.partial(self._lead_aside, run, fn)
        try:
            background.start_thread(work, f"resilient.{self.kind} {self.name}", context)
        except RuntimeError:  # there are no more threads to be had
            work()

    def _lead_aside(self, run: ThreadExecution, fn: Callable[[], Any]) -> None:
        """Run *fn* for those who wait; its error is theirs alone."""
        try:
            next(self._runs.increment)
            run.result = not_awaitable(fn, run.run(self._name or self.kind, fn))
        except BaseException as error:
            run.error, run.trace = error, error.__traceback__
            run.keep_context(error, None)
            if not isinstance(error, Exception):
                raise
        finally:
            run.done = True
            self._end(run)
            del run

    def _wait(
        self,
        run: ThreadExecution,
        signal: Signal,
        limit: Deadline | None,
        at_most: float = math.inf,
    ) -> None:
        """Wait for the end of *run*, or for that of *limit*, which may be moved meanwhile; without
        one, for the instant *at_most*.

        Raises:
            DeadlineExceeded: *limit* came first.
        """
        try:
            with Waiting(run, limit):
                while True:
                    if run.done:
                        break
                    until = at_most if limit is None else limit._at_by(clock.now)
                    if clock.now() >= until:
                        break
                    clock.wait(signal, until)
                    if not run.done:  # the clock has changed, or the limit was moved
                        signal.clear()
        finally:
            if not run.interrupted:  # else this caller tries anew
                next(self._joined.increment)
            if not run.done:
                with self._lock:
                    run.signals.pop(signal, None)
                    self._threads.leave(run)
        if limit is not None and not run.done:
            raise limit._exceeded(self.name, started=True)

    # Words.

    def _handed(self, result: Any, *, first: bool) -> Any:
        return result if first or self._copy is None else copied(self._copy, result)

    def _would_block(self, key: Hashable) -> Rejected:
        if notify.listening:
            self._emit("CallRejected", key=user_key(key), reason="would_block", retry_after=None)
            self._outbox.deliver()
        why = "another thread runs this, and here an event loop would wait"
        return Rejected(self.name, None, "would_block", why)

    def _tell_joined(self, key: Hashable) -> None:
        self._emit("FlightJoined", key=user_key(key))
        self._outbox.deliver()

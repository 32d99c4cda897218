"""Runs and waiters on asyncio, on trio and in plain threads.

In async code the run is a task of its own, in a copy of the first caller's context, and
every caller waits for it, the first one too: so that a caller can leave and the run go on.
In plain threads the first caller runs it. The three are in one file because they must agree.
"""

from __future__ import annotations

import abc
import math
import sys
import types
import weakref
from collections.abc import Awaitable, Callable, Generator, Hashable
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from resilient._core.chaining import context_of, forget, set_context
from resilient._core.deadline import ALIVE
from resilient._core.singleflight import Execution, FlightTable
from resilient._policies.deadline.block import (
    FIRED,
    OPEN,
    READ_ONLY,
    Deadline,
    deadline_here,
    set_deadline_here,
)
from resilient._runtime import clock, loops
from resilient._runtime.keying import user_key
from resilient._runtime.locks import new_lock
from resilient._runtime.signal import Signal

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    import trio

running: ContextVar[tuple[Execution, ...]] = ContextVar("resilient.flights", default=())
"""The runs that this code is part of: it must not wait for them."""


_noting: Final = new_lock(inner=True)
"""Held while a wait is found to be possible and noted, in one step: else two might find so."""


def note_wait(policy: str, run: Execution) -> None:
    """Note that the run that this code is part of, if any, waits for *run*, until `Waiting` ends.

    Raises:
        RuntimeError: they would wait for each other.
    """
    if within := running.get():
        with _noting:
            if not run.depends_on(within):
                within[-1].awaits.append(run)
                return
        whose, why = "the", "whose run waits for it: both would wait"
        if run in within:
            whose, why = "its own", "and would wait for itself"
        raise RuntimeError(
            f"{policy}: a run asks for {whose} key {user_key(run.key)!r}, {why} for ever"
        )


class SharedExecution(Execution):
    """A run with its outcome, and the limit that its function sees."""

    __slots__ = ("_read", "error", "error_context", "limit", "result", "trace")

    def __init__(self, key: Hashable, read: Callable[[], float]) -> None:
        super().__init__(key)
        self._read = read  # the clock that its limit goes by
        self.result: Any = None
        self.error: BaseException | None = None
        self.trace: TracebackType | None = None
        self.error_context: BaseException | None = None
        self.limit: Deadline | None = None

    def follow(self, limit: Deadline) -> None:
        """The *limit* of a waiter was moved: that of the run is never before it."""
        if (until := limit._at_by(self._read)) > self.until:
            self.until = until
            self.extend()

    def open_limit(self, name: str, *, bare: bool) -> Deadline | None:
        """The deadline of the run, to be entered in its context; none if one waiter has none."""
        if self.until != math.inf:
            left = self.until - self._read()
            self.limit = (
                Deadline._of_life(READ_ONLY, left, name) if bare else Deadline(left, name, None)
            )
        return self.limit

    def extend(self) -> None:
        """A waiter may stay longer than the others: let the limit follow."""
        if self.limit is not None and self.limit._life is OPEN and self.limit._at < self.until:
            self.limit._move(self.until)

    @property
    def expired(self) -> bool:
        """Whether its limit is over: then it ends by itself, and nobody may join."""
        limit = self.limit
        return (
            limit is not None
            and limit._life in ALIVE
            and (limit._life is FIRED or limit._left() <= 0)
        )

    def keep_context(self, error: BaseException, handled: BaseException | None) -> None:
        """Keep the context of *error*. What its first caller was *handling* is no part of it."""
        if isinstance(error, Exception):
            forget(error, handled)
        self.error_context = context_of(error)

    @property
    def interrupted(self) -> bool:
        """Whether the one who ran it was interrupted, which is nothing of those who wait."""
        return self.error is not None and not isinstance(self.error, Exception)

    def outcome(self) -> Any:
        """Return or raise what came of it. For each who asks the traceback starts anew, and the
        context is that of the run.
        """
        if self.error is None:
            return self.result
        try:
            raise self.error.with_traceback(self.trace)
        finally:
            set_context(self.error, self.error_context)
            del self  # which has the error, and this frame is in its traceback


class Waiting:
    """A caller waits inside the block, which `note_wait` allowed. Its limit counts for the run."""

    __slots__ = ("_limit", "_run", "_within")

    def __init__(self, run: SharedExecution, limit: Deadline | None) -> None:
        self._run, self._limit = run, limit
        self._within = running.get()[-1:]

    def __enter__(self) -> None:
        if self._limit is not None:
            self._limit._subscribe(self)

    def __exit__(self, *_: object) -> None:
        for run in self._within:
            run.awaits.remove(self._run)
        if self._limit is not None:
            self._limit._unsubscribe(self)

    def _limit_moved(self) -> None:
        """See `LimitListener`: of those who wait only this one is looked at."""
        assert self._limit is not None
        self._run.follow(self._limit)


class AsyncExecution(SharedExecution, abc.ABC):
    """A run in a task of its own."""

    __slots__ = ("_args", "_end", "_fn", "_kwargs", "detached", "name")

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        key: Hashable,
        read: Callable[[], float],
        name: str,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        end: Callable[[Any], None],
    ) -> None:
        super().__init__(key, read)
        self.name = name
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self._end = end
        self.detached = False  # it outlives the runs that it was begun in: see `_detached`

    def context(self) -> Context:
        """A copy of the present one. Without its deadline, and with this run among those that are
        under way.
        """
        context = copy_context()
        if deadline_here() is not None:
            context.run(set_deadline_here, None)
        context.run(running.set, (self,) if self.detached else (*running.get(), self))
        return context

    async def drive(self, *, primed: bool) -> None:
        """The body of the task.

        It keeps the outcome for those who wait. It raises only what is no `Exception`, when nobody
        is left to hear of it, and on trio its own cancellation.

        A *primed* one was brought to its first line before the task takes it over: so also a
        cancellation before the task's first step finds it inside the ``try``.

        The outcome, and that it is done, are kept without a call, in which an interrupt might
        come. And whatever goes wrong in the end of the run, those who wait go on.
        """
        handled = None
        try:
            if primed:
                await _pause()
            handled = sys.exception()  # an eager task begins inside its first caller
            if self.until == math.inf or (limit := self.open_limit(self.name, bare=False)) is None:
                self.result = await self._fn(*self._args, **self._kwargs)
            else:
                with limit:
                    limit._move(self.until)
                    self.result = await self._fn(*self._args, **self._kwargs)
        except BaseException as error:
            self.error, self.trace = error, error.__traceback__
            self.keep_context(error, handled)
            if self.must_raise(error):
                raise
        finally:
            self.done = True
            try:
                self._end_and_wake()
            except BaseException:  # an interrupt: nobody may be left waiting
                self._end_and_wake()
                raise
            finally:
                del self, handled

    def _end_and_wake(self) -> None:
        try:
            self._end(self)  # the key is free before anybody resumes
        finally:
            self.wake()

    def must_raise(self, error: BaseException) -> bool:
        """Whether the task itself must end by *error*."""
        return not (isinstance(error, Exception) or self.waiting)

    @abc.abstractmethod
    def start(self) -> None:
        """Begin."""

    @abc.abstractmethod
    def waiter(self) -> Awaitable[object]:
        """What one caller awaits: the end of the run."""

    def unwait(self, waiter: Any) -> None:
        """A caller awaits *waiter* no more."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Let every waiter go on."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Nobody waits any more. At its limit the run's own deadline does it, which a breaker
        inside may count.
        """

    @property
    @abc.abstractmethod
    def doomed(self) -> bool:
        """Whether it has been cancelled, so that nobody may join."""


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


class AsyncioExecution(AsyncExecution):
    """A run in an asyncio task."""

    __slots__ = ("_loop", "_task", "_waiters")

    def start(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order of arrival
        loop = loops.running_loop()
        assert loop is not None
        self._loop = loop
        body = self.drive(primed=True)
        body.send(None)
        self._task: asyncio.Task[None] | None = None
        task = loop.create_task(body, context=self.context())
        if not self.done:  # an eager one may be
            self._task = task

    def must_raise(self, error: BaseException) -> bool:
        """See `AsyncExecution.must_raise`: a cancellation is kept for those who wait."""
        return not loops.is_cancellation(error) and super().must_raise(error)

    def waiter(self) -> asyncio.Future[None]:
        waiter = self._loop.create_future()
        if self.done:  # an eager task may have ended before anybody waits
            waiter.set_result(None)
        else:
            self._waiters[waiter] = None
        return waiter

    def unwait(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.pop(waiter, None)

    def wake(self) -> None:
        self._task = None  # its context has this run
        for waiter in self._waiters:
            if not waiter.done():
                try:  # noqa: SIM105  # suppress() costs more than what is in it
                    waiter.set_result(None)
                except RuntimeError:
                    pass  # the loop was closed by hand, and nobody will resume

    def cancel(self) -> None:
        task = self._task
        if task is not None and not self.expired and not self._loop.is_closed():
            task.cancel()  # else nobody would be told

    @property
    def doomed(self) -> bool:
        task = self._task
        cancelled = task is not None and task.cancelling() > 0
        return cancelled or (self.limit is not None and self.expired)


class TrioExecution(AsyncExecution):
    """A run in a system task of trio."""

    __slots__ = ("_over", "_scope")

    def start(self) -> None:
        import trio  # noqa: PLC0415  # loaded already: we are inside it

        self._over = trio.Event()
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(
            self._body, name=f"resilient.singleflight {self.name}", context=self.context()
        )

    async def _body(self) -> None:
        try:
            with self._scope:
                await self.drive(primed=False)
        finally:
            del self

    def must_raise(self, error: BaseException) -> bool:
        """See `AsyncExecution.must_raise`: trio wants its cancellations back."""
        return loops.is_cancellation(error) or super().must_raise(error)

    def waiter(self) -> Awaitable[object]:
        return self._over.wait()

    def unwait(self, waiter: Any) -> None:
        """See `AsyncExecution.unwait`: it may not have been awaited at all."""
        waiter.close()

    def wake(self) -> None:
        self._over.set()

    def cancel(self) -> None:
        if not self.expired:
            self._scope.cancel()

    @property
    def doomed(self) -> bool:
        return self.expired or self._scope.cancel_called


class LoopTable(FlightTable[AsyncExecution]):
    """The runs of one asyncio loop, or of one run of trio; it dies with it."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        super().__init__()
        self._loop = None if loop is None else weakref.ref(loop)

    @property
    def in_flight(self) -> int:
        """Runs under way; none of a loop that was closed."""
        loop = None if self._loop is None else self._loop()
        return (
            0 if self._loop is not None and (loop is None or loop.is_closed()) else len(self.flying)
        )


_tables_of_trio: trio.lowlevel.RunVar[weakref.WeakKeyDictionary[object, LoopTable]] | None = None


def is_of(table: LoopTable | None, loop: asyncio.AbstractEventLoop) -> TypeGuard[LoopTable]:
    """Whether *table* is that of *loop*."""
    return table is not None and table._loop is not None and table._loop() is loop


def asyncio_table(
    owner: object, loop: asyncio.AbstractEventLoop, new: Callable[[LoopTable], None]
) -> LoopTable:
    """The table of *owner* on *loop*; a new one is shown to *new*."""
    owned = loops.loop_state(loop).owned
    table: LoopTable | None = owned.get(owner)
    if table is None:
        table = owned[owner] = LoopTable(loop)
        new(table)
    return table


def trio_table(owner: object, new: Callable[[LoopTable], None]) -> LoopTable:
    """The table of *owner* in this run of trio; a new one is shown to *new*."""
    import trio  # noqa: PLC0415  # loaded already: we are inside it

    global _tables_of_trio  # noqa: PLW0603  # made when trio is there
    if _tables_of_trio is None:
        _tables_of_trio = trio.lowlevel.RunVar("resilient.flights")
    try:
        tables = _tables_of_trio.get()
    except LookupError:
        tables = weakref.WeakKeyDictionary()
        _tables_of_trio.set(tables)
    table = tables.get(owner)
    if table is None:
        table = tables[owner] = LoopTable(None)
        new(table)
    return table


class ThreadExecution(SharedExecution):
    """A run in the first caller's thread."""

    __slots__ = ("led", "signals")

    def __init__(self, key: Hashable) -> None:
        super().__init__(key, clock.now)
        self.led = False  # its caller runs it, and must end it
        self.signals: dict[Signal, None] = {}  # of those who wait, in the order of arrival

    def wake(self) -> None:
        """Let everybody who waits go on."""
        for signal in tuple(self.signals):
            signal.set()

    def run(self, name: str, fn: Callable[[], Any]) -> Any:
        """Run *fn* here, in a copy of the context and with the run's own deadline."""
        try:
            return copy_context().run(self._inside, name, fn)
        finally:
            del self

    def _inside(self, name: str, fn: Callable[[], Any]) -> Any:
        try:
            set_deadline_here(None)
            running.set((*running.get(), self))
            if (limit := self.open_limit(name, bare=True)) is None:
                return fn()
            with limit:
                limit._move(self.until)
                return fn()
        finally:
            del self

"""Waiting to be woken, on asyncio, on trio and in plain threads.

A waiter may be woken from anywhere: by a task of the same loop, of another one, or by a thread.
It consumes what woke it, and may wait again.
"""

from __future__ import annotations

import abc
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from resilient._core.waiters import Waiter
from resilient._policies.deadline.block import Deadline
from resilient._runtime import clock, loops
from resilient._runtime.signal import Signal

if TYPE_CHECKING:
    import asyncio


class Sleeper(Waiter, abc.ABC):
    """A waiter that can be woken."""

    __slots__ = ()

    @abc.abstractmethod
    def wake(self) -> None:
        """Let it go on. From any thread."""

    def lost(self) -> bool:
        """Whether it will never go on."""
        return False


class AsyncSleeper(Sleeper, abc.ABC):
    """A task that waits."""

    __slots__ = ()

    @abc.abstractmethod
    async def wait(self, seconds: float) -> bool:
        """Return when it is woken, or after *seconds*; whether they are over."""


class AsyncioSleeper(AsyncSleeper):
    """A task of asyncio."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, priority: float, cost: int) -> None:
        super().__init__(priority, cost)
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> None:
        if loops.running_loop() is self._loop:
            self._set()
        else:
            with suppress(RuntimeError):  # the loop is closed, and nobody will resume
                self._loop.call_soon_threadsafe(self._set)

    def lost(self) -> bool:
        """See `Sleeper.lost`: its loop was closed, by hand, under it."""
        return self._loop.is_closed()

    def _due(self, now: float) -> None:  # noqa: ARG002  # see `loops.Due`
        """Its time is over."""
        self._set(over=True)

    async def wait(self, seconds: float) -> bool:
        timers, entry = loops.loop_state(self._loop).timers, None
        if seconds != math.inf:
            entry = timers.push(clock.now() + seconds, self)
        try:
            await self._future
        finally:
            if entry is not None:
                timers.remove(entry)
        over, self._future = self._future.result(), self._loop.create_future()
        return over

    def _set(self, *, over: bool = False) -> None:
        if not self._future.done():
            self._future.set_result(over)


class TrioSleeper(AsyncSleeper):
    """A task of trio."""

    __slots__ = ("_event", "_token")

    def __init__(self, priority: float, cost: int) -> None:
        import trio  # noqa: PLC0415  # loaded already: we are inside it

        super().__init__(priority, cost)
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def wake(self) -> None:
        if loops.trio_task() is not None and self._is_here():
            self._event.set()
        else:
            with suppress(RuntimeError):  # that run is over, and nobody will resume
                self._token.run_sync_soon(self._set)

    async def wait(self, seconds: float) -> bool:
        import trio  # noqa: PLC0415  # the same

        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            await self._event.wait()
        self._event = trio.Event()
        return scope.cancelled_caught

    def _is_here(self) -> bool:
        import trio  # noqa: PLC0415  # the same

        return trio.lowlevel.current_trio_token() is self._token

    def _set(self) -> None:
        self._event.set()


class ThreadSleeper(Sleeper):
    """A plain thread."""

    __slots__ = ("_event", "_woken")

    def __init__(self, priority: float = 0.0, cost: int = 1) -> None:
        super().__init__(priority, cost)
        self._event = Signal()
        self._woken = False

    def wake(self) -> None:
        self._woken = True
        self._event.set()

    def wait(self, seconds: float, limit: Deadline | None, policy: str) -> bool:
        """Return when it is woken, or after *seconds*; whether they are over.

        Raises:
            DeadlineExceeded: *limit* was over first; *policy* reports it.
        """
        seen = clock.now()
        until = seen + seconds
        while not self._woken:
            at = until if limit is None else min(until, limit._at_by(clock.now))
            if (now := clock.now()) >= at:
                break
            if now < seen:  # what passed on a virtual clock is forgotten
                until -= seen - now
                at = min(at, until)
            seen = now
            self._event.clear()  # it is set as well where the clock changes, or its time is over
            if not self._woken:
                clock.wait(self._event, at)
        self._woken = False
        if not self.given and limit is not None and limit._left() <= 0:
            raise limit._exceeded(policy, started=False)
        self._event.clear()
        return clock.now() >= until

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass, or fewer if it is woken."""
        if not self._woken:
            clock.sleep(seconds, self._event)
        self._woken = False
        self._event.clear()


def async_sleeper(priority: float = 0.0, cost: int = 1) -> AsyncSleeper:
    """The present task, of asyncio or trio, as one that can wait."""
    loop = loops.running_loop()
    if loop is not None and loops.current_task(loop) is not None:
        return AsyncioSleeper(loop, priority, cost)
    return TrioSleeper(priority, cost)


def on_loop() -> bool:
    """Whether an event loop runs in this thread, so that sync code must not wait for others."""
    return loops.running_loop() is not None or loops.trio_task() is not None

"""Loops on virtual time: whenever nothing is ready, they jump to their next timer.

A loop is taken as it is, whoever made it, so that the loop of any test runner can be put on virtual
time while it runs. asyncio and trio have no public way to ask for that: what is private to them
is touched here alone.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    import trio
    from trio.testing import MockClock

PATIENCE: Final = 5.0
"""Real seconds that a loop without a timer waits for another thread, which may be idle for good."""


class Time(Protocol):
    """The virtual time that a loop follows."""

    def reading(self) -> float: ...
    def advance(self, seconds: float, /) -> None: ...


class JumpingLoop:
    """Puts an asyncio loop on virtual time; made by a task of that loop.

    Its time only goes forward: where it is ahead of the virtual one, because another virtual time
    moved it before, it stays so, by whole seconds.

    Raises:
        RuntimeError: the timers of this loop can't be moved, as those of uvloop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, time: Time) -> None:
        selector = getattr(loop, "_selector", None)
        if selector is None or not isinstance(loop, asyncio.BaseEventLoop):
            raise RuntimeError(
                f"virtual time can't move the timers of {loop!r}: run this test on asyncio's own "
                "loop, or write it as `def` and run its code by `virtual_time.run(fn)`"
            )
        self.loop = cast("Any", loop)
        self._selector = selector
        self._virtual = time
        self._ahead = max(0, math.ceil(loop.time() - time.reading()))
        self._out = 0  # calls in the loop's executor
        self._workers = _count_of_anyios_threads()
        self._resolution = self.loop._clock_resolution
        self._select = selector.select
        self._run_in_executor: Callable[..., asyncio.Future[Any]] = loop.run_in_executor
        self._shutdown_default_executor = loop.shutdown_default_executor
        selector.select = self.select
        self.loop.time = self.time
        self.loop.run_in_executor = self.run_in_executor
        self.loop.shutdown_default_executor = self.shutdown_default_executor

    def release(self) -> None:
        """Let it wait in real time again. Its clock goes on from where it is, and is kept."""
        self.loop._clock_resolution = self._resolution
        del self._selector.select, self.loop.run_in_executor, self.loop.shutdown_default_executor

    # What the loop has instead of its own:

    def time(self) -> float:
        """The virtual instant."""
        return self._virtual.reading() + self._ahead

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """As ever, but counted."""
        future = self._run_in_executor(executor, func, *args)
        self._out += 1
        future.add_done_callback(self._back)
        return future

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  # the method that is replaced has it
    ) -> None:
        """As ever, but without *timeout*, which would pass in no time."""
        self._out += 1
        try:
            await self._shutdown_default_executor()
        finally:
            self._out -= 1

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; if nothing is, time passes instead of being waited for."""
        ready = self._select(0)
        if ready or timeout == 0:
            return ready
        if self._jump(timeout):
            return []
        patience = self._patience(timeout)
        ready = self._select(patience)
        if not ready and patience is not None:
            raise RuntimeError("virtual time stands still: nothing is ready, and no timer is set")
        return ready

    def _jump(self, timeout: float | None) -> bool:
        """Nothing is ready for *timeout* seconds: let them pass.

        False if something outside must be waited for.
        """
        if self._out or self._workers():
            return False
        if timeout is not None:
            self._virtual.advance(timeout)
            now = self.time()
            self.loop._clock_resolution = max(1e-9, 2 * math.ulp(now))  # rounding is no wait
        return timeout is not None

    def _patience(self, timeout: float | None) -> float | None:
        """Real seconds to wait for something outside; ``None`` for a call that is surely out."""
        if self._out or self._workers():
            return None
        assert timeout is None, "_jump() has seen to the timers"
        return PATIENCE if threading.active_count() > 1 else 0.0

    def _back(self, _: asyncio.Future[Any]) -> None:
        self._out -= 1


def _count_of_anyios_threads() -> Callable[[], int]:
    """How many calls are in anyio's threads, if anyio is there; asked inside the loop."""
    if "anyio" not in sys.modules:
        return int
    import anyio.to_thread  # noqa: PLC0415  # loaded already

    limiter = anyio.to_thread.current_default_thread_limiter()
    return lambda: limiter.borrowed_tokens


def mock_clock(at: float) -> MockClock:
    """A clock of trio that reads *at*, and jumps when all tasks wait."""
    from trio.testing import MockClock  # noqa: PLC0415  # only where trio is

    clock = MockClock(autojump_threshold=0)
    clock.jump(at)
    return clock


def current_clock() -> trio.abc.Clock:
    """The clock of the run that this is in."""
    import trio  # noqa: PLC0415  # loaded already: we are inside it

    return trio.lowlevel.current_clock()


def replace_clock(task: trio.lowlevel.Task, virtual: float) -> MockClock:
    """Give the run of *task* a mock clock in place of the one that it has.

    Where a task has set an alarm by the old clock, the new one goes on from what that reads, by
    whole seconds; else it reads what *virtual* says.

    Raises:
        RuntimeError: this trio keeps its clock elsewhere.
    """
    import trio  # noqa: PLC0415  # loaded already: we are inside it

    runner: Any = getattr(task, "_runner", None)
    if not hasattr(runner, "clock"):
        raise RuntimeError(
            "virtual time can't move the clock of this trio: start the run with "
            "`clock=virtual_time.trio_clock()`. Under anyio, write a fixture `anyio_backend` that "
            'takes virtual_time and returns `("trio", {"clock": virtual_time.trio_clock()})`'
        )
    idle = math.isinf(trio.lowlevel.current_statistics().seconds_to_next_deadline)
    clock = mock_clock(virtual if idle else math.ceil(trio.current_time()))
    runner.clock = clock
    clock.start_clock()
    return clock


@contextmanager
def repeatable_trio(seed: int) -> Iterator[None]:
    """Let trio, which shuffles what is ready, do so alike for the same *seed*."""
    import trio._core._run  # noqa: PLC0415  # only where trio is

    _run: Any = trio._core._run
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = True, random.Random(seed)  # noqa: S311  # no secrets
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = before

"""Virtual time: an hour of outage in milliseconds, and the same result every time."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, final

from resilient._core.checks import Seconds, check_seconds
from resilient._runtime import clock, rng
from resilient.testing.recorders import reset_all

if TYPE_CHECKING:
    from trio.testing import MockClock

P = ParamSpec("P")
R = TypeVar("R")
PATIENCE: Final = 5.0
"""Real seconds that a loop without a timer waits for another thread, which may be idle for good."""
FARTHEST: Final = 1e290
"""Seconds; time stands still there. Beyond it, nanoseconds are none that a float can hold."""
_active = threading.Lock()


@final
class VirtualTime:
    """A clock that never waits; `virtual_time` makes it."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._passed_at = start  # without what trio's clock has to say
        self._trio: MockClock | None = None
        self._changing = threading.Lock()
        self._waiting: dict[clock.Event, float] = {}
        self._ended_at: float | None = None  # by the clock that is back then

    def now(self) -> float:
        """Seconds since it began."""
        return self._present() - self._start

    def advance(self, seconds: Seconds) -> None:
        """Let time pass at once: for plain code, where nothing sleeps.

        Args:
            seconds: at least 0.
        """
        length = check_seconds("seconds", seconds)
        with self._changing:
            length = min(length, FARTHEST - self.reading())
            if self._trio is not None:
                self._trio.jump(length)
            else:
                self._passed_at += length
        self._wake()

    def run(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run *fn* on an asyncio loop that jumps to its next timer whenever nothing is ready.

        While a ``to_thread`` call is out the loop waits for it instead. Sockets are not for
        virtual time.

        Raises:
            RuntimeError: nothing is ready, no timer is set and no other thread does a thing: it
                would wait for ever.
        """

        async def main() -> R:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, JumpingLoop)
            loop.watch_threads()
            return await fn(*args, **kwargs)

        with asyncio.Runner(loop_factory=lambda: JumpingLoop(self)) as runner:
            return runner.run(main())

    def trio_clock(self) -> MockClock:
        """A clock for ``trio.run(..., clock=...)``.

        It jumps when all tasks wait, and this time follows it.
        """
        from trio.testing import MockClock  # noqa: PLC0415  # only where trio is

        with self._changing:
            if self._trio is not None:
                self._passed_at = self._trio.current_time()
            self._trio = mock = MockClock(autojump_threshold=0)
            mock.jump(self._passed_at)
            return mock

    # Inside: the seam's `Clock` is `_Seam` below.

    def reading(self) -> float:
        """What the policies read; a deadline may do so when time is real again: it goes on then."""
        ended_at = self._ended_at
        return self._present() + (0.0 if ended_at is None else clock.now() - ended_at)

    def _present(self) -> float:
        mock = self._trio
        return self._passed_at if mock is None else mock.current_time()

    def wait(self, event: clock.Event, until: float) -> None:
        """Wait in a plain thread until *event* is set, or somebody lets the time pass; or until
        time is real again, by which the thread then goes on.
        """
        with self._changing:
            if self._ended_at is not None:
                return
            self._waiting[event] = until
        if self.reading() < until:
            event.wait()
        with self._changing:
            self._waiting.pop(event, None)

    def end(self) -> None:
        """Time is real again: nobody waits by this one any more."""
        with self._changing:
            self._ended_at = clock.now()
            waiting = tuple(self._waiting)
        for event in waiting:
            event.set()

    def _wake(self) -> None:
        now = self.reading()
        with self._changing:
            due = [event for event, until in self._waiting.items() if until <= now]
        for event in due:
            event.set()


class _Seam:
    """Virtual time as the policies' clock."""

    def __init__(self, time: VirtualTime) -> None:
        self.now = time.reading
        self.sleep = time.advance
        self.wait = time.wait


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time."""

    def __init__(self, time: VirtualTime) -> None:
        self._virtual = time
        self._out = 0  # calls in the loop's executor
        self._workers: Callable[[], int] = int  # calls in anyio's threads
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """The virtual instant."""
        return self._virtual.reading()

    def watch_threads(self) -> None:
        """Count anyio's threads too, from inside the loop, if anyio is there."""
        if "anyio" in sys.modules:
            import anyio.to_thread  # noqa: PLC0415  # loaded already

            limiter = anyio.to_thread.current_default_thread_limiter()
            self._workers = lambda: limiter.borrowed_tokens

    def run_in_executor(  # type: ignore[override]  # typeshed's variadic one
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """As ever, but counted."""
        future = super().run_in_executor(executor, func, *args)
        self._out += 1
        future.add_done_callback(self._back)
        return future

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  # the method that is overridden has it
    ) -> None:
        """As ever, but without *timeout*, which would pass in no time."""
        self._out += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._out -= 1

    def jump(self, timeout: float | None) -> bool:
        """Nothing is ready for *timeout* seconds: let them pass.

        False if something outside must be waited for.
        """
        if self._out or self._workers():
            return False
        if timeout is not None:
            self._virtual.advance(timeout)
            self._clock_resolution = max(1e-9, 2 * math.ulp(self.time()))  # rounding is no wait
        return timeout is not None

    def patience(self, timeout: float | None) -> float | None:
        """Real seconds to wait for something outside; ``None`` for a call that is surely out."""
        if self._out or self._workers():
            return None
        assert timeout is None, "jump() has seen to the timers"
        return PATIENCE if threading.active_count() > 1 else 0.0

    def _back(self, _: asyncio.Future[Any]) -> None:
        self._out -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that does not wait for time to pass."""

    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._loop.jump(timeout):
            return []
        patience = self._loop.patience(timeout)
        ready = super().select(patience)
        if not ready and patience is not None:
            raise RuntimeError("virtual time stands still: nothing is ready, and no timer is set")
        return ready


@contextmanager
def virtual_time(*, seed: int = 0, fresh: bool = False) -> Iterator[VirtualTime]:
    """Put every policy, also one built earlier, on a virtual clock that never waits.

    It starts at the next whole second after the present reading. A sleep of a sync policy
    advances it at once; `VirtualTime.run` runs async code on a loop that follows it; on trio, give
    ``trio.run`` the clock of `VirtualTime.trio_clock`. Policies without an ``rng`` of their own
    draw from ``random.Random(seed)``. On leaving, real time goes on from where the virtual one
    ended, so that for policies it never goes back; with *fresh* from where it was, since they
    remember nothing.

    Args:
        seed: of the dice.
        fresh: let every policy start as new, and leave it as new: read `stats` inside the block.

    Raises:
        RuntimeError: time is virtual already.
    """
    if not _active.acquire(blocking=False):
        raise RuntimeError("time is virtual already: one virtual_time() at a time")
    try:
        time = VirtualTime(math.floor(clock.now()) + 1.0)
        with ExitStack() as stack:
            if fresh:
                stack.callback(reset_all)  # at last, by the clock that is back
            stack.callback(time.end)  # after the clock
            stack.enter_context(clock.install(_Seam(time), forgotten=fresh))
            if fresh:
                reset_all()
            stack.enter_context(rng.install(random.Random(seed)))  # noqa: S311  # jitter, no secrets
            yield time
    finally:
        _active.release()

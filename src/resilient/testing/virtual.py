"""Virtual time: an hour of outage in milliseconds, and the same result every time."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, final

from resilient._core.checks import Seconds, check_seconds, refuse_type
from resilient._runtime import clock, loops
from resilient.testing.jumping import JumpingLoop, current_clock, mock_clock, replace_clock
from resilient.testing.recorders import reset_all, seeded

if TYPE_CHECKING:
    from trio.testing import MockClock

P = ParamSpec("P")
R = TypeVar("R")
FARTHEST: Final = 1e290
"""Seconds; time stands still there. Beyond it, nanoseconds are none that a float can hold."""
RUNNABLE: Final = "an async def function"
_active: dict[None, VirtualTime] = {}
"""The one that is in force, if one is."""


def current() -> VirtualTime | None:
    """The virtual time that the policies are on now."""
    return _active.get(None)


@final
class VirtualTime:
    """A clock that never waits; `virtual_time` makes it."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._passed_at = start  # without what trio's clock has to say
        self._trio: MockClock | None = None
        self._ahead = 0.0  # of trio's clock
        self._loops: list[JumpingLoop] = []
        self._runs: list[MockClock] = []  # of runs of trio that began on another clock
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
                would wait for ever. Or a loop runs here already.
            TypeError: *fn* is no function, or returns nothing to await.
        """
        _check_runnable(fn)

        async def main() -> R:
            self.move_running_loop()
            coroutine = fn(*args, **kwargs)
            if not inspect.isawaitable(coroutine):
                refuse_type("fn", fn, RUNNABLE)
            return await coroutine

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(main())

    def trio_clock(self) -> MockClock:
        """A clock for ``trio.run(..., clock=...)``.

        It jumps when all tasks wait, and this time follows it.
        """
        with self._changing:
            return self._follow(mock_clock(self._present()))

    # Inside: the seam's `Clock` is `_Seam` below.

    def move_running_loop(self) -> None:
        """Let the loop that runs here follow this time, if one does, whoever made it.

        Raises:
            RuntimeError: this loop can't; it says what to write.
        """
        task = loops.trio_task()
        if task is not None:
            with self._changing:
                if current_clock() is not self._trio:
                    self._runs.append(self._follow(replace_clock(task, self._present())))
        elif (loop := loops.running_loop()) is not None:
            self._loops = [one for one in self._loops if not one.loop.is_closed()]
            if all(one.loop is not loop for one in self._loops):
                self._loops.append(JumpingLoop(loop, self))

    def _follow(self, mock: MockClock) -> MockClock:
        """Go by trio's clock from now on."""
        self._passed_at = self._present()
        self._trio, self._ahead = mock, mock.current_time() - self._passed_at
        return mock

    def reading(self) -> float:
        """What the policies read; a deadline may do so when time is real again: it goes on then."""
        ended_at = self._ended_at
        return self._present() + (0.0 if ended_at is None else clock.now() - ended_at)

    def _present(self) -> float:
        mock = self._trio
        return self._passed_at if mock is None else mock.current_time() - self._ahead

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
            self._passed_at, self._trio = self._present(), None
            if clock._installed.now != self.reading:  # else it is not yet: an interrupt came there
                self._ended_at = clock.now()
            waiting = tuple(self._waiting)
        for loop in self._loops:
            loop.release()
        for run in self._runs:
            run.rate, run.autojump_threshold = 1.0, math.inf
        for event in waiting:
            event.set()

    def _wake(self) -> None:
        now = self.reading()
        with self._changing:
            due = [event for event, until in self._waiting.items() if until <= now]
        for event in due:
            event.set()


def _check_runnable(fn: object) -> None:
    """Refuse what `VirtualTime.run` can't run, or not here, and say what to write."""
    name = getattr(fn, "__name__", "fn")
    if inspect.iscoroutine(fn):
        fn.close()  # else Python would complain that nobody awaited it
        raise TypeError(f"fn must be {RUNNABLE}: write time.run({name}, ...), without calling it")
    if not callable(fn):
        refuse_type("fn", fn, RUNNABLE)
    if loops.running_loop() is not None or loops.trio_task() is not None:
        raise RuntimeError(
            f"time.run() makes a loop of its own, and one runs here already: write `await {name}"
            "(...)`, since an async test is on virtual time as well, or write the test as `def`"
        )


class _Seam:
    """Virtual time as the policies' clock."""

    def __init__(self, time: VirtualTime) -> None:
        self.now = time.reading
        self.wait = time.wait
        self._advance = time.advance

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:  # noqa: ARG002  # nothing comes between
        """Let *seconds* pass at once."""
        self._advance(seconds)


@contextmanager
def virtual_time(*, seed: int = 0, fresh: bool = False) -> Iterator[VirtualTime]:
    """Put every policy, also one built earlier, on a virtual clock that never waits.

    It starts at the next whole second after the present reading. A sleep of a sync policy
    advances it at once; `VirtualTime.run` runs async code on a loop that follows it; on trio, give
    ``trio.run`` the clock of `VirtualTime.trio_clock`. Entered inside a loop that runs already, it
    moves that loop until it is left. Policies without an ``rng`` of their own draw from
    ``random.Random(seed)``. On leaving, real time goes on from where the virtual one ended, so
    that for policies it never goes back; with *fresh* from where it was, since they remember
    nothing.

    Args:
        seed: of the dice.
        fresh: let every policy start as new, and leave it as new: read `stats` inside the block.

    Raises:
        RuntimeError: time is virtual already, or the loop that runs here can't be moved.
    """
    time = VirtualTime(math.floor(clock.now()) + 1.0)
    try:
        if _active.setdefault(None, time) is not time:
            raise RuntimeError("time is virtual already: one virtual_time() at a time")
        with ExitStack() as stack:
            if fresh:
                stack.callback(reset_all)  # at last, by the clock that is back
            stack.callback(time.end)  # after the clock
            stack.enter_context(clock.install(_Seam(time), forgotten=fresh))
            stack.enter_context(seeded(seed, fresh=fresh))
            time.move_running_loop()
            yield time
    finally:
        if None in _active and _active[None] is time:  # no call, where an interrupt might come
            del _active[None]

"""The loop form of a retry.

``for attempt in policy:`` and ``async for``, with ``with attempt:`` inside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from resilient._core.retry import GiveUp, Sleep
from resilient._policies.retry.run import Run, Within
from resilient._runtime import clock, loops

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from resilient._policies.retry.shell import Retry


def _no_function() -> None:
    """Stands for the block where a strategy of tenacity asks for the function."""


@final
class Attempt:
    """One run of the block; a context manager, to be entered once.

    Attributes:
        number: 1 for the first.
        waited: seconds slept before this one.
        last_error: what the one before raised, ``None`` at first and after an unwanted result.
    """

    __slots__ = ("_loop", "_unwanted", "_within", "last_error", "number", "waited")

    def __init__(self, loop: Attempts, run: Run, last_error: BaseException | None) -> None:
        self._loop = loop
        self._unwanted = False
        spent = loop.within - run.within_left() if loop.within < math.inf else 0.0
        self._within = Within(run, loop.within, max(0.0, spent))
        self.number, self.waited, self.last_error = run.attempt, run.waited, last_error

    def again(self) -> None:
        """Let this block count as an unwanted result, although it raises nothing."""
        self._unwanted = True

    def __enter__(self) -> Self:
        self._loop.enter(self)
        self._within.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            self._within.__exit__(kind, error, trace)
        except BaseException:
            self._loop.leave()
            raise
        return self._loop.outcome(error, unwanted=self._unwanted)


@final
class Attempts:
    """One repeated block: an iterator, sync and async, over its attempts."""

    __slots__ = ("_entered", "_open", "_policy", "_run", "_step", "_yielded")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._run: Run | None = None
        self._step: Sleep | None = None  # what to do before the next attempt; None: there is none
        self._yielded: Attempt | None = None  # the attempt that is out and has not reported
        self._entered = self._open = False

    @property
    def within(self) -> float:
        """Seconds that all attempts together may take."""
        return self._policy.within

    # The iterator.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        step = self._next_step(StopIteration)
        if step is not None:
            clock.sleep(step.seconds)
        return self._attempt(StopIteration)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        step = self._next_step(StopAsyncIteration)
        if step is not None:
            assert self._run is not None
            await self._run.pause_async(step.seconds)
        return self._attempt(StopAsyncIteration)

    # The attempts report here.

    def enter(self, attempt: Attempt) -> None:
        """*attempt* begins."""
        if attempt is not self._yielded or self._entered:
            raise RuntimeError("an attempt is entered once, inside the loop that gave it")
        self._entered = True

    def leave(self) -> None:
        """The block is over, and nothing follows."""
        self._yielded, self._step, self._open = None, None, False

    def outcome(self, error: BaseException | None, *, unwanted: bool) -> bool:
        """How a block ended; true if its error is swallowed, because another attempt follows."""
        run = self._run
        assert run is not None
        self.leave()
        if error is not None and not isinstance(error, Exception):
            run.link(error)
            return False
        if not (unwanted and error is None) and not run.retryable(error, None):
            if error is None:
                run.recovered()
            else:
                self._policy.gave_up("not_retryable", run.attempt, error)
            return False
        step = run.step(error, None)
        if isinstance(step, GiveUp):
            self._policy.gave_up(step.reason, run.attempt, error)
            if error is not None:
                run.note(step.reason, error)
            return False
        self._step, self._open = step, True
        return error is not None

    # Inside.

    def _next_step(self, stop: type[Exception]) -> Sleep | None:
        if self._yielded is not None:
            raise RuntimeError("the attempt was not used: write `with attempt:` inside the loop")
        if self._run is not None:
            if not self._open:
                raise stop
            return self._step
        began = clock.now()
        budget = self._policy.begin(began, None)
        self._run = Run(self._policy, _no_function, (), {}, began, budget)
        if self._policy.within < math.inf:
            read = loops.reading()
            until = read() + self._policy.within
            self._run.within_left = lambda: until - read()
        return None

    def _attempt(self, stop: type[Exception]) -> Attempt:
        run = self._run
        assert run is not None
        last = None if self._step is None else run.error_before
        if self._step is not None and run.too_late():
            self.leave()
            run.give_up("deadline", run.error_before, None)  # raises it, unless it was a result
            raise stop
        self._entered = False
        self._yielded = attempt = Attempt(self, run, last)
        return attempt

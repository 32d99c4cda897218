"""The loop form of a retry.

``for attempt in policy:`` and ``async for``, with ``with attempt:`` inside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from resilient._policies.retry.run import OTHERS_TURN, Run, Within, link
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
        spent = 0.0 if run.within_left is None else loop.within - run.within_left()
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

    __slots__ = ("_entered", "_open", "_policy", "_run", "_yielded")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._run: Run | None = None
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
        run = self._next(StopIteration)
        if run is not None and run.waited:
            clock.sleep(run.waited)
        return self._attempt(StopIteration)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        run = self._next(StopAsyncIteration)
        if run is not None and (run.waited or not run.attempt % OTHERS_TURN):
            await run.pause_async(run.waited, run.last_error)
        return self._attempt(StopAsyncIteration)

    # The attempts report here.

    def enter(self, attempt: Attempt) -> None:
        """*attempt* begins."""
        if attempt is not self._yielded or self._entered:
            raise RuntimeError("an attempt is entered once, inside the loop that gave it")
        self._entered = True

    def leave(self) -> None:
        """The block is over, and nothing follows."""
        self._yielded, self._open = None, False

    def outcome(self, error: BaseException | None, *, unwanted: bool) -> bool:
        """How a block ended; true if its error is swallowed, because another attempt follows."""
        run = self._run
        assert run is not None
        self.leave()
        if error is not None and not isinstance(error, Exception):
            link(error, run.last_error)
            return False
        if not (unwanted and error is None) and not run.retryable(error, None):
            if error is None:
                run.recovered(None)
            else:
                self._policy.gave_up("not_retryable", run.attempt, error)
            return False
        reason = run.step(error, None)
        if reason is not None:
            self._policy.gave_up(reason, run.attempt, error)
            if error is not None:
                run.note(reason, error)
            return False
        self._open = True
        return error is not None

    # Inside.

    def _next(self, stop: type[Exception]) -> Run | None:
        """The run that waits before its next attempt, none before the first one."""
        if self._yielded is not None:
            raise RuntimeError("the attempt was not used: write `with attempt:` inside the loop")
        if self._run is not None:
            if not self._open:
                raise stop
            return self._run
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
        last = None
        if self._open:
            last = run.error_before
            if run.left() <= 0:
                self.leave()
                run.give_up("deadline", last, None)  # raises it, unless it was a result
                raise stop
            run.count()
        self._entered = False
        self._yielded = attempt = Attempt(self, run, last)
        return attempt

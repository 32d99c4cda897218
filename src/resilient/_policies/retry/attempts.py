"""The loop form of a retry.

``for attempt in policy:`` and ``async for``, with ``with attempt:`` inside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from resilient._core.chaining import link
from resilient._policies.deadline.here import wait_here
from resilient._policies.retry.deciding import DecidingRetry, real_error
from resilient._policies.retry.state import YIELD_EVERY, RetryState, Within
from resilient._runtime import clock, loops

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


def _no_function() -> None:
    """Stands for the block where a strategy of tenacity asks for the function."""


@final
class Attempt:
    """One state of the block; a context manager, to be entered once.

    Attributes:
        number: 1 for the first.
        waited: seconds slept before this one.
        last_error: what the one before raised, ``None`` at first and after an unwanted result.
    """

    __slots__ = ("_loop", "_unwanted", "_within", "last_error", "number", "waited")

    def __init__(self, loop: Attempts, state: RetryState, last_error: BaseException | None) -> None:
        self._loop = loop
        self._unwanted = False
        spent = 0.0 if state.within_left is None else loop.within - state.within_left()
        self._within = Within(loop.policy, state, max(0.0, spent))
        self.number, self.waited, self.last_error = state.attempt, state.waited, last_error

    def again(self) -> None:
        """Let this block count as an unwanted result, although it raises nothing."""
        self._unwanted = True

    def __enter__(self) -> Self:
        self._loop.enter(self)
        try:
            self._within.__enter__()
        except BaseException:
            self._loop.leave()
            raise
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

    __slots__ = ("_entered", "_open", "_state", "_yielded", "policy")

    def __init__(self, policy: DecidingRetry) -> None:
        self.policy = policy
        self._state: RetryState | None = None
        self._yielded: Attempt | None = None  # the attempt that is out and has not reported
        self._entered = self._open = False

    @property
    def within(self) -> float:
        """Seconds that all attempts together may take."""
        return self.policy._settings.within

    # The iterator.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        state = self._next(StopIteration)
        if state is not None and state.waited:
            self.policy._sleep(state.waited, state.error_before, stacklevel=3)
        return self._attempt(StopIteration)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        state = self._next(StopAsyncIteration)
        if state is not None and (state.waited or not state.attempt % YIELD_EVERY):
            await wait_here(self.policy.name, state.last_error, loops.sleep, state.waited)
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
        state = self._state
        assert state is not None
        self.leave()
        if error is not None and not isinstance(error, Exception):
            link(error, state.last_error)
            return False
        if error is not None:
            real_error(error, state.last_error)
        if not (unwanted and error is None) and not self.policy._retryable(
            error, None, state._view
        ):
            if error is None:
                state.succeeded(None)
            else:
                self.policy._gave_up("not_retryable", state.attempt, error)
                state._forget()
            return False
        reason = state.step(error, None)
        if reason is not None:
            self.policy._gave_up(reason, state.attempt, error)
            if error is not None:
                state.note(reason, error)
            state._forget()
            return False
        self._open = True
        return error is not None

    # Inside.

    def _next(self, stop: type[Exception]) -> RetryState | None:
        """The state that waits before its next attempt, none before the first one."""
        if self._yielded is not None:
            raise RuntimeError("the attempt was not used: write `with attempt:` inside the loop")
        if self._state is not None:
            if not self._open:
                raise stop
            return self._state
        began = clock.now()
        budget = self.policy._budget
        self.policy._begin(began, budget)
        self._state = RetryState(self.policy, _no_function, (), {}, began, budget)
        if self.policy._settings.within < math.inf:
            read = loops.reading()
            until = read() + self.policy._settings.within
            self._state.within_left = lambda: until - read()
        return None

    def _attempt(self, stop: type[Exception]) -> Attempt:
        state = self._state
        assert state is not None
        last = None
        if self._open:
            last = state.error_before
            if state.left() <= 0:
                self.leave()
                state.give_up("deadline", last, None)  # raises it, unless it was a result
                raise stop
            state.count()
        self._entered = False
        self._yielded = attempt = Attempt(self, state, last)
        return attempt

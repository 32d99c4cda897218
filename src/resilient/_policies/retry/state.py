"""One call under a retry, from its first failure to its end.

One call is one object. Nothing of it is shared with other calls but the policy's budget and totals.
The loops `go` and `go_async` are twins: they run and wait. What they ask is in `deciding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resilient._core.chaining import add_note, context_of, link, set_context
from resilient._core.matching import each
from resilient._core.retry import StopReason, max_retry_after
from resilient._policies.common.repeats import Repeats
from resilient._policies.deadline.block import PARTLY_SPENT, Deadline, deadline_here
from resilient._policies.deadline.here import check_deadline, left_here, wait_here
from resilient._policies.retry.deciding import DecidingRetry, real_error
from resilient._policies.retry.strategies import TenacityView
from resilient._runtime import clock, loops
from resilient._runtime.decorate import not_awaitable
from resilient.errors import DeadlineExceeded

if TYPE_CHECKING:
    from types import TracebackType

    from resilient._policies.retry.budget import RetryBudget

MEANING: dict[StopReason, str] = {
    "attempts": "no attempts are left",
    "deadline": "too little is left of the deadline",
    "budget": "the retry budget is used up",
    "stop": "its stop strategy said so",
    "wait_failed": "its wait strategy failed",
    "stop_failed": "its stop strategy failed",
    "not_retryable": "it is not to be repeated",
}
YIELD_EVERY: Final = 16
"""A retry without a wait lets other tasks run before every so many-th attempt. A function that
fails at once and never waits itself would keep the loop; to let them run each time would cost more
than the attempt does."""


class RetryState:
    """The state of one call: how often it was tried, and what came of it."""

    waited: float = 0.0
    last_error: Exception | None = None  # of a call that was made, if there was one
    error_before: Exception | None = None  # of the attempt just before this one
    within_left: Callable[[], float] | None = None  # where no open deadline says it

    def __init__(  # noqa: PLR0917  # made in one place, on a path that has failed
        self,
        policy: DecidingRetry,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        began: float,
        budget: RetryBudget | None,
        attempt: int = 1,
        repeats: Repeats | None = None,
    ) -> None:
        self._policy, self._budget, self._repeats = policy, budget, repeats
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self._began, self.attempt = began, attempt
        self._view: TenacityView | None = None
        if policy._asks_tenacity():
            self._view = TenacityView(fn, args, kwargs, began)

    # The loops.

    def go(self, error: Exception | None, result: Any) -> Any:
        """Go on from the outcome of an attempt."""
        try:
            while True:
                try:
                    if not self._policy._retryable(error, result, self._view):
                        break
                    if self._repeats is not None and not self._repeats.may_repeat(error):
                        break
                    reason = self.step(error, result)
                    if reason is None and self._repeats is not None:
                        self._repeats.drop()
                    if reason is None and self.waited:
                        self._policy._sleep(self.waited, error)
                        reason = "deadline" if self.left() <= 0 else None
                    if reason is not None:
                        return self.give_up(reason, error, result)
                except BaseException:
                    self._policy._discard(error, result)
                    raise
                self._policy._discard(error, result)
                self._check_after_discard(error)
                self.count()
                error, result = self.attempt_once()
            return self.end(error, result)
        finally:
            error = None  # or it would keep itself alive by its traceback

    async def go_async(self, error: Exception | None, result: Any) -> Any:
        """Go on from the outcome of an attempt."""
        try:
            while True:
                try:
                    if not await self._policy._retryable_async(error, result, self._view):
                        break
                    if self._repeats is not None and not self._repeats.may_repeat(error):
                        break
                    reason = self.step(error, result)
                    if reason is None and self._repeats is not None:
                        await self._repeats.drop_async()
                    if reason is None and (self.waited or not self.attempt % YIELD_EVERY):
                        await wait_here(
                            self._policy.name, self.last_error, loops.sleep, self.waited
                        )
                        reason = "deadline" if self.left() <= 0 else None
                    if reason is not None:
                        return self.give_up(reason, error, result)
                except BaseException:
                    await self._policy._discard_async(error, result)
                    raise
                await self._policy._discard_async(error, result)
                self._check_after_discard(error)
                self.count()
                error, result = await self.attempt_once_async()
            return self.end(error, result)
        finally:
            error = None

    def attempt_once(self) -> tuple[Exception | None, Any]:
        """Run the function once; what is no `Exception` passes."""
        try:
            return None, not_awaitable(self._fn, self._fn(*self._args, **self._kwargs))
        except Exception as error:  # noqa: BLE001  # judged, and raised unless it may be repeated
            real_error(error, self.last_error)
            return error, None
        except BaseException as error:
            link(error, self.last_error)
            raise

    async def attempt_once_async(self) -> tuple[Exception | None, Any]:
        """Run the function once; what is no `Exception` passes."""
        try:
            return None, await self._fn(*self._args, **self._kwargs)
        except Exception as error:  # noqa: BLE001  # judged, and raised unless it may be repeated
            real_error(error, self.last_error)
            return error, None
        except BaseException as error:
            link(error, self.last_error)
            raise

    # What the loops ask.

    def step(self, error: Exception | None, result: Any) -> StopReason | None:
        """Decide what follows: the reason to stop; or ``None``, and another attempt after `waited`.
        It is paid for.
        """
        self.error_before = error
        asked = 0.0
        if error is not None:
            asked = max_retry_after(each(error))
            self.last_error = real_error(error, self.last_error) or error
        step = self._policy._next_step(
            self.attempt, error, asked, self.left(), self._budget, result, self._view
        )
        if isinstance(step, str):
            return step
        self.waited = step
        if self._view is not None:
            self._view.slept(step)
        return None

    def count(self) -> None:
        """Another attempt begins."""
        self.attempt += 1
        next(self._policy._retries.increment)
        if self._view is not None:
            self._view.attempt = self.attempt

    def _check_after_discard(self, error: Exception | None) -> None:
        """Begin no attempt if ``discard`` took what was left of the deadline."""
        if error is None and deadline_here() is not None and left_here() <= 0:
            self._policy._gave_up("deadline", self.attempt, None)
            check_deadline(self._policy.name, clock.now())

    def left(self) -> float:
        """Seconds that the deadline here, and `within`, leave."""
        left = left_here()
        return left if self.within_left is None else min(left, self.within_left())

    # How it ends.

    def end(self, error: Exception | None, result: Any) -> Any:
        """Return a wanted result, raise an error that is not to be repeated."""
        if error is None:
            return self.succeeded(result)
        try:
            self._policy._gave_up("not_retryable", self.attempt, error)
            return self._raise(error)
        finally:
            del error

    def succeeded(self, result: Any) -> Any:
        """The last attempt was good."""
        if self.attempt > 1:
            next(self._policy._recovered.increment)
        self._forget()
        return result

    def give_up(self, reason: StopReason, error: Exception | None, result: Any) -> Any:
        """Raise the last error with its note, or return the last result."""
        try:
            self._policy._gave_up(reason, self.attempt, error)
            if error is None:
                self._forget()
                return result
            if reason != "not_retryable":
                self.note(reason, error)
            return self._raise(error)
        finally:
            del error

    def note(self, reason: StopReason, error: Exception) -> None:
        """Say in a note why no more was tried, once, however often this object is raised."""
        start = f"{self._policy.name}: gave up after "
        tries = f"{self.attempt} attempt{'s' if self.attempt > 1 else ''}"
        elapsed = max(0.0, clock.now() - self._began)
        text = f"{start}{tries} in {elapsed:.3g} s: {MEANING[reason]}"
        add_note(error, text, start)

    def _forget(self) -> None:
        """Let go of all errors: their tracebacks lead back to this state."""
        self.last_error = self.error_before = self._view = None

    def _raise(self, error: Exception) -> Any:
        self._forget()
        context = context_of(error)
        try:
            raise error
        finally:
            set_context(error, context)  # what the caller handles has nothing to do with it
            del error, context


class Within:
    """`within` around all attempts of a call. What it cuts short is raised from the last real
    error.
    """

    __slots__ = ("_limit", "_state")

    def __init__(self, policy: DecidingRetry, state: RetryState, spent: float = 0.0) -> None:
        self._state = state
        seconds = policy._settings.within
        self._limit: Deadline | None = None
        if seconds != math.inf:
            self._limit = Deadline._of_life(PARTLY_SPENT, seconds, policy.name, spent)

    def __enter__(self) -> None:
        if self._limit is None:
            return
        try:
            self._limit.__enter__()
        except DeadlineExceeded as exceeded:  # the time went by before the block of an attempt
            link(exceeded, self._state.last_error)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._limit is None:
            return
        try:
            self._limit.__exit__(kind, error, trace)
        except DeadlineExceeded as exceeded:
            state = self._state
            state._policy._gave_up("deadline", state.attempt, state.last_error)
            if state.last_error is None:
                raise
            raise exceeded from state.last_error

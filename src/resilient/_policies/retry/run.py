"""One call under a retry, from its first failure to its end.

One call is one object, and all that it asks and tells is here. Nothing of it is shared with other
calls but the policy's budget and totals. The loops `go` and `go_async` are twins: they run and
wait; everything they ask is in `Run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from resilient._core.matching import Verdict, each
from resilient._core.retry import Reason, floor_of, why_not
from resilient._policies.deadline.ambient import left_here
from resilient._policies.deadline.block import Deadline
from resilient._policies.deadline.waits import wait_here
from resilient._policies.retry.strategies import ask_async, new_state, show_outcome
from resilient._runtime import clock, loops, notify
from resilient._runtime.decorate import CoroutineReturned, refuse_if_coroutine
from resilient.errors import DeadlineExceeded, Rejected

if TYPE_CHECKING:
    from types import TracebackType

    import tenacity

    from resilient._policies.retry.budget import RetryBudget
    from resilient._policies.retry.shell import Retry

MEANING: dict[Reason, str] = {
    "attempts": "no attempts are left",
    "deadline": "too little is left of the deadline",
    "budget": "the retry budget is used up",
    "stop": "its stop strategy said so",
    "not_retryable": "it is not to be repeated",
}


OTHERS_TURN: Final = 16
"""A retry without a wait lets other tasks run before every so many-th attempt, lest a function that
fails at once and never waits itself keep the loop; to let them run each time would cost more than
the attempt does."""


class Run:
    """The state of one call: how often it was tried, and what came of it."""

    _state: tenacity.RetryCallState | None = None
    attempt = 1
    waited = 0.0
    last_error: BaseException | None = None
    error_before: Exception | None = None  # of the attempt just before this one
    within_left: Callable[[], float] | None = None  # where no open deadline says it

    def __init__(  # noqa: PLR0917  # made in one place, on a path that has failed
        self,
        policy: Retry,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        began: float,
        budget: RetryBudget | None,
    ) -> None:
        self.retry, self._budget = policy, budget
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self._began = began

    @property
    def policy(self) -> str:
        """The name of its policy."""
        return self.retry.name

    # The loops.

    def go(self, error: Exception | None, result: Any) -> Any:
        """Go on from the outcome of an attempt."""
        try:
            while self.retryable(error, result):
                if (reason := self.step(error, result)) is not None:
                    return self.give_up(reason, error, result)
                if self.waited:
                    clock.sleep(self.waited)
                    if self.left() <= 0:
                        return self.give_up("deadline", error, result)
                self.count()
                error, result = self.attempt_once()
            return self.end(error, result)
        finally:
            error = None  # or it would keep itself alive by its traceback

    async def go_async(self, error: Exception | None, result: Any) -> Any:
        """Go on from the outcome of an attempt."""
        try:
            while await self._retryable_async(error, result):
                if (reason := self.step(error, result)) is not None:
                    return self.give_up(reason, error, result)
                if self.waited or not self.attempt % OTHERS_TURN:
                    await self.pause_async(self.waited, self.last_error)
                    if self.left() <= 0:
                        return self.give_up("deadline", error, result)
                self.count()
                error, result = await self.attempt_once_async()
            return self.end(error, result)
        finally:
            error = None

    def attempt_once(self) -> tuple[Exception | None, Any]:
        """Run the function once; what is no `Exception` passes."""
        try:
            return None, refuse_if_coroutine(self._fn, self._fn(*self._args, **self._kwargs))
        except Exception as error:  # noqa: BLE001  # judged, and raised unless it may be repeated
            return error, None
        except BaseException as error:
            link(error, self.last_error)
            raise

    async def attempt_once_async(self) -> tuple[Exception | None, Any]:
        """Run the function once; what is no `Exception` passes."""
        try:
            return None, await self._fn(*self._args, **self._kwargs)
        except Exception as error:  # noqa: BLE001  # judged, and raised unless it may be repeated
            return error, None
        except BaseException as error:
            link(error, self.last_error)
            raise

    async def pause_async(self, seconds: float, last: BaseException | None) -> None:
        """Sleep; a deadline that ends before the sleep does is ours to report, from *last*."""
        try:
            await wait_here(self.retry.name, last, loops.sleep, seconds)
        except DeadlineExceeded:
            raise
        except BaseException as error:
            link(error, last)
            raise

    # What the loops ask.

    def retryable(self, error: Exception | None, result: Any) -> bool:
        """Whether this outcome may be followed by another attempt."""
        policy = self.retry
        if policy.strategy is None:
            if error is not None:
                return policy.judge.error(error) is Verdict.FAILURE
            return policy.unwanted(result)
        if _final(error):
            return False
        try:
            wanted = bool(policy.strategy(self.shown(error, result)))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            return policy.strategy_failed(fault)
        return wanted or (error is None and policy.unwanted(result))

    async def _retryable_async(self, error: Exception | None, result: Any) -> bool:
        if not self.retry.strategy_is_async:
            return self.retryable(error, result)
        assert self.retry.strategy is not None
        if _final(error):
            return False
        try:
            wanted = await ask_async(self.retry.strategy, self.shown(error, result))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            return self.retry.strategy_failed(fault)
        return wanted or (error is None and self.retry.unwanted(result))

    def step(self, error: Exception | None, result: Any) -> Reason | None:
        """What speaks against another attempt; if nothing does, it is paid for, after `waited`."""
        policy = self.retry
        self.error_before = error
        if error is not None:
            self.last_error = error
        try:
            wait = policy.wait_of(self, error, result)
            if error is not None:
                wait = max(wait, floor_of(each(error)))
            stopped = policy.stop is not None and self._stopped(policy.stop, wait, error, result)
        except Exception as fault:  # noqa: BLE001  # a strategy's error must not replace the call's own
            policy.strategy_failed(fault, policy.wait_or_stop)
            return "stop"
        reason = why_not(self.attempt, policy.attempts, stopped, wait, self.left())
        if reason is not None:
            return reason
        if self._budget is not None and not self._budget.withdraw():
            return "budget"
        if notify.listening:
            policy.scheduled(self.attempt, wait, error)
        self.waited = wait
        if self._state is not None:
            self._state.idle_for += wait
        return None

    def _stopped(
        self, stop: Callable[[Any], bool], wait: float, error: Exception | None, result: Any
    ) -> bool:
        state = self.shown(error, result)
        state.upcoming_sleep = wait
        return stop(state)

    def count(self) -> None:
        """Another attempt begins."""
        self.attempt += 1
        self.retry.retries.up()

    def left(self) -> float:
        """Seconds that the deadline here, and `within`, leave."""
        left = left_here()
        return left if self.within_left is None else min(left, self.within_left())

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return max(0.0, clock.now() - self._began)

    # How it ends.

    def end(self, error: Exception | None, result: Any) -> Any:
        """Return a wanted result, raise an error that is not to be repeated."""
        if error is None:
            return self.recovered(result)
        self.retry.gave_up("not_retryable", self.attempt, error)
        return self._raise(error)

    def recovered(self, result: Any) -> Any:
        """The last attempt was good."""
        if self.attempt > 1:
            self.retry.recovered.up()
        self.last_error = self.error_before = None  # their tracebacks lead back to this run
        return result

    def cut_short(self) -> None:
        """`within` has ended an attempt."""
        self.retry.gave_up("deadline", self.attempt, self.last_error)

    def give_up(self, reason: Reason, error: Exception | None, result: Any) -> Any:
        """Raise the last error with its note, or return the last result."""
        self.retry.gave_up(reason, self.attempt, error)
        if error is None:
            self.last_error = self.error_before = None
            return result
        if reason != "not_retryable":
            self.note(reason, error)
        return self._raise(error)

    def note(self, reason: Reason, error: Exception) -> None:
        """Say in a note why no more was tried, once, however often this object is raised."""
        start = f"{self.retry.name}: gave up after "
        tries = f"{self.attempt} attempt{'s' if self.attempt > 1 else ''}"
        said = f"{start}{tries} in {self.elapsed():.3g} s: {MEANING[reason]}"
        with suppress(AttributeError, TypeError):  # an exception that takes no attributes
            error.__notes__ = [
                *(one for one in getattr(error, "__notes__", ()) if not one.startswith(start)),
                said,
            ]

    def _raise(self, error: Exception) -> Any:
        self.last_error = self.error_before = None
        try:
            raise error
        finally:
            del error

    def shown(self, error: Exception | None, result: Any) -> Any:
        state = self._state
        if state is None:
            state = self._state = new_state(self._fn, self._args, self._kwargs, self._began)
        if state.outcome is None or state.attempt_number != self.attempt:
            show_outcome(state, self.attempt, error, result)
        return state


def link(error: BaseException, last: BaseException | None) -> None:
    """Put *last*, a real error, into the context chain of what came instead of an answer."""
    seen, end = set[int](), error
    while end.__context__ is not None and id(end) not in seen:
        seen.add(id(end))
        end = end.__context__
    if last is not None and end is not last and last is not error:
        end.__context__ = last


class Within:
    """`within` around all attempts of a run.

    What it cuts short is raised from the last real error.
    """

    __slots__ = ("_limit", "_run")

    def __init__(self, run: Run, seconds: float, spent: float = 0.0) -> None:
        self._run = run
        self._limit = Deadline.spent(seconds, run.policy, spent) if seconds != math.inf else None

    def __enter__(self) -> None:
        if self._limit is not None:
            self._limit.__enter__()

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
            self._run.cut_short()
            if self._run.last_error is None:
                raise
            raise exceeded from self._run.last_error


def _final(error: BaseException | None) -> bool:
    """Whether *error* is not to be repeated, whatever a strategy of tenacity's says.

    The call was not made.
    """
    if isinstance(error, DeadlineExceeded):
        return not error.started
    return isinstance(error, (Rejected, CoroutineReturned))


def retry_known(
    named: tuple[type[BaseException], ...],
) -> Callable[[BaseException], Verdict | None]:
    """What a retry knows of an error beforehand, where ``on`` names the types *named*."""
    rejected = tuple(kind for kind in named if issubclass(kind, Rejected))

    def known(error: BaseException) -> Verdict | None:
        if isinstance(error, Rejected):
            return Verdict.FAILURE if isinstance(error, rejected) else Verdict.IGNORED
        return Verdict.IGNORED if _final(error) else None

    return known

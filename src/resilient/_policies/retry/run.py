"""One call under a retry, from its first failure to its end.

One call is one object, and all that it asks and tells is here. Nothing of it is shared with other
calls but the policy's budget and totals. The loops `go` and `go_async` are twins: they run and
wait; everything they ask is in `Run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from resilient._core.matching import Verdict, leaves
from resilient._core.retry import GiveUp, Reason, Sleep, decide, floor_of
from resilient._policies.deadline.ambient import current_deadline
from resilient._policies.deadline.block import Deadline
from resilient._policies.deadline.cause import cut_by
from resilient._policies.retry.strategies import ask_async, new_state, show_outcome
from resilient._runtime import clock, loops
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


class Run:
    """The state of one call: how often it was tried, and what came of it."""

    __slots__ = (
        "_args",
        "_began",
        "_budget",
        "_fn",
        "_kwargs",
        "_policy",
        "_state",
        "attempt",
        "error_before",
        "last_error",
        "waited",
        "within_left",
    )

    def __init__(  # noqa: PLR0917  # made in one place, on a path that has failed
        self,
        policy: Retry,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        began: float,
        budget: RetryBudget | None,
    ) -> None:
        self._policy, self._budget = policy, budget
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self._began = began
        self._state: tenacity.RetryCallState | None = None
        self.attempt = 1
        self.waited = 0.0
        self.last_error: BaseException | None = None
        self.error_before: Exception | None = None  # of the attempt just before this one
        self.within_left: Callable[[], float] = _for_ever  # where no open deadline says it

    @property
    def policy(self) -> str:
        """The name of its policy."""
        return self._policy.name

    # The loops.

    def go(self, error: Exception | None, result: Any) -> Any:
        """Go on from the outcome of an attempt."""
        try:
            while self.retryable(error, result):
                step = self.step(error, result)
                if isinstance(step, GiveUp):
                    return self.give_up(step.reason, error, result)
                clock.sleep(step.seconds)
                if self.too_late():
                    return self.give_up("deadline", error, result)
                error, result = self.attempt_once()
            return self.end(error, result)
        finally:
            error = None  # or it would keep itself alive by its traceback

    async def go_async(self, error: Exception | None, result: Any) -> Any:
        """Go on from the outcome of an attempt."""
        try:
            while await self._retryable_async(error, result):
                step = self.step(error, result)
                if isinstance(step, GiveUp):
                    return self.give_up(step.reason, error, result)
                await self.pause_async(step.seconds)
                if self.too_late():
                    return self.give_up("deadline", error, result)
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
            self.link(error)
            raise

    async def attempt_once_async(self) -> tuple[Exception | None, Any]:
        """Run the function once; what is no `Exception` passes."""
        try:
            return None, await self._fn(*self._args, **self._kwargs)
        except Exception as error:  # noqa: BLE001  # judged, and raised unless it may be repeated
            return error, None
        except BaseException as error:
            self.link(error)
            raise

    async def pause_async(self, seconds: float) -> None:
        """Sleep; a deadline that ends before the sleep does is ours to report."""
        limit = current_deadline()
        if limit is None or limit.enforced_here():
            await self._sleep(seconds)
        else:
            with Deadline(
                math.inf, self._policy.name
            ):  # an inherited limit interrupts nothing itself
                await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        try:
            await loops.sleep(seconds)
        except BaseException as error:
            limit = cut_by(error)
            if limit is None:
                self.link(error)
                raise
            raise limit.exceeded(self._policy.name, started=False) from self.last_error

    # What the loops ask.

    def retryable(self, error: Exception | None, result: Any) -> bool:
        """Whether this outcome may be followed by another attempt."""
        strategy = self._policy.strategy
        if strategy is None:
            return self._policy.wants_more(error, result)
        if _final(error):
            return False
        try:
            wanted = bool(strategy(self._shown(error, result)))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            return self._policy.strategy_failed(fault)
        return wanted or (error is None and self._policy.wants_more(None, result))

    async def _retryable_async(self, error: Exception | None, result: Any) -> bool:
        if not self._policy.strategy_is_async:
            return self.retryable(error, result)
        assert self._policy.strategy is not None
        if _final(error):
            return False
        try:
            wanted = await ask_async(self._policy.strategy, self._shown(error, result))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            return self._policy.strategy_failed(fault)
        return wanted or (error is None and self._policy.wants_more(None, result))

    def step(self, error: Exception | None, result: Any) -> Sleep | GiveUp:
        """What to do after an attempt that may be repeated; a retry is paid for here."""
        policy = self._policy
        self.error_before = error
        self.last_error = error or self.last_error
        try:
            step = self._decide(error, result)
        except Exception as fault:  # noqa: BLE001  # a strategy's error must not replace the call's own
            policy.strategy_failed(fault, policy.wait_or_stop)
            step = GiveUp("stop")
        if isinstance(step, GiveUp):
            return step
        if self._budget is not None and not self._budget.withdraw():
            return GiveUp("budget")
        policy.scheduled(self.attempt, step.seconds, error)
        self.waited = step.seconds
        if self._state is not None:
            self._state.idle_for += step.seconds
        return step

    def _decide(self, error: Exception | None, result: Any) -> Sleep | GiveUp:
        policy = self._policy
        wait = policy.wait(self.attempt, error, lambda: self._shown(error, result))
        if error is not None:
            wait = max(
                wait, floor_of(leaves(error) if isinstance(error, BaseExceptionGroup) else (error,))
            )
        stopped = False
        if policy.stop is not None:
            state = self._shown(error, result)
            state.upcoming_sleep = wait
            stopped = policy.stop(state)
        return decide(
            attempt=self.attempt,
            attempts=policy.attempts,
            stopped=stopped,
            wait=wait,
            left=self.left(),
        )

    def too_late(self) -> bool:
        """After a sleep: whether the time is over; if it is not, the next attempt begins."""
        if self.left() <= 0:
            return True
        self.attempt += 1
        self._policy.count_retry()
        return False

    def left(self) -> float:
        """Seconds that the deadline here, and `within`, leave."""
        limit = current_deadline()
        return min(self.within_left(), math.inf if limit is None else limit.left())

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return max(0.0, clock.now() - self._began)

    # How it ends.

    def end(self, error: Exception | None, result: Any) -> Any:
        """Return a wanted result, raise an error that is not to be repeated."""
        if error is None:
            self.recovered()
            return result
        self._policy.gave_up("not_retryable", self.attempt, error)
        return self._raise(error)

    def recovered(self) -> None:
        """The last attempt was good."""
        if self.attempt > 1:
            self._policy.count_recovered()

    def cut_short(self) -> None:
        """`within` has ended an attempt."""
        self._policy.gave_up("deadline", self.attempt, self.last_error)

    def give_up(self, reason: Reason, error: Exception | None, result: Any) -> Any:
        """Raise the last error with its note, or return the last result."""
        self._policy.gave_up(reason, self.attempt, error)
        if error is None:
            return result
        self.note(reason, error)
        return self._raise(error)

    def note(self, reason: Reason, error: Exception) -> None:
        """Say in a note why no more was tried, once, however often this object is raised."""
        start = f"{self._policy.name}: gave up after "
        tries = f"{self.attempt} attempt{'s' if self.attempt > 1 else ''}"
        said = f"{start}{tries} in {self.elapsed():.3g} s: {MEANING[reason]}"
        with suppress(AttributeError, TypeError):  # an exception that takes no attributes
            error.__notes__ = [
                *(one for one in getattr(error, "__notes__", ()) if not one.startswith(start)),
                said,
            ]

    def link(self, error: BaseException) -> None:
        """Put the last real error into the context chain of what came instead of an answer."""
        last, seen = self.last_error, set[int]()
        end = error
        while end.__context__ is not None and id(end) not in seen:
            seen.add(id(end))
            end = end.__context__
        if last is not None and end is not last and last is not error:
            end.__context__ = last

    def _raise(self, error: Exception) -> Any:
        self.last_error = None
        try:
            raise error
        finally:
            del error

    def _shown(self, error: Exception | None, result: Any) -> Any:
        state = self._state
        if state is None:
            state = self._state = new_state(self._fn, self._args, self._kwargs, self._began)
        if state.outcome is None or state.attempt_number != self.attempt:
            show_outcome(state, self.attempt, error, result)
        return state


def _for_ever() -> float:
    return math.inf


class Within:
    """`within` around all attempts of a run.

    What it cuts short is raised from the last real error.
    """

    __slots__ = ("_limit", "_run")

    def __init__(self, run: Run, seconds: float, spent: float = 0.0) -> None:
        self._run = run
        self._limit = Deadline(seconds, run.policy, spent=spent) if seconds != math.inf else None

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

"""What a retry decides after an attempt, asked by all its forms.

`fast_path` asks it for plain functions, `state` for everything else, `attempts` for loops. They
share one decision, `DecidingRetry._next_step`, and each has its own way to run and to wait.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from resilient._core.chaining import link
from resilient._core.counter import Counter
from resilient._core.functions import at_once
from resilient._core.matching import Judge, Verdict, leaves
from resilient._core.once import Once
from resilient._core.retry import REASONS, Reason, StopReason, reason_to_stop
from resilient._policies.common.policy import PolicyBase
from resilient._policies.common.served import served
from resilient._policies.common.waiting import on_loop
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import check_deadline
from resilient._policies.retry.budget import RetryBudget
from resilient._policies.retry.strategies import TenacityView, WaitRule, ask_async
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AwaitableReturned
from resilient._runtime.keying import Key
from resilient.errors import DeadlineExceeded, Rejected


class Settings(NamedTuple):
    """The settings of a retry, checked by its factory."""

    attempts: int | None
    judge: Judge
    strategy: Callable[[Any], Any] | None
    strategy_is_async: bool
    wait: WaitRule | None
    stateful_wait: Callable[[Any], float] | None
    stop: Callable[[Any], bool] | None
    asked_wait: object
    asked_stop: object
    within: float
    budget: RetryBudget | None
    on_result: Callable[[Any], object] | None
    discard: Callable[[Any], object] | None
    key: Key | None


KIND: Final = "retry"
COUNTED_AS: Final[dict[StopReason, Reason]] = {
    **{reason: reason for reason in REASONS},
    "wait_failed": "stop",
    "stop_failed": "stop",
}


class DecidingRetry(PolicyBase):
    """The part of a retry that decides and counts."""

    kind = KIND

    def __init__(self, name: str | None, settings: Settings) -> None:
        super().__init__(name)
        self._settings, self._judge, self._wait = settings, settings.judge, settings.wait
        self._budget, self._max_attempts = settings.budget, settings.attempts
        self._calls, self._retries, self._recovered = Counter(), Counter(), Counter()
        self._complain, self._to_warn = notify.FaultLog(), Once()
        self._gave_up_by: dict[Reason, Counter] = {reason: Counter() for reason in REASONS}

    def _begin(self, began: float, budget: RetryBudget | None) -> None:
        """Count one more call: refuse it if no time is left, and let it pay into its budget."""
        if deadline_here() is not None:
            check_deadline(self.name, began)
        next(self._calls.increment)
        if budget is not None:
            budget._core.deposit(began)

    # Whether an outcome may be followed by another attempt.

    def _retryable(self, error: Exception | None, result: Any, view: TenacityView | None) -> bool:
        settings = self._settings
        if settings.strategy is None:
            if error is not None:
                return self._judge.error(error) is Verdict.FAILURE
            return self._unwanted(result)
        if is_final(error):
            return False
        assert view is not None
        try:
            wanted = bool(at_once(settings.strategy(view.show(error, result))))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            return self._failed("retry strategy", settings.strategy, fault)
        return wanted or (error is None and self._unwanted(result))

    async def _retryable_async(
        self, error: Exception | None, result: Any, view: TenacityView | None
    ) -> bool:
        settings = self._settings
        if not settings.strategy_is_async:
            return self._retryable(error, result, view)
        if is_final(error):
            return False
        assert view is not None
        assert settings.strategy is not None
        try:
            wanted = await ask_async(settings.strategy, view.show(error, result))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            return self._failed("retry strategy", settings.strategy, fault)
        return wanted or (error is None and self._unwanted(result))

    def _unwanted(self, result: Any) -> bool:
        asked = self._settings.on_result
        return asked is not None and self._judge.result(asked, result) is Verdict.FAILURE

    # What follows.

    def _next_step(  # noqa: PLR0917  # by position: on the path of every failure
        self,
        attempt: int,
        error: Exception | None,
        at_least: float,
        left: float,
        budget: RetryBudget | None,
        result: Any = None,
        view: TenacityView | None = None,
    ) -> float | StopReason:
        """Decide what follows a retryable *attempt*: seconds to wait, or the reason to stop.

        The error asks for *at_least* so many seconds; *left* remains of the deadline. If another
        attempt follows, *budget* has paid for it.
        """
        rule, stopped = self._wait, False
        try:
            if isinstance(rule, (int, float)):
                wait = rule
            elif rule is not None:
                wait = rule(attempt, error)
            else:
                assert view is not None
                assert self._settings.stateful_wait is not None
                wait = self._settings.stateful_wait(view.show(error, result))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self._failed("wait strategy", self._settings.asked_wait, fault)
            return "wait_failed"
        if at_least > wait:  # noqa: PLR1730  # max() costs two attribute look-ups
            wait = at_least
        if view is not None and (stop := self._settings.stop) is not None:
            try:
                state = view.show(error, result)
                state.upcoming_sleep = wait
                stopped = stop(state)
            except Exception as fault:  # noqa: BLE001  # the same
                self._failed("stop strategy", self._settings.asked_stop, fault)
                return "stop_failed"
        attempts = self._max_attempts
        if stopped or left <= wait or (attempts is not None and attempt >= attempts):
            reason = reason_to_stop(attempt, attempts, stopped, wait, left)
            assert reason is not None
            return reason
        if budget is not None and not budget.withdraw():
            return "budget"
        if notify.listening:
            self._emit("RetryScheduled", attempt=attempt, wait=wait, error=error)
            self._outbox.deliver()
        return wait

    def _sleep(self, seconds: float, error: BaseException | None, stacklevel: int = 4) -> None:
        """Let *seconds* pass in this thread, after *error*. Warn once if tasks wait for it."""
        if on_loop() and self._to_warn():
            text = (
                f"{self.name}: a sync retry sleeps in a thread with a running event loop, which "
                "stops every task of it: write `async def`, or `async for` over the policy"
            )
            try:
                warnings.warn(text, RuntimeWarning, stacklevel)
            except RuntimeWarning as warning:  # the program's filters make it an error
                link(warning, error)
                raise
        clock.sleep(seconds)

    # What is not returned.

    def _discard(self, error: Exception | None, result: Any) -> None:
        """Give an unwanted *result*, if there was no *error*, to ``discard``."""
        discard = self._settings.discard
        if error is not None or discard is None:
            return
        try:
            at_once(discard(result))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self._failed("discard function", discard, fault)

    async def _discard_async(self, error: Exception | None, result: Any) -> None:
        """`_discard` for an async function."""
        discard = self._settings.discard
        if error is not None or discard is None:
            return
        try:
            done = discard(result)
            if inspect.isawaitable(done):
                await done
        except Exception as fault:  # noqa: BLE001  # the same
            self._failed("discard function", discard, fault)

    def _failed(self, what: str, function: object, fault: Exception) -> bool:
        """Say once in the log that a strategy, or ``discard``, raised: false, since that asks for
        no other attempt.
        """
        self._complain(function, fault, what)
        return False

    def _gave_up(self, why: StopReason, attempts: int, error: BaseException | None) -> None:
        """Count, and tell, that no more is tried."""
        reason = COUNTED_AS[why]
        if reason != "not_retryable" and (request := served.get()) is not None:
            request.used_up = True
        next(self._gave_up_by[reason].increment)
        if notify.listening and reason != "not_retryable":
            self._emit("RetryGaveUp", reason=reason, attempts=attempts, error=error)
            self._outbox.deliver()

    def _asks_tenacity(self) -> bool:
        """Whether it has a strategy of tenacity's, which must be shown the state of a call."""
        settings = self._settings
        asks = settings.strategy or settings.stateful_wait or settings.stop
        return asks is not None

    def _is_plain(self) -> bool:
        """Whether its calls need no more than `fast_path` knows."""
        settings = self._settings
        asks = settings.on_result is not None or settings.key is not None or self._asks_tenacity()
        return not asks and settings.within == math.inf


def is_final(error: BaseException | None) -> bool:
    """Whether *error* says that the call was not made: then nothing repeats it. A group says so if
    all that is in it does.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_final(leaf) for leaf in leaves(error))
    if isinstance(error, DeadlineExceeded):
        return not error.started
    return isinstance(error, (Rejected, AwaitableReturned))


def real_error(error: Exception, before: Exception | None) -> Exception | None:
    """The last error of a call that was made: *error*, or else *before*, linked with it."""
    if not is_final(error):
        return error
    link(error, before)
    return before


def classify_first(
    named: tuple[type[BaseException], ...],
) -> Callable[[BaseException], Verdict | None]:
    """What a retry says of an error before ``on`` is asked, which names the types *named*."""
    rejected = tuple(kind for kind in named if issubclass(kind, Rejected))

    def classify(error: BaseException) -> Verdict | None:
        if isinstance(error, Rejected):
            return Verdict.FAILURE if isinstance(error, rejected) else Verdict.IGNORED
        return Verdict.IGNORED if is_final(error) else None

    return classify

"""The retry policy: what it was told, its totals, and what its calls ask it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

from resilient._core.keys import Keys
from resilient._core.matching import Judge, Verdict, each
from resilient._core.retry import REASONS, Reason, asked_by, floor_of, why_not
from resilient._core.tally import Tally
from resilient._policies.base import PolicyBase
from resilient._policies.deadline.ambient import left_here, not_expired
from resilient._policies.deadline.block import deadline_here
from resilient._policies.retry import wrappers
from resilient._policies.retry.attempts import Attempt, Attempts
from resilient._policies.retry.budget import RetryBudget
from resilient._policies.retry.run import Run, Within
from resilient._policies.retry.strategies import WaitRule
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction
from resilient._runtime.keying import Key, hashable, key_of

MAX_KEYS = 1024


@dataclass(frozen=True, slots=True)
class RetryStats:
    """Totals of a retry.

    ``attempts = calls + retries``; ``recovered`` calls succeeded after a retry; ``gave_up`` counts
    the others that failed, by reason.
    """

    name: str
    calls: int
    attempts: int
    retries: int
    recovered: int
    gave_up: Mapping[Reason, int]


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a retry was told, checked by its factory."""

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
    key: Key | None


@final
class Retry(PolicyBase):
    """Tries again what failed and may be repeated; `retry` makes it.

    Decorates functions, sync and async; ``for attempt in policy:`` and ``async for attempt in
    policy:``, with ``with attempt:`` inside, repeat a block.
    """

    kind = "retry"

    def __init__(self, name: str | None, settings: Settings) -> None:
        super().__init__(name)
        self._settings = settings
        self.attempts, self.wait, self.stop = settings.attempts, settings.wait, settings.stop
        self.strategy, self.strategy_is_async = settings.strategy, settings.strategy_is_async
        self.asked_wait, self.within = settings.asked_wait, settings.within
        self.wait_or_stop = (
            self.asked_wait if self.stop is None else (self.asked_wait, settings.asked_stop)
        )
        self.judge, self.budget = settings.judge, settings.budget
        self.calls, self.retries, self.recovered = Tally(), Tally(), Tally()
        self._complained = False
        self._gave_up: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self._budgets = Keys[RetryBudget](
            MAX_KEYS, idle=lambda _: True, healthy=RetryBudget.untouched
        )
        self.list_me()

    @property
    def is_keyed(self) -> bool:
        """Whether there is a balance for each key."""
        return self._settings.key is not None

    def stats(self) -> RetryStats:
        """A snapshot; see `RetryStats`."""
        with self._lock:
            reasons = MappingProxyType(dict(self._gave_up))
        recovered, retries, calls = (
            total.read() for total in (self.recovered, self.retries, self.calls)
        )
        return RetryStats(self.name, calls, calls + retries, retries, recovered, reasons)

    def __iter__(self) -> Iterator[Attempt]:
        """Repeat a block: ``for attempt in policy:`` with ``with attempt:`` inside."""
        return self._attempts()

    def __aiter__(self) -> AsyncIterator[Attempt]:
        """Repeat a block: ``async for attempt in policy:`` with ``with attempt:`` inside."""
        return self._attempts()

    def renew(self) -> None:
        """See `PolicyBase.renew`."""
        with self._lock:
            for total in (self.calls, self.retries, self.recovered):
                total.zero()
            self._gave_up = dict.fromkeys(REASONS, 0)
            self._budgets.clear()
        self._budgets.departed.clear()  # here, where the end of a key may use this retry
        if self._settings.budget is not None:
            self._settings.budget.renew()

    # Wrappers.

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`."""
        if self.strategy_is_async:
            raise TypeError(
                f"on= is a strategy of tenacity.asyncio, which {fn!r}, a sync function, can't await"
            )
        if self._is_plain():
            return wrappers.plain(self, fn)
        budget_of = self._budget_of(fn)

        def retrying(*args: Any, **kwargs: Any) -> Any:
            began = clock.now()
            budget = self.begin(began, None if budget_of is None else budget_of(*args, **kwargs))
            return self._full(Run(self, fn, args, kwargs, began, budget))

        return retrying

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""
        if self._is_plain():
            return wrappers.plain_async(self, fn)
        budget_of = self._budget_of(fn)

        async def retrying(*args: Any, **kwargs: Any) -> Any:
            began = clock.now()
            budget = self.begin(began, None if budget_of is None else budget_of(*args, **kwargs))
            return await self._full_async(Run(self, fn, args, kwargs, began, budget))

        return retrying

    def _full(self, run: Run) -> Any:
        with Within(run, self.within):
            return run.go(*run.attempt_once())

    async def _full_async(self, run: Run) -> Any:
        with Within(run, self.within):
            return await run.go_async(*await run.attempt_once_async())

    # What a run asks and tells.

    def unwanted(self, result: Any) -> bool:
        """Whether a result may be followed by another attempt, by ``on_result``."""
        asked = self._settings.on_result
        return asked is not None and self.judge.result(asked, result) is Verdict.FAILURE

    def next_step(self, attempt: int, error: Exception) -> float | Reason:
        """After *attempt* raised *error*: how long to wait for another, or why there is none."""
        sure = type(error) in self.judge.sure  # and so no group
        if not sure and self.judge.error(error) is not Verdict.FAILURE:
            return "not_retryable"
        try:
            wait = self.wait(attempt, error)  # type: ignore[misc]  # no stateful one here
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            self.strategy_failed(fault, self.wait_or_stop)
            return "stop"
        asked = asked_by(error) if sure else floor_of(each(error))
        if asked > wait:  # noqa: PLR1730  # max() costs two ticks
            wait = asked
        attempts = self.attempts
        if deadline_here() is not None or (attempts is not None and attempt >= attempts):
            reason = why_not(attempt, attempts, False, wait, left_here())
            if reason is not None:
                return reason
        if self.budget is not None and not self.budget.withdraw():
            return "budget"
        if notify.listening:
            self.scheduled(attempt, wait, error)
        return wait

    def wait_of(self, run: Run, error: Exception | None, result: Any) -> float:
        """Seconds to wait after an attempt of *run*."""
        if self.wait is not None:
            return self.wait(run.attempt, error)
        assert self._settings.stateful_wait is not None
        return self._settings.stateful_wait(run.shown(error, result))

    def strategy_failed(self, fault: Exception, strategy: object = None) -> bool:
        """Say once in the log that a strategy raised: false, since it asks for no other attempt."""
        if not self._complained:
            self._complained = True
            notify.predicate_failed(strategy or self.strategy, fault)
        return False

    def scheduled(self, attempt: int, wait: float, error: Exception | None) -> None:
        """Another attempt will follow, and somebody listens."""
        from resilient.events import RetryScheduled  # noqa: PLC0415  # whoever listens has loaded it

        self.outbox.put(
            RetryScheduled(
                policy=self.name,
                kind=self.kind,
                at=clock.now(),
                attempt=attempt,
                wait=wait,
                error=error,
            )
        )
        self.outbox.deliver()

    def gave_up(self, reason: Reason, attempts: int, error: BaseException | None) -> None:
        """No more is tried."""
        with self._lock:
            self._gave_up[reason] += 1
        if notify.listening and reason != "not_retryable":
            from resilient.events import RetryGaveUp  # noqa: PLC0415  # whoever listens has loaded it

            self.outbox.put(
                RetryGaveUp(
                    policy=self.name,
                    kind=self.kind,
                    at=clock.now(),
                    reason=reason,
                    attempts=attempts,
                    error=error,
                )
            )
            self.outbox.deliver()

    # Inside.

    def begin(self, began: float, budget: RetryBudget | None) -> RetryBudget | None:
        """One more call: refuse it if no time is left, and let it pay into its budget."""
        not_expired(self.name, began)
        self.calls.up()
        if budget is None:
            budget = self._settings.budget if self._settings.key is None else None
        if budget is not None:
            budget.core.deposit(began)
        return budget

    def _is_plain(self) -> bool:
        """Whether its calls need no more than `wrappers` knows."""
        told = self._settings
        stateful = self.strategy or told.stateful_wait or self.stop
        asks = stateful or told.on_result is not None or told.key is not None
        return not asks and math.isinf(self.within)

    def _attempts(self) -> Attempts:
        if self.strategy_is_async:
            raise TypeError(
                "on= is a strategy of tenacity.asyncio, which a loop can't await: "
                "decorate a function"
            )
        if self._settings.key is not None:
            raise TypeError(
                "key= reads a call's arguments, and a loop has none: decorate a function"
            )
        return Attempts(self)

    def _budget_of(self, fn: AnyFunction) -> Callable[..., RetryBudget | None] | None:
        settings = self._settings
        if settings.key is None:
            return None
        find = key_of(settings.key, fn)
        return lambda *args, **kwargs: self._keyed_budget(hashable(find(*args, **kwargs)))

    def _keyed_budget(self, key: Hashable) -> RetryBudget | None:
        if (model := self._settings.budget) is None:
            return None
        with self._lock:
            budget = self._budgets.get(key)
        if budget is None:
            rule = model.rule
            fresh = RetryBudget(rule.ratio, rule.per_second, rule.ttl)
            with self._lock:
                budget = self._budgets.get(key)
                if budget is None:
                    self._budgets.add(key, budget := fresh)
            self._budgets.departed.clear()
        return budget

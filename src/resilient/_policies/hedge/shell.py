"""The hedge policy: its settings, its totals, and what its races ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

from resilient._core.counter import Counter
from resilient._core.functions import at_once
from resilient._core.hedge import HedgeDelay, Share
from resilient._core.matching import Judge, Verdict
from resilient._policies.common.policy import PolicyBase
from resilient._policies.common.repeats import Repeats
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import check_deadline, left_here
from resilient._policies.hedge.race import HedgedCall
from resilient._policies.retry.budget import RetryBudget
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction
from resilient._typing import DEFAULT, Default


@dataclass(frozen=True, slots=True)
class HedgeStats:
    """Totals of a hedge.

    ``hedges`` attempts were made beside the first ones; ``won`` calls were served by one;
    ``no_budget`` counts those that the budget refused. ``after`` is when a hedge is made now, in
    seconds, None while too little is known.
    """

    name: str
    calls: int
    hedges: int
    won: int
    no_budget: int
    after: float | None


@final
class Hedge(PolicyBase):
    """Makes a second attempt beside one that takes too long; `hedge` makes it."""

    kind = "hedge"

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        name: str | None,
        delay: HedgeDelay,
        max_hedges: int,
        judge: Judge,
        on_result: Callable[[Any], object] | None,
        budget: RetryBudget | Literal[Default.DEFAULT] | None,
        discard: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(name)
        self._delay, self._max = delay, max_hedges
        self._judge, self._on_result = judge, on_result
        self._budget = RetryBudget(0.05, 0.2) if budget is DEFAULT else budget
        self._discard = discard
        self._complain = notify.FaultLog()
        self._share = Share() if budget is DEFAULT else None
        self._calls, self._hedges, self._won, self._no_budget = (
            Counter(),
            Counter(),
            Counter(),
            Counter(),
        )
        self._register()

    def stats(self) -> HedgeStats:
        """A snapshot; see `HedgeStats`."""
        won, hedges = self._won.read(), self._hedges.read()
        return HedgeStats(
            self.name, self._calls.read(), hedges, won, self._no_budget.read(), self._after()
        )

    def _reset(self) -> None:
        with self._lock:
            self._delay.reset()
            for total in (self._calls, self._hedges, self._won, self._no_budget):
                total.reset()
            if self._share is not None:
                self._share = Share()
        if self._budget is not None:
            self._budget._reset()

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase._wrap_sync`: a plain thread runs nothing beside it."""
        raise TypeError(
            f"hedge runs attempts beside each other, which {fn!r}, a sync function, can't be: "
            "write `async def`"
        )

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        return self._repeating_async(fn)

    def _repeating_async(self, fn: AnyFunction, repeats: Repeats | None = None) -> AnyFunction:
        """`_wrap_async`; *repeats* may know better what to repeat."""

        async def hedged(*args: Any, **kwargs: Any) -> Any:
            now = clock.now()
            if deadline_here() is not None:
                check_deadline(self.name, now)
            next(self._calls.increment)
            if self._budget is not None:
                self._budget.deposit()
            return await HedgedCall(self, self._max, fn, args, kwargs, repeats).run()

        return hedged

    # What a race asks and tells.

    def _after(self) -> float | None:
        """Seconds after which a hedge is made."""
        with self._lock:
            return self._delay.after()

    def _may_launch(self) -> bool:
        """Whether another attempt is of use, and paid for."""
        if left_here() <= 0:
            return False
        if self._is_earned() and (self._budget is None or self._budget.withdraw()):
            return True
        next(self._no_budget.increment)
        return False

    def _is_earned(self) -> bool:
        if self._share is None:
            return True
        with self._lock:
            return self._share.take(self._calls.read())

    def _launched(self, attempt: int, waited: float) -> None:
        """Another attempt begins."""
        next(self._hedges.increment)
        if notify.listening:
            self._emit("HedgeLaunched", attempt=attempt, waited=waited)
            self._outbox.deliver()

    def _is_unwanted(self, result: Any) -> bool:
        """Whether *result* is as bad as an error that ``on`` names."""
        asked = self._on_result
        return asked is not None and self._judge.result(asked, result) is Verdict.FAILURE

    def _succeeded(self, attempt: int, lasted: float) -> None:
        """Attempt number *attempt* has won, *lasted* seconds after the call began.

        Not after the attempt did: the one that it has overtaken would have taken at least so long,
        and without those the quantile would sink with every hedge.
        """
        if attempt > 1:
            next(self._won.increment)
        with self._lock:
            self._delay.succeeded(lasted)

    def _drop(self, result: Any) -> None:
        """Nobody wants *result* any more."""
        if self._discard is None:
            return
        try:
            at_once(self._discard(result))
        except Exception as fault:  # noqa: BLE001  # it is no matter of the call
            self._complain(self._discard, fault)

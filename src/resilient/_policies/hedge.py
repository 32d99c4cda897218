"""Hedge: a second attempt beside one that takes too long.

It is one file, though a long one: half of it is the race of one call, whose steps (launch, win,
fail, cancel, leave) must be read beside each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, final

from resilient._core.checks import Seconds, function, refuse, refuse_type, seconds, text, whole
from resilient._core.hedge import HedgeDelay, Share
from resilient._core.matching import Judge, Verdict, each
from resilient._core.tally import Tally
from resilient._policies.base import PolicyBase
from resilient._policies.deadline.ambient import left_here, not_expired
from resilient._policies.deadline.block import deadline_here
from resilient._policies.retry.budget import RetryBudget
from resilient._policies.retry.make import DEFAULT, Default
from resilient._policies.verdicts import KNOWN, known
from resilient._runtime import clock, loops, notify
from resilient._runtime.decorate import AnyFunction, is_coroutine_function
from resilient._runtime.notify import predicate_failed
from resilient._typing import ErrorSpec

if TYPE_CHECKING:
    import asyncio

    from anyio import Event
    from anyio.abc import TaskGroup

QUANTILE: Final = re.compile(r"p(\d{1,3}(?:\.\d+)?)")


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
        most: int,
        judge: Judge,
        budget: RetryBudget | Literal[Default.DEFAULT] | None,
        discard: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(name)
        self._delay, self.most, self.judge = delay, most, judge
        self.budget = RetryBudget(0.05, 0.2) if budget is DEFAULT else budget
        self._discard = discard
        self._complained = False
        self._share = Share() if budget is DEFAULT else None
        self.calls, self.hedges, self.won, self.no_budget = Tally(), Tally(), Tally(), Tally()
        self.list_me()

    def stats(self) -> HedgeStats:
        """A snapshot; see `HedgeStats`."""
        won, hedges = self.won.read(), self.hedges.read()
        return HedgeStats(
            self.name, self.calls.read(), hedges, won, self.no_budget.read(), self.after()
        )

    def renew(self) -> None:
        """See `PolicyBase.renew`."""
        with self._lock:
            self._delay.renew()
            for total in (self.calls, self.hedges, self.won, self.no_budget):
                total.zero()
            if self._share is not None:
                self._share = Share()
        if self.budget is not None:
            self.budget.renew()

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`: a plain thread has nothing beside it."""
        raise TypeError(
            f"hedge runs attempts beside each other, which {fn!r}, a sync function, can't be: "
            "write `async def`"
        )

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""

        async def hedged(*args: Any, **kwargs: Any) -> Any:
            now = clock.now()
            if deadline_here() is not None:
                not_expired(self.name, now)
            self.calls.up()
            if self.budget is not None:
                self.budget.deposit()
            return await _Race(self, fn, args, kwargs).run()

        return hedged

    # What a race asks and tells.

    def after(self) -> float | None:
        """Seconds after which a hedge is made."""
        with self._lock:
            return self._delay.after()

    def may_launch(self) -> bool:
        """Whether another attempt is of use, and paid for."""
        if left_here() <= 0:
            return False
        if self._is_earned() and (self.budget is None or self.budget.withdraw()):
            return True
        self.no_budget.up()
        return False

    def _is_earned(self) -> bool:
        if self._share is None:
            return True
        with self._lock:
            return self._share.take(self.calls.read())

    def launched(self, attempt: int, waited: float) -> None:
        """Another attempt begins."""
        self.hedges.up()
        if notify.listening:
            from resilient.events import HedgeLaunched  # noqa: PLC0415  # whoever listens has loaded it

            self.outbox.put(
                HedgeLaunched(
                    policy=self.name,
                    kind=self.kind,
                    at=clock.now(),
                    attempt=attempt,
                    waited=waited,
                )
            )
            self.outbox.deliver()

    def succeeded(self, attempt: int, lasted: float) -> None:
        """Attempt number *attempt* has won, *lasted* seconds after the call began.

        Not after the attempt did: the one that it has overtaken would have taken at least so long,
        and without those the quantile would sink with every hedge.
        """
        if attempt > 1:
            self.won.up()
        with self._lock:
            self._delay.succeeded(lasted)

    def drop(self, result: Any) -> None:
        """Nobody wants *result* any more."""
        if self._discard is None:
            return
        try:
            self._discard(result)
        except Exception as fault:  # noqa: BLE001  # it is no matter of the call
            if not self._complained:
                self._complained = True
                predicate_failed(self._discard, fault)


class _Race:
    """One call: its attempts, and who has won."""

    _news: Event
    _group: TaskGroup

    def __init__(
        self, policy: Hedge, fn: AnyFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._policy, self._fn, self._args, self._kwargs = policy, fn, args, kwargs
        self._launched = self._running = self._failed = 0
        self._first_error: Exception | None = None
        self._last: BaseException | None = None  # what ends the call, whatever others do
        self._exit: BaseException | None = None  # what ends it even if it has a result
        self._cancelled: BaseException | None = None  # the caller's
        self._results: list[Any] = []  # of the winner
        self._over = self._stopped = False
        self._tasks: set[asyncio.Task[Any]] = set()  # of attempts, on asyncio
        self._began = clock.now()

    async def run(self) -> Any:
        """Let the attempts run, and hand over what came of it."""
        from anyio import create_task_group  # noqa: PLC0415  # most programs never hedge

        try:
            async with create_task_group() as self._group:
                await self._guide()
        except BaseException:  # the caller is cancelled while the losers end
            self._drop()
            if self._exit is not None:
                self._raise()
            raise
        if self._results and self._exit is None and self._cancelled is None:
            return self._results[0]
        self._drop()
        self._raise()

    def _raise(self) -> NoReturn:
        errors = [self._exit, self._cancelled, self._last, self._first_error]
        self._exit = self._cancelled = self._last = self._first_error = None
        try:
            raise next(error for error in errors if error is not None)
        finally:
            errors.clear()  # their tracebacks lead back to here

    def _drop(self) -> None:
        """Nobody wants the winner's result."""
        while self._results:
            self._policy.drop(self._results.pop())

    async def _guide(self) -> None:
        """Launch attempts until the call is decided, and cancel those that still run.

        A cancellation is kept until they have ended: let out at once, it would make the group
        cancel this task as well, and then a breaker inside could not tell who cancels it (B9).
        """
        try:
            self._launch()
            await self._watch()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # raised when the group has ended
            if loops.is_cancellation(error):
                self._cancelled = error
            else:
                self._raised_at_last(error)  # a listener's exit
        self._over = True
        self._stop()

    def _stop(self) -> None:
        """Cancel the attempts, on asyncio as asyncio does: once, so that they can clean up."""
        if self._is_cancelled():
            return  # the scope around the caller is around them, too
        self._stopped = True
        if _asyncio_task() is None:
            self._group.cancel_scope.cancel()
        for task in self._tasks:
            task.cancel()

    async def _watch(self) -> None:
        """Return when the call is decided."""
        from anyio import Event, move_on_after  # noqa: PLC0415  # see above

        replaced = 0
        after = self._policy.after()
        due = math.inf if after is None else after
        while True:
            self._news = Event()
            with move_on_after(due) as patience:
                await self._news.wait()
            if self._over:
                return
            failed, replaced = self._failed - replaced, self._failed
            if after is not None and failed:  # perhaps two in the same tick
                while failed and self._beside():
                    failed -= 1
            elif patience.cancelled_caught and not self._beside():
                due = math.inf  # what is refused once is not asked for again
            if not self._running:
                return

    def _beside(self) -> bool:
        """Launch another attempt, if there may be one."""
        if self._launched > self._policy.most or not self._policy.may_launch():
            return False
        self._launch()
        self._policy.launched(self._launched, clock.now() - self._began)
        return True

    def _launch(self) -> None:
        self._launched += 1
        self._running += 1
        self._group.start_soon(self._attempt, self._launched)

    async def _attempt(self, number: int) -> None:
        """Make one; raises nothing, which would come out of the group in a group."""
        if (task := _asyncio_task()) is not None:
            self._tasks.add(task)
        try:
            if not self._over:  # else it comes too late to begin
                await self._make(number)
        except BaseException as error:  # noqa: BLE001  # the caller gets it
            self._raised_at_last(error)
        finally:
            self._running -= 1
            if task is not None:
                self._tasks.discard(task)
            self._news.set()

    async def _make(self, number: int) -> None:
        try:
            result = await self._fn(*self._args, **self._kwargs)
        except Exception as error:  # noqa: BLE001  # judged; the caller gets it
            self._raised(number, error)
        else:
            self._returned(number, result)

    def _returned(self, number: int, result: Any) -> None:
        if self._over:
            self._policy.drop(result)
            return
        self._over = True
        self._results.append(result)
        self._policy.succeeded(number, clock.now() - self._began)

    def _raised(self, number: int, error: Exception) -> None:
        verdict = self._policy.judge.error(error)
        if verdict is Verdict.SUCCESS:
            self._end(error)
            return
        if verdict is Verdict.FAILURE:
            self._failed += 1
        if number == 1 or self._first_error is None:
            self._first_error = error

    def _raised_at_last(self, error: BaseException) -> None:
        """*error* is no `Exception`: an exit, or a cancellation."""
        if any(_is_exit(one) for one in each(error)):
            self._over = True
            if self._exit is None:
                self._exit = error
        elif not self._is_cancelled():  # it has cancelled itself
            self._end(error)

    def _end(self, error: BaseException) -> None:
        if not self._over:
            self._over, self._last = True, error

    def _is_cancelled(self) -> bool:
        """Whether the attempts are cancelled from outside: the caller will see it itself."""
        from anyio import current_effective_deadline  # noqa: PLC0415  # see above

        return self._stopped or current_effective_deadline() == -math.inf


def _asyncio_task() -> asyncio.Task[Any] | None:
    loop = loops.running_loop()
    return None if loop is None else loops.current_task(loop)


def _is_exit(error: BaseException) -> bool:
    return not isinstance(error, Exception) and not loops.is_cancellation(error)


def hedge(
    after: Seconds | str,
    *,
    max: int = 1,  # noqa: A002  # the contract's word
    on: ErrorSpec = Exception,
    budget: RetryBudget | Literal[Default.DEFAULT] | None = DEFAULT,
    discard: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Hedge:
    """Make a second attempt beside one that takes too long, and take the first result.

    For what may be done twice, and is slow now and then for reasons of its own: it cuts the tail
    of the latency for a few percent more calls. Losers are cancelled, and awaited. Each attempt
    is a task with a copy of the caller's context. Async functions only.

    Args:
        after: seconds after which another attempt begins, above 0; or a quantile of the
            latencies of its own successes, such as ``"p95"``, above p0 and at most p100: then there
            are no hedges before 20 successes.
        max: attempts beside the first one, at least 1.
        on: which errors of an attempt are made good by another, at once; any other ends the call.
        budget: what hedges may cost all calls together; by default a
            ``RetryBudget(ratio=0.05, per_second=0.2)`` of its own, and of the calls of late no more
            than one in ten, two at once: if many are slow, the dependency is. ``None`` for none.
            Give the one of a `retry` around it to share that.
        discard: a function that gets a result which came too late, to close it.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        TypeError: the function that it decorates is no ``async def``.
        DeadlineExceeded: from a call, ``started`` false: nothing was left of the deadline.

    If every attempt fails with *on*, the first one's error is raised.

    Source:
        J. Dean and L. A. Barroso, "The Tail at Scale" (2013); budgets as in Finagle.
    """
    if callable(after):
        raise TypeError(
            f'after must be seconds or a quantile, not {after!r}: write @hedge("p95"), '
            "with parentheses"
        )
    if budget is not DEFAULT and budget is not None and not isinstance(budget, RetryBudget):
        refuse_type("budget", budget, "a RetryBudget, or None for none")
    if is_coroutine_function(function("discard", discard)):
        refuse_type("discard", discard, "a plain function, since a loser is not waited for")
    return Hedge(
        text("name", name, instead='@hedge("p95")'),
        _delay(after),
        whole("max", max),
        Judge(on, known=known, known_types=KNOWN, tell=predicate_failed, broken=Verdict.SUCCESS),
        budget,
        discard,
    )


def _delay(after: Seconds | str) -> HedgeDelay:
    if not isinstance(after, str):
        return HedgeDelay(seconds("after", after, above=0), 0.0)
    found = QUANTILE.fullmatch(after)
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share <= 1:
        refuse("after", after, 'seconds, or a quantile above "p0" and at most "p100"')
    return HedgeDelay(None, share)

"""The race of one call: its tasks, and who has won. What they come to is decided in the core."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from resilient._core.chaining import context_of, set_context
from resilient._core.hedge import Race
from resilient._core.matching import Judge, Verdict, each
from resilient._policies.common.repeats import Repeats
from resilient._runtime import clock, loops
from resilient._runtime.background import pause
from resilient._runtime.decorate import AnyFunction

if TYPE_CHECKING:
    import asyncio

    from anyio import Event
    from anyio.abc import TaskGroup


class Hedging(Protocol):
    """The policy as its races see it; see `Hedge`."""

    _judge: Judge

    def _after(self) -> float | None: ...
    def _may_launch(self) -> bool: ...
    def _launched(self, attempt: int, waited: float) -> None: ...
    def _is_unwanted(self, result: Any) -> bool: ...
    def _succeeded(self, attempt: int, lasted: float) -> None: ...
    def _drop(self, result: Any) -> None: ...


class HedgedCall:
    """One call: the tasks of its attempts."""

    _news: Event
    _group: TaskGroup

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        policy: Hedging,
        max_hedges: int,
        fn: AnyFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        repeats: Repeats | None = None,
    ) -> None:
        self._policy, self._fn, self._args, self._kwargs = policy, fn, args, kwargs
        self._repeats, self._race = repeats, Race(max_hedges)
        self._stopped = self._launching = self._refused = False
        self._tasks: dict[asyncio.Task[Any], None] = {}  # of attempts, on asyncio, in their order
        self._began = clock.now()

    async def run(self) -> Any:
        """Let the attempts run, and hand over what came of it."""
        from anyio import create_task_group  # noqa: PLC0415  # most programs never hedge

        race = self._race
        try:
            async with create_task_group() as self._group:
                await self._guide()
        except BaseException:  # the caller is cancelled while the losers end
            self._drop()
            if race.has_exit:
                self._raise()
            raise
        if race.has_result:
            result = race.take_result()
            self._drop()
            return result
        self._drop()
        self._raise()

    def _raise(self) -> NoReturn:
        error = self._race.take_error()
        context = context_of(error)
        try:
            raise error
        finally:
            set_context(error, context)  # what the caller handles has nothing to do with it
            del error, context

    def _drop(self) -> None:
        """Discard the results that were kept, and that nobody wants any more."""
        for result in self._race.take_results():
            self._policy._drop(result)

    async def _guide(self) -> None:
        """Launch attempts until the call is decided, and cancel those that still run.

        A cancellation is kept until they have ended: let out at once, it would make the group
        cancel this task as well, and then a breaker inside could not tell that one of our own
        limits cancels it, which it must count as a failure (B9).
        """
        try:
            await self._watch(self._policy._after())
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # raised when the group has ended
            if loops.is_cancellation(error):
                self._race.cancel_by(error)
            else:
                self._raised_at_last(error)  # a listener's exit
        self._race.over = True
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

    async def _watch(self, after: float | None) -> None:
        """Make the first attempt, and return when the call is decided. *after* so many seconds
        another attempt begins.
        """
        from anyio import Event, move_on_after  # noqa: PLC0415  # see above

        race = self._race
        self._launch(math.inf if after == 0 else 1)
        due = after or math.inf
        while True:
            self._news = Event()
            with move_on_after(due) as patience:
                await self._news.wait()
            if race.over:
                return
            owed = race.owed()  # perhaps two in the same tick
            if self._refused:
                due = math.inf  # what is refused once is not asked for again
            if after is not None and owed:
                self._launch(owed)
            elif patience.cancelled_caught and not self._launch(1):
                due = math.inf
            if race.is_decided:
                return

    def _launch(self, attempts: float) -> bool:
        """Launch so many more *attempts*, if there may be so many; whether there is one."""
        race, launched = self._race, 0
        self._refused, self._launching = False, True
        while launched < attempts and race.may_launch:
            race.launch()
            self._group.start_soon(self._attempt)
            launched += 1
        self._launching = False
        return launched > 0

    async def _attempt(self) -> None:
        """Make one; raises nothing, which would come out of the group in a group."""
        if (task := _asyncio_task()) is not None:
            self._tasks[task] = None
        try:
            if self._launching:  # an eager task: before 4.8 anyio knows it only when it has paused
                await pause()
            if number := self._begin():
                await self._make(number)
        except BaseException as error:  # noqa: BLE001  # the caller gets it
            self._raised_at_last(error)
        finally:
            self._race.ended()
            if task is not None:
                self._tasks.pop(task, None)
            self._news.set()

    def _begin(self) -> int:
        """Begin an attempt: its number, from 1, or 0 if it comes too late, or is not paid for.

        It is paid for only here, in its task: before that has its first step, the call may be over.
        """
        race = self._race
        if race.over:
            return 0
        if race.begun and (self._refused or not self._policy._may_launch()):
            race.refused()
            self._refused = True
            return 0
        number = race.begin()
        if number > 1:
            self._policy._launched(number, clock.now() - self._began)
        return number

    async def _make(self, number: int) -> None:
        try:
            result = await self._fn(*self._args, **self._kwargs)
        except Exception as error:  # noqa: BLE001  # judged; the caller gets it
            self._race.raised(number, error, self._verdict(error))
        else:
            kept = False
            try:
                kept = self._kept(number, result)
            finally:  # also if the predicate exits
                if not kept:
                    self._policy._drop(result)

    def _verdict(self, error: Exception) -> Verdict:
        """Whether another attempt may replace one that raised *error*."""
        verdict = self._policy._judge.error(error)
        if self._repeats is None or verdict is not Verdict.FAILURE:
            return verdict
        return verdict if self._repeats.may_repeat(error) else Verdict.IGNORED

    def _kept(self, number: int, result: Any) -> bool:
        race = self._race
        if not race.over and self._policy._is_unwanted(result):
            return race.unwanted(number, result)
        if won := race.returned(result):
            self._policy._succeeded(number, clock.now() - self._began)
        return won

    def _raised_at_last(self, error: BaseException) -> None:
        """*error* is no `Exception`: an exit, or a cancellation."""
        if any(_is_exit(one) for one in each(error)):
            self._race.exit_by(error)
        elif not self._is_cancelled():  # it has cancelled itself
            self._race.end_by(error)

    def _is_cancelled(self) -> bool:
        """Whether the attempts are cancelled from outside: the caller will see it itself."""
        from anyio import current_effective_deadline  # noqa: PLC0415  # see above

        return self._stopped or current_effective_deadline() == -math.inf


def _asyncio_task() -> asyncio.Task[Any] | None:
    loop = loops.running_loop()
    return None if loop is None else loops.current_task(loop)


def _is_exit(error: BaseException) -> bool:
    return not isinstance(error, Exception) and not loops.is_cancellation(error)

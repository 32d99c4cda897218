"""Single-flight on every loop: who runs, who waits, who leaves."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from resilient import (
    DeadlineExceeded,
    Rejected,
    SingleFlightStats,
    breaker,
    current_deadline,
    deadline,
    detached,
    remaining,
    retry,
    singleflight,
    timeout,
)
from resilient.events import FlightJoined
from resilient.testing import fresh, record
from tests.worlds import World, world_named

pytestmark = pytest.mark.loop


@pytest.fixture(autouse=True)
def nothing_is_lost(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task's error was never retrieved, no coroutine never awaited (pytest turns
    that warning into an error).
    """
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield
        gc.collect(1)
    assert not [row.getMessage() for row in caplog.records if row.name in {"asyncio", "resilient"}]


@pytest.fixture(params=["asyncio", "trio"])
def exact(request: pytest.FixtureRequest) -> Any:
    """The loops whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


class Runs:
    """A function that lasts, and remembers how its runs went."""

    def __init__(
        self, w: World, lasts: float = 2, fate: Callable[[int], object] | None = None
    ) -> None:
        self.w, self.lasts, self.fate = w, lasts, fate
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.cancelled: list[float] = []

    async def __call__(self, *args: object, **kwargs: object) -> object:
        number = len(self.begun)
        self.begun.append(self.w.now())
        try:
            await self.w.sleep(self.lasts)
        except BaseException:
            self.cancelled.append(self.w.now())
            raise
        self.ended.append(self.w.now())
        if self.fate is None:
            return f"value {number}"
        fate = self.fate(number)
        if isinstance(fate, BaseException):
            raise fate
        return fate


async def after(w: World, units: float, fn: Callable[[], Any]) -> Any:
    await w.sleep(units)
    return await fn()


def later(w: World, units: float, fn: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: after(w, units, fn)


async def cut(w: World, units: float, fn: Callable[[], Any]) -> Any:
    """Call, but be cancelled by somebody else after so long."""
    with anyio.move_on_after(units * w.unit):
        return await fn()
    return "cancelled"


async def limited(w: World, units: float, fn: Callable[[], Any]) -> Any:
    async with deadline(units * w.unit):
        return await fn()


# S1, S2, S6: one run, one outcome.


@pytest.mark.rule("S1")
def test_callers_of_one_key_share_one_run_and_its_value(async_world: World) -> None:
    async def scenario(w: World) -> None:
        value = object()
        runs = Runs(w, fate=lambda _: value)
        flight = singleflight("f")

        def fn() -> Any:
            return flight.do("k", runs)

        results = await w.together(fn, fn, later(w, 1, fn))
        assert all(result is value for result in results)
        assert len(runs.begun) == 1
        assert flight.stats() == SingleFlightStats("f", 3, 1, 2, 0)

    async_world.run(scenario)


@pytest.mark.rule("S1", "S6")
def test_an_error_reaches_every_caller_as_the_same_object(async_world: World) -> None:
    async def scenario(w: World) -> None:
        error = KeyError("mine")
        runs = Runs(w, fate=lambda _: error)
        fn = singleflight()(runs)
        results = await w.together(fn, fn, later(w, 1, fn))
        assert all(result is error for result in results)
        assert not getattr(error, "__notes__", [])

    async_world.run(scenario)


@pytest.mark.rule("S1")
def test_other_keys_fly_apart(async_world: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w)
        flight = singleflight()
        results = await w.together(
            *((lambda k=k: flight.do(k, runs)) for k in ("a", "b", "a", "c"))
        )
        assert results[0] == results[2]
        assert set(results) == {"value 0", "value 1", "value 2"}
        assert flight.stats().runs == 3

    async_world.run(scenario)


@pytest.mark.rule("S2")
def test_nothing_is_remembered(async_world: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 0.2, fate=lambda n: ValueError("first") if n == 0 else n)
        fn = singleflight()(runs)
        with pytest.raises(ValueError, match="first"):
            await fn()
        assert [await fn(), await fn()] == [1, 2]

    async_world.run(scenario)


@pytest.mark.rule("S2")
def test_the_key_is_free_before_any_waiter_resumes(async_world: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 1)
        fn = singleflight()(runs)

        async def twice() -> list[object]:
            return [await fn(), await fn()]

        assert await w.together(twice, twice, twice) == [["value 0", "value 1"]] * 3
        failing = Runs(w, 1, fate=lambda n: ValueError(n))
        fails = singleflight()(failing)

        async def twice_failing() -> list[object]:
            seen = []
            for _ in range(2):
                try:
                    await fails()
                except ValueError as error:
                    seen.append(error.args[0])
            return seen

        assert await w.together(twice_failing, twice_failing) == [[0, 1], [0, 1]]

    async_world.run(scenario)


@pytest.mark.rule("S6")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_the_traceback_does_not_grow_with_the_number_of_waiters(name: str) -> None:
    def depth(error: BaseException) -> int:
        count, trace = 0, error.__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    async def scenario(w: World) -> None:
        longest = []
        for waiters in (1, 40):
            error = ValueError("one object")

            def fate(_: int, error: ValueError = error) -> ValueError:
                return error

            fn = singleflight()(Runs(w, 1, fate=fate))
            depths: list[int] = []

            async def one(fn: Any = fn, depths: list[int] = depths) -> None:
                try:
                    await fn()
                except ValueError as caught:
                    depths.append(depth(caught))

            await w.together(*[one] * waiters)
            longest.append(max(depths))
        assert longest[0] == longest[1]

    with world_named(name) as world:
        world.run(scenario)


# S3: leaving.


@pytest.mark.rule("S3")
def test_the_first_caller_may_leave_and_the_run_goes_on(async_world: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w)
        fn = singleflight()(runs)
        results = await w.together(lambda: cut(w, 1, fn), later(w, 0.3, fn))
        assert results == ["cancelled", "value 0"]
        assert (len(runs.begun), runs.cancelled) == (1, [])

    async_world.run(scenario)


@pytest.mark.rule("S3")
def test_a_later_caller_may_leave_and_the_run_goes_on(async_world: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w)
        fn = singleflight()(runs)
        results = await w.together(fn, later(w, 0.3, lambda: cut(w, 0.5, fn)))
        assert results == ["value 0", "cancelled"]
        assert (len(runs.begun), runs.cancelled) == (1, [])

    async_world.run(scenario)


@pytest.mark.rule("S3")
def test_when_the_last_waiter_leaves_the_run_is_cancelled(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 10)
        flight = singleflight()
        fn = flight(runs)
        await w.together(lambda: cut(w, 1, fn), lambda: cut(w, 3, fn), lambda: cut(w, 2, fn))
        await w.sleep(0)
        assert runs.cancelled == [pytest.approx(3)]
        await w.sleep(1)
        assert flight.stats().in_flight == 0

    exact.run(scenario)


@pytest.mark.rule("S3")
def test_nobody_joins_a_cancelled_run(async_world: World) -> None:
    async def scenario(w: World) -> None:
        cleaning = anyio.Event()
        runs: list[str] = []

        async def slow_to_die() -> str:
            runs.append("begun")
            try:
                await w.sleep(1 if len(runs) > 1 else 60)
            finally:
                if len(runs) == 1:
                    cleaning.set()
                    with anyio.CancelScope(shield=True):
                        await w.sleep(3)
                    runs.append("dead")
            return "the second run's"

        flight = singleflight()
        fn = flight(slow_to_die)

        async def newcomer() -> object:
            await cleaning.wait()
            return await fn()

        results = await w.together(lambda: cut(w, 0.5, fn), newcomer, newcomer)
        assert results == ["cancelled", "the second run's", "the second run's"]
        assert runs[:2] == ["begun", "begun"]
        await w.sleep(3)
        assert flight.stats().in_flight == 0
        assert flight.stats().runs == 2

    async_world.run(scenario)


@pytest.mark.rule("S3")
def test_one_who_comes_in_the_very_tick_in_which_the_last_one_left_starts_a_new_run(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 5)
        fn = singleflight()(runs)
        results: list[object] = []

        async def leaver() -> None:
            await cut(w, 1, fn)
            results.append(await fn())

        await leaver()
        assert results == ["value 1"]
        assert (len(runs.begun), len(runs.cancelled)) == (2, 1)

    exact.run(scenario)


@pytest.mark.rule("S3")
def test_a_run_that_is_cancelled_before_its_first_step_takes_nobody_along(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 1)
        flight = singleflight()
        fn = flight(runs)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await fn()
        assert scope.cancelled_caught
        assert await fn() == f"value {len(runs.begun) - 1}"
        assert not runs.ended[1:]
        await w.sleep(0.1)
        assert flight.stats().in_flight == 0

    async_world.run(scenario)


@pytest.mark.rule("S3", "S7")
@pytest.mark.parametrize("steps", range(6))
def test_a_loop_that_ends_before_or_during_a_run_takes_its_callers_along(steps: int) -> None:
    flight, ends = singleflight(), []

    async def work() -> None:
        await asyncio.sleep(3600)

    async def caller() -> None:
        try:
            await flight.do("k", work)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def main() -> None:
        callers.extend(asyncio.create_task(caller()) for _ in range(2))
        for _ in range(steps):
            await asyncio.sleep(0)

    callers: list[asyncio.Task[None]] = []
    asyncio.run(main())  # cancels what is left, also a run that has not made its first step
    assert all(task.cancelled() for task in callers)
    assert ends == ["cancelled"] * 2
    assert flight.stats().in_flight == 0
    assert asyncio.run(flight.do("k", lambda_of(5))) == 5


@pytest.mark.rule("S3", "S7")
def test_a_caller_that_leaves_returns_at_once_however_slowly_the_run_dies(exact: World) -> None:
    async def scenario(w: World) -> None:
        async def stubborn() -> None:
            try:
                await w.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await w.sleep(30)

        fn = singleflight()(stubborn)
        assert await cut(w, 1, fn) == "cancelled"
        assert w.now() == pytest.approx(1)
        with pytest.raises(DeadlineExceeded):
            await limited(w, 1, fn)
        assert w.now() == pytest.approx(2)

    exact.run(scenario)


@pytest.mark.rule("S3", "S2")
def test_a_result_that_comes_as_the_last_one_leaves_harms_nobody(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 1)
        fn = singleflight()(runs)
        first = await w.together(lambda: cut(w, 1, fn), lambda: cut(w, 1, fn))
        assert set(first) <= {"cancelled", "value 0"}
        assert await fn() == "value 1"

    exact.run(scenario)


# S4: deadlines.


@pytest.mark.rule("S4")
def test_each_waiter_leaves_at_its_own_deadline_and_the_run_at_the_latest(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 60)
        fn = singleflight("f")(runs)
        ends: dict[str, float] = {}

        async def one(name: str, units: float) -> None:
            try:
                await limited(w, units, fn)
            finally:
                ends[name] = w.now()

        results = await w.together(
            lambda: one("a", 3), lambda: one("b", 1), later(w, 2, lambda: one("c", 4))
        )
        assert [type(result) for result in results] == [DeadlineExceeded] * 3
        assert ends == {"b": pytest.approx(1), "a": pytest.approx(3), "c": pytest.approx(6)}
        await w.sleep(0)
        assert runs.cancelled == [pytest.approx(6)]
        assert len(runs.begun) == 1

    exact.run(scenario)


@pytest.mark.rule("S4", "S7")
def test_the_run_sees_the_latest_deadline_which_grows_and_does_not_shrink(exact: World) -> None:
    async def scenario(w: World) -> None:
        seen: list[float] = []

        async def look() -> None:
            for _ in range(6):
                await w.sleep(1)
                seen.append(w.now() + remaining())

        fn = singleflight()(look)
        await w.together(
            lambda: limited(w, 7.5, fn),
            later(w, 1.5, lambda: limited(w, 20, fn)),
            later(w, 1.5, lambda: cut(w, 2, lambda: limited(w, 40, fn))),
            later(w, 4.5, fn),
        )
        assert seen == pytest.approx([7.5, 41.5, 41.5, 41.5, math.inf, math.inf])

    exact.run(scenario)


@pytest.mark.rule("S4", "S7")
def test_the_deadline_of_the_first_caller_does_not_cut_the_run_of_others(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 5)
        fn = singleflight()(runs)
        results = await w.together(lambda: limited(w, 1, fn), later(w, 0.5, fn))
        assert isinstance(results[0], DeadlineExceeded)
        assert results[1] == "value 0"
        without = Runs(w, 5)
        fn = singleflight()(without)
        results = await w.together(fn, lambda: limited(w, 1, fn))
        assert results[0] == "value 0"
        assert isinstance(results[1], DeadlineExceeded)

    exact.run(scenario)


@pytest.mark.rule("S4", "F11", "D6")
def test_an_inherited_deadline_ends_the_wait_of_a_child_task(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 60)
        flight = singleflight("f")
        fn = flight(runs)
        ends: list[tuple[Any, str, bool]] = []

        async def child() -> None:
            try:
                await fn()
            except DeadlineExceeded as error:
                ends.append((w.now(), error.policy, error.started))

        async with anyio.create_task_group() as group:
            async with deadline(3):
                group.start_soon(child)
                await w.sleep(1)
            await w.sleep(0)
        assert ends == [(pytest.approx(3), "f", True)]
        await w.sleep(0)
        assert len(runs.cancelled) == 1

    exact.run(scenario)


@pytest.mark.rule("S4", "D7")
def test_a_wait_by_inherited_deadline_follows_the_parents_reschedule(exact: World) -> None:
    async def scenario(w: World) -> None:
        fn = singleflight("f")(Runs(w, 60))
        ends: list[float] = []

        async def child() -> None:
            with pytest.raises(DeadlineExceeded):
                await fn()
            ends.append(w.now())

        async with anyio.create_task_group() as group:
            async with deadline(30) as limit:
                group.start_soon(child)
                await w.sleep(1)
                limit.reschedule(4)
                await w.sleep(3)
        assert ends == [pytest.approx(5)]

    exact.run(scenario)


@pytest.mark.rule("S4", "D5")
def test_with_nothing_left_nobody_runs_joins_or_counts(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 5)
        flight = singleflight("f")
        fn = flight(runs)

        async def late() -> None:
            with deadline(1):
                w.time.advance(1)  # type: ignore[attr-defined]
                await fn()

        (error,) = await w.together(late)
        assert isinstance(error, DeadlineExceeded)
        assert not error.started
        assert not runs.begun
        assert flight.stats() == SingleFlightStats("f", 0, 0, 0, 0)

    exact.run(scenario)


@pytest.mark.rule("S7")
def test_the_run_sees_no_deadline_where_a_waiter_has_none(exact: World) -> None:
    async def scenario(w: World) -> None:
        async def look() -> object:
            await w.sleep(1)
            return current_deadline()

        fn = singleflight()(look)
        assert await fn() is None
        results = await w.together(fn, lambda: limited(w, 9, fn))
        assert results == [None, None]
        with deadline(5), detached():
            assert await fn() is None

    exact.run(scenario)


@pytest.mark.rule("B9", "S4")
@pytest.mark.parametrize("waiters", [1, 3])
@pytest.mark.parametrize("inherited", [False, True])
def test_a_run_that_outlasts_all_its_waiters_trips_a_breaker_inside(
    exact: World, waiters: int, inherited: bool
) -> None:
    async def scenario(w: World) -> None:
        watch = breaker()
        fn = singleflight()(watch(Runs(w, 60)))
        if inherited:
            async with anyio.create_task_group() as group:

                async def child() -> None:
                    with pytest.raises(DeadlineExceeded):
                        await fn()

                async with deadline(3):
                    for _ in range(waiters):
                        group.start_soon(child)
                    await w.sleep(1)
        else:
            results = await w.together(
                *((lambda n=n: limited(w, 1 + n, fn)) for n in range(waiters))
            )
            assert {type(result) for result in results} == {DeadlineExceeded}
        await w.sleep(1)
        stats = watch.stats()
        assert (stats.calls, stats.failures, stats.ignored) == (1, 1, 0)

    exact.run(scenario)


@pytest.mark.rule("B9", "S3")
def test_a_run_that_all_its_waiters_left_by_cancellation_is_ignored_by_a_breaker_inside(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        watch = breaker()
        fn = singleflight()(watch(Runs(w, 60)))
        await w.together(lambda: cut(w, 1, fn), lambda: cut(w, 2, lambda: limited(w, 30, fn)))
        await w.sleep(1)
        stats = watch.stats()
        assert (stats.calls, stats.failures, stats.ignored) == (1, 0, 1)

    exact.run(scenario)


@pytest.mark.rule("S3", "S4")
def test_one_who_comes_when_the_run_has_expired_starts_a_new_one(exact: World) -> None:
    async def scenario(w: World) -> None:
        stubborn_is_over = anyio.Event()
        runs: list[int] = []

        async def stubborn() -> str:
            runs.append(1)
            if len(runs) > 1:
                return "new"
            try:
                await w.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await w.sleep(5)
                stubborn_is_over.set()
            return "old"

        fn = singleflight()(stubborn)
        results = await w.together(lambda: limited(w, 1, fn), later(w, 2, fn))
        assert isinstance(results[0], DeadlineExceeded)
        assert results[1] == "new"
        await stubborn_is_over.wait()

    exact.run(scenario)


# S5: forget.


@pytest.mark.rule("S5")
def test_after_forget_later_callers_start_anew_and_the_old_run_serves_its_waiters(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 4)
        flight = singleflight()

        def fn() -> Any:
            return flight.do("k", runs)

        async def forget() -> None:
            await w.sleep(1)
            flight.forget("k")
            flight.forget("never seen")

        results = await w.together(
            fn, fn, forget, later(w, 2, fn), later(w, 5, fn), later(w, 6.5, fn)
        )
        assert results == ["value 0", "value 0", None, "value 1", "value 1", "value 2"]
        assert runs.begun == pytest.approx([0, 2, 6.5])

    exact.run(scenario)


@pytest.mark.rule("S5", "S3")
def test_the_cancellation_of_a_forgotten_run_does_not_touch_the_new_one(exact: World) -> None:
    async def scenario(w: World) -> None:
        runs = Runs(w, 4)
        flight = singleflight()

        def fn() -> Any:
            return flight.do("k", runs)

        async def forget() -> None:
            await w.sleep(1)
            flight.forget("k")

        results = await w.together(
            lambda: cut(w, 3, fn), forget, later(w, 2, fn), later(w, 3.5, fn)
        )
        assert results == ["cancelled", None, "value 1", "value 1"]
        assert runs.cancelled == [pytest.approx(3)]
        assert len(runs.begun) == 2

    exact.run(scenario)


# S7: contexts, own keys, loops.


@pytest.mark.rule("S7")
def test_the_run_sees_a_copy_of_the_first_callers_context(async_world: World) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def scenario(w: World) -> None:
        async def look() -> str:
            seen = variable.get()
            variable.set("changed inside")
            await w.sleep(0.5)
            return seen

        fn = singleflight()(look)

        async def one(value: str) -> tuple[str, str]:
            variable.set(value)
            return await fn(), variable.get()

        assert await w.together(lambda: one("first"), later(w, 0.2, lambda: one("second"))) == [
            ("first", "first"),
            ("first", "second"),
        ]

    async_world.run(scenario)


@pytest.mark.rule("S7")
def test_a_run_that_asks_for_its_own_key_is_an_error_not_a_deadlock(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight, other = singleflight("f"), singleflight("g")

        async def direct() -> object:
            await w.sleep(0.1)
            return await flight.do("k", direct)

        async def through_another() -> object:
            return await flight.do("k", lambda_async)

        async def lambda_async() -> object:
            return await other.do("x", through_another)

        async def in_a_task() -> object:
            (result,) = await w.together(lambda: flight.do("k", in_a_task))
            if isinstance(result, Exception):
                raise result
            return result

        for fn in (direct, lambda_async, in_a_task):
            with pytest.raises(RuntimeError, match="own key 'k'"):
                await flight.do("k", fn)
        assert await flight.do("k", lambda_of(5)) == 5

    async_world.run(scenario)


def lambda_of(value: object) -> Callable[[], Any]:
    async def fn() -> object:
        return value

    return fn


@pytest.mark.rule("S7")
def test_a_run_may_ask_for_other_keys_and_after_its_end_for_its_own(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight()

        async def count(n: int) -> int:
            return n if n == 0 else 1 + await flight.do(n - 1, count, n - 1)

        assert await flight.do(5, count, 5) == 5
        over = anyio.Event()
        later_results: list[object] = []
        async with anyio.create_task_group() as group:

            async def background() -> None:
                await over.wait()
                later_results.append(await flight.do("k", lambda_of("again")))

            async def starts() -> str:
                group.start_soon(background)
                return "first"

            assert await flight.do("k", starts) == "first"
            over.set()
        assert later_results == ["again"]

    async_world.run(scenario)


@pytest.mark.rule("S7", "F4")
def test_each_event_loop_has_its_own_flights() -> None:
    flight = singleflight()
    runs: list[int] = []

    async def work() -> int:
        runs.append(1)
        inner = await asyncio.to_thread(lambda: asyncio.run(flight.do("k", nested)))
        return inner + 1

    async def nested() -> int:
        runs.append(2)
        return 5

    assert asyncio.run(flight.do("k", work)) == 6
    assert runs == [1, 2]
    assert flight.stats().in_flight == 0


CLOSED_DURING_A_RUN = """
import asyncio
from resilient import singleflight

flight = singleflight()

async def forever():
    await asyncio.get_running_loop().create_future()

async def quick():
    return 5

loop = asyncio.new_event_loop()
task = loop.create_task(flight.do("k", forever))
for _ in range(3):
    loop.run_until_complete(asyncio.sleep(0))
assert flight.stats().in_flight == 1
loop.close()
assert flight.stats().in_flight == 0
assert asyncio.run(flight.do("k", quick)) == 5
assert flight.stats().in_flight == 0
print("ended well")
"""


@pytest.mark.rule("S7")
@pytest.mark.real_clock  # subprocess polls
def test_a_loop_that_is_closed_during_a_run_leaves_no_key_behind() -> None:
    done = subprocess.run(  # apart: asyncio complains of the tasks that die with their loop
        [sys.executable, "-c", CLOSED_DURING_A_RUN],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ended well\n", done.stderr


@pytest.mark.rule("S7")
def test_a_loop_that_ends_while_others_wait_cancels_all(async_world: World) -> None:
    flight = singleflight()

    async def scenario(w: World) -> None:
        async def forever() -> None:
            await w.sleep(1e6)

        async with anyio.create_task_group() as group:
            group.start_soon(flight.do, "k", forever)
            group.start_soon(flight.do, "k", forever)
            await w.sleep(0.2)
            group.cancel_scope.cancel()

    async_world.run(scenario)
    assert flight.stats().in_flight == 0


# Sync code on a loop's thread.


@pytest.mark.rule("F11", "S7")
def test_sync_code_on_a_loops_thread_never_waits_for_another_thread(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight("f")
        begun, go_on = threading.Event(), threading.Event()

        def slow() -> str:
            begun.set()
            assert go_on.wait(30)
            return "the thread's"

        def quick() -> str:
            return "ours"

        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(flight.do("k", slow)))
        thread.start()
        try:
            assert begun.wait(30)
            with pytest.raises(Rejected) as caught:
                flight.do("k", quick)
            assert (caught.value.reason, caught.value.policy) == ("would_block", "f")
            assert flight.do("other", quick) == "ours", "a run of its own is no waiting"
        finally:
            go_on.set()
            thread.join(30)
        assert results == ["the thread's"]
        assert flight.do("k", quick) == "ours"
        del w

    async_world.run(scenario)


# copy=, keys.


@pytest.mark.rule("S1")
def test_copy_is_applied_for_every_caller_but_the_first(async_world: World) -> None:
    async def scenario(w: World) -> None:
        value: list[int] = [1]
        fn = singleflight(copy=list)(Runs(w, fate=lambda _: value))
        first, second, third = await w.together(fn, later(w, 0.3, fn), later(w, 0.6, fn))
        assert first is value
        assert second == third == value
        assert len({id(first), id(second), id(third)}) == 3
        fn = singleflight(copy=list)(Runs(w, fate=lambda _: value))
        left, stayed = await w.together(lambda: cut(w, 1, fn), later(w, 0.3, fn))
        assert left == "cancelled"
        assert stayed == value
        assert stayed is not value

    async_world.run(scenario)


@pytest.mark.rule("S1")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (((1,), {}), ((1,), {}), True),
        (((1,), {}), ((True,), {}), False),
        (((1,), {}), (("1",), {}), False),
        (((1,), {}), ((1.0,), {}), False),
        (((), {"x": 1}), ((), {"x": True}), False),
        (((), {"x": 1, "y": 2}), ((), {"y": 2, "x": 1}), True),
        (((1,), {}), ((), {"x": 1}), False),
        ((((1, 2),), {}), (((1, 2),), {}), True),
        ((((1, 2),), {}), (((True, 2),), {}), False),
        ((((1, (2, (3,))),), {}), (((1, (2, (3.0,))),), {}), False),
        (((frozenset([1]),), {}), ((frozenset([True]),), {}), False),
        (((1, 2), {}), (((1, 2),), {}), False),
        (((None,), {}), ((), {}), False),
        ((("x",), {"y": 1}), ((("x", "y"), 1), {}), False),
    ],
)
def test_the_default_key_is_the_call_as_written(one: Any, other: Any, same: bool) -> None:
    async def scenario(w: World) -> None:
        async def work(*args: object, **kwargs: object) -> object:
            await w.sleep(1)
            return object()

        flight = singleflight()
        fn = flight(work)
        a, b = await w.together(lambda: fn(*one[0], **one[1]), lambda: fn(*other[0], **other[1]))
        assert (a is b) is same
        assert flight.stats().runs == 2 - same

    with world_named("asyncio") as world:
        world.run(scenario)


@pytest.mark.rule("S1")
def test_two_functions_and_two_objects_have_two_keys(exact: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight()
        first, second = Runs(w), Runs(w)
        a, b = flight(first), flight(second)
        await w.together(a, b, a)
        assert (len(first.begun), len(second.begun)) == (1, 1)

        class Client:
            def __init__(self, value: int) -> None:
                self.value = value

            @flight
            async def get(self) -> int:
                await w.sleep(1)
                return self.value

        one, two = Client(1), Client(2)
        assert await w.together(one.get, two.get, one.get) == [1, 2, 1]
        stack = flight(retry(on=ValueError)(first))
        assert await w.together(stack, a) == ["value 1", "value 1"], (
            "the innermost function is the one that counts"
        )

    exact.run(scenario)


@pytest.mark.rule("S1")
def test_arguments_that_cannot_be_hashed_say_to_pass_a_key(world: World) -> None:
    async def scenario(w: World) -> None:
        fn = singleflight()(w.function(lambda *args, **kwargs: 5))
        for args, kwargs in ((([],), {}), (((1, [2]),), {}), ((), {"x": {}})):
            with pytest.raises(TypeError, match="pass key="):
                await w.call(fn, *args, **kwargs)
        with pytest.raises(TypeError, match="hash"):
            await w.call(singleflight().do, [], w.function(lambda: 5))
        with pytest.raises(TypeError, match="hash"):
            await w.call(singleflight(key=list)(w.function(lambda: 5)))  # type: ignore[arg-type]  # a list is no key
        assert await w.call(fn, 1) == 5

    world.run(scenario)


@pytest.mark.rule("S1", "F10")
def test_key_may_be_a_function_or_a_parameter(exact: World) -> None:
    async def scenario(w: World) -> None:
        async def get(sku: str, trace: object = None) -> str:
            await w.sleep(1)
            return sku

        for key in ("sku", lambda sku, trace=None: sku.lower()):
            flight = singleflight(key=key)
            fn = flight(get)
            results = await w.together(
                lambda: fn("a", []),  # noqa: B023  # awaited in this round
                lambda: fn(sku="a"),  # noqa: B023  # awaited in this round
                lambda: fn("b", trace={}),  # noqa: B023  # awaited in this round
            )
            assert results == ["a", "a", "b"]
            assert flight.stats().runs == 2
        with pytest.raises(TypeError, match="nothing"):
            singleflight(key="nothing")(get)

    exact.run(scenario)


# S8, events, the rest.


@pytest.mark.rule("S8")
def test_stats_count_calls_runs_joined_and_those_in_flight(exact: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight("f")
        runs = Runs(w, 3)
        looked: list[SingleFlightStats] = []

        async def look() -> None:
            await w.sleep(1)
            looked.append(flight.stats())

        await w.together(
            lambda: flight.do("a", runs), lambda: flight.do("a", runs),
            lambda: flight.do("b", runs), look,
            lambda: cut(w, 2, lambda: flight.do("a", runs)),
        )  # fmt: skip
        assert looked == [SingleFlightStats("f", 4, 2, 2, 2)]
        assert flight.stats() == SingleFlightStats("f", 4, 2, 2, 0)

    exact.run(scenario)


@pytest.mark.rule("M1")
def test_each_who_joins_is_told_with_its_key(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight("f")
        runs = Runs(w)
        with record(FlightJoined) as events:
            await w.together(*[lambda: flight.do("k", runs)] * 3, lambda: flight.do("other", runs))
        assert [(event.policy, event.kind, event.key) for event in events] == [
            ("f", "singleflight", "k")
        ] * 2

    async_world.run(scenario)


@pytest.mark.rule("S1", "F8")
def test_a_stack_around_and_inside_works(exact: World) -> None:
    async def scenario(w: World) -> None:
        fates = [ValueError("once"), None]
        runs = Runs(w, 1, fate=lambda n: fates[n] or "good")
        inside = singleflight()(retry(on=ValueError, wait=1)(runs))
        assert await w.together(inside, inside) == ["good", "good"]
        assert len(runs.begun) == 2
        slow = Runs(w, 9)
        around = retry(on=TimeoutError, wait=1, attempts=2)(timeout(2)(singleflight()(slow)))
        results = await w.together(around, around)
        assert {type(result) for result in results} == {DeadlineExceeded}
        assert len(slow.begun) == 2

    exact.run(scenario)


@pytest.mark.rule("T3", "S5")
def test_fresh_forgets_every_key(exact: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight("f")
        runs = Runs(w, 4)

        def fn() -> Any:
            return flight.do("k", runs)

        async def renew() -> None:
            await w.sleep(1)
            with fresh():
                assert flight.stats().calls == 0

        results = await w.together(fn, renew, later(w, 2, fn))
        assert results == ["value 0", None, "value 1"]
        assert flight.stats().in_flight == 0

    exact.run(scenario)


@pytest.mark.rule("F2")
def test_do_and_call_pass_arguments(world: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight()
        add = w.function(lambda a, b=0: a + b)
        assert await w.call(flight.do, "k", add, 1, b=2) == 3
        assert await w.call(flight.call, add, 1, b=3) == 4
        assert await w.call(flight(add), 1, b=4) == 5

    world.run(scenario)


@pytest.mark.rule("F7")
def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="key"):
        singleflight(key=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="copy"):
        singleflight(copy=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="parentheses"):
        singleflight(lambda: 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        singleflight().do("k", 5)  # type: ignore[arg-type]

"""Hedge on every loop: who runs beside whom, who wins, what is paid."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Hedge,
    HedgeStats,
    RetryBudget,
    breaker,
    bulkhead,
    current_deadline,
    deadline,
    detached,
    hedge,
    pipeline,
    remaining,
    retry,
    timeout,
)
from resilient._typing import DEFAULT
from resilient.events import HedgeLaunched
from resilient.testing import fresh, record, virtual_time
from tests.ids import shown
from tests.worlds import World, in_threads, world_named

pytestmark = pytest.mark.loop


@pytest.fixture(autouse=True)
def nothing_is_lost(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task's error was never retrieved, no coroutine never awaited (pytest turns
    that warning into an error).
    """
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield
        gc.collect(1)
    assert not [row.getMessage() for row in caplog.records if row.name == "asyncio"]


@pytest.fixture(params=["asyncio", "trio"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The loops whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


class Attempts:
    """A function whose n-th attempt lasts, and ends, as the n-th item of the script says.

    An end is a value, an error, or ``...`` for ``"value n"``. The last item goes for all later
    ones.
    """

    def __init__(self, w: World, *script: tuple[float, object]) -> None:
        self.w, self.script = w, script
        self.begun: list[float] = []
        self.ended: dict[int, str] = {}
        self.running = 0
        self.cleanup = 0.0

    async def __call__(self, *args: object, **kwargs: object) -> Any:
        number = len(self.begun) + 1
        self.begun.append(self.w.now())
        lasts, end = self.script[min(number, len(self.script)) - 1]
        self.running += 1
        try:
            await self.w.sleep(lasts)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.w.sleep(self.cleanup)
            self.ended[number] = "cancelled"
            raise
        else:
            self.ended[number] = "ended"
        finally:
            self.running -= 1
        if isinstance(end, BaseException):
            raise end
        return f"value {number}" if end is ... else end


class Twins:
    """A function whose two attempts return in one tick."""

    def __init__(self, w: World) -> None:
        self.w, self.count = w, 0
        self.go = anyio.Event()

    async def __call__(self) -> int:
        self.count += 1
        number = self.count
        if number == 2:
            await self.w.sleep(1)
            self.go.set()
        else:
            await self.go.wait()
        return number


def at(*units: float) -> list[Any]:
    return [pytest.approx(one, abs=1e-6) for one in units]


def after(w: World, units: float, **kwargs: Any) -> Hedge:
    """A hedge after so many units, without a budget unless one is given."""
    return hedge(units * w.unit, **{"budget": None, **kwargs})


async def feed(policy: Hedge, w: World, lasts: float = 0.0, times: int = 20) -> None:
    """Give it a history."""
    fn = policy(Attempts(w, (lasts, ...)))
    for _ in range(times):
        await fn()


# H1: who wins, and what becomes of the others.


@pytest.mark.rule("H1")
def test_a_call_that_is_fast_enough_has_one_attempt(async_world: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (1, ...))
        policy = after(w, 8)
        assert await policy(attempts)() == "value 1"
        assert len(attempts.begun) == 1
        assert policy.stats() == HedgeStats(policy.name, 1, 0, 0, 0, 8 * w.unit)

    async_world.run(scenario)


@pytest.mark.rule("H1")
def test_a_slow_call_is_overtaken_by_its_hedge(async_world: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (200, ...), (1, ...))
        policy = after(w, 2)
        assert await policy(attempts)() == "value 2"
        assert attempts.ended == {1: "cancelled", 2: "ended"}
        stats = policy.stats()
        assert (stats.calls, stats.hedges, stats.won) == (1, 1, 1)

    async_world.run(scenario)


@pytest.mark.rule("H1")
def test_the_first_attempt_may_win_although_it_was_hedged(async_world: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (4, ...), (200, ...))
        policy = after(w, 1)
        assert await policy(attempts)() == "value 1"
        assert attempts.ended == {1: "ended", 2: "cancelled"}
        stats = policy.stats()
        assert (stats.calls, stats.hedges, stats.won) == (1, 1, 0)

    async_world.run(scenario)


@pytest.mark.rule("H1")
def test_hedges_begin_at_their_instants_and_no_more_than_max_of_them(exact: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (9, ...))
        assert await after(w, 2, max=3)(attempts)() == "value 1"
        assert attempts.begun == at(0, 2, 4, 6)
        assert w.now() == pytest.approx(9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resilient._core.hedge.ONE_IN", 1e-9)  # one call alone has one hedge out
        exact.run(scenario)


@pytest.mark.rule("H1")
@pytest.mark.parametrize("winner", [1, 2])
def test_losers_are_cancelled_and_awaited_before_the_call_returns(
    async_world: World, winner: int
) -> None:
    async def scenario(w: World) -> None:
        script = [(300, ...), (300, ...)]
        script[winner - 1] = (3, ...)
        attempts = Attempts(w, *script)
        attempts.cleanup = 2
        assert await after(w, 1)(attempts)() == f"value {winner}"
        assert attempts.running == 0
        assert attempts.ended == {winner: "ended", 3 - winner: "cancelled"}
        assert w.now() >= (3 if winner == 1 else 4) + 2, "the clean-up was awaited"

    async_world.run(scenario)


@pytest.mark.rule("H1")
@pytest.mark.parametrize("value", [None, 0, False, ()], ids=repr)
def test_an_empty_result_is_a_result(async_world: World, value: object) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (200, "late"), (1, value))
        assert await after(w, 1)(attempts)() is value

    async_world.run(scenario)


@pytest.mark.rule("H1")
def test_what_a_loser_raises_while_it_is_cancelled_is_no_matter_of_the_call(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            try:
                await w.sleep(300)
            finally:
                raise ConnectionError("while it was closed")

        assert await after(w, 1)(fn)() == "won"

    async_world.run(scenario)


@pytest.mark.rule("H1")
def test_a_group_of_cancellations_from_a_loser_is_a_cancellation() -> None:
    async def scenario(w: World) -> None:
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            try:
                await w.sleep(300)
            except asyncio.CancelledError as one:
                raise BaseExceptionGroup("of children", [one]) from None
            return "late"

        assert await after(w, 1)(fn)() == "won"

    with world_named("asyncio") as world:
        world.run(scenario)


@pytest.mark.rule("H1")
def test_a_result_that_loses_the_race_is_discarded_once(async_world: World) -> None:
    async def scenario(w: World) -> None:
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            with contextlib.suppress(BaseException):
                await w.sleep(300)
            return "late"

        dropped: list[object] = []
        assert await after(w, 1, discard=dropped.append)(fn)() == "won"
        assert dropped == ["late"]
        count = 0
        assert await after(w, 1)(fn)() == "won", "and without a hook nothing happens"

    async_world.run(scenario)


@pytest.mark.rule("H1")
def test_of_two_results_in_one_tick_one_is_returned_and_one_discarded(exact: World) -> None:
    async def scenario(w: World) -> None:
        dropped: list[int] = []
        won = await after(w, 1, discard=dropped.append)(Twins(w))()
        assert sorted([won, *dropped]) == [1, 2]

    exact.run(scenario)


@pytest.mark.rule("H1", "H2")
def test_a_result_that_comes_after_the_error_that_ends_the_call_is_discarded(exact: World) -> None:
    async def scenario(w: World) -> None:
        async def fn() -> str:
            if next(numbers) == 2:
                raise KeyError("ends it")
            with contextlib.suppress(BaseException):
                await w.sleep(300)
            return "late"

        numbers = iter((1, 2))
        dropped: list[object] = []
        with pytest.raises(KeyError):
            await after(w, 1, on=ValueError, discard=dropped.append)(fn)()
        assert dropped == ["late"]

    exact.run(scenario)


@pytest.mark.rule("H1", "F12")
def test_a_discard_that_raises_is_logged_once_and_disturbs_no_call(
    exact: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def discard(result: object) -> None:
            raise RuntimeError(f"can't close {result}")

        policy = after(w, 2, discard=discard)
        for _ in range(3):
            assert await policy(Twins(w))() in {1, 2}

    exact.run(scenario)
    rows = [row for row in caplog.records if row.name == "resilient"]
    assert len(rows) == 1
    assert "discard" in rows[0].getMessage()
    assert rows[0].exc_info is not None


# All at once.


@pytest.mark.rule("H1")
@pytest.mark.parametrize("most", [1, 3])
def test_after_0_all_attempts_begin_in_the_same_step(async_world: World, most: int) -> None:
    async def scenario(w: World) -> None:
        begun = 0
        seen: list[int] = []  # how many have begun, one step after each did

        async def fn() -> int:
            nonlocal begun
            begun += 1
            number = begun
            await anyio.lowlevel.checkpoint()
            seen.append(begun)
            await w.sleep(1 if number > most else 2)
            return number

        policy = after(w, 0, max=most)
        with record(HedgeLaunched) as events:
            assert await policy(fn)() == most + 1
        assert seen == [most + 1] * (most + 1)
        assert [event.attempt for event in events] == list(range(2, most + 2))
        stats = policy.stats()
        assert (stats.hedges, stats.after) == (most, 0.0)

    async_world.run(scenario)


@pytest.mark.rule("H4")
def test_after_0_there_are_no_more_than_the_budget_pays_for(exact: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (1, ...))
        policy = after(w, 0, max=5, budget=RetryBudget(ratio=0, per_second=0.2))
        assert str(await policy(attempts)()).startswith("value")
        assert attempts.begun == at(0, 0, 0)
        assert (policy.stats().hedges, policy.stats().no_budget) == (2, 1)

    exact.run(scenario)


@pytest.mark.rule("H4", "D6")
def test_after_0_a_call_without_time_left_makes_no_attempt(exact: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (1, ...))
        with pytest.raises(DeadlineExceeded):
            async with deadline(0):
                await after(w, 0)(attempts)()
        assert attempts.begun == []

    exact.run(scenario)


# H2, H3: attempts that fail.


@pytest.mark.rule("H2")
def test_an_attempt_that_fails_is_replaced_at_once(exact: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (1, ConnectionError()), (1, ...))
        policy = after(w, 50)
        assert await policy(attempts)() == "value 2"
        assert attempts.begun == at(0, 1)
        stats = policy.stats()
        assert (stats.hedges, stats.won) == (1, 1)

    exact.run(scenario)


@pytest.mark.rule("H2")
def test_each_of_two_that_fail_in_one_tick_is_replaced_at_once(exact: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (4, KeyError()), (1, KeyError()), (9, ...), (3, ...))
        assert await after(w, 3, max=3)(attempts)() == "value 4"
        assert attempts.begun == at(0, 3, 4, 4)

    exact.run(scenario)


@pytest.mark.rule("H2")
def test_a_hedge_that_fails_leaves_the_first_attempt_running(async_world: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (6, ...), (1, KeyError()))
        assert await after(w, 1)(attempts)() == "value 1"
        assert len(attempts.begun) == 2

    async_world.run(scenario)


@pytest.mark.rule("H2", "F8")
@pytest.mark.parametrize("culprit", [1, 2])
def test_any_other_error_ends_the_call_and_cancels_the_others(
    async_world: World, culprit: int
) -> None:
    async def scenario(w: World) -> None:
        error = KeyError("not in on")
        script: list[tuple[float, object]] = [(300, ...), (300, ...)]
        script[culprit - 1] = (4, error)
        attempts = Attempts(w, *script)
        with pytest.raises(KeyError) as caught:
            await after(w, 1, on=ConnectionError)(attempts)()
        assert caught.value is error
        assert not getattr(error, "__notes__", [])
        assert error.__context__ is None
        assert attempts.ended == {culprit: "ended", 3 - culprit: "cancelled"}

    async_world.run(scenario)


def bad(result: object) -> bool:
    return str(result).startswith("bad")


@pytest.mark.rule("H2", "F16")
def test_an_unwanted_result_is_replaced_at_once_and_discarded(exact: World) -> None:
    async def scenario(w: World) -> None:
        dropped: list[object] = []
        attempts = Attempts(w, (1, "bad 1"), (1, "bad 2"), (1, "good"))
        policy = after(w, 50, max=2, on_result=bad, discard=dropped.append)
        assert await policy(attempts)() == "good"
        assert attempts.begun == at(0, 1, 2)
        assert sorted(dropped, key=str) == ["bad 1", "bad 2"]
        assert (policy.stats().hedges, policy.stats().won) == (2, 1)

    exact.run(scenario)


@pytest.mark.rule("H3", "F16")
@pytest.mark.parametrize("lasts", [(1, 1, 1), (9, 1, 1), (4, 9, 1)])
def test_if_all_results_are_unwanted_it_is_the_first_attempts(
    exact: World, lasts: tuple[float, ...]
) -> None:
    async def scenario(w: World) -> None:
        dropped: list[object] = []
        attempts = Attempts(w, *((one, f"bad {n}") for n, one in enumerate(lasts, 1)))
        policy = after(w, 2, max=2, on_result=bad, discard=dropped.append)
        assert await policy(attempts)() == "bad 1"
        assert sorted(dropped, key=str) == ["bad 2", "bad 3"]
        assert policy.stats().won == 0

    exact.run(scenario)


@pytest.mark.rule("H3", "F16")
def test_a_call_without_a_good_result_ends_as_its_first_attempt_did(exact: World) -> None:
    async def scenario(w: World) -> None:
        dropped: list[object] = []
        error = ConnectionError()
        policy = after(w, 50, on_result=bad, discard=dropped.append)
        with pytest.raises(ConnectionError) as caught:
            await policy(Attempts(w, (1, error), (1, "bad 2")))()
        assert caught.value is error
        assert dropped == ["bad 2"]
        assert await policy(Attempts(w, (1, "bad 1"), (1, error)))() == "bad 1"
        assert dropped == ["bad 2"]

    exact.run(scenario)


@pytest.mark.rule("H2", "F16")
def test_an_error_that_ends_the_call_comes_before_an_unwanted_result(exact: World) -> None:
    async def scenario(w: World) -> None:
        dropped: list[object] = []
        policy = after(w, 50, on=OSError, on_result=bad, discard=dropped.append)
        with pytest.raises(KeyError):
            await policy(Attempts(w, (1, "bad 1"), (1, KeyError())))()
        assert dropped == ["bad 1"]

    exact.run(scenario)


@pytest.mark.rule("F9", "F16")
def test_the_unwanted_result_of_a_call_that_is_cancelled_is_discarded(exact: World) -> None:
    async def scenario(w: World) -> None:
        dropped: list[object] = []
        policy = after(w, 50, on_result=bad, discard=dropped.append)
        with anyio.move_on_after(3) as scope:
            await policy(Attempts(w, (1, "bad 1"), (9, "good")))()
        assert scope.cancelled_caught
        assert dropped == ["bad 1"]

    exact.run(scenario)


@pytest.mark.rule("H4", "F16")
def test_an_unwanted_result_is_no_success_that_a_quantile_learns_from(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = hedge("p50", budget=None, on_result=bad)
        for _ in range(30):
            assert await policy(Attempts(w, (1, "bad")))() == "bad"
        assert policy.stats().after is None

    exact.run(scenario)


@pytest.mark.rule("F12", "F16")
def test_a_predicate_on_the_result_that_raises_is_logged_once_and_the_result_wins(
    exact: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def broken(result: object) -> bool:
            raise RuntimeError("broken")

        policy = after(w, 50, on_result=broken)
        for _ in range(2):
            assert await policy(Attempts(w, (1, ...)))() == "value 1"

    exact.run(scenario)
    assert len([row for row in caplog.records if row.name == "resilient"]) == 1


@pytest.mark.rule("H2", "F12")
def test_on_looks_inside_groups(exact: World) -> None:
    async def scenario(w: World) -> None:
        group = ExceptionGroup("of children", [KeyError(), ConnectionError()])
        attempts = Attempts(w, (1, group), (1, ...))
        assert await after(w, 50, on=ConnectionError)(attempts)() == "value 2"
        attempts = Attempts(w, (1, ExceptionGroup("of others", [KeyError()])), (1, ...))
        with pytest.raises(ExceptionGroup):
            await after(w, 50, on=ConnectionError)(attempts)()

    exact.run(scenario)


@pytest.mark.rule("H2", "F12")
def test_a_predicate_that_raises_is_logged_once_and_nothing_is_repeated(
    exact: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def on(error: Exception) -> bool:
            raise RuntimeError("broken")

        policy = after(w, 50, on=on)
        for _ in range(2):
            attempts = Attempts(w, (1, KeyError("own")), (1, ...))
            with pytest.raises(KeyError, match="own"):
                await policy(attempts)()
            assert len(attempts.begun) == 1

    exact.run(scenario)
    assert len([row for row in caplog.records if row.name == "resilient"]) == 1


@pytest.mark.rule("H2")
def test_an_attempt_that_its_own_timeout_ends_is_replaced(exact: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (300, ...), (1, ...))
        policy = after(w, 50)
        assert await policy(timeout(3 * w.unit)(attempts))() == "value 2"
        assert attempts.begun == at(0, 3)

    exact.run(scenario)


@pytest.mark.rule("H2", "H3")
def test_a_hedge_that_is_rejected_leaves_the_first_attempt_running(async_world: World) -> None:
    """It was not made: nothing of it has failed, and another would be rejected, too."""

    async def scenario(w: World) -> None:
        place = bulkhead(1)
        attempts = Attempts(w, (5, ...))
        policy = after(w, 1, max=3)
        assert await policy(place(attempts))() == "value 1"
        assert attempts.ended == {1: "ended"}
        assert place.stats().rejected == policy.stats().hedges >= 1

    async_world.run(scenario)


@pytest.mark.rule("H2", "H3")
def test_a_first_attempt_that_is_rejected_is_not_replaced(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fuse = breaker()
        fuse.force_open()
        attempts = Attempts(w, (1, ...))
        policy = after(w, 1)
        with pytest.raises(CircuitOpen):
            await policy(fuse(attempts))()
        assert (attempts.begun, policy.stats().hedges) == ([], 0)

    async_world.run(scenario)


@pytest.mark.rule("H3")
def test_if_the_first_fails_and_its_hedge_is_rejected_it_is_the_firsts_error(exact: World) -> None:
    async def scenario(w: World) -> None:
        error = KeyError("first")
        place = bulkhead(1)
        attempts = Attempts(w, (3, error), (0, ...))
        with pytest.raises(KeyError) as caught:
            await after(w, 1)(place(attempts))()
        assert caught.value is error

        rejected = BulkheadFull("inner", None, "full")
        with pytest.raises(BulkheadFull) as caught_it:
            await after(w, 1)(Attempts(w, (3, rejected), (1, KeyError())))()
        assert caught_it.value is rejected

    exact.run(scenario)


@pytest.mark.rule("H3", "F8")
@pytest.mark.parametrize("script", [(1, 1, 1), (9, 1, 1), (4, 3, 1)], ids=str)
def test_if_all_fail_it_is_the_first_attempts_error_whenever_it_came(
    async_world: World, script: tuple[float, ...]
) -> None:
    async def scenario(w: World) -> None:
        errors = [ConnectionError(str(n)) for n in range(3)]
        attempts = Attempts(w, *zip(script, errors, strict=True))
        policy = after(w, 2, max=2)
        with pytest.raises(ConnectionError) as caught:
            await policy(attempts)()
        assert caught.value is errors[0]
        assert len(attempts.begun) == 3
        assert errors[0].__context__ is errors[0].__cause__ is None
        assert not getattr(errors[0], "__notes__", [])
        assert policy.stats().won == 0

    async_world.run(scenario)


@pytest.mark.rule("H3", "F8")
def test_an_error_that_is_falsy_is_an_error(exact: World) -> None:
    class NoneOfThem(Exception):
        def __len__(self) -> int:
            return 0

    async def scenario(w: World) -> None:
        for on in (NoneOfThem, KeyError):
            with pytest.raises(NoneOfThem):
                await after(w, 9, on=on)(Attempts(w, (1, NoneOfThem())))()

    exact.run(scenario)


@pytest.mark.rule("F8", "E1")
def test_a_call_that_failed_leaves_nothing_for_the_collector(exact: World) -> None:
    async def scenario(w: World) -> None:
        class Mark(Exception):
            pass

        async def fn() -> None:
            await w.sleep(1)
            raise Mark

        policy = after(w, 9)
        await feed(policy, w, times=1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(Mark):
                    await policy(fn)()
            left = [one for one in gc.get_objects() if type(one) is Mark]
            assert len(left) <= 2, "the last ones: pytest's, and the loop's"
        finally:
            gc.enable()

    exact.run(scenario)


# H4: history, budget, time, and how many at once.


@pytest.mark.rule("H4")
def test_a_quantile_gives_no_hedge_before_twenty_successes(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = hedge("p50", budget=None)
        await feed(policy, w, 1, times=19)
        slow = Attempts(w, (500, ...), (1, ...))
        with pytest.raises(DeadlineExceeded):
            await timeout(400)(policy(slow))()
        failing = Attempts(w, (1, KeyError()), (1, ...))
        with pytest.raises(KeyError):
            await policy(failing)()
        assert (len(slow.begun), len(failing.begun)) == (1, 1)
        assert policy.stats().after is None
        await feed(policy, w, 1, times=1)
        soon = policy.stats().after
        assert soon is not None
        assert 1 <= soon < 1.06
        slow = Attempts(w, (500, ...), (1, ...))
        began = w.now()
        assert await policy(slow)() == "value 2"
        assert slow.begun == at(began, began + soon)

    exact.run(scenario)


@pytest.mark.rule("H4")
def test_only_successes_are_history(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = hedge("p95", budget=None)
        fails = policy(Attempts(w, (0.01, KeyError())))
        for _ in range(40):
            with pytest.raises(KeyError):
                await fails()
            with anyio.move_on_after(0.01):
                await policy(Attempts(w, (5, ...)))()
        assert policy.stats().after is None

    exact.run(scenario)


@pytest.mark.rule("H4")
def test_a_call_that_a_hedge_has_served_counts_from_its_beginning(exact: World) -> None:
    """The attempt that was overtaken would have taken longer: the quantile must not sink."""

    async def scenario(w: World) -> None:
        policy = hedge("p95", budget=None)
        await feed(policy, w, 1)
        for _ in range(20):
            await policy(Attempts(w, (500, ...), (1, ...)))()
        soon = policy.stats().after
        assert soon is not None
        assert soon > 2

    exact.run(scenario)


@pytest.mark.rule("H4")
def test_a_budget_refuses_and_the_call_goes_on_without(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1, budget=RetryBudget(ratio=0, per_second=0.001, ttl=1000))
        for n in range(4):
            attempts = Attempts(w, (4, ...), (0.5, ...))
            assert await policy(attempts)() == ("value 1" if n else "value 2")
        stats = policy.stats()
        assert (stats.calls, stats.hedges, stats.won, stats.no_budget) == (4, 1, 1, 3)
        with pytest.raises(KeyError):
            await policy(Attempts(w, (0, KeyError()), (0, ...)))()
        assert policy.stats().hedges == 1, "a replacement is paid for, too"

    exact.run(scenario)


@pytest.mark.rule("H4")
def test_every_call_pays_into_the_budget_and_the_default_allows_one_in_twenty(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        budget = RetryBudget(ratio=0.25, per_second=0)
        policy = after(w, 1, budget=budget)
        for n in range(1, 5):
            await policy(Attempts(w, (0, ...)))()
            assert budget.left == pytest.approx(n / 4)
        await policy(Attempts(w, (3, ...), (1, ...)))()
        assert budget.left == pytest.approx(0.25)

        usual = hedge(0.001, on=KeyError)
        assert usual._budget is not None
        assert repr(usual._budget) == "RetryBudget(ratio=0.05, per_second=0.2, ttl=10)"
        for _ in range(400):
            await usual(Attempts(w, (0.005, ...)))()
        assert usual.stats().hedges <= 400 * 0.05 + 2

    exact.run(scenario)


@pytest.mark.rule("H4", "R4")
def test_a_budget_that_is_shared_with_a_retry_pays_for_both(exact: World) -> None:
    async def scenario(w: World) -> None:
        budget = RetryBudget(ratio=0, per_second=0.3, ttl=10)
        again = retry(on=ConnectionError, attempts=9, wait=0.1, budget=budget)
        beside = after(w, 1, on=KeyError, budget=budget)
        attempts = Attempts(w, (0, ConnectionError()), (0, ConnectionError()), (4, ...), (0.5, ...))
        assert await again(beside(attempts))() == "value 4"
        assert budget.left == 0
        assert (again.stats().retries, beside.stats().hedges) == (2, 1)
        slow = Attempts(w, (4, ...), (0.5, ...))
        assert await again(beside(slow))() == "value 1"
        assert beside.stats().no_budget == 1

    exact.run(scenario)


@pytest.mark.rule("H4", "D6")
def test_no_hedge_without_time_left(exact: World) -> None:
    """The task has outlived the block whose deadline it keeps: nothing interrupts it."""

    async def scenario(w: World) -> None:
        budget = RetryBudget(ratio=1, per_second=0)
        policy = after(w, 4, budget=budget)
        attempts = Attempts(w, (8, ...), (1, ...))
        failing = Attempts(w, (5, KeyError("own")), (1, ...))
        outcomes: list[object] = []

        async def background(fn: Callable[[], Any]) -> None:
            try:
                outcomes.append(await policy(fn)())
            except KeyError as error:
                outcomes.append(str(error))

        async with anyio.create_task_group() as group:
            async with deadline(2):
                group.start_soon(background, attempts)
                group.start_soon(background, failing)
                await w.sleep(1)
        assert outcomes == ["'own'", "value 1"]
        assert (len(attempts.begun), len(failing.begun)) == (1, 1)
        assert budget.left == 2, "and none was paid for"
        assert policy.stats().no_budget == 0

    exact.run(scenario)


@pytest.mark.rule("H4")
def test_without_budget_there_is_no_hedge_in_any_world(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1, budget=RetryBudget(ratio=0, per_second=0))
        attempts = Attempts(w, (5, ...), (1, ...))
        assert await policy(attempts)() == "value 1"
        assert (len(attempts.begun), policy.stats().no_budget) == (1, 1)

    async_world.run(scenario)


@pytest.mark.rule("H4", "D2")
def test_at_the_instant_of_the_deadline_there_is_no_hedge(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 4)
        attempts = Attempts(w, (300, ...), (0, ...))
        with pytest.raises(DeadlineExceeded):
            async with deadline(4):
                await policy(attempts)()
        assert (len(attempts.begun), attempts.running) == (1, 0)
        assert w.now() == pytest.approx(4)

    exact.run(scenario)


@pytest.mark.rule("H4")
@pytest.mark.parametrize(
    ("kwargs", "most"), [({"budget": DEFAULT}, 2), ({}, 50)], ids=["by default", "no budget"]
)
def test_when_all_calls_are_slow_at_once_few_are_hedged_by_default(
    exact: World, kwargs: dict[str, Any], most: int
) -> None:
    """Also where the calls before them have left enough in the budget for more."""

    async def scenario(w: World) -> None:
        policy = after(w, 1, **kwargs)
        await feed(policy, w, times=200)
        await w.together(*[policy(Attempts(w, (4, ...), (4, ...)))] * 50)
        stats = policy.stats()
        assert (stats.hedges, stats.no_budget) == (most, 50 - most)
        assert policy._budget is None or policy._budget.left > 5

    exact.run(scenario)


@pytest.mark.rule("H4")
def test_ten_calls_earn_a_hedge_by_default(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1, budget=DEFAULT)
        await feed(policy, w, times=200)
        slow = policy(Attempts(w, (4, ...), (4, ...)))
        await w.together(*[slow] * 4)
        assert policy.stats().hedges == 2
        await feed(policy, w, times=9)
        await policy(Attempts(w, (4, ...), (4, ...)))()
        assert policy.stats().hedges == 3, "9 + 1 calls after those four have earned it"
        await policy(Attempts(w, (4, ...), (4, ...)))()
        assert policy.stats().hedges == 3

    exact.run(scenario)


@pytest.mark.rule("H2", "H4")
def test_a_failure_is_replaced_at_once_however_many_hedges_are_out(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1)
        slow = Attempts(w, (50, ...), (40, ...))
        fails = Attempts(w, (1, KeyError()), (1, ...))  # in the very tick in which it is late

        async def later() -> object:
            await w.sleep(2)
            return await policy(fails)()

        assert await w.together(policy(slow), later) == ["value 2", "value 2"]
        assert fails.begun == at(2, 3)

    exact.run(scenario)


# H5, building, bad input.


@pytest.mark.rule("H5")
def test_a_sync_function_is_refused_with_advice(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = hedge(1)
        fn = w.function(lambda: 5)
        if w.is_async:
            assert await policy(fn)() == await policy.call(fn) == 5
        else:
            for attempt in (policy, policy.call):
                with pytest.raises(TypeError, match="async def"):
                    attempt(fn)
        assert policy.stats().calls == (2 if w.is_async else 0)

    world.run(scenario)


@pytest.mark.rule("H5", "F1")
def test_a_sync_function_that_returns_a_coroutine_is_refused_as_well() -> None:
    async def get() -> None: ...

    with pytest.raises(TypeError, match="async def"):
        hedge(1)(lambda: get())
    with pytest.raises(TypeError, match="async def"):
        pipeline(retry(on=KeyError), hedge(1))(lambda: 5)


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("kwargs", "kind", "words"),
    [
        ({"after": -1.5}, ValueError, ["after", "-1.5", "at least 0"]),
        ({"after": math.nan}, ValueError, ["after", "nan", "at least 0"]),
        ({"after": math.inf}, ValueError, ["after", "inf", "finite"]),
        ({"after": None}, TypeError, ["after", "None", "seconds"]),
        ({"after": True}, TypeError, ["after", "True", "seconds"]),
        ({"after": "95"}, ValueError, ["after", "'95'", "p0", "p100"]),
        ({"after": "p"}, ValueError, ["after", "'p'", "p100"]),
        ({"after": "p0"}, ValueError, ["after", "'p0'", "above"]),
        ({"after": "p0.0"}, ValueError, ["after", "'p0.0'", "above"]),
        ({"after": "p100.1"}, ValueError, ["after", "'p100.1'", "at most"]),
        ({"after": "p101"}, ValueError, ["after", "'p101'", "at most"]),
        ({"after": "P95"}, ValueError, ["after", "'P95'", "quantile"]),
        ({"after": " p95"}, ValueError, ["after", "' p95'", "quantile"]),
        ({"after": "p-5"}, ValueError, ["after", "'p-5'", "quantile"]),
        ({"after": "pnan"}, ValueError, ["after", "'pnan'", "quantile"]),
        ({"after": len}, TypeError, ["after", "len", '@hedge("p95")', "parentheses"]),
        ({"max": 0}, ValueError, ["max", "0", "at least 1"]),
        ({"max": 1.5}, TypeError, ["max", "1.5", "whole number"]),
        ({"max": True}, TypeError, ["max", "True", "whole number"]),
        ({"max": None}, TypeError, ["max", "None", "whole number"]),
        ({"on": 5}, TypeError, ["on", "5", "exception type"]),
        ({"on": BaseException}, ValueError, ["on", "BaseException", "cancellation"]),
        ({"budget": 0.1}, TypeError, ["budget", "0.1", "RetryBudget"]),
        ({"budget": RetryBudget}, TypeError, ["budget", "RetryBudget", "None for none"]),
        ({"on_result": 5}, TypeError, ["on_result", "5", "function"]),
        ({"discard": 5}, TypeError, ["discard", "5", "function"]),
        ({"discard": anyio.sleep}, TypeError, ["discard", "sleep", "at once"]),
        ({"name": 5}, TypeError, ["name", "5", "string"]),
        ({"name": len}, TypeError, ["name", "len", "parentheses"]),
    ],
    ids=lambda value: shown(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_with_name_value_and_range(
    kwargs: dict[str, Any], kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        hedge(**{"after": 1.0, **kwargs})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.rule("H4", "F7")
@pytest.mark.parametrize("good", ["p100", "p99.9", "p1", "p0.1", "p095"])
def test_quantiles_up_to_the_greatest_are_taken(good: str) -> None:
    assert hedge(good).stats().after is None


# Stats, events, contexts, stacks.


@pytest.mark.rule("M1")
def test_each_hedge_is_told_with_its_number_and_how_long_the_call_had_waited(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 2, max=2, name="h")
        with record(HedgeLaunched) as events:
            await policy(Attempts(w, (9, ...), (1, KeyError()), (1, ...)))()
        began = events[0].at - 2
        assert [(e.policy, e.kind, e.attempt) for e in events] == [
            ("h", "hedge", 2),
            ("h", "hedge", 3),
        ]
        assert [e.waited for e in events] == [e.at - began for e in events] == at(2, 3)

    exact.run(scenario)


@pytest.mark.rule("H1")
def test_each_attempt_runs_in_a_copy_of_the_callers_context(async_world: World) -> None:
    async def scenario(w: World) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        seen: list[str] = []

        async def fn() -> str:
            seen.append(variable.get())
            variable.set(f"attempt {len(seen)}")
            await w.sleep(300 if len(seen) == 1 else 1)
            return variable.get()

        variable.set("the caller's")
        assert await after(w, 1)(fn)() == "attempt 2"
        assert seen == ["the caller's", "the caller's"]
        assert variable.get() == "the caller's"

    async_world.run(scenario)


@pytest.mark.rule("H1", "D6")
def test_each_attempt_sees_the_callers_deadline(exact: World) -> None:
    async def scenario(w: World) -> None:
        left: list[float] = []

        async def fn() -> None:
            here = current_deadline()
            assert here is not None
            assert here.remaining() == remaining()
            left.append(remaining())
            await w.sleep(300 if len(left) == 1 else 1)

        async with deadline(10):
            await after(w, 4)(fn)()
        assert left == at(10, 6)

    exact.run(scenario)


@pytest.mark.rule("D2", "H1")
def test_of_limits_that_expire_at_one_instant_the_outermost_converts(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1)
        attempts = Attempts(w, (300, ...))
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(4, name="outer"):
                await policy(timeout(9, name="inner")(attempts))()
        assert (caught.value.policy, caught.value.started) == ("outer", True)
        assert attempts.running == 0
        assert attempts.ended == {1: "cancelled", 2: "cancelled"}

    exact.run(scenario)


@pytest.mark.rule("D5")
def test_with_nothing_left_no_attempt_is_made(async_world: World) -> None:
    async def scenario(w: World) -> None:
        attempts = Attempts(w, (0, ...))
        budget = RetryBudget(ratio=1, per_second=0)
        policy = after(w, 1, name="h", budget=budget)
        async with anyio.create_task_group() as group:

            async def background() -> None:
                await w.sleep(2)
                with pytest.raises(DeadlineExceeded) as caught:
                    await policy(attempts)()
                assert (caught.value.policy, caught.value.started) == ("h", False)
                with detached():
                    assert await policy(attempts)() == "value 1"

            async with deadline(1 * w.unit):
                group.start_soon(background)
                await w.sleep(0.1)
        assert len(attempts.begun) == 1
        assert policy.stats().calls == 1
        assert budget.left == 1

    async_world.run(scenario)


@pytest.mark.rule("F9", "H1")
def test_a_loser_counts_nowhere_in_a_breaker_inside(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fuse = breaker()
        attempts = Attempts(w, (300, ...), (1, ...))
        assert await after(w, 1)(fuse(attempts))() == "value 2"
        stats = fuse.stats()
        assert (stats.calls, stats.successes, stats.failures, stats.ignored) == (2, 1, 0, 1)

    async_world.run(scenario)


@pytest.mark.rule("B9", "H1")
def test_attempts_that_the_deadline_ends_are_failures_of_a_breaker_inside(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        fuse = breaker()
        attempts = Attempts(w, (300, ...))
        with pytest.raises(DeadlineExceeded):
            async with deadline(3 * w.unit):
                await after(w, 1)(fuse(attempts))()
        stats = fuse.stats()
        assert (stats.calls, stats.failures) == (2, 2)

    async_world.run(scenario)


@pytest.mark.rule("F2", "F5")
def test_arguments_reach_every_attempt_and_the_name_is_that_of_the_first_function(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1)
        seen: list[object] = []

        @policy
        async def price(sku: str, *, currency: str = "EUR") -> str:
            seen.append((sku, currency))
            await w.sleep(100 if len(seen) == 1 else 0)
            return sku

        assert await price("A-17", currency="CHF") == "A-17"
        assert seen == [("A-17", "CHF")] * 2
        assert policy.name.endswith("price")
        assert await policy.call(price.__wrapped__, "B") == "B"  # type: ignore[attr-defined]

    async_world.run(scenario)


@pytest.mark.rule("T3", "F6")
def test_fresh_forgets_history_totals_and_budget_also_in_the_midst_of_a_call(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = hedge("p50", budget=RetryBudget(ratio=1, per_second=0))
        await feed(policy, w, 1)

        async def renew() -> None:
            await w.sleep(3)
            with fresh():
                assert policy.stats() == HedgeStats(policy.name, 0, 0, 0, 0, None)
                assert policy._budget is not None
                assert policy._budget.left == 0

        results = await w.together(policy(Attempts(w, (9, ...), (8, ...))), renew)
        assert results == ["value 1", None]
        assert policy.stats().hedges == 0

    exact.run(scenario)


@pytest.mark.rule("T2")
def test_on_leaving_virtual_time_the_clock_steps_back_and_hedges_go_on() -> None:
    policy = hedge("p95", budget=None)
    for _ in range(2):  # the second one begins before the first one's end
        with virtual_time() as time:

            async def main() -> None:
                with world_named_here() as w:
                    await feed(policy, w, 1)
                    slow = Attempts(w, (500, ...), (1, ...))
                    assert await policy(slow)() == "value 2"

            time.run(main)
            time.advance(1000)


class world_named_here:  # noqa: N801  # used as a function
    """The asyncio world on a loop that runs already."""

    def __enter__(self) -> World:
        class Here:
            unit = 1.0

            async def sleep(self, units: float) -> None:
                await anyio.sleep(units)

            def now(self) -> float:
                return 0.0

        return Here()  # type: ignore[return-value]  # enough of a World for Attempts

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.rule("F4")
@pytest.mark.real_clock
def test_loops_in_several_threads_share_one_hedge() -> None:
    policy = hedge(1e-4, budget=None)
    first_attempts = [threading.Event() for _ in range(4)]

    def one(index: int) -> int:
        async def fn() -> int:
            if first_attempts[index].is_set():
                return index
            first_attempts[index].set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError("it never ends")

        total = 0
        for _ in range(25):
            first_attempts[index].clear()
            total += asyncio.run(policy(fn)())
        return total

    assert in_threads(*((lambda index=index: one(index)) for index in range(4))) == [
        25 * index for index in range(4)
    ]
    stats = policy.stats()
    assert (stats.calls, stats.hedges, stats.won) == (100, 100, 100)

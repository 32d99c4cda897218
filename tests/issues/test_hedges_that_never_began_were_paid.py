"""A hedge counted, paid for and told of attempts that came too late to begin."""

from __future__ import annotations

import anyio
import pytest

from resilient import RetryBudget, hedge
from resilient.events import HedgeLaunched
from resilient.testing import record
from tests.worlds import World, world_named


@pytest.mark.rule("H1", "H4", "M1")
def test_attempts_that_came_too_late_cost_nothing(async_world: World) -> None:
    """With `hedge(0)` a function that need not wait is called once."""

    async def scenario(w: World) -> None:
        begun: list[int] = []

        async def at_once() -> int:
            begun.append(1)
            return len(begun)

        budget = RetryBudget(ratio=0, per_second=0.5)
        policy = hedge(0, max=3, budget=budget)
        left = budget.left
        with record(HedgeLaunched) as told:
            for number in range(1, 20):
                assert await policy(at_once)() == number
        stats = policy.stats()
        assert (stats.calls, stats.hedges, stats.won, stats.no_budget) == (19, 0, 0, 0)
        assert told == []
        assert budget.left == left

    async_world.run(scenario)


@pytest.mark.rule("H1", "H4", "M1")
def test_only_those_that_begin_before_the_call_is_decided_are_counted(async_world: World) -> None:
    async def scenario(w: World) -> None:
        begun: list[int] = []

        async def fn() -> int:
            begun.append(1)
            number = len(begun)
            if number < 3:
                await anyio.sleep_forever()
            return number

        policy = hedge(0, max=9, budget=RetryBudget(ratio=0, per_second=0.5))
        with record(HedgeLaunched) as told:
            assert await policy(fn)() == 3
        stats = policy.stats()
        assert (len(begun), stats.hedges, stats.won) == (3, 2, 1)
        assert [event.attempt for event in told] == [2, 3]

    async_world.run(scenario)


@pytest.mark.rule("H4", "M1")
def test_a_hedge_is_not_paid_whose_call_ends_in_the_same_step() -> None:
    async def scenario(w: World) -> None:
        begun: list[int] = []

        async def fn() -> int:
            begun.append(1)
            await w.sleep(1)
            return len(begun)

        policy = hedge(w.unit, budget=None)  # due when the first attempt ends
        with record(HedgeLaunched) as told:
            assert await policy(fn)() == len(begun)
        assert policy.stats().hedges == len(told) == len(begun) - 1

    for name in ("asyncio", "trio"):
        with world_named(name) as world:
            world.run(scenario)

"""timeout(): a deadline as a policy."""

from __future__ import annotations

import asyncio
import math

import pytest

from resilient import (
    DeadlineExceeded,
    TimeoutStats,
    current_deadline,
    deadline,
    policy_of,
    remaining,
    timeout,
)
from resilient.events import DeadlineExpired, subscribe
from resilient.testing import fresh, record, virtual_time
from tests.worlds import World

pytestmark = pytest.mark.loop


@pytest.mark.rule("D2", "D7")
def test_each_call_has_a_fresh_limit(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = timeout(2 * w.unit, name="db")
        slow = policy(w.function(lambda: w.sleep(60)))
        fast = policy(w.function(lambda: w.sleep(0.1)))
        for _ in range(2):
            began = w.now()
            with pytest.raises(DeadlineExceeded) as caught:
                await slow()
            assert w.now() - began >= 2
            assert (caught.value.policy, caught.value.seconds, caught.value.started) == (
                "db",
                2 * w.unit,
                True,
            )
            await fast()
        assert policy.stats() == TimeoutStats("db", 4, 2, 0)

    async_world.run(scenario)


@pytest.mark.rule("F4", "D2")
def test_calls_at_once_are_cut_each_at_its_own_time(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fn = timeout(2 * w.unit)(w.function(lambda units: w.sleep(units)))

        async def one(start: float, length: float) -> float:
            await w.sleep(start)
            with pytest.raises(DeadlineExceeded):
                await fn(length)
            return w.now()

        ends = await w.together(lambda: one(0, 60), lambda: one(1, 60), lambda: one(3, 60))
        assert all(isinstance(end, float) for end in ends), ends
        assert [end - start >= 1.9 for end, start in zip(ends, (0, 1, 3), strict=True)] == [
            True
        ] * 3
        if w.name != "uvloop":
            assert ends == pytest.approx([2, 3, 5])

    async_world.run(scenario)


@pytest.mark.rule("F8")
def test_results_and_errors_are_the_functions_own(world: World) -> None:
    async def scenario(w: World) -> None:
        result, error = object(), KeyError("mine")

        def fail() -> None:
            raise error

        policy = timeout(9 * w.unit)
        assert await w.call(policy(w.function(lambda: result))) is result
        with pytest.raises(KeyError) as caught:
            await w.call(policy(w.function(fail)))
        assert caught.value is error
        assert not getattr(error, "__notes__", [])
        assert await w.call(policy.call, w.function(lambda: 5)) == 5

    world.run(scenario)


@pytest.mark.rule("D1")
def test_inside_a_call_the_limit_is_seen_and_afterwards_not(world: World) -> None:
    async def scenario(w: World) -> None:
        def body() -> float:
            found = current_deadline()
            assert found is not None
            assert found.name == "db"
            return remaining()

        policy = timeout(5 * w.unit, name="db")
        assert 0 < await w.call(policy(w.function(body))) <= 5 * w.unit
        assert current_deadline() is None
        with deadline(1 * w.unit):
            assert 0 < await w.call(policy(w.function(body))) <= 1 * w.unit

    world.run(scenario)


@pytest.mark.rule("D2")
def test_an_outer_deadline_passes_through_and_counts_nothing_as_expired(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = timeout(50 * w.unit, name="inner")
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(1 * w.unit, name="outer"):
                await policy.call(w.function(lambda: w.sleep(60)))
        assert caught.value.policy == "outer"
        assert policy.stats() == TimeoutStats("inner", 1, 0, 0)

    async_world.run(scenario)


@pytest.mark.rule("D1")
@pytest.mark.parametrize("none", [None, math.inf])
def test_no_limit_is_no_limit(world: World, none: float | None) -> None:
    async def scenario(w: World) -> None:
        policy = timeout(none)
        await w.call(policy(w.function(lambda: w.sleep(1))))
        assert policy.stats().expired == 0

    world.run(scenario)


@pytest.mark.rule("M1")
def test_an_expiry_is_told_once_with_the_name_and_the_limit(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with record(DeadlineExpired) as events:
            with pytest.raises(DeadlineExceeded):
                async with deadline(5 * w.unit, name="far"):
                    await timeout(1 * w.unit, name="db").call(w.function(lambda: w.sleep(60)))
            with pytest.raises(DeadlineExceeded):
                async with deadline(1 * w.unit), deadline(9 * w.unit):
                    await w.sleep(60)
            with pytest.raises(DeadlineExceeded):
                await timeout(0).call(w.function(int))
        first, second = events
        assert (first.policy, first.kind, first.seconds) == ("db", "timeout", 1 * w.unit)
        assert (second.policy, second.kind, second.seconds) == ("deadline", "deadline", 1 * w.unit)

    async_world.run(scenario)


@pytest.mark.rule("M2")
def test_a_listener_may_open_deadlines_itself() -> None:
    async def main() -> None:
        def listen(_: object) -> None:
            with deadline(1):
                remaining()

        with subscribe(listen, DeadlineExpired), pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await asyncio.sleep(60)

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("F5", "F13")
def test_the_name_is_that_of_the_function_unless_given() -> None:
    policy = timeout(1)
    assert policy.name == "timeout"

    @policy
    def fetch() -> None: ...

    assert policy.name.endswith("fetch")
    assert policy_of(fetch) is policy
    assert timeout(1, name="db").name == "db"


@pytest.mark.rule("F1")
def test_a_sync_function_that_returns_a_coroutine_is_refused() -> None:
    async def fetch() -> int:
        return 1

    with pytest.raises(TypeError, match="async def"):
        timeout(1)(lambda: fetch())()  # type: ignore[unused-coroutine]  # it is refused


@pytest.mark.rule("T3")
def test_fresh_starts_the_totals_anew() -> None:
    policy = timeout(1, name="db")
    policy.call(int)
    with fresh():
        assert policy.stats() == TimeoutStats("db", 0, 0, 0)
        policy.call(int)
        assert policy.stats().calls == 1
    assert policy.stats().calls == 0


@pytest.mark.rule("F6")
def test_stats_are_frozen_and_reading_them_counts_nothing() -> None:
    policy = timeout(1)
    policy.call(int)
    for _ in range(3):
        assert policy.stats().calls == 1
    with pytest.raises(AttributeError):
        policy.stats().calls = 5  # type: ignore[misc]

"""C4: past its end a value is better than an error, and the cache says that it was served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import (
    CircuitOpen,
    breaker,
    cache,
    pipeline,
    timeout,
)
from resilient.events import StaleServed
from resilient.testing import record
from tests.policies.caches import Source, broken_after
from tests.worlds import World, world_named


@pytest.fixture(params=["asyncio", "trio", "threads"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The worlds whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


@pytest.mark.rule("C4", "M1")
def test_a_run_that_fails_serves_the_old_value_and_says_so(world: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        source = Source(w, broken_after(1, error))
        policy = cache(2 * w.unit, stale=1000 * w.unit, jitter=0, name="prices")
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(3)
        with record(StaleServed) as events:
            assert [await w.call(fn) for _ in range(2)] == ["value 0"] * 2
        assert source.runs == 3, "each call that finds nothing fresh tries"
        stats = policy.stats()
        assert (stats.calls, stats.hits, stats.misses, stats.stale_served) == (3, 0, 3, 2)
        for event in events:
            assert (event.policy, event.kind, event.error) == ("prices", "cache", error)
            assert event.age >= 3 * w.unit
        assert len(events) == 2

    world.run(scenario)


@pytest.mark.rule("C4")
def test_the_old_value_is_served_for_stale_seconds_and_no_longer(exact: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        fn = cache(10.0, stale=5.0, jitter=0)(Source(w, broken_after(1, error)).fn)
        await w.call(fn)
        await w.sleep(14.75)
        with record(StaleServed) as events:
            assert await w.call(fn) == "value 0"
        assert [event.age for event in events] == [14.75]
        await w.sleep(0.25)
        with record(StaleServed) as events, pytest.raises(OSError, match="down") as caught:
            await w.call(fn)
        assert caught.value is error
        assert not events

    exact.run(scenario)


@pytest.mark.rule("C4", "C7")
def test_without_stale_a_run_that_fails_is_an_error(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = cache(2 * w.unit, jitter=0)
        fn = policy(Source(w, broken_after(1, OSError("down"))).fn)
        await w.call(fn)
        await w.sleep(2.5)
        with pytest.raises(OSError, match="down"):
            await w.call(fn)
        assert policy.stats().stale_served == 0

    world.run(scenario)


@pytest.mark.rule("C4")
def test_a_run_that_succeeds_ends_the_old_value(exact: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        source = Source(w, lambda number: error if number == 1 else number)
        policy = cache(10.0, stale=100.0, jitter=0)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(11)
        assert [await w.call(fn) for _ in range(3)] == [0, 2, 2]
        assert (policy.stats().stale_served, policy.stats().hits) == (1, 1)

    exact.run(scenario)


@pytest.mark.rule("C3", "C4")
def test_there_is_none_is_never_served_stale(exact: World) -> None:
    async def scenario(w: World) -> None:
        fates = ["old", None, OSError("down")]
        fn = cache(10.0, stale=1000.0, negative_ttl=1.0, jitter=0)(Source(w, fates.__getitem__).fn)
        assert await w.call(fn) == "old"
        await w.sleep(11)
        assert await w.call(fn) is None
        await w.sleep(2)
        with pytest.raises(OSError, match="down"):
            await w.call(fn)

    exact.run(scenario)


@pytest.mark.rule("C4")
def test_all_who_share_the_run_that_fails_get_the_old_value_and_are_counted(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, broken_after(1, OSError("down")), lasts=1)
        policy = cache(2 * w.unit, stale=1000 * w.unit, jitter=0)
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(3)
        with record(StaleServed) as events:
            assert await w.together(fn, fn, fn) == ["value 0"] * 3
        assert (source.runs, policy.stats().stale_served, len(events)) == (2, 3, 3)

    async_world.run(scenario)


@pytest.mark.rule("C4")
def test_a_rejection_inside_is_a_failure_of_the_run(exact: World) -> None:
    async def scenario(w: World) -> None:
        dependency = breaker("dependency")
        fn = pipeline(cache(10.0, stale=100.0, jitter=0), dependency)(Source(w).fn)
        await w.call(fn)
        await w.sleep(11)
        dependency.force_open()
        with record(StaleServed) as events:
            assert await w.call(fn) == "value 0"
        assert [type(event.error) for event in events] == [CircuitOpen]

    exact.run(scenario)


@pytest.mark.rule("C4", "D2")
def test_a_limit_inside_ends_a_run_that_then_serves_the_old_value(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        fn = pipeline(cache(2 * w.unit, stale=1000 * w.unit, jitter=0), timeout(w.unit))(source.fn)
        await fn()
        await w.sleep(3)
        source.lasts = 50
        assert await fn() == "value 0"
        assert source.cancelled == 1

    async_world.run(scenario)


@pytest.mark.rule("C4", "C6")
@pytest.mark.parametrize("everything", [False, True])
def test_an_invalidated_value_is_never_served_stale(world: World, everything: bool) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        policy = cache(2 * w.unit, stale=1000 * w.unit, jitter=0, key=lambda: "k")
        fn = policy(Source(w, broken_after(1, error)).fn)
        await w.call(fn)
        await w.sleep(3)
        assert await w.call(fn) == "value 0"
        policy.clear() if everything else policy.invalidate("k")
        with pytest.raises(OSError, match="down") as caught:
            await w.call(fn)
        assert caught.value is error

    world.run(scenario)


@pytest.mark.rule("C4", "C6")
@pytest.mark.parametrize("everything", [False, True])
def test_a_run_that_fails_after_the_value_was_invalidated_does_not_serve_it(
    world: World, everything: bool
) -> None:
    async def scenario(w: World) -> None:
        def fate(number: int) -> Any:
            if number == 0:
                return "old"
            policy.clear() if everything else policy.invalidate("k")
            return OSError("down")

        policy = cache(2 * w.unit, stale=1000 * w.unit, jitter=0, key=lambda: "k")
        fn = policy(Source(w, fate).fn)
        await w.call(fn)
        await w.sleep(3)
        with pytest.raises(OSError, match="down"):
            await w.call(fn)
        assert (policy.stats().stale_served, policy.stats().size) == (0, 0)

    world.run(scenario)

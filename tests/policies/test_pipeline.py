"""Several policies in one object, the first outermost (contract, section 6)."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from resilient import (
    CircuitOpen,
    Policy,
    breaker,
    pipeline,
    policies,
    policy_of,
    retry,
    singleflight,
    timeout,
)
from tests.worlds import World


class Flaky:
    """Fails so often, and then answers."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ValueError(self.calls)
        return "answer"


@pytest.mark.rule("F1", "F2")
@pytest.mark.parametrize("outermost", ["retry", "breaker"])
@pytest.mark.parametrize("how", ["decorated", "called", "stacked", "nested"])
def test_the_first_is_outermost_exactly_as_decorators_stacked_from_top_to_bottom(
    world: World, outermost: str, how: str
) -> None:
    async def scenario(w: World) -> None:
        again, watch = retry(on=ValueError, wait=0), breaker()
        first, second = (again, watch) if outermost == "retry" else (watch, again)
        body = Flaky(2)
        fn = w.function(body)
        if how == "stacked":
            result = await w.call(first(second(fn)))
        elif how == "called":
            result = await w.call(pipeline(first, second).call, fn)
        elif how == "nested":
            result = await w.call(pipeline(pipeline(first), pipeline(pipeline(second)))(fn))
        else:
            result = await w.call(pipeline(first, second)(fn))
        assert result == "answer"
        assert body.calls == 3
        stats = watch.stats()
        counted = (stats.calls, stats.failures, stats.successes)
        assert counted == ((3, 2, 1) if outermost == "retry" else (1, 0, 1))

    world.run(scenario)


def test_one_object_serves_many_functions_that_share_its_state(world: World) -> None:
    async def scenario(w: World) -> None:
        watch = breaker("db", consecutive_failures=1, cooldown=1000.0)
        guard = pipeline(retry(on=LookupError), watch)
        bad, good = guard(w.function(Flaky(99))), guard(w.function(lambda: 1))
        assert await w.call(good) == 1
        with pytest.raises(ValueError):
            await w.call(bad)
        with pytest.raises(CircuitOpen):
            await w.call(good)

    world.run(scenario)


def test_one_pipeline_serves_sync_and_async_functions(async_world: World) -> None:
    async def scenario(w: World) -> None:
        guard = pipeline(singleflight(), retry(on=LookupError), breaker(), timeout(100))

        async def fetch() -> str:
            await w.sleep(0.1)
            return "async"

        sync, async_ = guard(lambda: "sync"), guard(fetch)
        assert (sync(), await async_()) == ("sync", "async")
        assert (inspect.iscoroutinefunction(sync), inspect.iscoroutinefunction(async_)) == (
            False,
            True,
        )

    async_world.run(scenario)


def test_repr_shows_the_order() -> None:
    guard = pipeline(
        retry("again", on=OSError), pipeline(breaker("db"), timeout(1, name="limit")), name="all"
    )
    said = repr(guard)
    assert said.startswith("pipeline(")
    places = [said.rindex(name) for name in ("again", "pipeline(<", "db", "limit")]
    assert places == sorted(places)


@pytest.mark.rule("F6")
def test_stats_are_those_of_its_policies_outermost_first() -> None:
    again, watch, limit = retry("again", on=OSError), breaker("db"), timeout(1, name="limit")
    guard = pipeline(again, pipeline(watch, limit))
    guard.call(int)
    assert guard.stats() == (again.stats(), (watch.stats(), limit.stats()))
    assert again.stats().calls == watch.stats().calls == limit.stats().calls == 1


@pytest.mark.rule("F3")
def test_it_is_no_context_manager() -> None:
    guard: Any = pipeline(breaker())
    with pytest.raises(TypeError):
        with guard:
            pytest.fail("not reached")


@pytest.mark.rule("F7")
def test_without_a_policy_or_with_something_else_it_is_refused() -> None:
    with pytest.raises(TypeError, match="at least one policy"):
        pipeline()
    wrong: list[Any] = [breaker, retry, timeout, int, len, "breaker", None, type(breaker())]
    for one in wrong:
        with pytest.raises(TypeError, match="takes policies"):
            pipeline(breaker(), one)
    with pytest.raises(TypeError, match="parentheses"):
        pipeline(breaker)  # type: ignore[call-overload]


@pytest.mark.rule("F14", "F13", "F5")
def test_it_is_a_policy_with_a_name_and_its_members_are_named_with_it() -> None:
    unnamed, named = breaker(), breaker("mine")
    guard = pipeline(retry(on=OSError), unnamed, named)
    assert isinstance(guard, Policy)
    assert (guard.name, guard.kind) == ("pipeline", "pipeline")

    @guard
    def price() -> None: ...

    assert policy_of(price) is guard
    assert guard.name == unnamed.name == price.__qualname__
    assert named.name == "mine"
    assert guard in policies()
    assert unnamed in policies()
    assert pipeline(breaker(), name="all").name == "all"


@pytest.mark.rule("F10")
def test_a_key_is_found_below_other_policies(world: World) -> None:
    async def scenario(w: World) -> None:
        watch = breaker(key="tenant")
        guard = pipeline(
            retry(on=OSError, key="tenant"), singleflight(key="tenant"), timeout(100), watch
        )
        if w.is_async:

            @guard
            async def call(x: int, *, tenant: str = "nobody") -> str:
                return tenant

            assert await call(1) == "nobody"
            assert await call(1, tenant="a") == "a"
        else:

            @guard
            def call_sync(x: int, *, tenant: str = "nobody") -> str:
                return tenant

            assert call_sync(1) == "nobody"
            assert call_sync(1, tenant="a") == "a"
        assert watch.keys() == ["nobody", "a"]

    world.run(scenario)


def test_the_same_policy_may_stand_in_it_twice(world: World) -> None:
    async def scenario(w: World) -> None:
        watch = breaker()
        assert await w.call(pipeline(watch, watch).call, w.function(lambda: 1)) == 1
        assert (watch.stats().calls, watch.stats().in_flight) == (2, 0)

    world.run(scenario)


def test_a_call_through_it_is_the_same_frames_as_through_the_stack() -> None:
    """So it costs no more: it makes the very wrappers, and adds none of its own."""
    import traceback  # noqa: PLC0415

    def fail() -> None:
        raise ValueError

    again, watch = retry(on=OSError), breaker()
    depths = []
    for fn in (
        pipeline(again, watch)(fail),
        again(watch(fail)),
        pipeline(pipeline(again), watch)(fail),
    ):
        with pytest.raises(ValueError) as caught:
            fn()
        depths.append(
            [
                frame.name
                for frame, _ in zip(
                    traceback.extract_tb(caught.value.__traceback__), range(99), strict=False
                )
            ]
        )
    assert depths[0] == depths[1] == depths[2]

"""C6: what is dropped is gone, also for the runs that are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Cache, cache
from tests.policies.caches import PATIENCE, Source
from tests.worlds import World

Drop = Callable[[Cache[Any]], None]


def invalidate(policy: Cache[Any]) -> None:
    policy.invalidate("k")


def clear(policy: Cache[Any]) -> None:
    policy.clear()


@pytest.fixture(params=[invalidate, clear], ids=["invalidate", "clear"])
def drop(request: pytest.FixtureRequest) -> Drop:
    return request.param  # type: ignore[no-any-return]  # one of the two


def made(w: World, **settings: Any) -> Cache[Any]:
    return cache(1000 * w.unit, key=lambda: "k", **settings)


@pytest.mark.rule("C6")
def test_callers_after_it_start_a_new_run(world: World, drop: Drop) -> None:
    async def scenario(w: World) -> None:
        policy = made(w)
        fn = policy(Source(w).fn)
        assert await w.call(fn) == "value 0"
        drop(policy)
        assert policy.stats().size == 0
        assert await w.call(fn) == await w.call(fn) == "value 1"

    world.run(scenario)


@pytest.mark.rule("C6")
def test_the_key_of_a_call_is_told_by_the_cache(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(1000 * w.unit)
        fn = policy(source.fn)
        for args, kwargs in [(("a",), {}), (("b", 1), {}), ((), {"sku": "c"})]:
            runs = source.runs
            await w.call(fn, *args, **kwargs)
            policy.invalidate(policy.key_of(fn, *args, **kwargs))
            await w.call(fn, *args, **kwargs)
            await w.call(fn, *args, **kwargs)
            assert source.runs == runs + 2
        assert policy.key_of(fn, "a") == policy.key_of(source.fn, "a")

    world.run(scenario)


@pytest.mark.rule("C6", "F7")
def test_a_key_that_is_none_is_refused() -> None:
    policy = cache(10.0)
    with pytest.raises(TypeError, match=r"key must be hashable, not \[\]"):
        policy.invalidate([])  # type: ignore[arg-type]  # what it is about
    with pytest.raises(TypeError, match="pass key="):
        policy.key_of(print, [])


@pytest.mark.rule("C6")
def test_another_key_stays(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(1000 * w.unit, key=lambda key: key)
        fn = policy(source.fn)
        await w.call(fn, "a")
        policy.invalidate("b")
        await w.call(fn, "a")
        assert source.runs == 1

    world.run(scenario)


@pytest.mark.rule("C6")
@pytest.mark.parametrize("last", ["old", "new"])
def test_callers_after_it_do_not_join_and_the_old_result_is_not_kept(
    async_world: World, drop: Drop, last: str
) -> None:
    async def scenario(w: World) -> None:
        async def run() -> str:
            number = len(begun)
            begun.append(number)
            await w.sleep({"old": (4, 1), "new": (2, 3)}[last][number])
            return f"value {number}"

        async def after(units: float) -> object:
            await w.sleep(units)
            return await fn()

        async def dropping() -> None:
            await w.sleep(1)
            drop(policy)

        begun: list[int] = []
        policy = made(w)
        fn = policy(run)
        results = await w.together(fn, lambda: after(0.5), dropping, lambda: after(1.25))
        assert results == ["value 0", "value 0", None, "value 1"]
        assert await fn() == "value 1"
        assert (len(begun), policy.stats().size) == (2, 1)

    async_world.run(scenario)


@pytest.mark.rule("C6")
@pytest.mark.parametrize("world", ["threads"])
@pytest.mark.parametrize("last", ["old", "new"])
def test_a_thread_after_it_does_not_wait_and_the_old_result_is_not_kept(
    world: str, drop: Drop, last: str
) -> None:
    begun = [threading.Event(), threading.Event()]
    go_on = [threading.Event(), threading.Event()]
    runs: list[int] = []

    def slow() -> str:
        number = len(runs)
        runs.append(number)
        begun[number].set()
        assert go_on[number].wait(PATIENCE)
        return f"value {number}"

    policy = cache(1000.0, key=lambda: "k")
    fn = policy(slow)
    results: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: fn()}), daemon=True)
        for n in range(2)
    ]
    threads[0].start()
    assert begun[0].wait(PATIENCE)
    drop(policy)
    threads[1].start()
    assert begun[1].wait(PATIENCE), "it waits for the old run"
    for number in (1, 0) if last == "old" else (0, 1):
        go_on[number].set()
        threads[number].join(PATIENCE)
        assert not threads[number].is_alive()
    assert results == {0: "value 0", 1: "value 1"}
    assert fn() == "value 1"
    assert len(runs) == 2


@pytest.mark.rule("C6")
def test_what_its_own_run_drops_is_not_kept_and_is_served_to_its_caller(
    world: World, drop: Drop
) -> None:
    async def scenario(w: World) -> None:
        def fate(number: int) -> int:
            if number == 0:
                drop(policy)
            return number

        policy = made(w)
        fn = policy(Source(w, fate).fn)
        assert [await w.call(fn) for _ in range(3)] == [0, 1, 1]

    world.run(scenario)

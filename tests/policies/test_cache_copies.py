"""C9: with ``copy`` callers may change what they get, and nobody else sees it."""

from __future__ import annotations

import contextvars
import copy
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient import cache
from tests.policies.caches import PATIENCE, Source, broken_after, settled
from tests.worlds import World, in_threads

LONG = 1000.0
"""Units: nothing ends during the test."""


@pytest.mark.rule("C9")
def test_what_a_caller_changes_reaches_no_other(world: World) -> None:
    async def scenario(w: World) -> None:
        fn = cache(LONG * w.unit, copy=copy.deepcopy)(Source(w, lambda _: {"tags": ["new"]}).fn)
        for _ in range(3):
            found = await w.call(fn)
            assert found == {"tags": ["new"]}
            found["tags"].append("mine")
            found["more"] = 1

    world.run(scenario)


@pytest.mark.rule("C9", "F8")
def test_the_caller_whose_call_ran_the_function_gets_the_very_result(world: World) -> None:
    async def scenario(w: World) -> None:
        made: list[object] = []
        result = ["a"]

        def count(value: list[str]) -> list[str]:
            made.append(value)
            return list(value)

        policy = cache(LONG * w.unit, copy=count)
        fn = policy(Source(w, lambda _: result).fn)
        assert await w.call(fn) is result
        assert len(made) == 1, "what is kept"
        one, other = await w.call(fn), await w.call(fn)
        assert one == other == result
        assert len({id(one), id(other), id(result)}) == 3
        assert len(made) == 3
        assert made[1] is made[2]
        assert made[1] is not result

    world.run(scenario)


@pytest.mark.rule("C9")
def test_those_who_share_a_run_get_copies_of_what_is_kept(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda _: ["a"], lasts=1)
        fn: Callable[..., Any] = cache(LONG * w.unit, copy=list)(source.fn)

        async def change() -> object:
            found = await fn()
            seen = list(found)
            found.append("mine")
            return seen

        assert await w.together(change, change, change) == [["a"]] * 3
        assert source.runs == 1
        assert await fn() == ["a"]

    async_world.run(scenario)


@pytest.mark.rule("C9")
def test_threads_that_share_a_run_get_copies_of_what_is_kept() -> None:
    policy = cache(LONG, copy=list)
    inside, go_on = threading.Event(), threading.Event()

    @policy
    def fn() -> list[str]:
        inside.set()
        assert go_on.wait(PATIENCE)
        return ["a"]

    def first() -> object:
        found = fn()
        found.append("mine")
        return found

    def second() -> object:
        assert inside.wait(PATIENCE)
        timer = threading.Timer(0.01, go_on.set)
        timer.start()
        found = fn()
        timer.join()
        return found

    assert in_threads(first, second) == [["a", "mine"], ["a"]]


@pytest.mark.rule("C9", "C4")
def test_an_old_value_is_given_as_a_copy_to_every_caller(world: World) -> None:
    async def scenario(w: World) -> None:
        fates: Any = broken_after(0, OSError("down"))
        fn = cache(2 * w.unit, stale=LONG * w.unit, jitter=0, copy=list)(
            Source(w, lambda number: fates(number) if number else ["a"]).fn
        )
        await w.call(fn)
        await w.sleep(3)
        for _ in range(2):
            found = await w.call(fn)
            assert found == ["a"]
            found.append("mine")

    world.run(scenario)


@pytest.mark.rule("C9", "C8")
def test_what_a_refresh_brings_is_given_as_copies(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda number: [number])
        fn = cache(LONG * w.unit, refresh_ahead=(LONG - 0.9) * w.unit, jitter=0, copy=list)(
            source.fn
        )
        await w.call(fn)
        await w.sleep(1)
        await w.call(fn)
        await settled(w)
        for _ in range(2):
            found = await w.call(fn)
            assert found == [1]
            found.append("mine")

    world.run(scenario)


@pytest.mark.rule("C9", "C3")
def test_there_is_none_is_copied_as_well(world: World) -> None:
    async def scenario(w: World) -> None:
        policy: Any = cache(
            LONG * w.unit, negative_ttl=LONG * w.unit, negative=lambda found: not found, copy=list
        )
        fn = policy(Source(w, lambda _: []).fn)
        for _ in range(3):
            found = await w.call(fn)
            assert found == []
            found.append("mine")
        assert policy.stats().negative_hits == 2

    world.run(scenario)


@pytest.mark.rule("C9")
def test_an_error_of_copy_goes_to_the_caller_that_it_was_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        broken = False

        def careful(value: list[str]) -> list[str]:
            if broken:
                raise ValueError("no copy")
            return list(value)

        policy = cache(LONG * w.unit, copy=careful)
        fn = policy(Source(w, lambda _: ["a"]).fn)
        assert await w.call(fn) == ["a"]
        broken = True
        with pytest.raises(ValueError, match="no copy"):
            await w.call(fn)
        broken = False
        assert await w.call(fn) == ["a"]
        assert (policy.stats().hits, policy.stats().misses) == (2, 1)

    world.run(scenario)
    assert not caplog.records


@pytest.mark.rule("C9", "F8")
def test_a_result_that_can_not_be_copied_is_given_and_not_kept_and_that_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def broken(value: object) -> object:
            raise ValueError("no copy")

        source = Source(w)
        policy = cache(LONG * w.unit, copy=broken)
        fn = policy(source.fn)
        assert [await w.call(fn) for _ in range(2)] == ["value 0", "value 1"]
        assert policy.stats().size == 0

    world.run(scenario)
    (row,) = caplog.records
    assert "the copy function" in row.getMessage()


@pytest.mark.rule("C9")
def test_a_copy_is_made_in_its_callers_own_task(async_world: World) -> None:
    async def scenario(w: World) -> None:
        who = contextvars.ContextVar("who", default="nobody")
        made_by: list[str] = []

        def note(value: object) -> object:
            made_by.append(who.get())
            return value

        source = Source(w, lasts=1)
        fn: Callable[..., Any] = cache(LONG * w.unit, copy=note)(source.fn)

        async def ask(name: str) -> None:
            who.set(name)
            await fn()

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "a")
            await w.sleep(0.5)
            group.start_soon(ask, "b")
        await ask("c")
        assert made_by == ["a", "b", "c"]

    async_world.run(scenario)


@pytest.mark.rule("C9", "B11")
def test_a_copy_is_made_under_no_lock() -> None:
    def asks(value: int) -> int:
        policy.stats()
        policy.invalidate("other")
        return value

    policy = cache(LONG, copy=asks, key="number")

    @policy
    def fn(number: int) -> int:
        return number

    assert [fn(1), fn(1)] == [1, 1]


@pytest.mark.rule("C9")
def test_without_copy_all_get_the_same_object(world: World) -> None:
    async def scenario(w: World) -> None:
        fn = cache(LONG * w.unit)(Source(w, lambda _: ["a"]).fn)
        assert await w.call(fn) is await w.call(fn)

    world.run(scenario)

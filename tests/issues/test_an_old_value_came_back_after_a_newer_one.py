"""A cache that could not keep a newer value, since ``copy`` raised, went on with the older one."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Cache, cache
from tests.policies.caches import Source, settled
from tests.worlds import World


def copied_once(w: World, **settings: Any) -> Cache[Any]:
    """A cache that can keep the first value, and no other."""

    def copy(value: list[int]) -> list[int]:
        if value != [0]:
            raise ValueError("no copy")
        return list(value)

    return cache(10 * w.unit, jitter=0, copy=copy, **settings)


def lives_once(w: World, **settings: Any) -> Cache[Any]:
    """A cache whose ``ttl`` raises for all values but the first."""

    def lives(value: list[int]) -> float:
        if value != [0]:
            raise ValueError("no lifetime")
        return 10 * w.unit

    return cache(lives, jitter=0, **settings)


EACH = pytest.mark.parametrize("made", [copied_once, lives_once], ids=["copy", "ttl"])


@pytest.mark.rule("C9", "C3", "C8")
@EACH
def test_what_a_refresh_has_found_to_be_old_is_not_fresh_again(world: World, made: Any) -> None:
    async def scenario(w: World) -> None:
        policy = made(w, refresh_ahead=5 * w.unit)
        fn = policy(Source(w, lambda number: [number]).fn)
        assert await w.call(fn) == [0]
        await w.sleep(6)
        assert await w.call(fn) == [0], "and a refresh begins, which brings [1]"
        await settled(w)
        assert policy.stats().size == 0
        assert await w.call(fn) == [2]

    world.run(scenario)


@pytest.mark.rule("C9", "C3", "C4")
@EACH
def test_what_a_run_has_found_to_be_old_is_not_served_stale(world: World, made: Any) -> None:
    async def scenario(w: World) -> None:
        policy = made(w, stale=1000 * w.unit)
        fn = policy(Source(w, lambda number: [number] if number < 2 else OSError("down")).fn)
        assert await w.call(fn) == [0]
        await w.sleep(11)
        assert await w.call(fn) == [1]
        with pytest.raises(OSError, match="down"):
            await w.call(fn)
        assert policy.stats().stale_served == 0

    world.run(scenario)


@pytest.mark.rule("C9", "C6")
def test_a_run_that_began_before_its_key_was_dropped_ends_no_newer_value(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        def copy(value: list[int]) -> list[int]:
            if value == [0]:
                raise ValueError("no copy")
            return list(value)

        policy = cache(1000 * w.unit, copy=copy, key=lambda: "key")
        source = Source(w, lambda number: [number], lasts=2)
        fn: Any = policy(source.fn)

        async def anew() -> object:
            await w.sleep(1)
            policy.invalidate("key")
            source.lasts = 0
            return await fn()

        assert await w.together(fn, anew) == [[0], [1]]
        assert (await fn(), source.runs) == ([1], 2)

    async_world.run(scenario)

"""A ``copy`` that answers later was taken for one: callers got a coroutine in place of a value."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resilient import cache, singleflight
from tests.policies.caches import PATIENCE, Source
from tests.worlds import World, in_threads


async def copied_later(value: object) -> object:
    return value


def later(value: Any) -> Any:
    """No coroutine function."""
    return copied_later(value)


@pytest.mark.rule("C9", "F1")
def test_what_is_copied_later_is_not_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(w: World) -> None:
        policy = cache(1000 * w.unit, copy=later)
        fn = policy(Source(w).fn)
        assert [await w.call(fn) for _ in range(2)] == ["value 0", "value 1"]
        assert policy.stats().size == 0

    world.run(scenario)
    (row,) = caplog.records
    assert "the copy function" in row.getMessage()


@pytest.mark.rule("C9", "F1")
@pytest.mark.parametrize("kind", ["cache", "singleflight"])
def test_those_who_share_a_run_are_told(async_world: World, kind: str) -> None:
    async def scenario(w: World) -> None:
        policy: Any = cache(1000, copy=later) if kind == "cache" else singleflight(copy=later)
        fn = policy(Source(w, lasts=1).fn)
        first, second = sorted(await w.together(fn, fn), key=lambda one: one != "value 0")
        assert first == "value 0"
        assert isinstance(second, TypeError)
        assert "answers at once" in str(second)

    async_world.run(scenario)


@pytest.mark.rule("C9", "F1")
@pytest.mark.parametrize("kind", ["cache", "singleflight"])
def test_threads_that_share_a_run_are_told(kind: str) -> None:
    policy: Any = cache(1000, copy=later) if kind == "cache" else singleflight(copy=later)
    inside, go_on = threading.Event(), threading.Event()

    def run() -> str:
        inside.set()
        assert go_on.wait(PATIENCE)
        return "value"

    fn = policy(run)

    def second() -> object:
        assert inside.wait(PATIENCE)
        timer = threading.Timer(0.01, go_on.set)
        timer.start()
        try:
            return fn()
        finally:
            timer.join()

    found, told = in_threads(fn, second)
    assert found == "value"
    assert isinstance(told, TypeError)

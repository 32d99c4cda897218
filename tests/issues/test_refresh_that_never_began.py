"""A refresh that could not begin, or was cut off, kept its key from ever being refreshed."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from resilient import Cache, cache
from resilient.testing import VirtualTime


def made() -> Cache[Any]:
    return cache(10.0, refresh_ahead=5.0, jitter=0, name="c")


async def value() -> int:
    return 1


def tasks() -> set[asyncio.Task[object]]:
    """All that somebody holds, also those of other tests."""
    return {one for one in gc.get_objects() if isinstance(one, asyncio.Task)}


@pytest.mark.rule("C8")
def test_a_refresh_that_is_cancelled_before_its_first_step_may_be_begun_anew(
    virtual_time: VirtualTime,
) -> None:
    policy = made()
    fn = policy(value)

    async def fill() -> None:
        await fn()

    async def leave_at_once() -> None:
        assert await fn() == 1
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            assert task.get_name() == "resilient.cache c"
            task.cancel()  # before its first step, as a runner may at the end

    async def stay() -> None:
        assert await fn() == 1
        await asyncio.sleep(0.1)

    virtual_time.run(fill)
    virtual_time.advance(6)
    virtual_time.run(leave_at_once)
    assert policy.stats().refreshes == 1
    virtual_time.run(stay)
    stats = policy.stats()
    assert (stats.refreshes, stats.refresh_failed) == (2, 0)
    virtual_time.advance(4)  # the first value is past its end
    virtual_time.run(stay)
    assert policy.stats().misses == 1


@pytest.mark.rule("C8", "F9")
def test_a_refresh_that_dies_with_its_loop_may_be_begun_anew_and_leaves_nothing(
    virtual_time: VirtualTime,
) -> None:
    runs: list[int] = []
    others = tasks()

    async def slow() -> int:
        runs.append(1)
        if len(runs) == 2:
            await asyncio.get_running_loop().create_future()
        return len(runs)

    policy = made()
    fn = policy(slow)
    virtual_time.run(fn)
    virtual_time.advance(6)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio complains of tasks that die like that
    assert loop.run_until_complete(fn()) == 1
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert len(runs) == 2
    loop.close()
    del loop
    while gc.collect():  # the end of the one task is the end of the other
        pass
    assert not tasks() - others

    async def stay() -> None:
        await fn()
        await asyncio.sleep(0.1)

    virtual_time.advance(1)
    virtual_time.run(stay)
    assert (len(runs), policy.stats().refreshes, policy.stats().misses) == (3, 2, 1)


@pytest.mark.rule("C8")
def test_a_hit_is_a_hit_also_where_no_thread_can_be_had_for_its_refresh(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    policy = made()
    fn = policy(lambda: 1)
    fn()
    virtual_time.advance(6)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert fn() == 1
    assert (policy.stats().refreshes, policy.stats().refresh_failed) == (1, 1)
    virtual_time.advance(0.5)
    assert fn() == 1
    assert policy.stats().refreshes == 2


@pytest.mark.rule("C8", "F9")
def test_a_refresh_that_is_cancelled_is_no_failure(virtual_time: VirtualTime) -> None:
    policy = made()
    runs: list[int] = []

    async def slow() -> int:
        runs.append(1)
        if len(runs) > 1:
            await asyncio.sleep(3600)
        return 1

    async def leave() -> None:
        assert await fn() == 1
        await asyncio.sleep(0.1)  # the loop ends while the refresh is under way

    fn = policy(slow)
    virtual_time.run(leave)
    virtual_time.advance(6)
    virtual_time.run(leave)
    virtual_time.run(leave)
    assert (len(runs), policy.stats().refreshes, policy.stats().refresh_failed) == (3, 2, 0)

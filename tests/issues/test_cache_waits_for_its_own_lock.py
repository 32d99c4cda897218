"""What a value's end does, and what the collector ends, met a cache that held its own lock."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Cache, cache
from tests.worlds import in_threads


class Last:
    """A value whose end drops another key of its cache."""

    def __init__(self, policy: Cache[Any]) -> None:
        self.policy = policy

    def __del__(self) -> None:
        self.policy.invalidate("another")


def evict(policy: Cache[Any], fn: Callable[[str], object]) -> None:
    fn("b")


def replace(policy: Cache[Any], fn: Callable[[str], object]) -> None:
    policy._reset()
    fn("a")


def drop(policy: Cache[Any], fn: Callable[[str], object]) -> None:
    policy.invalidate("a")


def clear(policy: Cache[Any], fn: Callable[[str], object]) -> None:
    policy.clear()


@pytest.mark.rule("C6", "F4")
@pytest.mark.parametrize("end", [evict, replace, drop, clear])
def test_the_end_of_a_value_may_use_its_cache(
    end: Callable[[Cache[Any], Callable[[str], object]], None],
) -> None:
    policy = cache(10.0, max_size=1, key=lambda key: key)
    fn = policy(lambda key: Last(policy))

    def work() -> str:
        fn("a")
        end(policy, fn)
        return "ended"

    assert in_threads(work) == ["ended"]
    policy.clear()


@pytest.mark.filterwarnings(  # the last waiter, collected, cancels a run whose loop is closed
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.rule("F4")
@pytest.mark.parametrize("ahead", [False, True])
def test_the_collector_may_end_a_run_while_its_cache_is_locked(ahead: bool) -> None:
    policy = cache(10.0, refresh_ahead=5.0, jitter=0, key=lambda: "k")
    runs: list[int] = []

    async def slow() -> int:
        runs.append(1)
        if len(runs) > ahead:
            await asyncio.get_running_loop().create_future()
        return 1

    fn = policy(slow)

    def work() -> str:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # asyncio complains of tasks that die like that
        task = loop.create_task(fn())
        if ahead:
            loop.run_until_complete(task)
            next(iter(policy._store.core.entries.values())).refresh_at = 0.0  # its time has come
            loop.run_until_complete(fn())
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        assert len(runs) == 1 + ahead
        loop.close()
        with policy._lock:  # as when a step of the rule makes the collector run
            del loop, task
            while gc.collect():
                pass
        return "ended"

    assert in_threads(work) == ["ended"]

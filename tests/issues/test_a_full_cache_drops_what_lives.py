"""A full cache dropped a live value, and kept one beside it whose time was over."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import cache
from resilient._core.cache import CacheConfig, CacheCore, Entry
from resilient.testing import VirtualTime, virtual_time
from tests.worlds import World


@pytest.fixture
def time() -> Any:
    with virtual_time() as time:
        yield time


def read(key: str) -> str | None:
    return None if key.startswith("none") else key


@pytest.mark.rule("C3")
def test_what_has_ended_makes_room_before_what_lives(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = cache(10 * w.unit, max_size=2, negative_ttl=1 * w.unit, jitter=0)
        get = policy(w.function(read))
        for key in ("live", "none"):
            await w.call(get, key)
        await w.sleep(2)
        await w.call(get, "new")
        assert (await w.call(get, "live"), await w.call(get, "new")) == ("live", "new")
        stats = policy.stats()
        assert (stats.hits, stats.misses, stats.evictions, stats.size) == (2, 3, 1, 2)

    world.run(scenario)


@pytest.mark.rule("C3", "C4")
def test_what_may_still_be_served_stale_has_not_ended(time: VirtualTime) -> None:
    policy = cache(10, max_size=2, stale=5, jitter=0)
    get = policy(read)
    get("a")
    time.advance(12)
    get("b")
    get("a2")  # "a" is past its end, but not past stale: it goes as the least recently used
    assert policy.stats().evictions == 1
    assert get("b") == "b"
    assert policy.stats().hits == 1


@pytest.mark.rule("C3")
def test_only_as_many_go_as_there_must(time: VirtualTime) -> None:
    policy = cache(10, max_size=4, negative_ttl=1, jitter=0)
    get = policy(read)
    for key in ("none 1", "live", "none 2", "none 3"):
        get(key)
    time.advance(2)
    sizes = []
    for number in range(5):
        get(f"new {number}")
        if number == 2:
            assert get("live") == "live"
        sizes.append((policy.stats().size, policy.stats().evictions))
    assert sizes == [(4, number) for number in range(1, 6)]
    assert [get(key) for key in ("live", "new 4")] == ["live", "new 4"]
    assert policy.stats().hits == 3


@pytest.mark.rule("C3")
def test_of_what_has_ended_the_earliest_goes_first_and_a_replaced_end_does_not_count(
    time: VirtualTime,
) -> None:
    policy = cache(10, max_size=3, negative_ttl=1, jitter=0)
    get = policy(read)
    get("none")
    time.advance(2)
    get("none")  # again, with an end of its own
    get("a")
    time.advance(0.5)
    get("b")
    get("c")  # nothing has ended: the least recently used, "none", goes
    time.advance(2)
    get("d")  # and its end, which came, is nobody's: "a" goes
    assert [get(key) for key in ("b", "c", "d")] == ["b", "c", "d"]
    assert policy.stats().hits == 3


@pytest.mark.rule("C3")
@pytest.mark.parametrize("dropped", [False, True])
def test_the_ends_of_what_has_gone_are_not_kept(dropped: bool) -> None:
    core = CacheCore(CacheConfig(1000.0, 10, 1.0, 0.0, 0.0, None))
    for number in range(10_000):
        core.keep(number % 20, Entry(number, negative=False), float(number) / 100, 0.5)
        if dropped:
            core.drop(number % 20)
        core.evicted.clear()
    assert len(core._ends._heap) <= 2 * 10 + 65
    core.clear()
    assert len(core._ends) == 0


@pytest.mark.rule("C3")
def test_making_room_looks_at_few() -> None:
    """What a step costs is counted in lines, and must not grow with what is kept."""

    def lines(size: int, *, ended: bool) -> int:
        core = CacheCore(CacheConfig(10.0, size, 1.0, 0.0, 0.0, None))
        for number in range(size):
            core.keep(number, Entry(number, negative=ended), 0.0, 0.5)
        count = 0

        def trace(*_: object) -> Callable[..., Any]:
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)
        try:
            for number in range(100):
                core.keep(size + number, Entry(number, negative=False), 5.0, 0.5)
        finally:
            sys.settrace(None)
        assert len(core.order) == size
        return count

    for ended in (False, True):
        assert lines(20_000, ended=ended) <= lines(200, ended=ended) * 1.2


@pytest.mark.rule("C3", "F4")
def test_hits_beside_evictions_of_what_has_ended_break_nothing() -> None:
    policy = cache(0.0005, max_size=8, jitter=0)
    get = policy(read)
    begin = threading.Barrier(4)
    wrong: list[object] = []

    def work(which: int) -> None:
        begin.wait()
        for number in range(2000):
            key = str((number * (which + 1)) % 12)
            if get(key) != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    core = policy._store.core
    assert len(core.entries) == len(core.order) <= 8
    assert len(core._ends) <= 8

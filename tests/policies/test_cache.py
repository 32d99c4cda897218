"""The cache: what it keeps, for how long, what takes no room, and who shares a run."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import logging
import random
import re
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import (
    BloomFilter,
    Cache,
    CacheStats,
    DeadlineExceeded,
    Rejected,
    cache,
    deadline,
    pipeline,
    retry,
)
from resilient._runtime import clock
from resilient.events import CallRejected, FlightJoined
from resilient.testing import VirtualTime, fresh, record, virtual_time
from tests.policies.caches import PATIENCE, Source, settled
from tests.worlds import World, in_threads, world_named

LONG = 1000.0
"""Units: nothing ends during the test."""


@pytest.fixture(params=["asyncio", "trio", "threads"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The worlds whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


def totals(stats: CacheStats) -> dict[str, int]:
    """The totals that are not 0, and the size."""
    names = [name for name in CacheStats.__slots__ if name != "name"]
    return {name: value for name in names if (value := getattr(stats, name))}


# How long a value lives.


@pytest.mark.rule("C7", "F8")
def test_a_value_is_brought_once_and_is_the_same_object_for_all(world: World) -> None:
    async def scenario(w: World) -> None:
        value = object()
        source = Source(w, lambda _: value)
        policy = cache(LONG * w.unit, name="prices")
        fn = policy(source.fn)
        assert [await w.call(fn, "a") for _ in range(3)] == [value] * 3
        assert await w.call(fn, "b") is value
        assert source.runs == 2
        assert policy.stats() == CacheStats("prices", 4, 2, 2, 0, 0, 0, 0, 0, 0, 2)

    world.run(scenario)


def test_a_value_lives_until_its_end_and_not_beyond(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        fn = cache(10.0, jitter=0)(source.fn)
        await w.call(fn)
        await w.sleep(9.75)
        assert await w.call(fn) == "value 0"
        await w.sleep(0.25)
        assert await w.call(fn) == "value 1"

    exact.run(scenario)


@settings(max_examples=40)
@given(
    ttl=st.floats(0.5, 1e4), jitter=st.sampled_from([0.05, 0.3, 0.9]), seed=st.integers(0, 2**32)
)
def test_a_value_lives_within_the_jitter_of_its_ttl(ttl: float, jitter: float, seed: int) -> None:
    with virtual_time() as time:
        runs: list[int] = []
        fn = cache(ttl, jitter=jitter, rng=random.Random(seed))(lambda: runs.append(1))
        fn()
        time.advance(ttl * (1 - jitter) * (1 - 1e-6))
        fn()
        assert len(runs) == 1, "too early"
        time.advance(ttl * 2 * jitter + ttl * (1 - jitter) * 2e-6)
        fn()
        assert len(runs) == 2, "too late"


def test_values_that_came_in_together_do_not_end_together(virtual_time: VirtualTime) -> None:
    runs: list[int] = []
    fn = cache(100.0, jitter=0.2)(runs.append)
    for key in range(200):
        fn(key)
    virtual_time.advance(79.9)
    ended = []
    for _ in range(41):
        before = len(runs)
        for key in range(200):
            fn(key)
        ended.append(len(runs) - before)
        virtual_time.advance(1)
    assert sum(ended) == 200
    assert ended[0] == 0
    assert max(ended) < 20, "a few at a time"


def test_the_least_recently_used_goes_first(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(LONG * w.unit, max_size=2)
        fn = policy(source.fn)
        for key in ("a", "b", "a", "c", "a", "b"):
            await w.call(fn, key)
        assert source.runs == 4, "b went for c, and c for b"
        assert totals(policy.stats()) == {
            "calls": 6, "hits": 2, "misses": 4, "evictions": 2, "size": 2,
        }  # fmt: skip

    world.run(scenario)


def test_which_calls_are_the_same(world: World) -> None:
    async def scenario(w: World) -> None:
        source, other = Source(w), Source(w)
        policy = cache(LONG * w.unit)
        fn, another = policy(source.fn), policy(other.fn)
        for args in [(1,), (True,), ("1",), (1.0,), (b"1",), (1, 2), ((1,),), ((True,),), ()]:
            for _ in range(2):
                await w.call(fn, *args)
        await w.call(fn, x=1, y=2)
        await w.call(fn, y=2, x=1)
        assert source.runs == 10
        await w.call(another, 1)
        assert other.runs == 1
        wrongs: list[object] = [[], {}]
        for wrong in wrongs:
            with pytest.raises(TypeError, match="pass key="):
                await w.call(fn, wrong)
        assert policy.stats().calls == 21

    world.run(scenario)


def test_a_key_of_ones_own_says_which_calls_are_the_same(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(LONG * w.unit, key=lambda sku, *_: sku)
        fn = policy(source.fn)
        assert await w.call(fn, "a", object()) == await w.call(fn, "a") == "value 0"
        assert policy.key_of(fn, "a", 1) == "a"
        with pytest.raises(TypeError, match="key must be hashable"):
            await w.call(fn, [])

    world.run(scenario)


def test_one_call_without_decorating(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(LONG * w.unit)
        assert await w.call(policy.call, source.fn, 1) == "value 0"
        assert await w.call(policy.call, source.fn, 1) == "value 0"

    world.run(scenario)


# C3: how long, as the result says.


@pytest.mark.rule("C3")
def test_a_function_of_the_result_says_how_long_it_lives(exact: World) -> None:
    async def scenario(w: World) -> None:
        fates: list[Any] = [4.0, dt.timedelta(seconds=2), 1, 9.0]
        asked: list[object] = []

        def ttl(result: Any) -> Any:
            asked.append(result)
            return result

        source = Source(w, fates.__getitem__)
        fn = cache(ttl, jitter=0)(source.fn)
        for index, lives in enumerate((4.0, 2.0, 1.0)):
            assert await w.call(fn) is fates[index]
            await w.sleep(lives - 0.25)
            assert await w.call(fn) is fates[index]
            await w.sleep(0.25)
        assert await w.call(fn) == 9.0
        assert asked == fates, "once for each"

    exact.run(scenario)


@pytest.mark.rule("C3")
def test_a_life_that_the_result_says_has_its_jitter(virtual_time: VirtualTime) -> None:
    ended = []

    @cache(lambda result: result, jitter=0.5)
    def fn(key: int, seconds: float) -> float:
        return seconds

    for key in range(100):
        fn(key, 10.0)
    for _ in range(11):
        ended.append(sum(entry.ends_at <= clock.now() for entry in entries_of(fn)))
        virtual_time.advance(1)
    assert ended[4] == 0
    assert 30 < ended[10] < 70


def entries_of(fn: Any) -> list[Any]:
    return list(fn.policy._store.core.entries.values())


@pytest.mark.rule("C3")
def test_a_result_that_lives_for_0_is_given_to_all_who_share_the_run_and_not_kept(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=1)
        policy = cache(lambda result: 0)
        fn: Callable[..., Any] = policy(source.fn)
        assert await w.together(fn, fn, fn) == ["value 0"] * 3
        assert policy.stats().size == 0
        assert await fn() == "value 1"

    async_world.run(scenario)


@pytest.mark.rule("C3", "C4")
def test_a_result_that_is_not_kept_ends_the_old_one(exact: World) -> None:
    async def scenario(w: World) -> None:
        fates: list[Any] = [10.0, 0, OSError("down")]
        policy = cache(lambda result: result, stale=100.0, jitter=0)
        fn = policy(Source(w, fates.__getitem__).fn)
        await w.call(fn)
        await w.sleep(11)
        assert await w.call(fn) == 0
        assert policy.stats().size == 0
        with pytest.raises(OSError, match="down"):
            await w.call(fn)

    exact.run(scenario)


@pytest.mark.rule("C3", "F12")
@pytest.mark.parametrize(
    "wrong", [-1, float("nan"), "soon", None, True, ZeroDivisionError(), "later"], ids=repr
)
def test_a_life_that_is_none_is_logged_once_and_the_result_is_not_kept(
    world: World, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        async def later() -> float:
            return 1.0

        def ttl(result: object) -> Any:
            if isinstance(wrong, Exception):
                raise wrong
            return later() if wrong == "later" else wrong

        policy = cache(ttl)
        fn = policy(Source(w).fn)
        assert [await w.call(fn) for _ in range(3)] == ["value 0", "value 1", "value 2"]
        assert totals(policy.stats()) == {"calls": 3, "misses": 3}

    world.run(scenario)
    (row,) = caplog.records
    assert "the ttl function" in row.getMessage()


@pytest.mark.rule("C3", "F12")
def test_each_function_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(what: str) -> Callable[[object], Any]:
        def fail(_: object) -> None:
            raise RuntimeError(what)

        return fail

    policy: Cache[Any] = cache(
        broken("ttl"), negative=broken("negative"), negative_ttl=1, exists=broken("exists")
    )
    for number in range(2):
        policy.call(abs, number)
    assert len(caplog.records) == 3


@pytest.mark.rule("C3")
def test_there_is_none_lives_for_negative_ttl_whatever_the_result_says(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda number: None)
        policy = cache(lambda result: 1 / 0, negative_ttl=2, jitter=0)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(1.75)
        await w.call(fn)
        assert source.runs == 1

    exact.run(scenario)


@pytest.mark.rule("C3", "C8")
def test_ahead_of_the_end_is_no_more_than_half_of_a_life_that_the_result_says(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        fates: list[Any] = [4.0, 100.0, 100.0]
        policy = cache(lambda result: result, refresh_ahead=10.0, jitter=0)
        fn = policy(Source(w, fates.__getitem__).fn)
        await w.call(fn)
        await w.sleep(1.75)
        await w.call(fn)
        assert policy.stats().refreshes == 0
        await w.sleep(0.25)
        assert await w.call(fn) == 4.0
        await settled(w)
        assert await w.call(fn) == 100.0
        await w.sleep(89)
        await w.call(fn)
        assert policy.stats().refreshes == 1
        await w.sleep(2)
        await w.call(fn)
        await settled(w)
        assert policy.stats().refreshes == 2

    exact.run(scenario)


# C3: there is none.


@pytest.mark.rule("C3")
def test_there_is_none_is_remembered_for_negative_ttl(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda number: None if number < 2 else "now there is")
        policy = cache(LONG * w.unit, negative_ttl=2 * w.unit, jitter=0)
        fn = policy(source.fn)
        assert [await w.call(fn) for _ in range(3)] == [None] * 3
        assert source.runs == 1
        await w.sleep(2.5)
        assert await w.call(fn) is None
        await w.sleep(2.5)
        assert await w.call(fn) == await w.call(fn) == "now there is"
        assert totals(policy.stats()) == {
            "calls": 6, "hits": 1, "misses": 3, "negative_hits": 2, "size": 1,
        }  # fmt: skip

    world.run(scenario)


@pytest.mark.rule("C3")
def test_a_predicate_says_what_there_is_none_means(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda number: {"found": number > 0})
        policy = cache(
            LONG * w.unit, negative_ttl=2 * w.unit, negative=lambda r: not r["found"], jitter=0
        )
        fn = policy(source.fn)
        assert [await w.call(fn) for _ in range(2)] == [{"found": False}] * 2
        await w.sleep(2.5)
        assert await w.call(fn) == {"found": True}
        assert (policy.stats().negative_hits, source.runs) == (1, 2)

    world.run(scenario)


@pytest.mark.rule("C3")
def test_without_negative_ttl_none_is_a_result_like_any_other(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda _: None)
        policy = cache(10.0, jitter=0)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(9)
        await w.call(fn)
        assert totals(policy.stats()) == {"calls": 2, "hits": 1, "misses": 1, "size": 1}

    exact.run(scenario)


@pytest.mark.rule("C3")
def test_a_predicate_that_raises_is_logged_once_and_the_result_is_an_ordinary_one(
    exact: World, caplog: pytest.LogCaptureFixture
) -> None:
    def negative(_: object) -> bool:
        raise ValueError("broken predicate")

    async def scenario(w: World) -> None:
        policy = cache(10.0, negative_ttl=1.0, negative=negative, jitter=0)
        source = Source(w)
        fn = policy(source.fn)
        assert await w.call(fn, "a") == "value 0"
        await w.call(fn, "b")
        await w.sleep(5)
        await w.call(fn, "a")
        assert (source.runs, policy.stats().hits) == (2, 1)

    with caplog.at_level(logging.ERROR, "resilient"):
        exact.run(scenario)
    assert len(caplog.records) == 1


# C5: what can't exist.


@pytest.mark.rule("C5")
def test_a_key_that_can_not_exist_is_answered_without_a_call_and_takes_no_room(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        known = BloomFilter(100)
        known.update(["a", "b"])
        source = Source(w)
        policy = cache(LONG * w.unit, max_size=2, exists=known)
        fn = policy(source.fn)
        assert [await w.call(fn, key) for key in ("a", "b")] == ["value 0", "value 1"]
        for number in range(50):
            assert await w.call(fn, f"made up {number}") is None
        assert [await w.call(fn, key) for key in ("a", "b")] == ["value 0", "value 1"]
        assert totals(policy.stats()) == {
            "calls": 54, "hits": 2, "misses": 2, "refused": 50, "size": 2,
        }  # fmt: skip
        known.add("made up 1")
        assert await w.call(fn, "made up 1") == "value 2"

    world.run(scenario)


@pytest.mark.rule("C5")
def test_a_set_or_a_predicate_on_the_key_knows_as_well(world: World) -> None:
    async def scenario(w: World) -> None:
        asked: list[object] = []

        def exists(key: object) -> bool:
            asked.append(key)
            return key == ("a", 1)

        cases: list[tuple[Any, list[object]]] = [
            ({("a", 1)}, []),
            (exists, [("a", 1), ("b", 1)]),
        ]
        for knows, asked_for in cases:
            source = Source(w)
            policy = cache(LONG * w.unit, exists=knows, key=lambda sku, shop, client: (sku, shop))
            fn = policy(source.fn)
            assert await w.call(fn, "a", 1, object()) == "value 0"
            assert await w.call(fn, "a", 1, object()) == "value 0"
            assert await w.call(fn, "b", 1, object()) is None
            assert asked == asked_for
            assert policy.stats().refused == 1

    world.run(scenario)


@pytest.mark.rule("C5")
def test_what_knows_of_keys_and_raises_is_logged_once_and_lets_the_call_pass(
    exact: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(LONG, exists=BloomFilter(100))
        fn = policy(source.fn)
        assert await w.call(fn, 1.5) == "value 0"  # no key of a Bloom filter
        assert await w.call(fn, 2.5) == "value 1"
        assert totals(policy.stats()) == {"calls": 2, "misses": 2, "size": 2}

    with caplog.at_level(logging.ERROR, "resilient"):
        exact.run(scenario)
    assert len(caplog.records) == 1


@pytest.mark.rule("C5")
def test_a_million_calls_for_what_can_not_exist_run_nothing_and_take_no_memory() -> None:
    known = BloomFilter(1000, 1e-12)
    known.update(range(1000))
    runs: list[object] = []
    policy = cache(60.0, exists=known)
    fn = policy(runs.append)
    fn(0)
    last_part = 10_000
    for number in range(1000, 1_001_000 - last_part):
        fn(number)
    tracemalloc.start()  # for the last part: it makes everything four times slower
    try:
        for number in range(1_001_000 - last_part, 1_001_000):
            fn(number)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert runs == [0]
    assert totals(policy.stats()) == {
        "calls": 1_000_001, "misses": 1, "refused": 1_000_000, "size": 1,
    }  # fmt: skip
    assert grown < 10_000


# C7: errors.


@pytest.mark.rule("C7", "F8")
def test_errors_are_never_remembered(world: World) -> None:
    async def scenario(w: World) -> None:
        errors = [OSError(0), Rejected("other", None, "full", "it is full"), LookupError(2)]
        source = Source(w, lambda number: errors[number] if number < 3 else "good")
        policy = cache(LONG * w.unit, negative_ttl=LONG, negative=lambda _: False)
        fn = policy(source.fn)
        for error in errors:
            with pytest.raises(type(error)) as caught:
                await w.call(fn)
            assert caught.value is error
            assert not getattr(error, "__notes__", [])
        assert await w.call(fn) == await w.call(fn) == "good"
        assert totals(policy.stats()) == {"calls": 5, "hits": 1, "misses": 4, "size": 1}

    world.run(scenario)


@pytest.mark.rule("C7", "F9")
def test_what_is_no_exception_passes_and_leaves_nothing_behind(exact: World) -> None:
    class Quit(BaseException):
        pass

    async def scenario(w: World) -> None:
        quit_ = Quit()
        source = Source(w, lambda number: quit_ if number == 1 else number)
        policy = cache(10.0, stale=LONG, jitter=0)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(11)
        with pytest.raises(Quit) as caught:
            await w.call(fn)
        assert caught.value is quit_
        assert await w.call(fn) == 2
        assert policy.stats().stale_served == 0

    exact.run(scenario)


# Callers who come together.


@pytest.mark.rule("F4")
@pytest.mark.parametrize("exact", ["asyncio", "trio"], indirect=True)
def test_ten_thousand_callers_of_one_expired_key_run_the_function_once(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=1)
        policy = cache(10.0, jitter=0)
        fn: Callable[..., Any] = policy(source.fn)
        assert await fn("k") == "value 0"
        await w.sleep(10)
        results = await w.together(*[lambda: fn("k")] * 10_000)
        assert set(results) == {"value 1"}
        assert source.runs == 2
        assert totals(policy.stats()) == {"calls": 10_001, "misses": 10_001, "size": 1}

    exact.run(scenario)


@pytest.mark.rule("F4")
def test_threads_at_a_barrier_run_the_function_of_an_expired_key_once(
    virtual_time: VirtualTime,
) -> None:
    count, go_on, runs = 40, threading.Event(), []

    def slow(key: str) -> int:
        runs.append(key)
        if len(runs) > 1:
            assert go_on.wait(PATIENCE)
        return len(runs)

    policy = cache(10.0, jitter=0)
    fn = policy(slow)
    fn("k")
    virtual_time.advance(10)

    def last() -> int:
        return fn("k")

    def watch() -> None:
        pause = threading.Event()
        while policy.stats().misses < count + 1:
            pause.wait(0.0005)
        go_on.set()

    assert in_threads(watch, *[last] * count) == [None, *[2] * count]
    assert len(runs) == 2
    assert policy.stats().size == 1


@pytest.mark.rule("F4")
def test_threads_that_race_lose_no_count_and_keep_the_bound() -> None:
    each, threads = 300, 8
    policy = cache(1e6, max_size=4, refresh_ahead=999_999.0, jitter=0.9)

    @policy
    def fn(key: int) -> int:
        return key

    def work(first: int) -> None:
        for number in range(each):
            key = (first + number) % 7
            assert fn(key) == key
            if number % 50 == 0:
                policy.invalidate(policy.key_of(fn, key))
                policy.stats()
        if first == 0:
            policy.clear()

    workers = [functools.partial(work, number) for number in range(threads)]
    assert in_threads(*workers) == [None] * threads
    stats = policy.stats()
    assert stats.calls == each * threads == stats.hits + stats.misses
    assert stats.size <= 4


@pytest.mark.rule("C7")
def test_an_error_reaches_all_who_share_the_run(async_world: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("mine")
        source = Source(w, lambda _: error, lasts=1)
        fn = cache(LONG * w.unit)(source.fn)
        results = await w.together(fn, fn, fn)
        assert all(result is error for result in results)
        assert source.runs == 1

    async_world.run(scenario)


def test_those_who_wait_are_told_of_as_those_of_a_flight(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fn = cache(LONG * w.unit, key=lambda: "k", name="prices")(Source(w, lasts=1).fn)
        with record(FlightJoined) as events:
            await w.together(fn, fn)
        assert [(one.policy, one.kind, one.key) for one in events] == [("prices", "cache", "k")]

    async_world.run(scenario)


# Cancellation and deadlines.


@pytest.mark.rule("F9")
def test_a_cancelled_caller_leaves_alone_and_the_value_is_kept_for_the_others(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=2)
        policy = cache(LONG * w.unit)
        fn: Callable[..., Any] = policy(source.fn)

        async def leaves() -> object:
            with anyio.move_on_after(w.unit):
                return await fn()
            return "left"

        assert await w.together(leaves, fn, leaves) == ["left", "value 0", "left"]
        assert await fn() == "value 0"
        assert (source.runs, source.cancelled) == (1, 0)
        assert totals(policy.stats()) == {"calls": 4, "hits": 1, "misses": 3, "size": 1}

    async_world.run(scenario)


@pytest.mark.rule("F9", "C7")
def test_a_run_that_nobody_waits_for_is_cancelled_and_brings_nothing(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=2)
        policy = cache(LONG * w.unit, stale=LONG * w.unit)
        fn: Callable[..., Any] = policy(source.fn)
        with anyio.move_on_after(w.unit):
            await fn()
        await w.sleep(0.5)
        assert (source.runs, source.cancelled, policy.stats().size) == (1, 1, 0)
        assert await fn() == "value 1"

    async_world.run(scenario)


@pytest.mark.rule("D5")
def test_with_nothing_left_of_the_deadline_even_a_hit_is_refused(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(LONG, name="prices")
        fn = policy(source.fn)
        await w.call(fn, "a")
        for key in ("a", "b"):
            with pytest.raises(DeadlineExceeded) as caught:
                with deadline(0.0001) as limit:
                    limit.reschedule(0.0)
                    await w.call(fn, key)
            assert not caught.value.started
        assert (source.runs, policy.stats().calls) == (1, 1)

    exact.run(scenario)


@pytest.mark.rule("F11")
def test_a_caller_whose_deadline_ends_leaves_and_the_run_goes_on(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=3)
        fn: Callable[..., Any] = cache(LONG * w.unit)(source.fn)

        async def hurried() -> object:
            async with deadline(w.unit):
                return await fn()

        late, value = await w.together(hurried, fn)
        assert isinstance(late, DeadlineExceeded)
        assert value == "value 0"
        assert source.runs == 1

    async_world.run(scenario)


@pytest.mark.rule("F11")
def test_sync_code_on_a_loops_thread_never_waits_for_another_thread(async_world: World) -> None:
    async def scenario(w: World) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def slow() -> str:
            begun.set()
            assert go_on.wait(PATIENCE)
            return "slow"

        fn = cache(LONG * w.unit, name="prices")(slow)
        other = threading.Thread(target=fn)
        other.start()
        try:
            assert begun.wait(PATIENCE)
            with record(CallRejected) as events, pytest.raises(Rejected) as caught:
                fn()
            assert (caught.value.policy, caught.value.reason) == ("prices", "would_block")
            assert [event.kind for event in events] == ["cache"]
        finally:
            go_on.set()
            other.join(PATIENCE)
        assert fn() == "slow"

    async_world.run(scenario)


def test_a_run_that_asks_for_its_own_key_is_told_so(exact: World) -> None:
    async def scenario(w: World) -> None:
        again: list[Callable[..., Any]] = []
        fn = cache(LONG)(w.function(lambda: w.call(again[0])))
        again.append(fn)
        with pytest.raises(RuntimeError, match="asks for its own key"):
            await w.call(fn)

    exact.run(scenario)


def test_a_run_that_finds_the_value_there_before_it_begins_brings_none(exact: World) -> None:
    """Threads and loops fly apart: another's run may end between a look and the run for it."""

    async def scenario(w: World) -> None:
        source = Source(w)
        elsewhere: list[str] = []

        def exists(_: object) -> bool:  # asked between the look and the run
            if not elsewhere:
                elsewhere.append("begun")
                call = functools.partial(policy.call, source.fn)
                elsewhere.extend(in_threads(lambda: asyncio.run(call()) if w.is_async else call()))
            return True

        policy = cache(LONG, exists=exists, key=lambda: "k")
        assert await w.call(policy(source.fn)) == "value 0"
        assert elsewhere == ["begun", "value 0"]
        assert source.runs == 1
        assert totals(policy.stats()) == {"calls": 2, "misses": 2, "size": 1}

    exact.run(scenario)


# The policy itself.


def test_it_stacks_with_other_policies(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda number: OSError() if number == 0 else number)
        policy = cache(LONG * w.unit)
        stack = pipeline(policy, retry(on=OSError, wait=0))
        fn = stack(source.fn)
        assert [await w.call(fn, "a") for _ in range(2)] == [1, 1]
        assert source.runs == 2

    world.run(scenario)


@pytest.mark.rule("T3")
def test_fresh_starts_it_as_new_and_leaves_it_as_new(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(LONG * w.unit, max_size=1, exists=lambda key: key)
        fn = policy(source.fn)
        for key in (1, 2, 1, 0):
            await w.call(fn, key)
        with fresh():
            assert totals(policy.stats()) == {}
            assert await w.call(fn, 1) == "value 3"
        assert totals(policy.stats()) == {}
        assert await w.call(fn, 1) == "value 4"

    world.run(scenario)


def test_it_takes_the_name_of_the_first_function() -> None:
    policy = cache(1.0)
    assert policy.name == "cache"

    @policy
    def price(sku: str) -> str:
        return sku

    assert policy.stats().name.endswith("price")
    assert policy._flight.name == policy.name
    assert repr(policy).startswith("<Cache '")


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ({"ttl": 0}, ValueError, "ttl must be a number above 0, not 0.0"),
        ({"ttl": float("nan")}, ValueError, "ttl must be a number above 0, not nan"),
        ({"ttl": -1}, ValueError, "ttl must be a number above 0, not -1.0"),
        ({"ttl": "1"}, TypeError, "ttl must be seconds or a timedelta, above 0, not '1'"),
        ({"ttl": divmod}, TypeError, "write @cache(60), with parentheses"),
        ({"max_size": 0}, ValueError, "max_size must be a whole number of at least 1, not 0"),
        ({"max_size": 1.5}, TypeError, "max_size must be a whole number of at least 1, not 1.5"),
        ({"negative_ttl": 0}, ValueError, "negative_ttl must be a number above 0, not 0.0"),
        ({"negative": len}, ValueError, "negative_ttl must say for how long"),
        (
            {"negative_ttl": 1, "negative": 1},
            TypeError,
            "negative must be a function or None, not 1",
        ),
        ({"stale": -1}, ValueError, "stale must be a number of at least 0, not -1.0"),
        ({"stale": float("nan")}, ValueError, "stale must be a number of at least 0, not nan"),
        ({"jitter": 1}, ValueError, "jitter must be a finite number of at least 0 and below 1, no"),
        ({"jitter": -0.1}, ValueError, "jitter must be a finite number of at least 0 and below 1"),
        ({"jitter": None}, TypeError, "jitter must be a number of at least 0 and below 1, not No"),
        ({"refresh_ahead": 0}, ValueError, "refresh_ahead must be a finite number above 0, not 0"),
        (
            {"refresh_ahead": float("inf")},
            ValueError,
            "refresh_ahead must be a finite number above 0, not inf",
        ),
        (
            {"refresh_ahead": 60},
            ValueError,
            "refresh_ahead must be less than ttl, which is 60 s, not 60",
        ),
        (
            {"exists": 1},
            TypeError,
            "exists must be a filter, a set, a predicate on the key, or None, not 1",
        ),
        ({"invalidation": 1}, TypeError, "invalidation must be an object with publish(key) and"),
        ({"invalidation": print}, TypeError, "an object with publish(key) and subscribe(callback)"),
        ({"key": 1}, TypeError, "key must be a function of the call's arguments"),
        ({"rng": 1}, TypeError, "rng must be a random.Random or None, not 1"),
        ({"name": 1}, TypeError, "name must be a string or None, not 1"),
    ],
)
def test_bad_arguments_are_refused_with_their_name_and_range(
    arguments: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=re.escape(says)):
        cache(**{"ttl": 60, **arguments})


def test_without_arguments_it_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=re.escape("write @cache(60), with parentheses")):
        cache(lambda: 1)  # type: ignore[arg-type, misc]  # what it is about

"""A rate limit whose terms change while it is in use: at once, and nothing is forgiven."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import DeadlineExceeded, RateLimit, RateLimited, RateLimitStats, deadline, rate_limit
from resilient._runtime import clock
from resilient.testing import fresh, virtual_time
from tests.policies.test_rate_limit import PATIENCE, ByHand, a_second, in_order
from tests.worlds import World, in_threads, world_named

pytestmark = [pytest.mark.loop, pytest.mark.rule("L11")]


@pytest.fixture(params=["asyncio", "trio"])
def exact_loop(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_named(request.param) as one:
        yield one


def left_now(take: Callable[[], object]) -> int:
    """How many may pass at once."""
    count = 0
    while True:
        try:
            take()
        except RateLimited:
            return count
        count += 1


def test_it_applies_at_once_and_what_is_used_stays_used(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.01, burst=10)
        fn = policy(w.function(lambda: "ran"))
        for _ in range(6):
            await w.call(fn)
        policy.change(burst=8)
        assert await w.call(fn) == "ran"
        policy.change(burst=9)
        assert [await w.call(fn) for _ in range(2)] == ["ran"] * 2
        with pytest.raises(RateLimited, match="a burst of 9 is used up") as caught:
            await w.call(fn)
        assert caught.value.retry_after == pytest.approx(100 * w.unit, rel=0.1)
        policy.change(rate=0.02)
        with pytest.raises(RateLimited) as caught:
            await w.call(fn)
        assert caught.value.retry_after == pytest.approx(50 * w.unit, rel=0.1)
        policy.change(per=10 * w.unit, burst=5)
        with pytest.raises(RateLimited) as caught:
            await w.call(fn)
        assert caught.value.retry_after == pytest.approx(5 * 500 * w.unit, rel=0.1)
        assert policy.stats() == RateLimitStats("api", calls=9, rejected=3, queued=0)

    world.run(scenario)


@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_who_waits_waits_by_the_new_rate_in_the_old_order(exact_loop: World, keyed: bool) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(1, burst=1, max_wait=5.0, key=(lambda: "k") if keyed else None)
        (policy.of("k") if keyed else policy).take()
        fn = policy(w.function(w.now))

        async def changes() -> None:
            await w.sleep(0.5)
            policy.change(rate=0.1)  # half of a call is missing still: five seconds
            await w.sleep(2.5)
            policy.change(rate=4)  # a quarter of it is: a sixteenth of a second
            await w.sleep(1.0)
            policy.change(rate=0.5)

        callers = [fn] * 5
        results = await w.together(*in_order(w, *callers), changes)
        assert results[:4] == pytest.approx([3.0625, 3.3125, 3.5625, 3.8125], abs=0.01)
        assert results[4] == pytest.approx(4.5, abs=0.01), "a quarter of it is missing at 4.0"
        assert policy.stats().calls == 6

    exact_loop.run(scenario)


def test_a_wait_that_grows_beyond_max_wait_goes_on_and_its_deadline_ends_it(
    exact_loop: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 1, burst=1, max_wait=1.0)
        policy.take()
        fn = policy(w.function(w.now))

        async def hasty() -> Any:
            with deadline(3.0):
                return await fn()

        async def slower() -> None:
            await w.sleep(0.5)
            policy.change(rate=0.1)

        late, _ = await w.together(hasty, slower)
        assert isinstance(late, DeadlineExceeded)
        assert (late.policy, late.started) == ("api", False)
        assert w.now() == pytest.approx(3.0)
        policy.change(rate=0.5)
        assert policy.stats() == RateLimitStats("api", calls=1, rejected=0, queued=0)
        patient, _ = await w.together(fn, lambda: slower_to(w, policy))
        assert patient == pytest.approx(7.0)

    async def slower_to(w: World, policy: RateLimit) -> None:
        """At 3 a quarter of a call is missing, that is half a second."""
        await w.sleep(0.25)
        policy.change(rate=0.125 / 3.75)

    exact_loop.run(scenario)


def test_a_thread_that_waits_is_woken_by_a_higher_rate() -> None:
    class Asleep(ByHand):
        def sleep(
            self, seconds: float, event: clock.Event | None = None, /
        ) -> None:  # time stands still
            assert event is not None
            asleep.set()
            assert event.wait(PATIENCE), "nobody wakes it"

    asleep = threading.Event()
    with clock.install(Asleep()):
        policy = rate_limit(0.001, burst=1, max_wait=math.inf)
        policy.take()

        def change() -> None:
            assert asleep.wait(PATIENCE)
            policy.change(burst=2)

        assert in_threads(policy(lambda: "ran"), change) == ["ran", None]


@pytest.mark.real_clock
def test_a_thread_that_sleeps_in_real_time_is_woken_too() -> None:
    policy = rate_limit(1, per=3600, burst=1, max_wait=math.inf)
    policy.take()

    def change() -> None:
        pause = threading.Event()
        while not policy.stats().queued:
            pause.wait(0.0005)
        policy.change(rate=1e6)

    assert in_threads(policy(lambda: "ran"), change) == ["ran", None]


def test_a_change_is_for_all_keys_present_and_future() -> None:
    with virtual_time():
        policy = rate_limit(1, burst=2, key="tenant", max_keys=1000)
        for tenant in range(250):
            policy.of(tenant).take()
        policy.change(burst=4)
        assert [left_now(policy.of(tenant).take) for tenant in range(250)] == [3] * 250
        assert left_now(policy.of("new").take) == 4
        policy.of("new").change(burst=7)
        assert left_now(policy.of("new").take) == 3
        assert left_now(policy.of("newer").take) == 4
        policy.change(rate=0.5)
        with pytest.raises(RateLimited, match="a burst of 4 is used up") as caught:
            policy.of("new").take()
        assert caught.value.retry_after == 8.0, "seven are missing from the four"


def test_a_key_with_terms_of_its_own_is_kept_before_those_without() -> None:
    with virtual_time() as time:
        policy = rate_limit(1, burst=2, key="tenant", max_keys=2)
        policy.of("own").change(rate=5)
        policy.of("other").take()
        time.advance(5.0)
        policy.of("new").take()
        assert set(policy.keys()) == {"own", "new"}, "the other one was as good as new"
        policy.change(rate=1)
        policy.of("newer").take()
        assert set(policy.keys()) == {"new", "newer"}


def test_a_burst_that_was_never_given_follows_the_rate() -> None:
    with virtual_time():
        follows, given = rate_limit(2), rate_limit(2, burst=2)
        for policy in (follows, given):
            policy.change(rate=5.5)
        assert (left_now(follows.take), left_now(given.take)) == (6, 2)
        follows.change(burst=7)
        follows.change(rate=1)
        assert left_now(follows.take) == 1


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, TypeError, "change() wants rate, per or burst: write change(rate=200)"),
        ({"rate": 0}, ValueError, "rate must be a finite number above 0, not 0"),
        ({"rate": "9"}, TypeError, "rate must be a number above 0, not '9'"),
        ({"rate": 9, "per": 0}, ValueError, "per must be a finite number above 0, not 0"),
        ({"rate": 9, "burst": 0}, ValueError, "burst must be a whole number of at least 1, not 0"),
        ({"rate": 9, "burst": 1.5}, TypeError, "burst must be a whole number of at least 1"),
        ({"rate": 9, "burst": 1}, ValueError, "burst must be at least what a call costs, 2"),
        ({"rate": 1}, ValueError, "rate must be above 1, not 1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_wrong_arguments_change_nothing(
    arguments: dict[str, Any], error: type[Exception], said: str, keyed: bool
) -> None:
    with virtual_time():
        policy = rate_limit(4, cost=2, key=(lambda: "k") if keyed else None)
        handles: list[Any] = [policy, policy.of("k")] if keyed else [policy]
        for handle in handles:
            with pytest.raises(error) as caught:
                handle.change(**arguments)
            assert said in str(caught.value)
        handle = handles[-1]
        assert left_now(handle.take) == 4
        with pytest.raises(RateLimited) as refused:
            handle.take()
        assert refused.value.retry_after == 0.25


def test_more_than_the_new_burst_is_an_error_for_whoever_comes_and_none_for_whoever_waits(
    exact_loop: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(1, burst=5, max_wait=math.inf, cost=lambda tokens: tokens)
        policy.take(5)
        fn = policy(w.function(lambda _: w.now()))

        async def lower() -> None:
            await w.sleep(1.0)
            policy.change(burst=2)
            with pytest.raises(ValueError, match="n must be at most the burst, 2, not 5"):
                policy.take(5)
            with pytest.raises(ValueError, match="cost must be at most the burst, 2, not 5"):
                await fn(5)

        results = await w.together(
            *in_order(w, functools.partial(fn, 5), functools.partial(fn, 1), lower)
        )
        assert results == [pytest.approx(5.0), pytest.approx(9.0), None]

    exact_loop.run(scenario)


def test_calls_that_passed_ahead_of_a_change_are_counted_by_it(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.01, burst=100)
        fn = policy(w.function(lambda: None))
        for _ in range(30):
            await w.call(fn)
        policy.change(burst=40)
        for _ in range(10):
            await w.call(fn)
        with pytest.raises(RateLimited):
            await w.call(fn)
        assert policy.stats().calls == 40

    world.run(scenario)


@pytest.mark.rule("T3")
def test_a_new_start_is_by_the_first_terms() -> None:
    with virtual_time():
        policy = rate_limit(2)
        policy.change(rate=5)
        with fresh():
            assert left_now(policy.take) == 2


@pytest.mark.rule("F4")
def test_changes_from_several_threads_lose_nobody_who_waits() -> None:
    with virtual_time():
        policy = rate_limit(1, burst=1, max_wait=math.inf, key=lambda n: n % 3)
        fn = policy(lambda n: n)

        def call() -> None:
            for n in range(60):
                assert fn(n) == n

        def change(rate: float) -> None:
            for step in range(60):
                policy.change(rate=rate + step, burst=1 + step % 5)

        outcomes = in_threads(
            call, call, call, functools.partial(change, 0.5), functools.partial(change, 50.0)
        )
        assert outcomes == [None] * 5
        assert policy.stats() == RateLimitStats(policy.name, calls=180, rejected=0, queued=0)

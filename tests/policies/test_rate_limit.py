"""Rate limit in every world: who passes, who waits, and who is told when to come again."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import anyio
import anyio.to_thread
import pytest

from resilient import (
    DeadlineExceeded,
    RateLimit,
    RateLimited,
    RateLimitStats,
    deadline,
    rate_limit,
)
from resilient._runtime import clock
from resilient.events import CallRejected
from resilient.testing import VirtualTime, fresh, record, virtual_time
from tests.core.test_rate_limit import ROUNDING, Book
from tests.issues.clocks import Hand
from tests.worlds import World, in_threads, world_named

pytestmark = pytest.mark.loop

PATIENCE = 30.0


def a_second(w: World, rate: float = 1.0, **settings: Any) -> RateLimit:
    """A limit of *rate* in one unit of the world."""
    return rate_limit(rate, per=w.unit, name="api", **settings)


@pytest.fixture(params=["asyncio", "trio", "threads"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The worlds whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


@pytest.fixture(params=["asyncio", "trio"])
def exact_loop(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_named(request.param) as one:
        yield one


async def cut(w: World, units: float, fn: Callable[[], Any]) -> Any:
    """Call, but be cancelled by somebody else after so long."""
    with anyio.move_on_after(units * w.unit):
        return await fn()
    return "cancelled"


def in_order(w: World, *functions: Callable[[], Any]) -> list[Callable[[], Any]]:
    """*functions*, each of which begins a little after the one before it."""

    async def begin(place: int, fn: Callable[[], Any]) -> Any:
        await w.sleep(place * 0.001)
        return await fn()

    return [functools.partial(begin, place, fn) for place, fn in enumerate(functions)]


# L5: waiting.


@pytest.mark.rule("L5")
def test_a_burst_passes_and_the_others_wait_their_turn(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 2, max_wait=10 * w.unit)
        began = clock.now()
        passed = policy(w.function(lambda: (clock.now() - began) / w.unit))
        times = [await w.call(passed) for _ in range(6)]
        for at, least in zip(times, [0, 0, 0.5, 1.0, 1.5, 2.0], strict=True):
            assert at >= least - 1e-6
            assert w.name == "uvloop" or at == pytest.approx(least)
        assert policy.stats() == RateLimitStats("api", calls=6, rejected=0, queued=0)

    world.run(scenario)


@pytest.mark.rule("L5")
def test_a_pause_fills_the_bucket_up_to_the_burst_and_no_further(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.7, burst=3)
        for _ in range(3):
            policy.take()
        await w.sleep(5)
        for _ in range(3):
            policy.take()
        with pytest.raises(RateLimited):
            policy.take()

    world.run(scenario)


@pytest.mark.rule("L5")
def test_a_call_that_may_not_wait_is_refused_at_once_and_takes_nothing(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.01)
        fn = policy(w.function(lambda: "ran"))
        assert await w.call(fn) == "ran"
        began = w.now()
        with record(CallRejected) as events:
            for _ in range(2):
                with pytest.raises(RateLimited):
                    await w.call(fn)
            with pytest.raises(RateLimited) as caught:
                await w.call(fn)
        assert (caught.value.policy, caught.value.reason) == ("api", "rate")
        assert caught.value.retry_after == pytest.approx(100 * w.unit, rel=0.05)
        assert str(caught.value).startswith(
            "api: rate limited (a burst of 1 is used up); try again in "
        )
        assert w.name == "uvloop" or w.now() == began
        assert [(e.policy, e.kind, e.reason) for e in events] == [("api", "rate_limit", "rate")] * 3
        assert events[-1].retry_after == caught.value.retry_after
        assert policy.stats() == RateLimitStats("api", calls=1, rejected=3, queued=0)

    world.run(scenario)


@pytest.mark.rule("L5")
@pytest.mark.parametrize(("rate", "n"), [(3.0, 1), (3.0, 3), (0.7, 1), (1000.0, 7)])
def test_retry_after_is_exactly_when_a_call_that_does_not_wait_would_pass(
    exact: World, rate: float, n: int
) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, rate)
        await w.sleep(0.123456789)
        with pytest.raises(RateLimited):
            while True:
                policy.take()
        with pytest.raises(RateLimited) as caught:
            policy.take(n)
        assert caught.value.retry_after is not None
        at = clock.now() + caught.value.retry_after
        early = 1e-8  # what is left of a float after the sum of two sleeps
        await w.sleep(caught.value.retry_after - early)
        with pytest.raises(RateLimited):
            policy.take(n)
        await w.sleep(at - clock.now())
        while clock.now() < at:
            await w.sleep(1e-9)
        policy.take(n)

    exact.run(scenario)


@pytest.mark.rule("L5")
def test_a_call_made_when_retry_after_has_passed_is_let_through_in_real_time() -> None:
    policy = rate_limit(200, burst=1)
    policy.take()
    for _ in range(3):
        with pytest.raises(RateLimited) as caught:
            policy.take()
        assert caught.value.retry_after is not None
        until = clock.now() + caught.value.retry_after
        clock.wait(threading.Event(), until)
        policy.take()


@pytest.mark.rule("L5")
def test_a_wait_of_exactly_max_wait_is_not_longer_than_that(exact: World) -> None:
    async def scenario(w: World) -> None:
        fits, does_not = a_second(w, max_wait=1.0), a_second(w, max_wait=0.999999)
        for policy in (fits, does_not):
            policy.take()
        with pytest.raises(RateLimited):
            await w.call(does_not(w.function(w.now)))
        assert await w.call(fits(w.function(w.now))) == pytest.approx(1.0)

    exact.run(scenario)


@pytest.mark.rule("L5")
def test_those_who_wait_already_count_for_the_length_of_a_wait(exact_loop: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, max_wait=3.0)
        policy.take()
        fn = policy(w.function(w.now))
        results = await w.together(*([lambda: w.call(fn)] * 5))
        refused = [one for one in results if isinstance(one, RateLimited)]
        assert sorted(one for one in results if isinstance(one, float)) == pytest.approx([1, 2, 3])
        assert [error.retry_after for error in refused] == [4.0, 4.0]
        assert str(refused[0]) == (
            "api: rate limited (a burst of 1 is used up, 3 wait); try again in 4 s"
        )
        assert policy.stats() == RateLimitStats("api", calls=4, rejected=2, queued=0)

    exact_loop.run(scenario)


@pytest.mark.rule("L5", "F11")
def test_a_wait_longer_than_the_deadline_allows_is_refused_at_once(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.1, max_wait=math.inf)
        ran: list[int] = []
        fn = policy(w.function(lambda: ran.append(1)))
        await w.call(fn)
        began = w.now()
        with deadline(5.0 * w.unit):
            with pytest.raises(RateLimited) as caught:
                await w.call(fn)
            assert caught.value.reason == "rate"
            assert caught.value.retry_after is not None
            assert caught.value.retry_after > 5.0 * w.unit
        assert w.name == "uvloop" or w.now() == began
        assert policy.stats() == RateLimitStats("api", calls=1, rejected=1, queued=0)
        with deadline(100.0 * w.unit):
            if w.name != "uvloop":  # it took nothing
                await w.call(fn)
                assert w.now() == pytest.approx(10.0)
        assert len(ran) == (1 if w.name == "uvloop" else 2)

    world.run(scenario)


@pytest.mark.rule("L5")
def test_a_wait_that_ends_at_the_deadline_itself_would_be_too_late(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, max_wait=math.inf)
        policy.take()
        with deadline(1.0):
            with pytest.raises(RateLimited):
                await w.call(policy(w.function(lambda: None)))

    exact.run(scenario)


@pytest.mark.rule("L5", "F11")
def test_a_deadline_that_is_moved_while_a_call_waits_ends_its_wait(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.1, max_wait=math.inf)
        policy.take()
        ran: list[int] = []
        fn = policy(w.function(lambda: ran.append(1)))
        limits: list[Any] = []

        async def caller() -> None:
            with deadline(50.0) as limit:
                limits.append(limit)
                with pytest.raises(DeadlineExceeded) as caught:
                    await w.call(fn)
                assert (caught.value.policy, caught.value.started) == ("api", False)
                raise caught.value

        async def control() -> None:
            await w.sleep(1)
            limits[0].reschedule(1.0)

        if w.is_async:
            results = await w.together(caller, control)
            assert isinstance(results[0], DeadlineExceeded)
            assert w.now() == pytest.approx(2.0)
        else:
            with deadline(50.0) as limit, pytest.raises(DeadlineExceeded):
                waits_behind_another(w, policy, fn, lambda: limit.reschedule(0.0))
        assert not ran
        stats = policy.stats()
        assert (stats.queued, stats.rejected) == (0, 0)

    exact.run(scenario)


def waits_behind_another(
    w: World, policy: RateLimit, fn: Callable[[], Any], meanwhile: Callable[[], Any]
) -> Any:
    """Call *fn* behind a waiter of a loop; *meanwhile* is done before that one has passed."""
    time: VirtualTime = w.time  # type: ignore[attr-defined]  # plain threads have virtual time
    begun, told = threading.Event(), threading.Event()

    async def main() -> None:
        task = asyncio.create_task(policy(asyncio.sleep)(0))
        await asyncio.sleep(0)
        begun.set()
        await anyio.to_thread.run_sync(lambda: told.wait(PATIENCE))
        task.cancel()

    thread = threading.Thread(target=time.run, args=(main,), daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)

    def tell() -> None:
        pause = threading.Event()
        while len(policy._states.only.queue) < 2:
            pause.wait(0.0005)
        meanwhile()
        told.set()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        return fn()
    finally:
        told.set()
        thread.join(PATIENCE)
        teller.join(PATIENCE)


@pytest.mark.rule("L5", "D5")
def test_nothing_left_of_the_deadline_is_said_before_anything_is_taken(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, burst=1)
        fn = policy(w.function(lambda: "ran"))
        seen: list[tuple[str, bool]] = []

        async def late() -> None:
            await w.sleep(2.0)
            for call in (fn, w.function(policy.take), w.function(policy.admit)):
                try:
                    await w.call(call)
                except DeadlineExceeded as error:
                    seen.append((error.policy, error.started))

        if w.is_async:
            async with anyio.create_task_group() as group:
                with deadline(1.0 * w.unit):
                    group.start_soon(late)
        else:
            with deadline(1.0):
                await late()
        assert seen == [("api", False)] * 3
        assert policy.stats() == RateLimitStats("api", 0, 0, 0)
        policy.take()

    world.run(scenario)


@pytest.mark.rule("L5", "F11")
def test_sync_code_in_a_thread_with_a_running_loop_does_not_wait(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.01, max_wait=200 * w.unit)
        fn = policy(lambda: "ran")
        assert fn() == "ran"
        for call in (fn, lambda: policy.__enter__()):
            with pytest.raises(RateLimited) as caught:
                call()
            assert caught.value.reason == "would_block"
            assert caught.value.retry_after == pytest.approx(100 * w.unit, rel=0.1)
        assert policy.stats() == RateLimitStats("api", calls=1, rejected=2, queued=0)

    async_world.run(scenario)


@pytest.mark.rule("L5", "T2")
def test_a_sync_call_that_waits_lets_virtual_time_pass_at_once() -> None:
    """Nobody else need let it pass: one thread alone can play an hour."""
    with virtual_time() as time:
        policy = rate_limit(1, max_wait=math.inf)
        fn = policy(time.now)
        assert [fn() for _ in range(100)] == [float(second) for second in range(100)]
        with deadline(5.0), policy:
            assert time.now() == 100.0


@pytest.mark.rule("L5")
def test_a_wait_of_hours_goes_on_to_its_end() -> None:
    with virtual_time() as time:
        policy = rate_limit(1, per=10_000, max_wait=math.inf)
        fn = policy(time.now)
        assert [fn(), fn(), fn()] == pytest.approx([0, 10_000, 20_000])


# L4.


@pytest.mark.rule("L4")
def test_n_at_once_are_all_let_through_or_none(world: World) -> None:
    async def scenario(w: World) -> None:
        slow = w.name == "uvloop"  # its time is real, and must not refill what is counted here
        policy = a_second(w, 0.01 if slow else 10, burst=10)
        await w.call(w.function(lambda: policy.take(7)))
        with pytest.raises(RateLimited) as caught:
            policy.take(4)
        assert caught.value.retry_after == pytest.approx(100 * w.unit if slow else 0.1, rel=0.1)
        policy.take(3)
        with pytest.raises(RateLimited):
            policy.take(1)
        if slow:
            return
        await w.sleep(1.0)
        policy.take(10)
        assert policy.stats() == RateLimitStats("api", calls=3, rejected=2, queued=0)

    world.run(scenario)


@pytest.mark.rule("L4")
def test_more_at_once_than_the_burst_can_never_pass_and_is_an_error(world: World) -> None:
    async def scenario(w: World) -> None:
        keyed = a_second(w, 5, key=lambda tenant: tenant)
        for take in (a_second(w, 5).take, keyed.of("a").take):
            with pytest.raises(ValueError, match="n must be at most the burst, 5, not 6"):
                take(6)
            bads: list[tuple[Any, type[Exception]]]
            bads = [(0, ValueError), (1.0, TypeError), (True, TypeError)]
            for bad, error in bads:
                with pytest.raises(error, match=f"n must be .* at least 1, not {bad}"):
                    take(bad)
            take(5)
            with pytest.raises(RateLimited):
                take()

    world.run(scenario)


# L6.


@pytest.mark.rule("L6", "F9")
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1), (0, 1, 2)], ids=str)
def test_those_behind_a_cancelled_waiter_move_up(
    exact_loop: World, victims: tuple[int, ...]
) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.5, max_wait=math.inf)
        policy.take()
        fn = policy(w.function(w.now))

        async def caller(number: int) -> Any:
            await w.sleep(number * 0.01)
            return await cut(w, 1.0 if number in victims else math.inf, lambda: w.call(fn))

        results = await w.together(*(functools.partial(caller, number) for number in range(5)))
        left = [at for at in results if at != "cancelled"]
        assert len(left) == 5 - len(victims)
        assert left == pytest.approx([2.0 * turn for turn in range(1, len(left) + 1)])
        assert policy.stats() == RateLimitStats("api", 1 + len(left), 0, 0)
        with pytest.raises(RateLimited) as caught:
            policy.take()
        assert caught.value.retry_after == pytest.approx(2.0)

    exact_loop.run(scenario)


@pytest.mark.rule("L6", "F9")
@pytest.mark.parametrize("before", [0.0, 0.5, 1.0])
def test_a_waiter_that_is_cancelled_at_any_moment_takes_nothing(
    async_world: World, before: float
) -> None:
    """Also at the very instant of its turn, where the order of the two is the loop's."""

    async def scenario(w: World) -> None:
        policy = a_second(w, burst=1, max_wait=math.inf)
        policy.take()
        ran: list[float] = []
        fn = policy(w.function(lambda: ran.append(w.now())))
        outcomes = await w.together(
            lambda: cut(w, 1.0 - before, lambda: w.call(fn)), lambda: w.call(fn)
        )
        passed = outcomes.count(None)
        assert len(ran) == passed
        assert passed == 1 or (before == 0.0 and passed == 2)
        assert max(ran) >= passed - 1e-6
        assert policy.stats() == RateLimitStats("api", 1 + passed, 0, 0)

    async_world.run(scenario)


@pytest.mark.rule("L6", "F9")
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1), (1, 0), (0, 1, 2)], ids=str)
def test_cancellation_at_every_step_of_the_loop_leaves_nobody_behind(
    async_world: World, victims: tuple[int, ...]
) -> None:
    async def scenario(w: World) -> None:
        for step in range(12):
            policy = rate_limit(1000, burst=1, max_wait=math.inf)
            policy.take()
            outcomes: dict[int, str] = {}
            fn = policy(w.function(lambda: None))
            scopes = [anyio.CancelScope() for _ in range(3)]

            async def caller(
                number: int, fn: Any = fn, scopes: Any = scopes, outcomes: Any = outcomes
            ) -> None:
                with scopes[number]:
                    await fn()
                    outcomes[number] = "ran"
                outcomes.setdefault(number, "cancelled")

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(caller, number)
                for _ in range(step):
                    await anyio.lowlevel.checkpoint()
                for victim in victims:
                    scopes[victim].cancel()
                    await anyio.lowlevel.checkpoint()
            assert all(outcomes[n] == "ran" for n in range(3) if n not in victims)
            stats = policy.stats()
            assert (stats.queued, stats.rejected) == (0, 0)
            assert stats.calls == 1 + list(outcomes.values()).count("ran")

    async_world.run(scenario)


@pytest.mark.rule("L6", "F9")
def test_an_interrupted_thread_leaves_the_queue() -> None:
    class Interrupted(ByHand):
        def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
            raise KeyboardInterrupt

    with clock.install(Interrupted()):
        policy = rate_limit(1, max_wait=math.inf, name="api")
        policy.take()
        with pytest.raises(KeyboardInterrupt):
            policy(lambda: None)()
        assert policy.stats() == RateLimitStats("api", 1, 0, 0)


@pytest.mark.rule("L6", "F3", "F9")
def test_a_coroutine_that_is_never_finished_leaves_the_queue() -> None:
    async def main() -> None:
        policy = rate_limit(1, max_wait=math.inf)
        policy.take()
        fn = policy(asyncio.sleep)
        lost = fn(0)
        lost.send(None)
        other = asyncio.create_task(fn(0))
        await asyncio.sleep(0)
        assert policy.stats().queued == 2
        lost.close()
        began = clock.now()
        await other
        assert clock.now() - began == pytest.approx(1.0)
        assert policy.stats().queued == 0

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("L6")
def test_with_waiters_that_come_and_go_no_window_holds_more_than_the_rate(
    exact_loop: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(7, per=0.3, burst=3, max_wait=1.0)
        rate = Fraction(7) / Fraction("0.3")
        book = Book(rate, 3, ROUNDING)
        fn = policy(w.function(lambda: book.note(Fraction(clock.now()))))

        async def caller(number: int) -> Any:
            await w.sleep((number * 37 % 101) * 0.013)
            patience = (number * 53 % 11) * 0.07 if number % 3 == 0 else math.inf
            return await cut(w, patience, lambda: w.call(fn))

        results = await w.together(*(functools.partial(caller, number) for number in range(100)))
        refused = [error for error in results if isinstance(error, RateLimited)]
        assert results.count(None) == book.count
        assert len(refused) > 5
        assert results.count("cancelled") > 5
        assert book.count > 25
        assert policy.stats() == RateLimitStats(policy.name, book.count, len(refused), 0)

    exact_loop.run(scenario)


# Order, threads and loops.


class ByHand:
    """A clock that only the test moves, for loops and threads at once.

    A loop looks at it every now and then, a thread when it is moved.
    """

    def __init__(self) -> None:
        self.moved, self.at = threading.Condition(), math.floor(clock.now()) + 1.0

    def now(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        with self.moved:
            self.at += seconds
            self.moved.notify_all()

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        until = self.at + seconds
        with self.moved:
            assert self.moved.wait_for(lambda: self.at >= until, PATIENCE)

    def wait(self, event: clock.Event, until: float) -> None:
        assert until == math.inf, "a thread that is not the first waits to be woken"
        assert event.wait(PATIENCE)


TICK = 2.0**-9
"""Seconds: a whole number of nanoseconds, and exact in the float of any instant."""


@pytest.mark.rule("L5", "L6", "F4")
def test_who_waits_passes_in_the_order_of_arrival_across_tasks_loops_and_threads() -> None:
    order: list[int] = []
    pause = threading.Event()

    def until(true: Callable[[], bool]) -> None:
        for _ in range(60_000):
            if true():
                return
            pause.wait(0.0005)
        pytest.fail("it takes too long")

    def arrived(count: int) -> bool:
        return len(policy._states.only.queue) == count

    def in_thread(number: int) -> None:
        until(lambda: arrived(number))
        policy(order.append)(number)

    async def body(number: int) -> None:
        order.append(number)

    async def task(number: int) -> None:
        while not arrived(number):
            await anyio.lowlevel.checkpoint()
        await policy(body)(number)

    async def tasks(*numbers: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                group.create_task(task(number))

    def control() -> None:
        until(lambda: arrived(6))
        for count in range(1, 7):
            assert len(order) == count - 1
            time.advance(TICK)
            until(lambda count=count: len(order) == count)  # type: ignore[misc]  # no loop variable

    time = ByHand()
    with clock.install(time):
        policy = rate_limit(1, per=TICK, burst=1, max_wait=math.inf)
        policy.take()
        outcomes = in_threads(
            lambda: asyncio.run(tasks(0, 3)),
            lambda: asyncio.run(tasks(1, 4)),
            lambda: in_thread(2),
            lambda: in_thread(5),
            control,
        )
    assert outcomes == [None] * 5
    assert order == [0, 1, 2, 3, 4, 5]


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.rule("L4", "L5", "F4")
@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_of_eight_threads_at_one_instant_exactly_the_burst_passes(keyed: bool) -> None:
    with virtual_time():
        policy = rate_limit(500, key=(lambda: "k") if keyed else None)
        fn = policy(lambda: None)
        ran, rejected = [0] * 8, [0] * 8

        def work(index: int) -> None:
            for _ in range(150):
                try:
                    fn()
                    ran[index] += 1
                except RateLimited:
                    rejected[index] += 1

        assert in_threads(*(functools.partial(work, n) for n in range(8))) == [None] * 8
        assert sum(ran) == 500
        stats = policy.stats()
        assert (stats.calls, stats.rejected) == (500, 700) == (sum(ran), sum(rejected))


@pytest.mark.rule("L5", "L6", "F4")
@pytest.mark.usefixtures("switching")
def test_eight_threads_that_wait_all_pass_and_not_faster_than_the_rate() -> None:
    with virtual_time() as time:
        policy = rate_limit(10, burst=1, max_wait=math.inf)
        ran = [0] * 8

        def work(index: int) -> None:
            for _ in range(50):
                policy(lambda: None)()
                ran[index] += 1

        assert in_threads(*(functools.partial(work, n) for n in range(8))) == [None] * 8
        assert sum(ran) == 400
        assert time.now() >= 39.9 - 1e-6
        assert policy.stats() == RateLimitStats(policy.name, 400, 0, 0)


# Blocks, single calls and keys.


@pytest.mark.rule("L5", "F3")
def test_a_block_waits_as_a_call_does_and_admit_never_does(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.5, max_wait=2 * w.unit)
        call = policy.admit()
        with pytest.raises(RateLimited):
            policy.admit()
        call.close()
        with pytest.raises(RateLimited):
            policy.admit()
        if w.is_async:
            async with policy:
                at = w.now()
        else:
            with policy:
                at = w.now()
        assert at >= 2 - 1e-6
        assert w.name == "uvloop" or at == pytest.approx(2)
        assert policy.stats() == RateLimitStats("api", calls=2, rejected=2, queued=0)

    world.run(scenario)


@pytest.mark.rule("F10", "L5")
def test_each_key_has_its_own_rate(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.01, key=lambda tenant: tenant)
        fn = policy(w.function(lambda tenant: tenant))
        assert [await w.call(fn, tenant) for tenant in "ab"] == ["a", "b"]
        for tenant in "ab":
            with pytest.raises(RateLimited):
                await w.call(fn, tenant)
        handle = policy.of("c")
        assert handle.stats() == RateLimitStats("api", 0, 0, 0)
        assert policy.keys() == ["a", "b"]
        handle.take()
        for take in (handle.take, handle.admit):
            with pytest.raises(RateLimited):
                take()
        assert handle.stats() == RateLimitStats("api", 1, 2, 0)
        assert policy.stats() == RateLimitStats("api", 3, 4, 0)
        for use in (policy.take, policy.admit, policy.__enter__):
            with pytest.raises(TypeError, match=r"write \.of\(key\)"):
                use()
        if w.is_async:
            async with policy.of("d"):
                pass
        else:
            with policy.of("d"):
                pass
        assert "d" in set(policy.keys())

    world.run(scenario)


@pytest.mark.rule("F10")
def test_the_key_whose_bucket_is_full_goes_first_and_totals_outlive_it() -> None:
    with virtual_time() as time:
        policy = rate_limit(1, burst=2, key=lambda tenant: tenant, max_keys=2)
        policy.of("busy").take(2)
        time.advance(1.5)
        policy.of("seldom").take()
        time.advance(0.4)
        policy.of("busy").take()
        time.advance(0.7)
        policy.of("new").take()  # "seldom" is full again, and was used before
        assert set(policy.keys()) == {"busy", "new"}
        policy.of("newer").take()  # nobody is: the least recently used goes
        assert set(policy.keys()) == {"new", "newer"}
        assert policy.stats().calls == 5


@pytest.mark.rule("F10", "L6")
def test_a_key_that_somebody_waits_for_is_kept(exact_loop: World) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(1, max_wait=10.0, key=lambda tenant: tenant, max_keys=1)
        fn = policy(w.function(lambda _: w.now()))
        policy.of("a").take()

        async def others() -> None:
            await w.sleep(0.5)
            for tenant in range(5):
                policy.of(tenant).take()
            assert "a" in set(policy.keys())
            assert policy.stats().queued == 1

        results = await w.together(lambda: w.call(fn, "a"), others)
        assert results == [pytest.approx(1.0), None]

    exact_loop.run(scenario)


@pytest.mark.rule("F1", "L5")
def test_a_sync_function_that_returns_a_coroutine_is_refused() -> None:
    def returns_a_coroutine() -> object:
        return asyncio.sleep(1)

    with pytest.raises(TypeError, match="async def"):
        rate_limit(1)(returns_a_coroutine)()


@pytest.mark.rule("F8", "F9", "L5")
def test_what_the_function_raises_is_what_the_caller_gets(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 5)

        def body(error: BaseException) -> None:
            raise error

        fn = policy(w.function(body))
        for error in (ValueError("mine"), KeyboardInterrupt(), GeneratorExit()):
            with pytest.raises(type(error)) as caught:
                await w.call(fn, error)
            assert caught.value is error
        assert policy.stats() == RateLimitStats("api", 3, 0, 0)

    world.run(scenario)


# Time, a new start and a fork.


@pytest.mark.rule("T2", "L5")
def test_leaving_virtual_time_the_clock_steps_back_and_the_limit_with_it() -> None:
    policy = rate_limit(1e-3, burst=1)
    with virtual_time() as time:
        policy.take()
        time.advance(10_000)
        policy.take()
        with pytest.raises(RateLimited):
            policy.take()
    with pytest.raises(RateLimited) as caught:
        policy.take()
    assert caught.value.retry_after == pytest.approx(1000, rel=0.01)


@pytest.mark.rule("T3", "L6")
def test_a_new_start_has_a_full_bucket_and_who_waits_passes_where_it_began() -> None:
    async def main() -> None:
        policy = rate_limit(1, max_wait=math.inf)
        policy.take()
        task = asyncio.create_task(policy(asyncio.sleep)(0))
        await asyncio.sleep(0.5)
        with fresh():
            policy.take()
            assert policy.stats() == RateLimitStats("sleep", 1, 0, 0)
            await task
        assert time.now() == pytest.approx(1.0)
        policy.take()

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("L6", "F4")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform")
def test_in_the_child_of_a_fork_nobody_stands_behind_threads_of_its_parent() -> None:
    with virtual_time() as time:
        policy = rate_limit(1, burst=1, max_wait=math.inf)
        policy.take()

        async def main() -> None:
            task = asyncio.create_task(policy(asyncio.sleep)(0))
            await asyncio.sleep(0)
            assert policy.stats().queued == 1
            pid = os.fork()
            if pid == 0:
                good = False
                try:
                    time.advance(1.0)
                    policy.take()
                    good = policy.stats() == RateLimitStats("sleep", 2, 0, 0)
                finally:
                    os._exit(0 if good else 1)
            children.append(pid)
            await task

        children: list[int] = []
        time.run(main)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
        assert policy.stats() == RateLimitStats("sleep", 2, 0, 0)
    gc.collect(0)


# Bad input.


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"rate": 0}, ValueError, "rate must be a finite number above 0, not 0"),
        ({"rate": -1.5}, ValueError, "rate must be a finite number above 0, not -1.5"),
        ({"rate": math.nan}, ValueError, "rate must be a finite number above 0, not nan"),
        ({"rate": math.inf}, ValueError, "rate must be a finite number above 0, not inf"),
        ({"rate": "1"}, TypeError, "rate must be a number above 0, not '1'"),
        ({"rate": True}, TypeError, "rate must be a number above 0, not True"),
        ({"rate": None}, TypeError, "rate must be a number above 0, not None"),
        ({"per": 0}, ValueError, "per must be a finite number above 0, not 0"),
        ({"per": -1}, ValueError, "per must be a finite number above 0, not -1"),
        ({"per": math.inf}, ValueError, "per must be a finite number above 0, not inf"),
        ({"per": None}, TypeError, "per must be seconds or a timedelta, above 0, not None"),
        ({"burst": 0}, ValueError, "burst must be a whole number of at least 1, not 0"),
        ({"burst": 1.5}, TypeError, "burst must be a whole number of at least 1, not 1.5"),
        ({"burst": math.inf}, TypeError, "burst must be a whole number of at least 1, not inf"),
        ({"max_wait": -1}, ValueError, "max_wait must be a number of at least 0, not -1"),
        ({"max_wait": math.nan}, ValueError, "max_wait must be a number of at least 0, not nan"),
        ({"max_wait": None}, TypeError, "max_wait must be seconds or a timedelta"),
        ({"cost": 2}, ValueError, "cost must be at most the burst, 1, not 2"),
        ({"key": 3}, TypeError, "key must be a function of the call's arguments"),
        ({"max_keys": 0}, ValueError, "max_keys must be a whole number of at least 1, not 0"),
        ({"name": 3}, TypeError, "name must be a string or None, not 3"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_its_value_and_range(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        rate_limit(**{"rate": 1, **arguments})
    assert said in str(caught.value)


@pytest.mark.rule("F1")
def test_a_forgotten_pair_of_parentheses_is_told() -> None:
    with pytest.raises(TypeError, match=r"write @rate_limit\(100\), with parentheses"):
        rate_limit(lambda: None)  # type: ignore[arg-type]  # that is what is tested
    assert repr(rate_limit(1, name="api")) == "<RateLimit 'api'>"


# What a call costs.


@pytest.mark.rule("L4", "L5")
def test_a_call_takes_as_much_as_it_costs(world: World) -> None:
    async def scenario(w: World) -> None:
        for policy in (
            a_second(w, 0.01, burst=10, cost=lambda tokens, **_: tokens),
            a_second(w, 0.01, burst=10, cost=lambda tokens, **_: tokens, key=lambda *_, **__: "k"),
        ):
            fn = policy(w.function(lambda tokens, tenant="a": (tokens, tenant)))
            assert await w.call(fn, 7) == (7, "a")
            with pytest.raises(RateLimited) as caught:
                await w.call(fn, tokens=4)
            assert caught.value.retry_after == pytest.approx(100 * w.unit, rel=0.1)
            assert await w.call(fn, 3) == (3, "a")
            assert await w.call(fn, 0) == (0, "a"), "it takes nothing, and passes at once"
            with pytest.raises(RateLimited):
                await w.call(fn, 1)
            assert policy.stats() == RateLimitStats("api", calls=3, rejected=2, queued=0)

    world.run(scenario)


@pytest.mark.rule("L4", "L5", "F3")
def test_a_cost_that_is_a_number_is_that_of_blocks_and_single_calls_too(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 0.01, burst=12, cost=4)
        await w.call(policy(w.function(lambda: None)))
        policy.admit().close()
        if w.is_async:
            async with policy:
                pass
        else:
            with policy:
                pass
        for refused, lacking in ((policy.admit, 4), (policy.__enter__, 4), (policy.take, 1)):
            with pytest.raises(RateLimited) as caught:
                refused()
            assert caught.value.retry_after == pytest.approx(lacking * 100 * w.unit, rel=0.1)
        assert policy.stats() == RateLimitStats("api", calls=3, rejected=3, queued=0)
        with_function = a_second(w, 0.01, burst=2, cost=lambda: 2)
        with_function.admit().close()
        with_function.take()
        with pytest.raises(RateLimited):
            with_function.admit()

    world.run(scenario)


@pytest.mark.rule("L6")
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_who_waits_for_much_is_not_overtaken_by_who_wants_little(
    exact_loop: World, keyed: bool
) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(
            1,
            burst=5,
            max_wait=9.0,
            cost=lambda tokens: tokens,
            key=(lambda _: "k") if keyed else None,
        )
        (policy.of("k") if keyed else policy).take(5)
        fn = policy(w.function(lambda _: w.now()))
        costs = (4, 1, 4, 1)
        results = await w.together(*in_order(w, *(functools.partial(fn, n) for n in costs)))
        assert results[:3] == pytest.approx([4.0, 5.0, 9.0])
        assert isinstance(results[3], RateLimited)
        assert results[3].retry_after == pytest.approx(9.997)

    exact_loop.run(scenario)


@pytest.mark.rule("L6", "F9")
def test_those_behind_a_dear_waiter_that_is_cancelled_move_up_by_what_it_costs(
    exact_loop: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(1, burst=8, max_wait=math.inf, cost=lambda tokens: tokens, name="api")
        policy.take(8)
        fn = policy(w.function(lambda _: w.now()))

        async def hasty() -> Any:
            return await cut(w, 1.0, lambda: w.call(fn, 8))

        results = await w.together(
            *in_order(w, functools.partial(fn, 2), hasty, functools.partial(fn, 3))
        )
        assert results == [pytest.approx(2.0), "cancelled", pytest.approx(5.0)]
        assert policy.stats() == RateLimitStats("api", calls=3, rejected=0, queued=0)

    exact_loop.run(scenario)


@pytest.mark.rule("L5")
def test_with_costs_retry_after_is_exactly_when_that_call_would_pass(exact_loop: World) -> None:
    async def scenario(w: World) -> None:
        policy = rate_limit(3, burst=6, max_wait=1.0, cost=lambda tokens: tokens)
        policy.take(6)
        fn = policy(w.function(lambda _: w.now()))

        async def refused() -> None:
            await w.sleep(0.25)
            with pytest.raises(RateLimited) as caught:
                await w.call(fn, 5)
            assert caught.value.retry_after is not None
            at = clock.now() + caught.value.retry_after
            await w.sleep(caught.value.retry_after - 1e-8)
            with pytest.raises(RateLimited):
                policy.take(5)
            while clock.now() < at:
                await w.sleep(1e-9)
            policy.take(5)

        two, one = functools.partial(fn, 2), functools.partial(fn, 1)
        results = await w.together(*in_order(w, two, one, refused))
        assert results == [pytest.approx(2 / 3), pytest.approx(1.0), None]

    exact_loop.run(scenario)


@pytest.mark.rule("F7", "L4")
@pytest.mark.parametrize(
    ("cost", "error", "said"),
    [
        (6, ValueError, "cost must be at most the burst, 5, not 6"),
        (-1, ValueError, "cost must be a whole number of at least 0, not -1"),
        (1.5, TypeError, "cost must be a whole number of at least 0, not 1.5"),
        (True, TypeError, "cost must be a whole number of at least 0, not True"),
        (None, TypeError, "cost must be a whole number of at least 0, not None"),
    ],
    ids=str,
)
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_a_cost_that_can_not_be_is_an_error_of_that_call_which_takes_nothing(
    world: World, cost: Any, error: type[Exception], said: str, keyed: bool
) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(
            w,
            0.01,
            burst=5,
            max_wait=1000,
            cost=lambda tokens: tokens,
            key=(lambda _: "k") if keyed else None,
        )
        ran: list[Any] = []
        fn = policy(w.function(ran.append))
        with pytest.raises(error) as caught:
            await w.call(fn, cost)
        assert str(caught.value) == said
        await w.call(fn, 5)
        assert ran == [5]
        assert policy.stats() == RateLimitStats("api", calls=1, rejected=0, queued=0)

    world.run(scenario)


@pytest.mark.rule("F8", "L4")
def test_what_a_cost_function_raises_is_the_error_of_that_call(world: World) -> None:
    async def scenario(w: World) -> None:
        def cost(request: dict[str, int]) -> int:
            return request["tokens"]

        policy = a_second(w, 0.01, burst=5, cost=cost)
        fn = policy(w.function(lambda request: request))
        with pytest.raises(KeyError):
            await w.call(fn, {})
        await w.call(fn, {"tokens": 5})
        assert policy.stats() == RateLimitStats("api", calls=1, rejected=0, queued=0)

    world.run(scenario)


@pytest.mark.rule("F7")
def test_a_cost_that_is_no_number_and_no_function_that_answers_at_once_is_refused() -> None:
    async def later(tokens: int) -> int:
        return tokens

    with pytest.raises(TypeError, match="cost must be a function that answers at once"):
        rate_limit(5, cost=later)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(TypeError, match="and this gave"):
        rate_limit(5, cost=lambda: later(1))(lambda: None)()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cost must be at most the burst, 5, not 6"):
        rate_limit(5, cost=6)


# Places given ahead: see the head of `_core/rate_limit.py`.


@pytest.mark.rule("L4")
def test_calls_that_were_given_ahead_are_counted_by_whoever_looks(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = a_second(w, 100, burst=50)
        fn = policy(w.function(lambda: None))
        for made in range(1, 51):
            await w.call(fn)
            if made % 7 == 0:
                assert policy.stats().calls == made
        with pytest.raises(RateLimited):
            await w.call(fn)
        assert policy.stats() == RateLimitStats("api", calls=50, rejected=1, queued=0)

    exact.run(scenario)


@pytest.mark.rule("L5")
def test_what_was_taken_ahead_by_another_clock_counts_as_of_that_clock() -> None:
    with clock.install(Hand(1e6)):
        policy = rate_limit(10, burst=20)
        fn = policy(lambda: None)
        for _ in range(11):
            fn()
        with clock.install(early := Hand(1000.0)):
            fn()
            early.at += 5
            for _ in range(20):  # all of them: the bucket is full again
                fn()
            with pytest.raises(RateLimited):
                fn()


@pytest.mark.rule("L4", "L5")
def test_places_that_were_given_ahead_before_a_new_beginning_are_worth_nothing_after_it() -> None:
    with virtual_time() as time:
        policy = rate_limit(10, burst=20)
        fn = policy(lambda: None)
        for _ in range(11):
            fn()
        with fresh():
            assert policy.stats().calls == 0
            for _ in range(20):
                fn()
            with pytest.raises(RateLimited):
                fn()
            assert policy.stats().calls == 20
            time.advance(0.125)  # a sum of halves: a clock that reads 0.1 more may round it down
            fn()

"""The throttle in every world: what it counts, what it rejects, how it recovers."""

from __future__ import annotations

import functools
import gc
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient import (
    BreakerState,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    ThrottleStats,
    breaker,
    deadline,
    throttle,
    timeout,
)
from resilient.events import CallRejected
from resilient.testing import VirtualTime, fresh, record, virtual_time
from tests.worlds import World, in_threads, world_named

NAN, INF = math.nan, math.inf


@pytest.fixture(params=["asyncio", "trio", "threads"])
def virtual(request: pytest.FixtureRequest) -> Iterator[World]:
    """The worlds whose time is virtual."""
    with world_named(request.param) as one:
        yield one


class Worst(random.Random):
    """Dice that reject whoever may be rejected."""

    def random(self) -> float:
        return 0.0


class Best(random.Random):
    """Dice that reject nobody."""

    def random(self) -> float:
        return math.nextafter(1.0, 0.0)


class Down(Exception):
    """What the dependency says while it is down."""


def counts(policy: Any) -> tuple[int, int, int]:
    """Requests, accepts, rejected."""
    stats = policy.stats()
    return stats.requests, stats.accepts, stats.rejected


def failing(w: World, error: BaseException) -> Callable[..., Any]:
    def fails(*_: object) -> None:
        raise error

    return w.function(fails)


async def fail(w: World, policy: Any, times: int = 20) -> None:
    """So many calls that are let through, and fail."""
    fn = policy(failing(w, Down()))
    for _ in range(times):
        with pytest.raises(Down):
            await w.call(fn)


# What it counts.


@pytest.mark.rule("L8")
def test_requests_are_the_calls_that_were_let_through_and_ended(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(name="api", rng=Best())
        assert policy.stats() == ThrottleStats("api", 0, 0, 0, 0.0)
        good = policy(w.function(lambda: 5))
        for _ in range(4):
            assert await w.call(good) == 5
        call = policy.admit()
        assert counts(policy) == (4, 4, 0)
        call.close()
        with policy:
            pass
        async with policy:
            pass
        await fail(w, policy, 13)
        assert policy.stats() == ThrottleStats("api", 20, 7, 0, 6 / 21)

    world.run(scenario)


@pytest.mark.rule("F16", "L8")
def test_a_result_may_be_as_bad_as_an_error(world: World) -> None:
    async def scenario(w: World) -> None:
        def busy(status: int) -> bool:
            return status >= 500

        one = throttle(on_result=busy, rng=Best())
        keyed = throttle(on_result=busy, key=lambda _: "k", rng=Best())
        for policy in (one, keyed):
            ask = policy(w.function(lambda status: status))
            asked = [await w.call(ask, status) for status in (200, 503, 404, 500)]
            assert asked == [200, 503, 404, 500], "the caller gets what it would without"
            assert await w.call(functools.partial(policy.call, w.function(int)), 502) == 502
            assert counts(policy) == (5, 2, 0)
        for block in (one, keyed.of("k")):
            with block:
                pass  # has no result, and nothing is asked
            with block as call:
                call.fail()
            block.admit().close()
        assert counts(one) == counts(keyed) == (8, 4, 0)

    world.run(scenario)


@pytest.mark.rule("L8")
def test_a_call_that_is_turned_away_is_not_made_and_is_no_request(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(name="api", rng=Worst(), minimum=3, k=1.0)
        await fail(w, policy, 3)
        made: list[int] = []
        fn = policy(w.function(lambda: made.append(1)))
        with record(CallRejected) as events:
            with pytest.raises(Overloaded) as caught:
                await w.call(fn)
            for _ in range(9):
                with pytest.raises(Overloaded):
                    await w.call(fn)
            with pytest.raises(Overloaded):
                policy.admit()
            with pytest.raises(Overloaded):
                with policy:
                    made.append(2)
            with pytest.raises(Overloaded):
                async with policy:
                    made.append(3)
        error = caught.value
        assert (error.policy, error.reason, error.retry_after) == ("api", "throttled", None)
        assert str(error) == "api: overloaded (3 of 3 calls failed); the call was not made"
        assert not made
        assert counts(policy) == (3, 0, 13)
        assert policy.stats().probability == 0.75
        assert {(event.policy, event.kind, event.reason) for event in events} == {
            ("api", "throttle", "throttled")
        }
        assert len(events) == 13

    world.run(scenario)


class Interrupted(BaseException):
    """Such as a cancellation is."""


@pytest.mark.rule("L8", "F9")
@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, Interrupted])
def test_an_interrupted_call_is_neither_request_nor_accept(
    world: World, error: type[BaseException]
) -> None:
    async def scenario(w: World) -> None:
        policy = throttle()
        fn = policy(failing(w, error()))
        group = policy(failing(w, BaseExceptionGroup("both", [error(), Down()])))
        for _ in range(20):
            with pytest.raises(error):
                await w.call(fn)
            with pytest.raises(error):
                with policy:
                    raise error
            with pytest.raises(BaseExceptionGroup):
                await w.call(group)
        assert counts(policy) == (0, 0, 0)
        assert policy._states.only.idle()

    world.run(scenario)


@pytest.mark.rule("L8", "F9")
def test_a_cancelled_call_is_neither_request_nor_accept(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle()
        fn = policy(w.function(lambda: w.sleep(100)))

        async def foreign() -> None:
            with anyio.move_on_after(0.5 * w.unit):
                await fn()

        async def ours() -> None:
            async with deadline(0.5 * w.unit):
                async with policy:
                    await w.sleep(100)

        results = await w.together(*[foreign] * 20, *[ours] * 20)
        assert sum(isinstance(one, DeadlineExceeded) for one in results) == 20
        assert counts(policy) == (0, 0, 0)
        assert policy._states.only.idle()

    async_world.run(scenario)


@pytest.mark.rule("L8")
def test_a_coroutine_that_is_collected_and_a_call_that_is_lost_count_nowhere() -> None:
    policy = throttle()

    class Pause:
        def __await__(self) -> Any:
            yield

    async def body() -> None:
        await Pause()

    running, never = policy(body)(), policy(body)()
    running.send(None)
    call = policy.admit()
    assert policy._states.only.in_flight == 2
    del running, call
    gc.collect(0)
    never.close()
    assert policy._states.only.in_flight == 0
    assert counts(policy) == (0, 0, 0)


@pytest.mark.rule("L8")
def test_what_an_inner_policy_did_not_make_counts_nowhere_and_a_time_out_is_a_failure(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(on=Down, rng=Best())
        forced = policy(breaker(initial=BreakerState.FORCED_OPEN)(w.function(lambda: None)))
        late = policy(timeout(0)(w.function(lambda: None)))
        for _ in range(20):
            with pytest.raises(CircuitOpen):
                await w.call(forced)
            with pytest.raises(DeadlineExceeded):
                await w.call(late)
        assert counts(policy) == (0, 0, 0)
        slow = policy(failing(w, DeadlineExceeded("slow", 1.0, 1.0, True)))
        with pytest.raises(DeadlineExceeded):
            await w.call(slow)
        assert counts(policy) == (1, 0, 0)

    world.run(scenario)


@pytest.mark.rule("L8", "F12")
def test_an_accept_is_a_call_without_a_counted_failure(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(on=(Down, lambda error: "503" in str(error)), rng=Best())
        for error, accepted in (
            (ValueError("404"), True),
            (ValueError("503"), False),
            (Down(), False),
            (ExceptionGroup("", [KeyError(), KeyError()]), True),
            (ExceptionGroup("", [KeyError(), Down()]), False),
        ):
            before = counts(policy)
            with pytest.raises(type(error)) as caught:
                await w.call(policy(failing(w, error)))
            assert caught.value is error
            assert counts(policy) == (before[0] + 1, before[1] + accepted, 0), error

    world.run(scenario)


@pytest.mark.rule("L8", "F3")
def test_a_block_says_what_no_exception_shows(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(rng=Best())
        with policy as call:
            call.fail()
        assert counts(policy) == (1, 0, 0)
        with pytest.raises(Down):
            async with policy as call:
                call.ignore()
                raise Down
        assert counts(policy) == (1, 0, 0)
        call = policy.admit()
        call.close(Down())
        call.close()
        assert counts(policy) == (2, 0, 0)
        del w

    world.run(scenario)


@pytest.mark.rule("F1")
def test_a_sync_function_that_returns_a_coroutine_is_refused_and_counts_nowhere() -> None:
    async def work() -> None: ...

    policy = throttle()
    with pytest.raises(TypeError, match="async def"):
        policy.call(lambda: work())  # type: ignore[unused-coroutine]  # the wrong way to write it
    assert counts(policy) == (0, 0, 0)
    assert policy._states.only.idle()


def test_a_predicate_that_exits_ends_the_call_and_counts_nothing() -> None:
    def exits(_: Exception) -> bool:
        raise SystemExit

    policy = throttle(on=exits)

    @policy
    def fails() -> None:
        raise Down

    with pytest.raises(SystemExit):
        fails()
    assert policy._states.only.idle()
    assert counts(policy) == (0, 0, 0)


@pytest.mark.rule("D5")
def test_it_does_not_look_at_the_deadline() -> None:
    policy = throttle()
    with virtual_time() as time, deadline(1) as limit:
        time.advance(2)
        assert limit.expired
        assert policy.call(int) == 0
        policy.admit().close()
    assert counts(policy) == (2, 2, 0)


# L8: it can't feed on itself.


@pytest.mark.rule("L8")
@pytest.mark.parametrize("most", [0.25, 0.9])
def test_however_bad_it_is_no_more_than_the_most_is_rejected(world: World, most: float) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(max_reject=most, rng=random.Random(1))
        await fail_some(w, policy, 40)
        assert policy.stats().probability == most
        rejected, before = 0, policy.stats().rejected
        for _ in range(400):
            rejected += await is_rejected(w, policy)
        assert policy.stats().rejected == before + rejected
        assert rejected / 400 <= most + 0.1
        assert rejected / 400 >= most - 0.1

    world.run(scenario)


async def is_rejected(w: World, policy: Any, error: BaseException | None = None) -> bool:
    """One call, which fails unless it is turned away."""
    try:
        await w.call(policy(failing(w, error or Down())))
    except Overloaded:
        return True
    except Down:
        pass
    return False


async def fail_some(w: World, policy: Any, times: int) -> None:
    for _ in range(times):
        await is_rejected(w, policy)


@pytest.mark.rule("L8")
def test_at_least_one_call_a_second_passes_however_the_dice_fall(virtual: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(rng=Worst(), minimum=1, window=1000.0)
        await fail(w, policy, 1)
        for _ in range(3):
            assert await is_rejected(w, policy)
            await w.sleep(0.75)
            assert await is_rejected(w, policy)
            await w.sleep(0.25)
            assert not await is_rejected(w, policy)

    virtual.run(scenario)


@pytest.mark.rule("L8")
def test_once_the_dependency_is_back_all_are_admitted_again_within_one_window(
    virtual: World,
) -> None:
    """With the worst of dice, after an outage of six windows."""

    async def scenario(w: World) -> None:
        policy = throttle(rng=Worst())
        good = policy(w.function(lambda: None))
        for _ in range(20):
            await w.call(good)
        for _ in range(60):
            await fail_some(w, policy, 12)
            await w.sleep(1)
        assert policy.stats().rejected > 300
        over, rejected = w.now(), [0.0]
        while w.now() < over + 14:
            try:
                await w.call(good)
            except Overloaded:
                rejected.append(w.now() - over)
            await w.sleep(0.25)
        assert max(rejected) < 10
        assert policy.stats().probability == 0.0

    virtual.run(scenario)


@pytest.mark.rule("L8")
def test_a_minute_of_outage_is_over_in_a_window_in_virtual_time() -> None:
    """20 calls a second with fair dice: how many are lost, and when the last one is."""
    with virtual_time(seed=3) as time:
        policy = throttle()
        down, last, lost = False, 0.0, 0

        @policy
        def call() -> None:
            if down:
                raise Down

        for step in range(20 * 140):
            down = 20 <= step / 20 < 80
            try:
                call()
            except Down:
                pass
            except Overloaded:
                if step / 20 >= 80:
                    last, lost = step / 20 - 80, lost + 1
            time.advance(0.05)
        stats = policy.stats()
    assert 0 < last < 10
    assert lost < 100
    assert stats.requests < 20 * 80 + 0.3 * 20 * 60, "most of the outage was spared"


# Keys, a fresh start, the clock, threads.


@pytest.mark.rule("L8", "F10")
def test_each_key_has_a_state_of_its_own(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(key=lambda tenant: tenant, rng=Worst(), minimum=5, max_keys=2, name="api")
        bad = policy(failing(w, Down()))
        good = policy(w.function(lambda tenant: tenant))
        assert policy.of("a").stats() == ThrottleStats("api", 0, 0, 0, 0.0)
        assert policy.keys() == []
        for _ in range(5):
            with pytest.raises(Down):
                await w.call(bad, "a")
        with record(CallRejected) as events:
            with pytest.raises(Overloaded):
                await w.call(good, "a")
            with pytest.raises(Overloaded):
                policy.of("a").admit()
        assert [event.key for event in events] == ["a", "a"]
        assert await w.call(good, "b") == "b"
        with policy.of("b"):
            pass
        assert policy.of("a").stats() == ThrottleStats("api", 5, 0, 2, 5 / 6)
        assert policy.of("b").stats() == ThrottleStats("api", 2, 2, 0, 0.0)
        assert policy.stats() == ThrottleStats("api", 7, 2, 2, 5 / 6)
        assert await w.call(good, "c") == "c"
        assert set(policy.keys()) == {"a", "c"}, "one without failures goes first"
        assert policy.stats().requests == 8, "with those of the key that went"
        with pytest.raises(TypeError, match=r"\.of\(key\)\.admit"):
            policy.admit()
        with pytest.raises(TypeError, match="no key="):
            throttle().of("a")

    world.run(scenario)


@pytest.mark.rule("L8", "T3")
def test_a_fresh_one_starts_as_new(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = throttle(rng=Worst(), minimum=5)
        before = policy.admit()
        await fail(w, policy, 5)
        with fresh():
            assert policy.stats().probability == 0.0
            before.close(Down())
            assert counts(policy) == (0, 0, 0), "it ends where it began"
            await fail(w, policy, 4)
        assert counts(policy) == (0, 0, 0)
        assert not await is_rejected(w, policy)

    world.run(scenario)


@pytest.mark.rule("L8", "T2")
def test_after_virtual_time_it_goes_on_as_if_the_clock_had_stood_still() -> None:
    policy = throttle(rng=Worst(), minimum=5)

    def fails() -> None:
        raise Down

    def rejected(time: VirtualTime, seconds: float) -> bool:
        time.advance(seconds)
        try:
            policy.call(fails)
        except Overloaded:
            return True
        except Down:
            pass
        return False

    with virtual_time() as time:
        time.advance(1e6)
        for _ in range(5):
            assert not rejected(time, 0)
        assert rejected(time, 0.1)
    with virtual_time() as time:
        assert policy.stats().probability > 0
        assert not rejected(time, 1.0), "one a second"
        assert rejected(time, 0.1)
        assert not rejected(time, 0.9), "one a second"
        time.advance(10)
        assert policy.stats().probability == 0.0


@pytest.mark.rule("L8")
def test_dice_of_its_own_or_those_of_virtual_time_give_the_same_every_time() -> None:
    def run(**settings: Any) -> list[bool]:
        policy = throttle(**settings)
        outcomes = []
        for _ in range(60):
            try:
                policy.admit().close(Down())
                outcomes.append(True)
            except Overloaded:
                outcomes.append(False)
        return outcomes

    one, other = run(rng=random.Random(7)), run(rng=random.Random(7))
    assert one == other != run(rng=random.Random(8))
    drawn = []
    for _ in range(2):
        with virtual_time(seed=7):
            drawn.append(run())
    assert drawn[0] == drawn[1] == one


@pytest.mark.rule("L8", "F4")
@pytest.mark.parametrize("world", ["threads"])
def test_with_many_threads_no_call_is_lost(world: str) -> None:
    del world
    policy = throttle(rng=random.Random(1), max_reject=0.5)

    @policy
    def call(number: int) -> None:
        if number % 3:
            raise Down

    def caller() -> tuple[int, int, int]:
        good = bad = rejected = 0
        for number in range(300):
            try:
                call(number)
                good += 1
            except Down:
                bad += 1
            except Overloaded:
                rejected += 1
        return good, bad, rejected

    results = in_threads(*[caller] * 8)
    good, bad, rejected = (sum(column) for column in zip(*results, strict=True))
    assert counts(policy) == (good + bad, good, rejected)
    assert good + bad + rejected == 2400
    assert policy._states.only.idle()
    assert rejected

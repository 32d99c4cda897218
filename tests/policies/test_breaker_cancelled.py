"""B9: a call that a limit of ours cancelled is a failure; another cancellation counts nowhere, but
as slow (B14).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
import trio

from resilient import (
    Breaker,
    BreakerState,
    CircuitOpen,
    DeadlineExceeded,
    breaker,
    deadline,
    detached,
    pipeline,
    retry,
    singleflight,
    timeout,
)
from resilient.events import StateChanged
from resilient.testing import record, virtual_time
from tests.worlds import World

Body = Callable[[], Awaitable[object]]
Place = Callable[[Breaker], Coroutine[Any, Any, None]]


def outcome(policy: Breaker) -> str:
    """What became of the one call."""
    stats = policy.stats()
    assert (stats.calls, stats.in_flight) == (1, 0)
    return "failure" if stats.failures else "success" if stats.successes else "ignored"


# Ours.


async def in_a_function(policy: Breaker) -> None:
    await policy(anyio.sleep_forever)()


async def in_a_call(policy: Breaker) -> None:
    await policy.call(anyio.sleep_forever)


async def in_a_block(policy: Breaker) -> None:
    async with policy:
        await anyio.sleep_forever()


async def in_a_sync_block(policy: Breaker) -> None:
    with policy:
        await anyio.sleep_forever()


async def by_hand(policy: Breaker) -> None:
    call = policy.admit()
    try:
        await anyio.sleep_forever()
    except BaseException as error:
        call.close(error)
        raise


async def in_a_child(policy: Breaker) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(policy(anyio.sleep_forever))


async def in_a_grandchild(policy: Breaker) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(in_a_child, policy)
        group.start_soon(anyio.sleep_forever)


async def around_a_task_group(policy: Breaker) -> None:
    async with policy:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()


async def inside_detached(policy: Breaker) -> None:
    with detached():
        await policy(anyio.sleep_forever)()


async def under_a_longer_limit(policy: Breaker) -> None:
    async with deadline(5000):
        await timeout(4000)(policy(anyio.sleep_forever))()


async def under_other_policies(policy: Breaker) -> None:
    await pipeline(retry(on=Exception, wait=0), policy, timeout(5000)).call(anyio.sleep_forever)


async def in_a_flight(policy: Breaker) -> None:
    await singleflight().call(policy(anyio.sleep_forever))


async def under_a_foreign_limit_that_has_time(policy: Breaker) -> None:
    with anyio.fail_after(5000):
        await policy(anyio.sleep_forever)()


async def around_a_foreign_limit_that_has_time(policy: Breaker) -> None:
    async with policy:
        with anyio.fail_after(5000):
            await anyio.sleep_forever()


async def after_a_foreign_limit_that_has_passed(policy: Breaker) -> None:
    async with policy:
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        await anyio.sleep_forever()


PLACES = [
    in_a_function, in_a_call, in_a_block, in_a_sync_block, by_hand, in_a_child, in_a_grandchild,
    around_a_task_group, inside_detached, under_a_longer_limit, under_other_policies, in_a_flight,
    under_a_foreign_limit_that_has_time,
    around_a_foreign_limit_that_has_time, after_a_foreign_limit_that_has_passed,
]  # fmt: skip


async def with_deadline(body: Body, seconds: float) -> None:
    async with deadline(seconds):
        await body()


async def with_sync_deadline(body: Body, seconds: float) -> None:
    with deadline(seconds):
        await body()


async def with_timeout(body: Body, seconds: float) -> None:
    await timeout(seconds)(as_function(body))()


async def with_within(body: Body, seconds: float) -> None:
    await retry(on=LookupError, within=seconds)(as_function(body))()


async def with_rescheduled(body: Body, seconds: float) -> None:
    async with deadline(None) as limit:
        limit.reschedule(seconds)
        await body()


def as_function(body: Body) -> Callable[[], Any]:
    async def fn() -> None:
        await body()

    return fn


LIMITS = [with_deadline, with_sync_deadline, with_timeout, with_within, with_rescheduled]


@pytest.mark.rule("B9")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_call_that_hangs_until_a_limit_of_ours_ends_it_is_a_failure(
    async_world: World, place: Place
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        with pytest.raises((DeadlineExceeded, ExceptionGroup)):
            await with_deadline(lambda: place(policy), 1.0 * w.unit)
        await w.sleep(0.1)
        assert outcome(policy) == "failure"

    async_world.run(scenario)


@pytest.mark.rule("B9")
@pytest.mark.parametrize(
    "place", [in_a_function, in_a_child, in_a_block], ids=lambda place: place.__name__
)
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.__name__)
def test_whichever_limit_of_ours_it_is(async_world: World, limit: Any, place: Any) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        with pytest.raises(DeadlineExceeded):
            await limit(lambda: place(policy), 1.0 * w.unit)
        assert outcome(policy) == "failure"

    async_world.run(scenario)


@pytest.mark.rule("B9")
def test_a_dependency_that_hangs_trips_its_breaker_although_the_limit_is_outside(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=3, cooldown=1.0 * w.unit)
        fn = timeout(0.5 * w.unit)(policy(anyio.sleep_forever))
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await fn()
        assert policy.state is BreakerState.OPEN
        await w.sleep(1.2)
        with pytest.raises(DeadlineExceeded):
            await fn()
        assert policy.state is BreakerState.OPEN, "a probe that hangs is a failed probe"
        assert policy.stats().opened == 2

    async_world.run(scenario)


@pytest.mark.rule("B9")
def test_two_limits_of_ours_at_one_instant_are_ours_all_the_same() -> None:
    async def main(place: Any) -> None:
        policy = breaker()
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                async with deadline(1):
                    await place(policy)
        assert outcome(policy) == "failure"

    for place in (in_a_function, in_a_child, around_a_task_group):
        with virtual_time() as time:
            time.run(main, place)
            trio.run(main, place, clock=time.trio_clock())


@pytest.mark.rule("B9")
def test_the_limit_may_be_in_an_ancestor_with_native_task_groups() -> None:
    async def on_asyncio(policy: Breaker) -> None:
        async with deadline(1):
            async with asyncio.TaskGroup() as group:
                group.create_task(policy(anyio.sleep_forever)())

    async def by_gather(policy: Breaker) -> None:
        async with deadline(1):
            await asyncio.gather(policy(anyio.sleep_forever)(), asyncio.sleep(50))

    async def by_await(policy: Breaker) -> None:
        async with deadline(1):
            await asyncio.create_task(policy(anyio.sleep_forever)())

    async def on_trio(policy: Breaker) -> None:
        async with deadline(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(policy(anyio.sleep_forever))

    for main in (on_asyncio, by_gather, by_await, on_trio):
        policy = breaker()
        with virtual_time() as time, pytest.raises(DeadlineExceeded):
            if main is on_trio:
                trio.run(main, policy, clock=time.trio_clock())
            else:
                time.run(main, policy)
        assert outcome(policy) == "failure", main.__name__


@pytest.mark.rule("B9")
@pytest.mark.parametrize(("units", "verdict"), [(1.0, "ignored"), (3.0, "failure")])
def test_with_slow_given_only_a_call_that_lasted_longer_is_a_failure(
    async_world: World, units: float, verdict: str
) -> None:
    async def scenario(w: World) -> None:
        for place in (in_a_function, in_a_block, in_a_child):
            policy = breaker(slow=2.0 * w.unit)
            with pytest.raises(DeadlineExceeded):
                await with_deadline(functools.partial(place, policy), units * w.unit)
            if w.name != "uvloop" or verdict == "failure":
                assert outcome(policy) == verdict
                assert policy.stats().slow == (verdict == "failure")

    async_world.run(scenario)


@pytest.mark.rule("B9")
def test_a_call_that_ends_by_itself_just_before_the_cancellation_counts_as_it_ended() -> None:
    async def main(sleep: Any) -> None:
        policy = breaker()

        async def just_in_time() -> str:
            await sleep(1)
            return "done"

        with pytest.raises(DeadlineExceeded):
            async with deadline(2):
                assert await policy(just_in_time)() == "done"
                await sleep(5)
        assert outcome(policy) == "success"

    with virtual_time() as time:
        time.run(main, asyncio.sleep)
        trio.run(main, trio.sleep, clock=time.trio_clock())


# Others'.


@pytest.mark.rule("B9", "F9")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_foreign_cancellation_is_ignored(async_world: World, place: Place) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        async with deadline(5000):
            async with anyio.create_task_group() as group:
                group.start_soon(place, policy)
                await w.sleep(1)
                group.cancel_scope.cancel()
        await w.sleep(0.1)
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9")
@pytest.mark.parametrize("place", PLACES[:9], ids=lambda place: place.__name__)
def test_a_foreign_limit_is_ignored(async_world: World, place: Place) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        async with deadline(5000):
            with pytest.raises(TimeoutError):
                with anyio.fail_after(1.0 * w.unit):
                    await place(policy)
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9")
def test_the_timeouts_of_asyncio_and_trio_are_foreign() -> None:
    async def on_asyncio(policy: Breaker, place: Any) -> None:
        with pytest.raises(TimeoutError):
            async with deadline(50), asyncio.timeout(1):
                await place(policy)

    async def by_wait_for(policy: Breaker, place: Any) -> None:
        with pytest.raises(TimeoutError):
            async with deadline(50):
                await asyncio.wait_for(place(policy), 1)

    async def on_trio(policy: Breaker, place: Any) -> None:
        with pytest.raises(trio.TooSlowError):
            async with deadline(50):
                with trio.fail_after(1):
                    await place(policy)

    for place in (in_a_function, in_a_block, in_a_child, around_a_task_group):
        for main in (on_asyncio, by_wait_for, on_trio):
            policy = breaker()
            with virtual_time() as time:
                if main is on_trio:
                    trio.run(main, policy, place, clock=time.trio_clock())
                else:
                    time.run(main, policy, place)
            assert outcome(policy) == "ignored", (main.__name__, place.__name__)


@pytest.mark.rule("B9", "D2")
@pytest.mark.parametrize(
    "place", [in_a_function, in_a_block, in_a_child], ids=lambda place: place.__name__
)
@pytest.mark.parametrize("order", ["ours outside", "ours inside"])
def test_a_foreign_limit_at_the_very_same_instant_makes_it_ignored(place: Any, order: str) -> None:
    async def on_asyncio(policy: Breaker) -> None:
        with pytest.raises(TimeoutError):
            if order == "ours outside":
                async with deadline(1), asyncio.timeout(1):
                    await place(policy)
            else:
                async with asyncio.timeout(1), deadline(1):
                    await place(policy)

    async def on_trio(policy: Breaker) -> None:
        at = trio.current_time() + 1
        with pytest.raises((DeadlineExceeded, trio.TooSlowError)):
            if order == "ours outside":
                async with deadline(1):
                    with trio.fail_at(at):
                        await place(policy)
            else:
                with trio.fail_at(at):
                    async with deadline(1):
                        await place(policy)

    for main in (on_asyncio, on_trio):
        policy = breaker()
        with virtual_time() as time:
            if main is on_trio:
                trio.run(main, policy, clock=time.trio_clock())
            else:
                time.run(main, policy)
        assert outcome(policy) == "ignored", main.__name__


@pytest.mark.rule("B9", "D2")
@pytest.mark.parametrize(
    "place", [in_a_function, in_a_block, in_a_child], ids=lambda place: place.__name__
)
def test_a_foreign_cancellation_at_the_very_same_instant_makes_it_ignored(place: Any) -> None:
    async def main(policy: Breaker) -> None:
        async def work() -> None:
            async with deadline(1):
                await place(policy)

        task = asyncio.create_task(work())
        asyncio.get_running_loop().call_later(1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    policy = breaker()
    with virtual_time() as time:
        time.run(main, policy)
    assert outcome(policy) == "ignored"


@pytest.mark.rule("B9")
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_foreign_cancellation_before_the_call_has_ended_makes_it_ignored_on_asyncio(
    first: str,
) -> None:
    policy = breaker()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(50)
        finally:
            try:
                await asyncio.sleep(4)
            finally:
                await asyncio.sleep(4)

    async def work() -> None:
        async with deadline(1 if first == "ours" else 2):
            await policy(stubborn)()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(2 if first == "ours" else 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with virtual_time() as time:
        time.run(main)
    assert outcome(policy) == "ignored"


@pytest.mark.rule("B9")
def test_a_foreign_cancellation_before_the_call_has_ended_makes_it_ignored_on_trio() -> None:
    """Ours first; theirs first is in tests/issues."""
    policy = breaker()

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    async def main() -> None:
        with trio.move_on_after(2):
            async with deadline(1):
                await policy(stubborn)()

    with virtual_time() as time:
        trio.run(main, clock=time.trio_clock())
    assert outcome(policy) == "ignored"


@pytest.mark.rule("B9")
def test_a_sibling_that_fails_cancels_a_call_and_that_is_ignored(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()

        async def fail() -> None:
            await w.sleep(1)
            raise LookupError

        with pytest.raises(ExceptionGroup):
            async with deadline(5000):
                async with anyio.create_task_group() as group:
                    group.start_soon(policy(anyio.sleep_forever))
                    group.start_soon(fail)
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9", "D6")
def test_a_limit_whose_block_is_over_is_no_cause(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        async with anyio.create_task_group() as group:
            async with deadline(0.5 * w.unit):
                group.start_soon(policy(anyio.sleep_forever))
            await w.sleep(1)
            group.cancel_scope.cancel()
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9")
def test_a_limit_of_another_task_is_no_cause(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()

        async def other() -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(1.0 * w.unit):
                    await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            group.start_soon(policy(anyio.sleep_forever))
            await w.sleep(1.5)
            group.cancel_scope.cancel()
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9", "F9")
def test_an_interruption_that_is_no_cancellation_is_ignored_although_a_limit_has_passed(
    async_world: World,
) -> None:
    class Quit(BaseException):
        pass

    async def scenario(w: World) -> None:
        policy = breaker()

        async def body() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise Quit

        with pytest.raises(Quit):
            async with deadline(0.5 * w.unit):
                await policy(body)()
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9", "B2")
def test_what_was_said_wins_over_the_limit(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        with pytest.raises(DeadlineExceeded):
            async with deadline(0.5 * w.unit):
                with policy as call:
                    call.ignore()
                    await anyio.sleep_forever()
        assert outcome(policy) == "ignored"

    async_world.run(scenario)


@pytest.mark.rule("B9", "B2")
def test_a_limit_inside_the_breaker_is_a_failure_that_has_a_name(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        fn = policy(timeout(1.0 * w.unit)(w.function(lambda: w.sleep(5))))
        if w.is_async:
            with pytest.raises(DeadlineExceeded) as caught:
                await w.call(fn)
            assert caught.value.started
            assert outcome(policy) == "failure"
        else:
            await w.call(fn)
            assert outcome(policy) == "success", "in plain threads nothing is interrupted"

    world.run(scenario)


# B14: how long it had lasted is evidence.


@pytest.mark.rule("B14")
@pytest.mark.parametrize(("units", "slow"), [(1.0, 0), (3.0, 1)])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_call_that_somebody_cancels_is_slow_if_it_had_lasted_longer_than_slow(
    async_world: World, place: Place, units: float, slow: int
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(slow=2.0 * w.unit, minimum=2)
        async with anyio.create_task_group() as group:
            group.start_soon(place, policy)
            await w.sleep(units)
            group.cancel_scope.cancel()
        await w.sleep(0.1)
        assert outcome(policy) == "ignored"
        if w.name != "uvloop" or slow:
            assert policy.stats().slow == slow

    async_world.run(scenario)


@pytest.mark.rule("B14")
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_a_dependency_that_hangs_trips_its_breaker_under_the_limits_of_asyncio_and_trio(
    keyed: bool,
) -> None:
    async def by_wait_for(fn: Any) -> None:
        await asyncio.wait_for(fn(), 1)

    async def on_asyncio(fn: Any) -> None:
        async with asyncio.timeout(1):
            await fn()

    async def on_trio(fn: Any) -> None:
        with trio.fail_after(1):
            await fn()

    async def main(limited: Any) -> None:
        policy = breaker(slow=0.5, minimum=4, key=(lambda: "k") if keyed else None)
        seen = policy.of("k") if keyed else policy
        fn = policy(anyio.sleep_forever)
        with record(StateChanged) as events:
            for _ in range(4):
                assert seen.state is BreakerState.CLOSED
                with pytest.raises((TimeoutError, trio.TooSlowError)):
                    await limited(fn)
            with pytest.raises(CircuitOpen, match="slow rate 100% of 4 calls"):
                await limited(fn)
            await anyio.sleep(3)
            with pytest.raises((TimeoutError, trio.TooSlowError)):
                await limited(fn)
        assert [event.reason for event in events] == ["slow_rate", "cooldown_over", "slow_probes"]
        stats = seen.stats()
        assert (stats.calls, stats.ignored, stats.slow, stats.rejected) == (5, 5, 5, 1)

    for limited in (by_wait_for, on_asyncio, on_trio):
        with virtual_time() as time:
            if limited is on_trio:
                trio.run(main, limited, clock=time.trio_clock())
            else:
                time.run(main, limited)


@pytest.mark.rule("B14")
def test_a_probe_that_was_cancelled_early_gives_its_place_back_and_says_nothing() -> None:
    async def main() -> None:
        policy = breaker(slow=2.0, minimum=1, initial=BreakerState.OPEN, cooldown=0)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(policy(anyio.sleep_forever)(), 1)
            assert policy.state is BreakerState.HALF_OPEN
        assert (policy.stats().ignored, policy.stats().slow) == (3, 0)

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("B14")
@pytest.mark.parametrize(
    ("ends", "counted"),
    [
        (asyncio.CancelledError(), (0, 1, 1)),
        (BaseExceptionGroup("", [asyncio.CancelledError()]), (0, 1, 1)),
        (KeyboardInterrupt(), (0, 1, 0)),
        (GeneratorExit(), (0, 1, 0)),
        (DeadlineExceeded("db", 1.0, 1.0, started=False), (0, 1, 0)),
        (OSError(), (1, 0, 1)),
    ],
    ids=str,
)
def test_only_what_was_cancelled_is_ignored_and_slow(
    ends: BaseException, counted: tuple[int, int, int]
) -> None:
    with virtual_time() as time:
        policy = breaker(slow=1.0, minimum=9)
        call = policy.admit()
        time.advance(5)
        call.close(ends)
        stats = policy.stats()
        assert (stats.failures, stats.ignored, stats.slow) == counted
        said = policy.admit()
        time.advance(5)
        said.ignore()
        said.close(asyncio.CancelledError())
        assert policy.stats().slow == counted[2], "its user says that it counts nowhere"


@pytest.mark.rule("B14", "B9")
def test_without_slow_a_call_that_somebody_cancels_counts_nowhere_however_long_it_lasted() -> None:
    async def main() -> None:
        policy = breaker(minimum=1)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(policy(anyio.sleep_forever)(), 1000)
        stats = policy.stats()
        assert (stats.state, stats.ignored, stats.slow) == (BreakerState.CLOSED, 5, 0)

    with virtual_time() as time:
        time.run(main)

"""A deadline in each world: what it is, whom it limits, and what may be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import math

import anyio
import pytest

from resilient import (
    Deadline,
    DeadlineExceeded,
    RateLimited,
    breaker,
    current_deadline,
    deadline,
    detached,
    pipeline,
    rate_limit,
    remaining,
    retry,
    singleflight,
    timeout,
)
from resilient._runtime import clock
from resilient.testing import virtual_time
from tests.worlds import World, world_named

pytestmark = pytest.mark.loop

SLACK = 0.9
"""Units that a real loop may be late without a test noticing; virtual time is never late."""


def late(w: World) -> float:
    """How much later than its instant something may happen in *w*."""
    return math.inf if w.name == "uvloop" else 1e-6


# D1: the limit starts at entry, and nested ones only shrink.


@pytest.mark.rule("D1")
def test_the_limit_starts_at_entry_not_at_construction(world: World) -> None:
    async def scenario(w: World) -> None:
        limit = deadline(10 * w.unit)
        await w.sleep(3)
        with limit:
            left = limit.remaining() / w.unit
            assert 10 - SLACK < left <= 10 if w.name == "uvloop" else left == pytest.approx(10)

    world.run(scenario)


@pytest.mark.rule("D1")
def test_what_counts_is_the_earliest_wherever_it_stands(world: World) -> None:
    async def scenario(w: World) -> None:
        with (
            deadline(50 * w.unit) as outer,
            deadline(90 * w.unit) as middle,
            deadline(70 * w.unit) as inner,
        ):
            assert outer.at == middle.at == inner.at
            assert inner.remaining() <= 50 * w.unit
            assert remaining() <= 50 * w.unit
            await w.sleep(1)
            with deadline(20 * w.unit) as shorter:
                assert shorter.at < outer.at
                assert 0 < remaining() <= 20 * w.unit
            assert remaining() > 20 * w.unit

    world.run(scenario)


@pytest.mark.rule("D1")
@pytest.mark.parametrize("none", [None, math.inf])
def test_no_limit_of_its_own_is_that_of_the_block_around(world: World, none: float | None) -> None:
    async def scenario(w: World) -> None:
        with deadline(none) as alone:
            assert alone.at == alone.remaining() == remaining() == math.inf
            assert not alone.expired
            alone.check()
            await w.sleep(3)
        with deadline(9 * w.unit) as outer, deadline(none) as inner:
            assert inner.at == outer.at < math.inf
            assert remaining() <= 9 * w.unit
            assert current_deadline() is inner

    world.run(scenario)


@pytest.mark.rule("D1")
def test_a_longer_block_inside_a_shorter_one_is_cut_to_it(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(1 * w.unit, name="outer"):
                async with deadline(50 * w.unit, name="inner"):
                    await w.sleep(70)
        assert caught.value.policy == "outer"
        assert caught.value.seconds == 1 * w.unit
        assert 1 <= w.now() <= 1 + late(w)

    async_world.run(scenario)


@pytest.mark.rule("D1")
def test_seconds_may_be_a_timedelta() -> None:
    with virtual_time(), deadline(dt.timedelta(milliseconds=250)) as limit:
        assert limit.seconds == 0.25
        assert limit.remaining() == 0.25


@pytest.mark.rule("F7")
@pytest.mark.parametrize("bad", [-1, -1e-9, math.nan, -math.inf])
def test_a_limit_below_zero_or_nan_is_refused(bad: float) -> None:
    for make in (deadline, timeout):
        with pytest.raises(ValueError, match="seconds"):
            make(bad)
    with deadline(1) as limit, pytest.raises(ValueError, match="seconds"):
        limit.reschedule(bad)


@pytest.mark.rule("F7")
@pytest.mark.parametrize("bad", ["1", True, object()])
def test_a_limit_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(TypeError, match="seconds"):
        deadline(bad)


@pytest.mark.rule("F7")
def test_deadline_as_a_decorator_says_to_write_timeout() -> None:
    with pytest.raises(TypeError, match="@timeout"):
        deadline(test_seconds_may_be_a_timedelta)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="parentheses"):
        timeout(test_seconds_may_be_a_timedelta)  # type: ignore[arg-type]


# D2: enforcement.


@pytest.mark.rule("D2")
def test_async_with_cancels_the_body_at_the_instant(async_world: World) -> None:
    async def scenario(w: World) -> None:
        after = []
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(2 * w.unit, name="db"):
                try:
                    await w.sleep(60)
                    after.append("not cancelled")
                finally:
                    after.append("cleaned up")
        assert after == ["cleaned up"]
        assert caught.value.started
        assert caught.value.policy == "db"
        assert caught.value.seconds == 2 * w.unit
        assert caught.value.elapsed >= 2 * w.unit
        assert 2 <= w.now() <= 2 + late(w)

    async_world.run(scenario)


@pytest.mark.rule("D2")
def test_plain_with_enforces_too_in_async_code(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded):
            with deadline(2 * w.unit):
                await w.sleep(60)
        assert 2 <= w.now() <= 2 + late(w)

    async_world.run(scenario)


@pytest.mark.rule("D2")
def test_an_outer_limit_passes_through_inner_ones_untouched(async_world: World) -> None:
    async def scenario(w: World) -> None:
        seen: list[BaseException] = []
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(1 * w.unit, name="outer"):
                try:
                    async with deadline(50 * w.unit, name="inner"):
                        await w.sleep(60)
                except BaseException as error:
                    seen.append(error)
                    raise
        assert caught.value.policy == "outer"
        assert not isinstance(seen[0], Exception)

    async_world.run(scenario)


@pytest.mark.rule("D2")
def test_after_an_inner_limit_the_outer_body_goes_on(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async with deadline(50 * w.unit):
            for _ in range(3):
                with pytest.raises(DeadlineExceeded):
                    async with deadline(0.2 * w.unit):
                        await w.sleep(60)
            await w.sleep(0.5)
        assert w.now() >= 1.05

    async_world.run(scenario)


@pytest.mark.rule("D2")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_of_several_at_one_instant_the_outermost_converts(name: str) -> None:
    with world_named(name) as world:

        async def scenario(w: World) -> None:
            with pytest.raises(DeadlineExceeded) as caught:
                async with (
                    deadline(9, name="far"),
                    deadline(2, name="a"),
                    deadline(2, name="b"),
                    deadline(2, name="c"),
                ):
                    await w.sleep(60)
            assert caught.value.policy == "a"
            assert w.now() == pytest.approx(2)
            await w.sleep(0)  # no cancellation is left over
            with pytest.raises(
                DeadlineExceeded
            ) as caught:  # also when the inner one was there first
                async with deadline(5, name="outer") as outer:
                    async with deadline(3, name="inner"):
                        outer.reschedule(3)
                        await w.sleep(60)
            assert caught.value.policy == "outer"
            await w.sleep(0)

        world.run(scenario)


@pytest.mark.rule("D2")
def test_an_inner_limit_that_is_cleaning_up_lets_the_outer_one_convert(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(2 * w.unit, name="outer"):
                async with deadline(1 * w.unit, name="inner"):
                    try:
                        await w.sleep(60)
                    finally:
                        with anyio.CancelScope(shield=w.name == "trio"):
                            await w.sleep(3)
        assert caught.value.policy == "outer"
        await w.sleep(0)

    async_world.run(scenario)


@pytest.mark.rule("D2")
def test_errors_of_the_body_pass_and_leave_no_cancellation(async_world: World) -> None:
    async def scenario(w: World) -> None:
        mine = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with deadline(1 * w.unit):
                try:
                    await w.sleep(60)
                finally:
                    raise mine
        assert caught.value is mine
        await w.sleep(0.1)
        with pytest.raises(ValueError, match="mine") as caught:
            async with deadline(10 * w.unit):
                raise mine
        assert caught.value is mine
        assert not getattr(mine, "__notes__", [])

    async_world.run(scenario)


@pytest.mark.rule("D2", "F9")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_pass_an_expired_deadline(world: World, kind: type[BaseException]) -> None:
    async def scenario(w: World) -> None:
        error = kind()
        with pytest.raises(kind) as caught, deadline(1 * w.unit):
            try:
                await w.sleep(2)
            finally:
                raise error
        assert caught.value is error
        await w.sleep(0.1)

    world.run(scenario)


@pytest.mark.rule("D2")
@pytest.mark.real_clock
@pytest.mark.parametrize("name", ["uvloop", "asyncio"])
def test_never_before_the_instant_by_the_clock_of_the_library(name: str) -> None:
    async def main() -> None:
        for milliseconds in range(1, 40, 3):
            seconds = milliseconds / 1000 + 0.00037
            began = clock.now()
            with pytest.raises(DeadlineExceeded):
                async with deadline(seconds) as limit:
                    at = limit.at
                    await asyncio.sleep(10)
            assert clock.now() >= at
            assert at >= began + seconds

    factory = None if name == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


# D3: a body that finished is no error.


@pytest.mark.rule("D3")
def test_a_body_that_finished_late_without_waiting_is_no_error(world: World) -> None:
    async def scenario(w: World) -> None:
        with deadline(1 * w.unit) as limit:
            if w.name == "uvloop":
                while clock.now() < limit.at + 0.5 * w.unit:
                    pass
            else:
                w.time.advance(20)  # type: ignore[attr-defined]  # worlds of virtual time
            assert limit.expired
            result = "done"
        assert result == "done"
        await w.sleep(0.1)

    world.run(scenario)


@pytest.mark.rule("D3")
def test_a_body_that_swallowed_its_cancellation_is_no_error(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async with deadline(1 * w.unit) as limit:
            with anyio.CancelScope(shield=w.name == "trio"), anyio.move_on_after(None):
                with contextlib.suppress(BaseException):
                    await w.sleep(2)
            assert limit.expired
        await w.sleep(0.1)  # nothing is left of it

    async_world.run(scenario)


@pytest.mark.rule("D3")
def test_a_call_that_returned_late_returns(world: World) -> None:
    async def scenario(w: World) -> None:
        @timeout(1 * w.unit)
        def late_sync() -> str:
            if w.name != "uvloop":
                w.time.advance(5)  # type: ignore[attr-defined]
            return "done"

        assert late_sync() == "done"

    world.run(scenario)


# D4: plain threads.


@pytest.mark.rule("D4")
def test_in_plain_threads_nothing_is_interrupted_and_check_raises() -> None:
    with virtual_time() as time:
        with deadline(1, name="job") as limit:
            time.advance(0.999)
            limit.check()
            time.advance(0.001)
            with pytest.raises(DeadlineExceeded) as caught:
                limit.check()
            assert caught.value.started
            assert caught.value.policy == "job"
            time.advance(100)
        calls = []

        @timeout(1)
        def work() -> int:
            time.advance(5)
            calls.append(1)
            return 7

        assert work() == 7
        assert calls == [1]


@pytest.mark.rule("D4")
@pytest.mark.parametrize("use", ["timeout", "deadline", "retry", "singleflight"])
def test_in_plain_threads_policies_look_at_the_deadline_at_their_borders(use: str) -> None:
    with virtual_time() as time, deadline(1):
        time.advance(1)
        calls = []
        if use == "deadline":
            with pytest.raises(DeadlineExceeded), deadline(5):
                calls.append(1)
        else:
            policy = {
                "timeout": timeout(5),
                "retry": retry(on=ValueError),
                "singleflight": singleflight(),
            }[use]
            with pytest.raises(DeadlineExceeded) as caught:
                policy(lambda: calls.append(1))()
            assert not caught.value.started
        assert not calls


@pytest.mark.rule("D1")
def test_in_plain_threads_policies_look_at_the_limits_around_the_innermost_as_well() -> None:
    with virtual_time() as time, deadline(1), deadline(5):
        limit = rate_limit(0.5, burst=1, max_wait=10)
        limit(lambda: 0)()
        with pytest.raises(RateLimited):  # it would wait for 2 s
            limit(lambda: 0)()
        time.advance(1)
        with pytest.raises(DeadlineExceeded) as caught:
            retry(on=ValueError)(lambda: 0)()
        assert (caught.value.started, caught.value.seconds) == (False, 1)


# D5: expired on entry.


@pytest.mark.rule("D5")
def test_a_limit_of_zero_never_begins_its_body(world: World) -> None:
    async def scenario(w: World) -> None:
        calls: list[int] = []
        with pytest.raises(DeadlineExceeded) as caught:
            with deadline(0, name="none"):
                calls.append(1)
        assert not caught.value.started
        assert caught.value.policy == "none"
        assert caught.value.seconds == 0
        policy = timeout(0)
        with pytest.raises(DeadlineExceeded) as caught:
            await w.call(policy(w.function(lambda: calls.append(1))))
        assert not caught.value.started
        assert not calls
        stats = policy.stats()
        assert (stats.calls, stats.expired, stats.not_started) == (1, 0, 1)
        await w.sleep(0)

    world.run(scenario)


@pytest.mark.rule("D5")
@pytest.mark.parametrize("kind", ["deadline", "timeout", "retry", "singleflight"])
def test_with_nothing_left_of_an_outer_limit_no_policy_begins_a_call(
    world: World, kind: str
) -> None:
    async def scenario(w: World) -> None:
        calls: list[int] = []
        watch = breaker()
        fn = watch(w.function(lambda: calls.append(1)))
        with deadline(1 * w.unit):
            if w.name == "uvloop":
                while remaining() > 0:
                    pass
            else:
                w.time.advance(1)  # type: ignore[attr-defined]
            with pytest.raises(DeadlineExceeded) as caught:
                if kind == "deadline":
                    with deadline(9 * w.unit):
                        await w.call(fn)
                else:
                    policy = {
                        "timeout": timeout(9),
                        "retry": retry("inner", on=ValueError),
                        "singleflight": singleflight(),
                    }[kind]
                    await w.call(policy(fn))
            assert not caught.value.started
            assert caught.value.seconds == 1 * w.unit, "the limit that was set, not the inner one"
        assert not calls
        stats = watch.stats()
        assert (stats.calls, stats.ignored, stats.rejected) == (0, 0, 0), (
            "the breaker inside is not touched"
        )

    world.run(scenario)


@pytest.mark.rule("D5")
def test_a_breaker_does_not_look_at_the_deadline(world: World) -> None:
    async def scenario(w: World) -> None:
        fn = breaker()(w.function(lambda: 5))
        with deadline(1 * w.unit):
            if w.name == "uvloop":
                while remaining() > 0:
                    pass
                assert await w.call(fn) == 5
            else:
                w.time.advance(2)  # type: ignore[attr-defined]
                assert await w.call(fn) == 5

    world.run(scenario)


@pytest.mark.rule("D5")
def test_a_refused_entry_leaves_the_deadline_around_in_place(world: World) -> None:
    async def scenario(w: World) -> None:
        with deadline(9 * w.unit) as outer:
            with pytest.raises(DeadlineExceeded):
                with deadline(0):
                    pytest.fail("begun")
            assert current_deadline() is outer
        assert current_deadline() is None

    world.run(scenario)


# D7: the object.


@pytest.mark.rule("D7")
def test_a_deadline_is_used_once(world: World) -> None:
    async def scenario(w: World) -> None:
        limit = deadline(9 * w.unit)
        with limit:
            with pytest.raises(RuntimeError, match="once"):
                with limit:
                    pytest.fail("nested")
            assert current_deadline() is limit
        with pytest.raises(RuntimeError, match="once"):
            limit.__enter__()
        refused = deadline(0)
        with pytest.raises(DeadlineExceeded):
            refused.__enter__()
        with pytest.raises(RuntimeError, match="once"):
            refused.__enter__()

    world.run(scenario)


@pytest.mark.rule("D7")
def test_before_entry_there_is_nothing_to_ask() -> None:
    limit = deadline(5)
    for ask in (
        lambda: limit.at,
        limit.remaining,
        lambda: limit.expired,
        limit.check,
        lambda: limit.reschedule(1),
    ):
        with pytest.raises(RuntimeError, match=r"begin|begun"):
            ask()
    assert limit.seconds == 5


@pytest.mark.rule("D7")
def test_rescheduling_after_the_end_is_misuse(world: World) -> None:
    async def scenario(w: World) -> None:
        with deadline(9 * w.unit) as limit:
            pass
        with pytest.raises(RuntimeError, match="over"):
            limit.reschedule(1)
        with pytest.raises(RuntimeError, match="over"):
            limit.reschedule(None)

    world.run(scenario)


@pytest.mark.rule("D7")
def test_rescheduling_after_it_expired_is_misuse(world: World) -> None:
    async def scenario(w: World) -> None:
        try:
            with deadline(1 * w.unit) as limit:
                try:
                    await w.sleep(3)
                finally:
                    for seconds in (5, None):
                        with pytest.raises(RuntimeError, match="expired"):
                            limit.reschedule(seconds)
        except DeadlineExceeded:
            assert w.is_async
        else:
            assert not w.is_async

    world.run(scenario)


@pytest.mark.rule("D7")
def test_rescheduling_counts_from_now_and_replaces_the_limit(world: World) -> None:
    async def scenario(w: World) -> None:
        with deadline(2 * w.unit) as limit:
            await w.sleep(1)
            limit.reschedule(40 * w.unit)
            assert limit.seconds == 40 * w.unit
            assert 30 * w.unit < remaining() <= 40 * w.unit
            await w.sleep(3)
            limit.reschedule(None)
            assert limit.at == remaining() == math.inf
            await w.sleep(3)
            limit.reschedule(dt.timedelta(seconds=5 * w.unit))
            assert 0 < remaining() <= 5 * w.unit
        assert w.now() > 6.5

    world.run(scenario)


@pytest.mark.rule("D7", "D2")
def test_a_rescheduled_limit_is_enforced(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(50 * w.unit) as limit:
                limit.reschedule(1 * w.unit)
                await w.sleep(60)
        assert caught.value.seconds == 1 * w.unit
        assert 1 <= w.now() <= 1 + late(w)
        with pytest.raises(DeadlineExceeded):
            async with deadline(None) as limit:
                limit.reschedule(1 * w.unit)
                await w.sleep(60)
        with pytest.raises(DeadlineExceeded):
            async with deadline(50 * w.unit) as limit:
                limit.reschedule(0)
                await w.sleep(60)
        await w.sleep(0)

    async_world.run(scenario)


@pytest.mark.rule("D7", "D1")
def test_rescheduling_an_inner_block_does_not_lift_the_outer_limit(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(1 * w.unit, name="outer"), deadline(0.5 * w.unit) as inner:
                inner.reschedule(None)
                assert remaining() <= 1 * w.unit
                await w.sleep(60)
        assert caught.value.policy == "outer"

    async_world.run(scenario)


@pytest.mark.rule("D7", "D1")
def test_rescheduling_the_outer_block_moves_what_inner_ones_see(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async with deadline(1 * w.unit) as outer:
            async with deadline(80 * w.unit) as inner:
                outer.reschedule(60 * w.unit)
                assert inner.at == outer.at
                await w.sleep(2)
                outer.reschedule(70 * w.unit)
                await w.sleep(1)
        assert w.now() > 2.5

    async_world.run(scenario)


# Words.


@pytest.mark.rule("E2")
def test_the_message_of_a_cut_block_says_what_happened(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(1 * w.unit, name="payments"):
                await w.sleep(60)
        text = str(caught.value)
        assert text.startswith("payments: limit of ")
        assert "had started" in text

    async_world.run(scenario)


@pytest.mark.rule("E2")
def test_the_message_on_entry_says_that_nothing_was_done() -> None:
    with virtual_time() as time, deadline(0.5, name="request"):
        time.advance(0.75)
        with pytest.raises(DeadlineExceeded) as caught:
            deadline(9, name="db").__enter__()
    text = str(caught.value)
    assert "db" in text
    assert "0.5 s" in text
    assert "0.75 s" in text
    assert "not made" in text
    assert "detached" not in text, "the block is still open: nothing was inherited from the dead"


# remaining(), current_deadline(), detached().


@pytest.mark.rule("D1")
@pytest.mark.parametrize(
    ("limit", "at_most", "answer"),
    [
        (None, math.inf, math.inf),
        (None, 5.0, 5.0),
        (3.0, math.inf, 3.0),
        (3.0, 5.0, 3.0),
        (3.0, 2.0, 2.0),
        (3.0, dt.timedelta(seconds=2), 2.0),
        (3.0, 3.0, 3.0),
    ],
)
def test_remaining_is_the_smaller_of_both(
    limit: float | None, at_most: float, answer: float
) -> None:
    with virtual_time(), deadline(limit):
        assert remaining(at_most) == answer


@pytest.mark.rule("D1", "D5")
def test_with_nothing_left_remaining_raises_only_for_a_finite_at_most() -> None:
    with virtual_time() as time, deadline(3, name="job"):
        for _ in range(2):
            time.advance(3)
            assert remaining() == 0
            assert remaining(math.inf) == 0
            with pytest.raises(DeadlineExceeded) as caught:
                remaining(5)
            assert not caught.value.started
            assert caught.value.seconds == 3


@pytest.mark.rule("F7")
@pytest.mark.parametrize("bad", [0, -1, math.nan])
def test_remaining_refuses_an_at_most_that_is_no_time_limit(bad: float) -> None:
    with pytest.raises(ValueError, match="at_most"):
        remaining(bad)


@pytest.mark.rule("D1")
def test_remaining_is_finite_and_positive_to_the_last_moment() -> None:
    with virtual_time() as time, deadline(1):
        time.advance(1 - 2**-20)
        assert 0 < remaining(5) < math.inf


@pytest.mark.rule("D6")
def test_current_deadline_is_the_innermost_open_block(world: World) -> None:
    async def scenario(w: World) -> None:
        assert current_deadline() is None
        with deadline(50 * w.unit) as outer:
            assert current_deadline() is outer
            with deadline(90 * w.unit) as inner:
                assert current_deadline() is inner
                assert isinstance(inner, Deadline)
            assert current_deadline() is outer
        assert current_deadline() is None

    world.run(scenario)


@pytest.mark.rule("D6")
def test_inside_detached_there_is_no_deadline(world: World) -> None:
    async def scenario(w: World) -> None:
        with deadline(5 * w.unit) as outer:
            with detached():
                assert current_deadline() is None
                assert remaining() == math.inf
                assert remaining(7) == 7
                with deadline(50 * w.unit) as inner:
                    assert inner.remaining() > 5 * w.unit
                    assert inner.at > outer.at
                assert current_deadline() is None
            assert current_deadline() is outer

    world.run(scenario)


@pytest.mark.rule("D6")
def test_detached_stops_no_cancellation(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(1 * w.unit, name="outer"):
                with detached():
                    async with deadline(50 * w.unit, name="inner"):
                        await w.sleep(60)
        assert caught.value.policy == "outer"
        assert 1 <= w.now() <= 1 + late(w)

    async_world.run(scenario)


@pytest.mark.rule("D6", "D5")
def test_inside_detached_an_expired_limit_refuses_nothing() -> None:
    with virtual_time() as time, deadline(1):
        time.advance(2)
        with detached():
            assert timeout(5)(lambda: "ran")() == "ran"
            assert retry(on=ValueError)(lambda: "ran")() == "ran"
            assert pipeline(singleflight(), timeout(4))(lambda: "ran")() == "ran"


@pytest.mark.rule("D7")
def test_the_representation_says_name_limit_and_life() -> None:
    limit = deadline(2.5, name="db")
    assert repr(limit) == "<Deadline 'db' of 2.5 s: has not begun>"
    with limit:
        assert "is open" in repr(limit)
    assert "is over" in repr(limit)

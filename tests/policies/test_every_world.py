"""Rules whose own files test them in fewer worlds: here each once in all that have them."""

from __future__ import annotations

import asyncio
import gc
import threading

import anyio
import pytest

from resilient import (
    CircuitOpen,
    DeadlineExceeded,
    breaker,
    current_deadline,
    deadline,
    retry,
    singleflight,
    timeout,
)
from resilient._runtime import clock
from resilient._runtime.loops import loop_state
from tests.worlds import World, in_threads

pytestmark = pytest.mark.loop


@pytest.mark.rule("E2")
def test_the_message_says_what_happened_and_what_to_do(world: World) -> None:
    async def scenario(w: World) -> None:
        fn = breaker("payments", consecutive_failures=None, minimum=2, cooldown=30)(
            w.function(lambda error: error and 1 / 0)
        )
        await w.call(fn, False)
        with pytest.raises(ZeroDivisionError):
            await w.call(fn, True)
        with pytest.raises(
            CircuitOpen,
            match=r"^payments: circuit open \(failure rate 50% of 2 calls\); "
            r"next probe in [23]\d(\.\d)? s$",
        ):
            await w.call(fn, False)

    world.run(scenario)


@pytest.mark.rule("R11")
def test_a_first_success_takes_no_lock_and_reads_the_clock_once(world: World) -> None:
    async def scenario(w: World) -> None:
        policy, reads, real = retry(on=ValueError), [], clock.now
        fn = policy(w.function(lambda: "first"))
        with pytest.MonkeyPatch.context() as patch, policy._lock:  # would hang, if it were taken
            patch.setattr(clock, "now", lambda: (reads.append(1), real())[1])  # type: ignore[func-returns-value]  # called for its effect
            assert await w.call(fn) == "first"
        assert len(reads) <= 1

    world.run(scenario)


@pytest.mark.rule("D4")
def test_only_a_plain_thread_runs_to_the_end(world: World) -> None:
    async def scenario(w: World) -> None:
        fn = timeout(1.0 * w.unit)(w.function(lambda: w.sleep(3)))
        if w.is_async:
            with pytest.raises(DeadlineExceeded):
                await w.call(fn)
        else:
            await w.call(fn)
            assert w.now() == 3

    world.run(scenario)


@pytest.mark.rule("D8", "D9")
def test_limits_that_never_fire_leave_nothing_in_the_loop(async_world: World) -> None:
    async def scenario(w: World) -> None:
        for _ in range(500):
            async with deadline(3600), deadline(1800):
                pass
        if w.name != "trio":
            queue = loop_state(asyncio.get_running_loop()).timers
            assert (len(queue), len(queue._heap)) == (0, 0)
        assert current_deadline() is None

    async_world.run(scenario)


@pytest.mark.rule("D9")
@pytest.mark.parametrize("where", ["threads"])
def test_limits_that_never_fire_leave_nothing_in_a_thread(where: str) -> None:
    def blocks() -> int:
        before = len(gc.get_objects())
        for _ in range(1000):
            with deadline(3600):
                pass
        return len(gc.get_objects()) - before

    gc.collect()
    gc.disable()
    try:
        assert max(in_threads(blocks)) < 500
    finally:
        gc.enable()


@pytest.mark.rule("S2", "S5", "S8")
def test_a_key_is_free_when_its_run_ends_or_is_forgotten(world: World) -> None:
    async def scenario(w: World) -> None:
        flight, runs = singleflight(), []
        fn = w.function(lambda: runs.append(1) or flight.stats().in_flight)  # type: ignore[func-returns-value]  # called for its effect
        assert await w.call(flight.do, "k", fn) == 1
        flight.forget("k")
        assert await w.call(flight.do, "k", fn) == 1
        stats = flight.stats()
        assert (stats.calls, stats.runs, stats.joined, stats.in_flight, len(runs)) == (
            2,
            2,
            0,
            0,
            2,
        )

    world.run(scenario)


@pytest.mark.rule("S4", "S8")
def test_a_runs_limit_is_the_latest_of_its_waiters(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight, left, joined = singleflight(), [], anyio.Event()

        async def work() -> str:
            await joined.wait()
            await w.sleep(0.2)
            limit = current_deadline()
            left.append(None if limit is None else limit.remaining())
            return "done"

        async def caller(units: float, *, last: bool = False) -> object:
            async with deadline(units * w.unit):
                if last:
                    await w.sleep(0.1)
                    joined.set()
                return await flight.do("k", work)

        assert await w.together(lambda: caller(20), lambda: caller(50, last=True)) == [
            "done",
            "done",
        ]
        assert left[0] is not None
        assert 20 * w.unit < left[0] < 50 * w.unit
        assert (flight.stats().runs, flight.stats().joined) == (1, 1)

    async_world.run(scenario)


@pytest.mark.rule("S4", "S5")
def test_threads_extend_a_run_and_forget_it() -> None:
    flight, begun, seen = singleflight(), threading.Event(), []

    def work() -> None:
        begun.set()
        limit = current_deadline()
        assert limit is not None
        for _ in range(10_000):
            if limit.remaining() > 1000:
                seen.append(True)
                return
            threading.Event().wait(0.001)

    def first() -> None:
        with deadline(500):
            flight.do("k", work)

    def second() -> None:
        assert begun.wait(30)
        with deadline(5000):
            flight.do("k", work)

    assert in_threads(first, second) == [None, None]
    assert seen == [True]

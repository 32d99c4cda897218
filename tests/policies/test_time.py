"""Time: one reader (T1), virtual time (T2), a fresh start and a record (T3)."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import math
import random
import time as real_time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing

import resilient
from resilient import (
    BreakerState,
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    Rejected,
    RetryBudget,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    remaining,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient._runtime import clock
from resilient.events import Event, StateChanged
from resilient.testing import VirtualTime, fresh, jumping, record, virtual_time
from tests.worlds import World

pytestmark = pytest.mark.loop

PACKAGE = Path(resilient.__file__).parent
READERS = {
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "sleep",
}


def fail(*_: object) -> None:
    raise ValueError


class Steps:
    """A machine's clock that moves by hand; it is ahead of the real one, and so never shifted."""

    def __init__(self) -> None:
        self.start = self.reading = math.floor(clock.now()) + 5000.25

    def now(self) -> float:
        return self.reading

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        self.reading += seconds

    def wait(self, event: clock.Event, until: float) -> None:
        self.reading = until


# T1


@pytest.mark.rule("T1")
def test_one_module_alone_imports_the_time() -> None:
    """The drill is a program of its own; it reads the time of its loop."""
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if "time" in names or (
                isinstance(node, ast.Attribute) and node.attr in {"utcnow", "today"}
            ):
                importers.add(path.relative_to(PACKAGE).as_posix())
    assert {one for one in importers if not one.startswith("drill/")} == {"_runtime/clock.py"}


@pytest.mark.rule("T1")
def test_every_policy_reads_the_clock_that_is_installed_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps()
    with clock.install(steps):
        for name in READERS:
            monkeypatch.setattr(
                real_time, name, lambda *_: pytest.fail("somebody reads the machine's clock")
            )
        policy = breaker(consecutive_failures=1, cooldown=7.0)
        guarded = pipeline(
            singleflight(), retry(on=LookupError, wait=3.0, within=60.0), timeout(50.0), policy
        )
        tries: list[float] = []

        def flaky() -> str:
            tries.append(steps.reading)
            if len(tries) < 3:
                raise CircuitOpen("inner", 2.0)
            return "ok"

        assert retry(on=CircuitOpen, wait=3.0).call(flaky) == "ok"
        assert [at - steps.start for at in tries] == [0.0, 3.0, 6.0]
        assert guarded.call(lambda: "ok") == "ok"
        policy.admit().close(ValueError())
        assert policy.stats().retry_after == 7.0
        with deadline(4.0) as limit:
            assert (limit.at - steps.start, remaining()) == (10.0, 4.0)
            steps.reading += 3.0
            assert remaining() == 1.0
        monkeypatch.undo()


@pytest.mark.rule("T1")
def test_load_control_reads_the_clock_that_is_installed_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps()
    with clock.install(steps):
        for name in READERS:
            monkeypatch.setattr(
                real_time, name, lambda *_: pytest.fail("somebody reads the machine's clock")
            )
        rate = rate_limit(1, per=3.0, max_wait=5.0)
        assert [rate.call(lambda: steps.reading) - steps.start for _ in range(2)] == [0.0, 3.0]
        limited = adaptive_limit(initial=1)
        kept = cache(5.0, jitter=0)(lambda: steps.reading)
        first = kept()
        for _ in range(20):
            with limited:
                steps.reading += 0.25
        assert limited.stats().latency == pytest.approx(0.25)
        assert kept() == first + 5.0, "five seconds are over"
        throttled = throttle(minimum=1, window=5.0)
        throttled.admit().close(ValueError())
        assert throttled.stats().probability > 0
        steps.reading += 5.1
        assert throttled.stats().probability == 0
        stack = protect("db", on=LookupError, timeout=5.0)
        assert stack.call(lambda: "ok") == "ok"
        monkeypatch.undo()


# T2: plain code.


@pytest.mark.rule("T2")
def test_virtual_time_begins_at_the_next_whole_second_and_moves_by_hand() -> None:
    steps = Steps()
    with clock.install(steps):
        with virtual_time() as time:
            assert isinstance(time, VirtualTime)
            assert (clock.now() - steps.start, time.now()) == (0.75, 0.0)
            time.advance(2.5)
            assert (clock.now() - steps.start, time.now()) == (3.25, 2.5)
            time.advance(0)
            assert time.now() == 2.5
            steps.reading += 100
            assert time.now() == 2.5, "no other clock moves it"
        assert clock.now() - steps.start == 100.0
        steps.reading = steps.start + 999.75
        with virtual_time():
            assert clock.now() - steps.start == 1000.75, "next, not present"


@pytest.mark.rule("T2")
def test_a_policy_built_earlier_is_on_it_too_and_an_hour_passes_at_once() -> None:
    policy = breaker(consecutive_failures=1, cooldown=3600.0)
    with virtual_time() as time:
        policy.admit().close(ValueError())
        time.advance(3599.0)
        with pytest.raises(CircuitOpen):
            policy.admit()
        time.advance(1.0)
        policy.admit().close()
        assert policy.state is BreakerState.CLOSED


@pytest.mark.rule("T2")
def test_a_sleep_of_a_sync_policy_advances_it_at_once() -> None:
    with virtual_time() as time:
        with pytest.raises(ValueError):
            retry(on=ValueError, wait=1800.0)(fail)()
        assert time.now() == 3600.0


@pytest.mark.rule("T2")
def test_there_is_one_virtual_time_at_a_time_and_an_error_ends_it() -> None:
    with virtual_time():
        with pytest.raises(RuntimeError, match="virtual already"):
            with virtual_time():
                pytest.fail("not reached")
    with pytest.raises(LookupError):
        with virtual_time() as time:
            inside = clock.now
            raise LookupError
    assert clock.now is not inside
    left_at = clock.now()
    time.advance(60)
    assert clock.now() - left_at < 60, "it is real again"
    with virtual_time():
        pass


# T2: asyncio.


@pytest.mark.rule("T2")
def test_an_asyncio_loop_jumps_to_its_next_timer() -> None:
    async def main(first: int, *, second: int) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.sleep(1800)
        await anyio.sleep(900)
        assert time.now() == 2700
        assert loop.time() - begun == 2700
        with pytest.raises(DeadlineExceeded):
            async with deadline(50):
                await asyncio.sleep(3600)
        assert time.now() == 2750
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await asyncio.sleep(3600)
        with pytest.raises(ValueError):
            await retry(on=ValueError, wait=100.0)(async_fail)()
        assert time.now() == 3000
        time.advance(100)
        assert time.now() == 3100
        return first, second

    with virtual_time() as time:
        assert time.run(main, 1, second=2) == (1, 2)
        assert time.now() == 3100
        assert time.run(main_again) == 5
        assert time.now() == 3105


async def main_again() -> int:
    await asyncio.sleep(5)
    return 5


async def async_fail() -> None:
    raise ValueError


@pytest.mark.rule("T2")
def test_timers_fire_in_order_and_each_at_its_instant() -> None:
    async def main() -> list[tuple[str, float]]:
        woken: list[tuple[str, float]] = []

        async def one(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, round(time.now(), 9)))

        async with asyncio.TaskGroup() as group:
            for name, seconds in (("c", 3.5), ("a", 0.001), ("b", 3.4999), ("d", 86400.0)):
                group.create_task(one(name, seconds))
        return woken

    with virtual_time() as time:
        assert time.run(main) == [("a", 0.001), ("b", 3.4999), ("c", 3.5), ("d", 86400.0)]


@pytest.mark.rule("T2")
def test_advancing_inside_the_loop_fires_what_has_become_due() -> None:
    async def main() -> float:
        sleeper = asyncio.ensure_future(asyncio.sleep(10))
        await asyncio.sleep(0)
        time.advance(100)
        await sleeper
        return time.now()

    with virtual_time() as time:
        assert time.run(main) == 100


@pytest.mark.rule("T2")
def test_a_loop_that_would_wait_for_ever_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jumping, "PATIENCE", 0.05)  # for other threads, such as those of a worker

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with virtual_time() as time:
        with pytest.raises(RuntimeError, match="virtual time stands still"):
            time.run(main)


@pytest.mark.real_clock
@pytest.mark.rule("T2")
@pytest.mark.parametrize(
    "to_thread", [asyncio.to_thread, anyio.to_thread.run_sync], ids=["asyncio", "anyio"]
)
def test_while_a_thread_is_out_the_loop_waits_for_it_and_does_not_jump(to_thread: Any) -> None:
    def work() -> tuple[float, float, float]:
        before = time.now()
        real_time.sleep(0.05)
        return before, time.now(), remaining()

    async def main() -> None:
        timer = asyncio.ensure_future(asyncio.sleep(1000))
        async with deadline(500):
            await asyncio.sleep(100)
            assert await to_thread(work) == (100, 100, 400)
            assert time.now() == 100
        await asyncio.sleep(1)
        assert time.now() == 101, "and jumps again afterwards"
        await timer
        assert time.now() == 1000

    with virtual_time() as time:
        time.run(main)


@pytest.mark.real_clock
@pytest.mark.rule("T2")
@pytest.mark.parametrize(
    "to_thread", [asyncio.to_thread, anyio.to_thread.run_sync], ids=["asyncio", "anyio"]
)
def test_several_threads_and_errors_in_them_are_waited_for(to_thread: Any) -> None:
    def work(seconds: float) -> float:
        real_time.sleep(seconds)
        if seconds == 0.02:
            raise LookupError
        return time.now()

    async def main() -> list[Any]:
        return await asyncio.gather(
            *(to_thread(work, seconds) for seconds in (0.04, 0.02, 0.0)), return_exceptions=True
        )

    with virtual_time() as time:
        first, second, third = time.run(main)
        assert (first, third) == (0, 0)
        assert isinstance(second, LookupError)
        time.run(main_again)
        assert time.now() == 5


@pytest.mark.rule("T2")
def test_a_sync_policy_that_sleeps_in_a_thread_moves_everybodys_time() -> None:
    async def main() -> float:
        with pytest.raises(ValueError):
            await asyncio.to_thread(retry(on=ValueError, wait=30.0, attempts=2)(fail))
        return time.now()

    with virtual_time() as time:
        assert time.run(main) == 30


# T2: trio.


@pytest.mark.rule("T2")
def test_on_trio_the_clock_of_virtual_time_jumps_and_policies_follow() -> None:
    policy = breaker(consecutive_failures=1, cooldown=3000.0)

    async def main() -> None:
        begun = trio.current_time()
        assert time.now() == 8
        await trio.sleep(1800)
        assert time.now() == 1808
        policy.admit().close(ValueError())
        with pytest.raises(DeadlineExceeded):
            async with deadline(50) as limit:
                assert limit.at == trio.current_time() + 50
                await trio.sleep_forever()
        with pytest.raises(ValueError):
            await retry(on=ValueError, wait=100.0)(async_fail)()
        assert time.now() == 2058
        assert trio.current_time() - begun == 2050
        assert policy.stats().retry_after == 2750
        time.advance(2750)
        policy.admit().close()

    with virtual_time() as time:
        time.advance(3)
        time.run(main_again)
        trio.run(main, clock=time.trio_clock())
        assert time.now() == 4808
        time.advance(2)
        assert time.now() == 4810
        trio.run(trio.sleep, 5, clock=time.trio_clock())
        time.run(main_again)
        assert time.now() == 4820


@pytest.mark.rule("T2", "D7")
def test_under_a_bare_mock_clock_limits_and_waits_follow_trio_and_cooldowns_the_machine() -> None:
    policy = breaker(consecutive_failures=1, cooldown=3000.0)

    async def main() -> None:
        policy.admit().close(ValueError())
        begun = trio.current_time()
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(3600) as limit:
                assert limit.at == begun + 3600
                await trio.sleep(600)
                assert remaining() == limit.remaining() == 3000
                await trio.sleep_forever()
        assert trio.current_time() == begun + 3600
        assert (caught.value.seconds, caught.value.elapsed) == (3600, 3600)
        with pytest.raises(DeadlineExceeded):
            await timeout(400)(trio.sleep_forever)()
        with pytest.raises(ValueError):
            await retry(on=ValueError, wait=1000.0)(async_fail)()
        assert trio.current_time() == begun + 6000
        with pytest.raises(CircuitOpen) as refused:
            policy.admit()
        assert refused.value.retry_after is not None
        assert refused.value.retry_after > 2990, "its cooldown is the machine's"
        with pytest.raises(ValueError):
            async with deadline(100):
                await retry(on=ValueError, wait=1000.0)(async_fail)()
        assert trio.current_time() == begun + 6000, (
            "a wait that is longer than what is left is not begun"
        )

        async def ask() -> float:
            return remaining()

        assert await singleflight().call(ask) == math.inf

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.rule("T2", "R5")
def test_under_a_bare_mock_clock_within_is_a_limit_of_trios_clock() -> None:
    async def main() -> None:
        begun, tries = trio.current_time(), []

        async def body() -> None:
            tries.append(trio.current_time() - begun)
            raise ValueError

        with pytest.raises(ValueError):
            await retry(on=ValueError, wait=6.0, within=10.0, attempts=None)(body)()
        assert tries == [0, 6]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# T2: dice.


@pytest.mark.rule("T2")
def test_the_same_seed_gives_the_same_hour_and_another_seed_another() -> None:
    def hour(seed: int) -> list[tuple[float, str]]:
        with virtual_time(seed=seed, fresh=True) as time:
            policy = breaker(
                "db", consecutive_failures=3, cooldown=backoff(5.0, max=60.0, jitter=0.5)
            )
            calls = retry("r", on=OSError, wait=backoff(0.5, max=8.0), budget=None)

            @calls
            @policy
            async def call() -> None:
                await asyncio.sleep(0.2)
                if 600 < time.now() < 3000:
                    raise OSError

            async def main() -> list[tuple[float, str]]:
                with record(StateChanged) as moves:
                    begun = clock.now()
                    while time.now() < 3600:
                        with contextlib.suppress(OSError, CircuitOpen):
                            await call()
                        await asyncio.sleep(1)
                return [(move.at - begun, move.new.value) for move in moves]

            return time.run(main)

    first = hour(7)
    assert len(first) > 10
    assert hour(7) == first
    assert hour(8) != first


@pytest.mark.rule("T2")
def test_dice_of_ones_own_stay_ones_own_and_the_others_come_back_afterwards() -> None:
    own = backoff(1.0, rng=random.Random(5))
    common = backoff(1.0)
    expected = random.Random(5)
    with virtual_time(seed=3):
        assert [own.delay(1), own.delay(1)] == [expected.random(), expected.random()]
        seeded = random.Random(3)
        assert [common.delay(1), common.delay(1)] == [seeded.random(), seeded.random()]
    with virtual_time():
        assert common.delay(1) == random.Random(0).random(), "the seed is 0 unless given"
    assert common.delay(1) != random.Random(0).random()


@pytest.mark.rule("T2", "L8", "C3")
def test_throttles_and_caches_draw_from_the_seed_unless_they_have_dice_of_their_own() -> None:
    def story(seed: int, rng: random.Random | None) -> list[object]:
        with virtual_time(seed=seed) as time:
            throttled = throttle(minimum=1, rng=rng)
            drawn: list[object] = []
            for _ in range(50):
                try:
                    throttled.admit().close(ValueError())
                    drawn.append("passed")
                except Overloaded:
                    drawn.append("rejected")
            kept = cache(10.0, jitter=0.5, rng=rng)(time.now)
            for _ in range(100):
                drawn.append(round(kept(), 6))  # the last bits depend on when it began
                time.advance(0.7)
            return drawn

    assert story(1, None) == story(1, None)
    assert story(1, None) != story(2, None)
    assert story(1, random.Random(5)) == story(2, random.Random(5))


@pytest.mark.rule("T2")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_an_hour_of_load_control_passes_at_once(world: World) -> None:
    async def scenario(w: World) -> None:
        rate = rate_limit(1, per=60, max_wait=3600)
        pool = bulkhead(1, queue=5, max_wait=1800)
        kept: Any = cache(600, jitter=0)(w.function(w.now))
        began = w.now()
        await w.together(*[lambda: rate.call(w.sleep, 0)] * 6)
        assert w.now() - began == pytest.approx(300)
        outcomes = await w.together(*[lambda: pool.call(w.sleep, 1000)] * 3)
        assert [type(one) for one in outcomes].count(BulkheadFull) == 1, "it waited half an hour"
        first = await kept()
        await w.sleep(599)
        assert await kept() == first
        await w.sleep(1)
        assert await kept() == first + 600
        hedged = hedge(100, budget=None)
        began = w.now()
        starts: list[int] = []

        async def slow_once() -> float:
            starts.append(1)
            await w.sleep(3600 if len(starts) == 1 else 1)
            return w.now() - began

        assert await hedged.call(slow_once) == pytest.approx(101)

    world.run(scenario)


# T2: on leaving, the clock steps back.


@pytest.fixture
def steps() -> Any:
    """The machine's clock, by hand."""
    one = Steps()
    with clock.install(one):
        yield one


@pytest.mark.rule("T2", "B5")
def test_after_leaving_a_breaker_that_opened_inside_has_at_most_its_cooldown_left(
    steps: Steps,
) -> None:
    policy = breaker(consecutive_failures=1, cooldown=5.0)
    with virtual_time() as time:
        time.advance(86400)
        policy.admit().close(ValueError())
        time.advance(2)
    with pytest.raises(CircuitOpen) as refused:
        policy.admit()
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 5.0
    steps.reading += refused.value.retry_after
    policy.admit().close()
    assert policy.state is BreakerState.CLOSED


@pytest.mark.rule("T2", "T3")
@pytest.mark.parametrize("fresh", [False, True])
def test_after_leaving_time_goes_on_from_where_it_ended_or_if_fresh_from_where_it_was(
    fresh: bool, steps: Steps
) -> None:
    began = clock.now()
    with virtual_time(fresh=fresh) as time:
        ended = time.reading()
        time.advance(1000)
    assert clock.now() == (began if fresh else ended + 1000)


@pytest.mark.rule("T2", "B5")
def test_the_same_is_true_of_what_only_stats_see(steps: Steps) -> None:
    policy = breaker(consecutive_failures=1, cooldown=5.0)
    with virtual_time() as time:
        time.advance(86400)
        policy.admit().close(ValueError())
    left = policy.stats().retry_after
    assert left is not None
    assert left <= 5.0


@pytest.mark.rule("T2", "B4")
def test_after_leaving_a_window_forgets_as_ever(steps: Steps) -> None:
    policy = breaker(consecutive_failures=None, window=10.0, minimum=2)
    with virtual_time() as time:
        time.advance(86400)
        policy.admit().close(ValueError())
    steps.reading += 9.9
    assert policy.stats().failure_rate is None
    policy.admit().close()
    assert policy.state is BreakerState.OPEN, (
        "nothing younger than the window is dropped: one of two"
    )
    other = breaker(consecutive_failures=None, window=10.0, minimum=2)
    with virtual_time() as time:
        time.advance(86400)
        other.admit().close(ValueError())
    other.stats()
    steps.reading += 11.1
    other.admit().close()
    other.admit().close()
    assert other.state is BreakerState.CLOSED, "everything older than 1.1 windows is"
    assert other.stats().failure_rate == 0.0


@pytest.mark.rule("T2", "B7")
def test_after_leaving_a_probe_has_at_most_its_lease(steps: Steps) -> None:
    policy = breaker(consecutive_failures=1, cooldown=0, probe_lease=30.0)
    with virtual_time() as time:
        time.advance(86400)
        policy.admit().close(ValueError())
        probe = policy.admit()
    with pytest.raises(CircuitOpen):
        policy.admit()
    steps.reading += 30.0
    policy.admit().close()
    assert policy.state is BreakerState.CLOSED
    assert policy.stats().failures == 2
    probe.close()
    assert policy.stats().failures == 2


@pytest.mark.rule("T2", "B3")
def test_a_call_that_began_inside_and_ends_outside_is_counted_and_not_slow(steps: Steps) -> None:
    policy = breaker(slow=1.0, minimum=1)
    with virtual_time() as time:
        time.advance(86400)
        call = policy.admit()
    call.close()
    stats = policy.stats()
    assert (stats.successes, stats.slow, stats.state) == (1, 0, BreakerState.CLOSED)


@pytest.mark.rule("T2", "R4")
def test_after_leaving_a_budget_recovers_as_ever(steps: Steps) -> None:
    budget = RetryBudget(ratio=0, per_second=0.5, ttl=10.0)
    with virtual_time() as time:
        time.advance(86400)
        while budget.withdraw():
            pass
    assert not budget.withdraw()
    steps.reading += 10.0
    assert budget.withdraw()
    assert budget.left >= 3


@pytest.mark.rule("T2", "L5")
def test_after_leaving_a_used_up_rate_recovers_as_ever(steps: Steps) -> None:
    plain, keyed = rate_limit(2, per=10.0), rate_limit(2, per=10.0, key="tenant")
    with virtual_time() as time:
        time.advance(86400)
        plain.take(2)
        keyed.of("a").take(2)
    for one in (plain, keyed.of("a")):
        with pytest.raises(RateLimited) as refused:
            one.take()
        assert refused.value.retry_after is not None
        assert 0 < refused.value.retry_after <= 5.0
    steps.reading += 5.0
    for one in (plain, keyed.of("a")):
        one.take()
        with pytest.raises(RateLimited):
            one.take()


@pytest.mark.rule("T2", "L8")
def test_after_leaving_a_throttle_forgets_within_a_window(steps: Steps) -> None:
    policy = throttle(minimum=1, window=10.0, max_reject=0.999)
    with virtual_time() as time:
        time.advance(86400)
        for _ in range(50):
            with contextlib.suppress(Overloaded):
                policy.admit().close(ValueError())
    assert policy.stats().probability > 0.5
    steps.reading += 1.0
    policy.admit().close()  # one a second passes
    steps.reading += 10.1
    assert policy.stats().probability == 0
    for _ in range(20):
        policy.admit().close()


@pytest.mark.rule("T2", "L7")
def test_after_leaving_an_adaptive_limit_goes_on_learning(steps: Steps) -> None:
    policy = adaptive_limit(initial=2, algorithm="aimd")
    with virtual_time() as time:
        time.advance(86400)
        for _ in range(20):
            with policy:
                time.advance(0.25)
        across = policy.admit()
        time.advance(0.25)
    across.close()  # it lasted as long as the others: time stood still
    before = policy.stats()
    assert before.latency == pytest.approx(0.25)
    for _ in range(60):
        calls = list[resilient.Call]()
        with contextlib.suppress(Overloaded):  # it measures now and then, with fewer calls
            while True:
                calls.append(policy.admit())
        steps.reading += 0.25
        for call in calls:
            call.close()
    assert policy.stats().limit > before.limit
    assert policy.stats().latency == pytest.approx(0.25)


@pytest.mark.rule("T2", "C3", "C4")
def test_after_leaving_a_value_is_no_fresher_than_it_was(steps: Steps) -> None:
    runs: list[float] = []
    kept = cache(10.0, jitter=0, stale=10.0)

    @kept
    def look() -> int:
        runs.append(clock.now())
        if len(runs) > 1:
            raise ValueError
        return len(runs)

    with virtual_time() as time:
        time.advance(86400)
        assert look() == 1
        time.advance(4)
    assert look() == 1
    assert len(runs) == 1
    steps.reading += 10.1
    assert look() == 1
    assert kept.stats().stale_served == 1, "its time is over"
    steps.reading += 10.1
    with pytest.raises(ValueError):
        look()


@pytest.mark.rule("T2", "H4")
def test_after_leaving_a_hedge_has_learnt_no_negative_latency(steps: Steps) -> None:
    policy = hedge("p50", budget=None)

    async def quick() -> None:
        await asyncio.sleep(0.25)

    async def leave() -> None:
        for _ in range(20):
            await policy.call(quick)

    with virtual_time() as time:
        time.advance(86400)
        time.run(leave)
        assert policy.stats().after == pytest.approx(0.25, rel=0.1)
    with virtual_time() as time:
        time.run(leave)
        assert policy.stats().after == pytest.approx(0.25, rel=0.1)
    assert policy.stats().hedges <= 40


@pytest.mark.rule("T2", "D1")
def test_a_step_back_lets_no_new_limit_expire_and_none_last_longer(steps: Steps) -> None:
    with virtual_time() as time:
        time.advance(86400)
        with deadline(5.0):
            assert remaining() == 5.0
    with deadline(5.0):
        assert remaining() == 5.0
        steps.reading += 5.0
        assert remaining() == 0.0


# T3


def used() -> list[Any]:
    """One of each policy, with everything in it that can be in it."""
    keyed = breaker("keyed", key="tenant")
    for tenant in "ab":
        keyed.of(tenant).admit().close(ValueError())
    forced = breaker("forced")
    forced.force_open()
    flight = singleflight("flight")
    flight.call(lambda: 1)
    return [keyed, forced, used_breaker(), used_retry(), used_timeout(), flight, *used_load()]


def used_load() -> list[Any]:
    """One of each policy of load control and protection, full, with what it can count."""
    ones = new_load()
    pool, rate, limited, throttled, hedged, helped, kept, keyed = ones
    pool.resize(1)
    rate.take(2)
    for policy in (pool, limited):
        with policy, pytest.raises(Rejected):
            policy.admit()
    with pytest.raises(RateLimited):
        rate.take()
    for _ in range(3):
        with contextlib.suppress(Overloaded):
            throttled.of("a").admit().close(ValueError())
    asyncio.run(hedged.call(main_at_once))
    assert helped.call(fail) == 1
    look = kept(lambda: 1)
    assert look() + look() == 2
    keyed.of("a").resize(9)
    keyed.of("a").admit().close()
    return ones


async def main_at_once() -> None: ...


def new_load() -> list[Any]:
    return [
        bulkhead(2, name="pool"), rate_limit(2, per=1000, name="rate"),
        adaptive_limit(initial=1, name="limited"), throttle(minimum=1, key="k", name="throttled"),
        hedge("p95", name="hedged"), fallback(default=1, name="helped"), cache(9, name="kept"),
        bulkhead(2, key="k", name="keyed"),
    ]  # fmt: skip


def used_breaker() -> Any:
    policy = breaker("used", consecutive_failures=2)
    for error in (None, ValueError(), ValueError()):
        policy.admit().close(error)
    with pytest.raises(CircuitOpen):
        policy.admit()
    return policy


def used_retry() -> Any:
    policy = retry("retry", on=ValueError, wait=0)
    with pytest.raises(ValueError):
        policy(fail)()
    return policy


def used_timeout() -> Any:
    policy = timeout(1000, name="timeout")
    policy.call(lambda: 1)
    return policy


def new() -> list[Any]:
    return [
        breaker("keyed", key="tenant"), breaker("forced"), breaker("used", consecutive_failures=2),
        retry("retry", on=ValueError), timeout(1000, name="timeout"), singleflight("flight"),
        *new_load(),
    ]  # fmt: skip


@pytest.mark.rule("T3")
@pytest.mark.parametrize(
    "how", [fresh, lambda: virtual_time(fresh=True)], ids=["fresh", "virtual_time"]
)
def test_every_living_policy_starts_as_new_and_is_left_as_new(how: Callable[[], Any]) -> None:
    policies = used()
    as_new = [policy.stats() for policy in new()]
    assert all(policy.stats() != stats for policy, stats in zip(policies, as_new, strict=True))
    with how():
        assert [policy.stats() for policy in policies] == as_new
        assert policies[0].keys() == []
        inside = used()
        for policy in policies:
            if policy.kind in {"retry", "timeout", "singleflight", "fallback", "cache"}:
                policy.call(lambda: 1)
    assert [policy.stats() for policy in (*policies, *inside)] == as_new * 2


@pytest.mark.rule("T3", "T2")
def test_virtual_time_alone_leaves_the_policies_as_they_are() -> None:
    policy = used_breaker()
    before = policy.stats()
    with virtual_time():
        assert policy.stats().calls == before.calls
        assert policy.state is BreakerState.OPEN
    assert policy.stats().calls == before.calls


@pytest.mark.rule("T3")
def test_it_is_left_as_new_after_an_error_too() -> None:
    policy = breaker()
    with pytest.raises(LookupError):
        with fresh():
            policy.admit().close()
            raise LookupError
    assert policy.stats().calls == 0


@pytest.mark.rule("T3", "R4")
def test_a_budget_starts_as_new_also_one_that_is_shared_or_of_a_key() -> None:
    shared = RetryBudget(ratio=0, per_second=0.1, ttl=10.0)
    policies = [
        retry(on=ValueError, wait=0, budget=shared),
        retry(on=ValueError, wait=0, key=lambda: "k", budget=RetryBudget(0, 0.1, 10.0)),
    ]
    for policy in policies:
        shared._reset()
        for retries in (1, 1):
            with pytest.raises(ValueError):
                policy(fail)()
            assert policy.stats().retries == retries
        with fresh():
            with pytest.raises(ValueError):
                policy(fail)()
            assert policy.stats().retries == 1, "there is a balance again"
        with pytest.raises(ValueError):
            policy(fail)()
        assert policy.stats().retries == 1, "and afterwards as well"


@pytest.mark.rule("T3", "R4")
def test_a_budget_that_is_used_by_hand_starts_as_new() -> None:
    budget = RetryBudget(ratio=0, per_second=0.1, ttl=10.0)
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    with fresh():
        assert [budget.withdraw(), budget.withdraw()] == [True, False]
    assert budget.withdraw()


@pytest.mark.rule("T3", "B1")
def test_a_call_under_way_when_a_policy_is_renewed_counts_nothing_any_more() -> None:
    policy, keyed = breaker(consecutive_failures=1), breaker(consecutive_failures=1, key="k")
    calls = [policy.admit(), keyed.of("a").admit()]
    with fresh():
        for call in calls:
            call.close(ValueError())
        for one in (policy, keyed):
            stats = one.stats()
            assert (stats.calls, stats.failures, stats.in_flight, stats.state) == (
                0,
                0,
                0,
                BreakerState.CLOSED,
            )
        calls = [policy.admit(), keyed.of("a").admit()]
    del calls, call
    gc.collect()
    for one in (policy, keyed):
        stats = one.stats()
        assert (stats.calls, stats.ignored, stats.in_flight) == (0, 0, 0)


@pytest.mark.rule("T3")
def test_a_place_held_when_its_policy_is_renewed_counts_nothing_any_more() -> None:
    policies: list[Any] = [
        bulkhead(1), adaptive_limit(initial=1), throttle(minimum=1),
        bulkhead(1, key="k").of("a"), throttle(minimum=1, key="k").of("a"),
    ]  # fmt: skip
    calls = [policy.admit() for policy in policies]
    with fresh():
        for policy in policies:
            policy.admit().close()  # there is room
        for call in calls:
            call.close(ValueError())
        for policy in policies:
            stats = policy.stats()
            counted = stats.requests if policy.kind == "throttle" else stats.calls
            assert (counted, getattr(stats, "in_flight", 0)) == (1, 0)
            assert getattr(stats, "accepts", 1) == 1
        calls = [policy.admit() for policy in policies]
    del calls, call
    gc.collect()
    for policy in policies:
        stats = policy.stats()
        counted = stats.requests if policy.kind == "throttle" else stats.calls
        assert (counted, getattr(stats, "in_flight", 0)) == (0, 0)


@pytest.mark.rule("T3", "L1", "L6")
@pytest.mark.parametrize("kind", ["bulkhead", "adaptive_limit", "rate_limit"])
def test_those_who_wait_when_their_policy_is_renewed_are_served(
    async_world: World, kind: str
) -> None:
    async def scenario(w: World) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "bulkhead": lambda: bulkhead(1, queue=5),
            "adaptive_limit": lambda: adaptive_limit(initial=1, queue=5),
            "rate_limit": lambda: rate_limit(1, per=0.5 * w.unit, max_wait=100.0),
        }
        policy = makers[kind]()
        ran: list[int] = []

        async def body(number: int) -> None:
            ran.append(number)
            await w.sleep(0.3)

        async def renewed() -> None:
            await w.sleep(0.1)
            assert queued(policy) == 2
            with fresh():
                assert queued(policy) == 0

        await w.together(*(lambda n=n: policy.call(body, n) for n in range(3)), renewed)
        assert sorted(ran) == [0, 1, 2]
        assert queued(policy) == 0

    async_world.run(scenario)


def queued(policy: Any) -> int:
    return policy.stats().queued  # type: ignore[no-any-return]  # of any kind


@pytest.mark.rule("T3", "C6")
def test_a_caches_run_under_way_when_it_is_renewed_serves_and_is_not_kept(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        kept = cache(1000)
        runs: list[int] = []

        @kept
        async def look() -> int:
            runs.append(len(runs))
            number = runs[-1]
            await w.sleep(2)
            return number

        async def renewed() -> int:
            await w.sleep(1)
            with fresh():
                pass
            return await look()

        assert await w.together(look, renewed) == [0, 1]
        assert await look() == 1
        assert (kept.stats().calls, kept.stats().hits, kept.stats().size) == (2, 1, 1)

    async_world.run(scenario)


@pytest.mark.rule("T3")
def test_a_hedge_starts_as_new_with_its_history_and_budget() -> None:
    policy = hedge("p50", budget=RetryBudget(0, 0.1, 10.0))

    async def quick() -> None:
        await asyncio.sleep(0.25)

    async def many() -> None:
        for _ in range(20):
            await policy.call(quick)

    with virtual_time() as time:
        time.run(many)
        assert policy.stats().after is not None
        assert policy._budget is not None
        policy._budget.withdraw()
        assert not policy._budget.withdraw()
        with fresh():
            assert policy.stats().after is None
            assert policy._budget.withdraw()
        assert policy._budget.withdraw()


@pytest.mark.rule("T3")
def test_an_initially_open_breaker_begins_its_cooldown_anew() -> None:
    policy = breaker(initial=BreakerState.OPEN, cooldown=5.0)
    with virtual_time() as time:
        time.advance(60)
        with fresh():
            assert (policy.state, policy.stats().retry_after) == (BreakerState.OPEN, 5.0)
            assert policy.stats().opened == 0
            time.advance(5)
            policy.admit().close()
        assert policy.state is BreakerState.OPEN


@pytest.mark.rule("T3", "S1")
def test_a_flight_under_way_serves_its_waiters_and_nobody_new(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight()
        runs: list[int] = []

        async def run() -> int:
            runs.append(len(runs))
            number = runs[-1]
            await w.sleep(2)
            return number

        async def renewed() -> int:
            await w.sleep(1)
            with fresh():
                pass
            return await flight.do("k", run)

        assert await w.together(lambda: flight.do("k", run), renewed) == [0, 1]

    async_world.run(scenario)


@pytest.mark.rule("T3")
def test_listeners_stay_and_a_renewal_is_no_event() -> None:
    policy = breaker()
    with record(Event) as told:
        policy.force_open()
        with fresh():
            assert policy.state is BreakerState.CLOSED
            policy.force_open()
    assert len(told) == 2


@pytest.mark.rule("T3", "M1")
def test_record_keeps_the_events_of_its_types_while_its_block_lasts(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1)
        with record(StateChanged) as moves, record(Event) as everything:
            assert moves == []
            with pytest.raises(ValueError):
                await w.call(policy(w.function(fail)))
            assert len(moves) == 1
            with pytest.raises(CircuitOpen):
                policy.admit()
        policy.reset()
        assert (len(moves), len(everything)) == (1, 2)

    world.run(scenario)


outlived = breaker("outlived", consecutive_failures=1, cooldown=1000.0)


@pytest.mark.rule("T3", "T2")
@pytest.mark.parametrize("turn", [1, 2])
def test_the_plugin_gives_a_test_virtual_time_with_every_policy_fresh(
    turn: int, virtual_time: VirtualTime
) -> None:
    assert isinstance(virtual_time, VirtualTime)
    assert virtual_time.now() == 0
    assert outlived.stats().calls == 0
    outlived.admit().close(ValueError())
    virtual_time.advance(1000)
    assert virtual_time.now() == 1000
    outlived.admit().close()


@pytest.mark.rule("T2", "B4")
def test_after_leaving_old_health_leaves_the_window_in_time(steps: Steps) -> None:
    """Plain successes do not look back at the clock: they are told that it was changed."""
    policy = breaker(consecutive_failures=None, failure_rate=0.5, minimum=4, window=10.0)
    good = policy(lambda: "ok")
    with virtual_time() as time:
        time.advance(86400)
        for _ in range(6):
            good()
    for _ in range(6):
        good()
    steps.reading += 12.0
    for _ in range(2):
        good()
    for _ in range(2):
        policy.admit().close(ValueError())
    assert policy.state is BreakerState.OPEN


@pytest.mark.rule("T2", "B5")
def test_after_leaving_an_open_breaker_probes_after_its_own_cooldown(steps: Steps) -> None:
    policy = breaker(consecutive_failures=1, cooldown=5.0)
    good = policy(lambda: "ok")
    with virtual_time() as time:
        time.advance(86400)
        policy.admit().close(ValueError())
    with pytest.raises(CircuitOpen):
        good()
    steps.reading += 5.0
    assert good() == "ok"

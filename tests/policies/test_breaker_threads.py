"""B11: under many threads no count is lost, and half-open never admits more than its probes."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import Breaker, BreakerState, Call, CircuitOpen, breaker
from resilient.testing import VirtualTime, virtual_time
from tests.worlds import in_threads

THREADS = 8


def state(policy: Breaker) -> BreakerState:
    """Its state now: a type checker would take the attribute for what it was."""
    return policy.state


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with virtual_time() as one:
        yield one


def identity(policy: Any) -> None:
    stats = policy.stats()
    assert stats.calls == stats.successes + stats.failures + stats.ignored + stats.in_flight
    assert stats.in_flight == 0


@pytest.mark.rule("B11", "B12", "F4")
def test_no_count_is_lost(time: VirtualTime) -> None:
    policy = breaker(consecutive_failures=None, failure_rate=1.0, slow=1000.0)

    @policy
    def call(number: int) -> None:
        if number % 3 == 0:
            raise ValueError

    def many() -> int:
        for number in range(300):
            with contextlib.suppress(ValueError):
                call(number)
            with policy as block:
                if number % 5 == 0:
                    block.ignore()
        return 1

    assert in_threads(*[many] * THREADS) == [1] * THREADS
    stats = policy.stats()
    assert (stats.calls, stats.failures, stats.ignored) == (
        600 * THREADS,
        100 * THREADS,
        60 * THREADS,
    )
    assert stats.failure_rate == pytest.approx(100 / 540)
    identity(policy)


@pytest.mark.rule("B11", "B12", "F6")
def test_whoever_looks_while_others_call_sees_totals_that_never_go_down_nor_contradict(
    time: VirtualTime,
) -> None:
    policy = breaker(consecutive_failures=None)
    done = threading.Event()

    def many() -> int:
        for _ in range(1500):
            policy.call(int)
        return 1

    def look() -> int:
        calls = successes = looks = 0
        while not done.is_set() or not looks:
            stats = policy.stats()
            assert stats.calls >= calls
            assert stats.successes >= successes
            assert stats.in_flight >= 0
            assert stats.calls == stats.successes + stats.in_flight
            calls, successes, looks = stats.calls, stats.successes, looks + 1
        return looks

    outcomes: list[Any] = []
    watcher = threading.Thread(target=lambda: outcomes.extend(in_threads(look, look)))
    watcher.start()
    assert in_threads(*[many] * 4) == [1] * 4
    done.set()
    watcher.join(30)
    assert all(isinstance(looks, int) for looks in outcomes), outcomes
    assert policy.stats().successes == 6000


@pytest.mark.rule("B11", "B6")
@pytest.mark.parametrize("probes", [1, 3])
def test_half_open_never_admits_more_than_its_probes(time: VirtualTime, probes: int) -> None:
    for _ in range(100):
        policy = breaker(consecutive_failures=1, cooldown=1.0, probes=probes)
        policy.admit().close(ValueError())
        time.advance(1.0)
        outcomes = in_threads(*[policy.admit] * THREADS)
        calls = [one for one in outcomes if isinstance(one, Call)]
        assert len(calls) == probes
        assert sum(isinstance(one, CircuitOpen) for one in outcomes) == THREADS - probes
        assert state(policy) is BreakerState.HALF_OPEN
        in_threads(*(call.close for call in calls))
        assert state(policy) is BreakerState.CLOSED
        outcomes.clear()
        calls.clear()
        identity(policy)
        assert policy.stats().rejected == THREADS - probes


@pytest.mark.rule("B11", "B6")
def test_never_more_than_one_probe_runs_while_threads_keep_calling(time: VirtualTime) -> None:
    policy = breaker(consecutive_failures=1, cooldown=0)
    running, most = [], [0]
    allowed = {BreakerState.HALF_OPEN}

    def body() -> None:
        running.append(1)
        if policy.state in allowed:
            most[0] = max(most[0], len(running))
        running.pop()
        raise ValueError

    policy.admit().close(ValueError())

    def many() -> int:
        made = 0
        for _ in range(200):
            try:
                policy.call(body)
            except ValueError:
                made += 1
            except CircuitOpen:
                pass
        return made

    made = in_threads(*[many] * THREADS)
    assert most == [1]
    stats = policy.stats()
    assert stats.failures == sum(made) + 1
    assert stats.failures == stats.opened, "every probe failed, and each opened it again"
    assert stats.rejected == 200 * THREADS - sum(made)


@pytest.mark.rule("B11")
def test_of_many_failures_at_once_one_opens_it(time: VirtualTime) -> None:
    for _ in range(50):
        policy = breaker(consecutive_failures=THREADS, failure_rate=None, cooldown=1000.0)
        calls = [policy.admit() for _ in range(THREADS)]
        in_threads(*((lambda call=call: call.close(ValueError())) for call in calls))
        stats = policy.stats()
        assert (stats.state, stats.opened, stats.failures, stats.generation) == (
            BreakerState.OPEN,
            1,
            THREADS,
            2,
        )


@pytest.mark.rule("B11", "B1")
def test_results_that_race_with_a_change_of_state_count_in_the_totals_alone(
    time: VirtualTime,
) -> None:
    for _ in range(50):
        policy = breaker(consecutive_failures=3, failure_rate=None)
        calls = [policy.admit() for _ in range(THREADS)]
        in_threads(
            policy.reset, *((lambda call=call: call.close()) for call in calls), policy.reset
        )
        stats = policy.stats()
        assert (stats.calls, stats.successes, stats.state, stats.generation) == (
            THREADS,
            THREADS,
            BreakerState.CLOSED,
            3,
        )
        identity(policy)


@pytest.mark.rule("B11", "F3")
def test_calls_that_are_lost_in_many_threads_all_come_back(time: VirtualTime) -> None:
    policy = breaker()

    def lose() -> int:
        for _ in range(100):
            policy.admit()
        return 1

    in_threads(*[lose] * 4)
    gc.collect()
    stats = policy.stats()
    assert (stats.calls, stats.ignored, stats.in_flight) == (400, 400, 0)


@pytest.mark.rule("B11", "F10")
def test_a_key_has_one_state_however_many_threads_come_first(time: VirtualTime) -> None:
    for _ in range(50):
        policy: Breaker = breaker(key="tenant", consecutive_failures=THREADS)
        in_threads(*[lambda policy=policy: policy.of("a").admit().close(ValueError())] * THREADS)
        assert policy.of("a").state is BreakerState.OPEN
        assert policy.stats().failures == THREADS

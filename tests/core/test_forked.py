"""What is left of a state in the child of a fork: what it has learned, and none of its calls."""

from __future__ import annotations

import pytest

from resilient._core.adaptive_limit import AdaptiveLimitCore
from resilient._core.breaker import BreakerState
from resilient._core.bulkhead import BulkheadCore
from resilient._core.matching import Verdict
from resilient._core.throttle import ThrottleConfig, ThrottleCore
from resilient._core.waiters import Waiter
from tests.core import breakers, overload, test_rate_limit

pytestmark = pytest.mark.rule("F4")


def test_places_are_free_and_the_limit_stays() -> None:
    core = BulkheadCore(1, 9, [])
    assert core.try_acquire()
    core.arrive(Waiter())
    core.resize(2)
    child = core.forked()
    assert (child.limit, child.in_flight(), len(child.queue)) == (2, 0, 0)
    core.release()  # the one that forked, there
    assert child.in_flight() == 0


def test_an_adaptive_limit_keeps_what_it_has_learned() -> None:
    core = overload.core_of(initial=4)
    core.latency = 0.5
    assert core.try_acquire(0.0, 0.0)
    child = core.forked()
    assert isinstance(child, AdaptiveLimitCore)
    assert (child.limit, child.in_flight, child.latency) == (4, 0, 0.5)
    assert child.patience(1.0) == core.patience(1.0)


def test_nobody_waits_at_a_rate_limit_and_what_has_passed_has() -> None:
    core, _ = test_rate_limit.core_of(1.0)
    assert core.take(0.0)
    core.queue.join(Waiter())
    child = core.forked()
    assert not child.queue
    assert not child.take(0.5)
    assert child.take(1.0)


def test_a_throttle_keeps_its_window() -> None:
    core = ThrottleCore(ThrottleConfig(2.0, 10.0, 1, 0.9), 0.0)
    for _ in range(3):
        assert core.admit(0.0, 0.99)
    core.settle(Verdict.FAILURE, 0.0)
    child = core.forked()
    assert child.idle()
    assert child.in_window(0.0) == (1, 1)
    assert child.probability(0.0) == core.probability(0.0)


@pytest.mark.parametrize("state", BreakerState)
def test_a_breakers_calls_are_ignored_and_its_state_stays(state: BreakerState) -> None:
    core = breakers.core_of(initial=BreakerState.CLOSED)
    permit = breakers.admit(core)
    if state is BreakerState.HALF_OPEN:
        core.force_state(BreakerState.OPEN, "forced", 0.0, 0.0)
        breakers.admit(core, 10.0)  # the probe
    else:
        core.force_state(state, "forced", 0.0, 0.0)
    generation = core.generation
    child = core.forked()
    assert (child.state, child.generation, child.in_flight()) == (state, generation, 0)
    child.settle(permit, Verdict.FAILURE, 10.0, 0.0)
    assert child.totals()["failures"] == 0
    if state is BreakerState.HALF_OPEN:
        breakers.admit(child, 10.0)  # its place is free

"""Calls that are given ahead pass exactly as if each had taken its turn; for tests/core/."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.rate_limit import (
    LEAST_AHEAD,
    MOST_AHEAD,
    NOTHING,
    RateLimitConfig,
    RateLimitCore,
)
from resilient._core.waiters import Waiter

NOW = 1000.25


def core_of(rate: float, per: float = 1.0, burst: int | None = None) -> RateLimitCore:
    return RateLimitCore(RateLimitConfig.of(rate, per, burst), NOW, list[Waiter]())


def passes(core: RateLimitCore, now: float) -> bool:
    """What the wrappers do."""
    places, times = core.ahead
    at = next(places, None)
    if at is not None:
        times[at] = now
        return True
    core.close()
    return core.take_ahead(now)


GAPS = st.sampled_from([0.0, 1e-9, 0.01, 0.1, 0.3, 1.0, 5.0]) | st.floats(0, 2)
STEPS = st.sampled_from(["call", "call", "call", "burst", "take", "wait", "full"])


@pytest.mark.rule("L4", "L5")
@settings(max_examples=300)
@given(
    st.sampled_from([0.5, 1.0, 3.0, 10.0, 100.0, 1e9]),
    st.sampled_from([1.0, 0.7, 60.0]),
    st.none() | st.integers(1, 200),
    st.lists(st.tuples(GAPS, STEPS), max_size=40),
)
def test_calls_given_ahead_pass_exactly_as_if_each_had_taken_its_turn(
    rate: float, per: float, burst: int | None, steps: list[tuple[float, str]]
) -> None:
    one_by_one, ahead, now = core_of(rate, per, burst), core_of(rate, per, burst), NOW
    most = RateLimitConfig.of(rate, per, burst).burst
    for gap, step in steps:
        now += gap
        if step in {"call", "burst"}:
            times = 1 if step == "call" else 20
            wanted = [one_by_one.take(now) for _ in range(times)]
            assert [passes(ahead, now) for _ in range(times)] == wanted
        elif step == "take":
            assert ahead.take(now, min(3, most)) is one_by_one.take(now, min(3, most))
        elif step == "wait":
            assert ahead.wait(now) == one_by_one.wait(now)
        else:
            assert ahead.full(now) is one_by_one.full(now)


@pytest.mark.rule("L5")
def test_who_has_taken_a_place_and_not_said_when_counts_as_of_the_reckoning() -> None:
    core = core_of(10.0)
    assert passes(core, NOW)
    assert next(core.ahead[0]) == 0  # stopped before it has read the clock
    core.close()
    assert [core.take(NOW + 0.5) for _ in range(10)] == [True] * 9 + [False]
    core.reckon(NOW)
    assert core.calls.read() == 1


@pytest.mark.rule("L5")
@pytest.mark.parametrize(("rate", "pause"), [(3.0, 10.0), (10.0, 0.5)])
def test_who_has_taken_a_place_counts_as_of_when_it_did(rate: float, pause: float) -> None:
    """A bucket that is full again by then is no fuller; at a rate that is a fraction, too."""
    core, now = core_of(rate, burst=20), NOW + pause
    assert passes(core, NOW)
    assert [passes(core, now) for _ in range(10)] == [True] * 10
    core.close()
    assert core.wait(now, 20) == pytest.approx(10 / rate)


@pytest.mark.rule("L6")
def test_nothing_is_given_ahead_while_somebody_waits_or_when_little_is_left() -> None:
    core = core_of(1.0, burst=LEAST_AHEAD)
    assert passes(core, NOW)
    assert core.ahead is NOTHING  # one less than the least
    core = core_of(1.0, burst=LEAST_AHEAD + 1)
    assert passes(core, NOW)
    assert core.ahead is not NOTHING
    core.queue.join(Waiter())
    assert not core.take(NOW)
    assert core.ahead is NOTHING
    assert not passes(core, NOW + 100)
    assert core.ahead is NOTHING


@pytest.mark.rule("L5")
def test_no_more_is_given_ahead_than_is_soon_used_up() -> None:
    core = core_of(1000.0)
    assert passes(core, NOW)
    assert len(core.ahead[1]) == MOST_AHEAD
    assert [passes(core, NOW) for _ in range(1000)] == [True] * 999 + [False]

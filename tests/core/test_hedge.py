"""When a second attempt may begin: H4, and the rules at the head of the core's file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.hedge import AT_ONCE, HISTORY, ONE_IN, SOONEST, HedgeDelay, Share


def fed(*latencies: float, share: float = 0.95) -> HedgeDelay:
    delay = HedgeDelay(None, share)
    for latency in latencies:
        delay.succeeded(latency)
    return delay


@pytest.mark.rule("H4")
def test_a_quantile_is_unknown_before_twenty_successes() -> None:
    assert HISTORY == 20
    delay = fed(*[0.1] * 19)
    assert delay.after() is None
    delay.succeeded(0.1)
    after = delay.after()
    assert after is not None
    assert 0.1 <= after < 0.106


@pytest.mark.rule("H4")
def test_fixed_seconds_need_no_history_and_learn_nothing() -> None:
    delay = HedgeDelay(0.25, 0.0)
    assert delay.after() == 0.25
    for _ in range(50):
        delay.succeeded(9.0)
    assert delay.after() == 0.25
    assert delay.latencies.seen == 0
    assert HedgeDelay(1e-6, 0.0).after() == 1e-6, "what was said is what is done"


@pytest.mark.rule("H4")
def test_a_quantile_is_never_sooner_than_timers_are_fine() -> None:
    assert fed(*[1e-5] * 20).after() == SOONEST
    assert fed(*[0.0] * 20).after() == SOONEST


@pytest.mark.rule("H4")
@pytest.mark.parametrize(("share", "least"), [(0.5, 0.010), (0.9, 0.1), (0.96, 2.0), (1.0, 2.0)])
def test_it_is_the_quantile_that_was_asked_for(share: float, least: float) -> None:
    after = fed(*[0.010] * 50, *[0.1] * 45, *[2.0] * 5, share=share).after()
    assert after is not None
    assert least <= after <= 1.06 * least


@pytest.mark.rule("H4")
def test_a_clock_that_steps_back_gives_no_negative_latency() -> None:
    assert fed(*[-5.0] * 20).after() == SOONEST


@pytest.mark.rule("H4")
def test_it_follows_a_change_within_a_few_hundred_calls() -> None:
    delay = fed(*[0.01] * 2000)
    slow = 0
    while (delay.after() or 0.0) < 0.5:
        delay.succeeded(0.5)
        slow += 1
        assert slow < 600, "it still thinks that calls are fast"
    assert slow > 5, "one slow call is no change"


@pytest.mark.rule("H4")
@settings(max_examples=50)
@given(st.lists(st.floats(1e-4, 10.0), min_size=20, max_size=120))
def test_asked_after_each_success_it_is_never_below_the_fastest_or_above_the_slowest(
    latencies: list[float],
) -> None:
    delay = HedgeDelay(None, 0.95)
    for n, latency in enumerate(latencies, 1):
        delay.succeeded(latency)
        after = delay.after()
        assert (after is None) == (n < HISTORY)
        if after is not None:
            low, high = min(latencies[:n]), max(latencies[:n])
            assert max(SOONEST, low) * (1 - 1e-9) <= after <= max(SOONEST, 1.0501 * high)


@pytest.mark.rule("H4")
def test_what_was_read_early_is_read_anew_before_it_is_stale() -> None:
    delay = fed(*[0.01] * 20)
    assert delay.after() is not None
    for _ in range(3):
        delay.succeeded(1.0)
    after = delay.after()
    assert after is not None
    assert after >= 1.0, "three of twenty-three are more than a twentieth"


def test_renewed_it_knows_nothing() -> None:
    delay = fed(*[1.0] * 30)
    assert delay.after() is not None
    delay.reset()
    assert delay.after() is None
    for _ in range(20):
        delay.succeeded(0.01)
    after = delay.after()
    assert after is not None
    assert after < 0.011


@pytest.mark.rule("H4")
@pytest.mark.parametrize(("read_at", "anew_at"), [(30, 32), (32, 35), (2000, 2063)])
def test_a_quantile_is_read_anew_when_a_sixteenth_more_has_been_seen(
    read_at: int, anew_at: int
) -> None:
    """Or 63 more; until then the one that is known will do."""
    delay = fed(*[0.01] * read_at, share=1.0)
    known = delay.after()
    for _ in range(anew_at - read_at - 1):
        delay.succeeded(1.0)
        assert delay.after() == known
    delay.succeeded(1.0)
    assert delay.after() != known


@pytest.mark.rule("H4")
def test_two_hedges_may_be_at_first_and_another_after_each_ten_calls() -> None:
    share = Share()
    assert [share.take(0) for _ in range(3)] == [True, True, False]
    assert [share.take(calls) for calls in (9, 10, 19, 20, 20)] == [False, True, False, True, False]
    assert [share.take(1000) for _ in range(3)] == [True, True, False]


@pytest.mark.rule("H4")
@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), max_size=50))
def test_of_the_calls_of_late_one_in_ten_is_hedged_and_two_at_once(steps: list[int]) -> None:
    """In no stretch of calls are more; and what is earned is given."""
    share, calls = Share(), 0
    taken: list[int] = []  # the number of calls at each hedge
    for more in steps:
        calls += more
        while share.take(calls):
            taken.append(calls)
        assert calls - taken[-1] < ONE_IN
    for first, since in enumerate(taken):
        for number, at in enumerate(taken[first:], 1):
            assert number <= AT_ONCE + (at - since) / ONE_IN

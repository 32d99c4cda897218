"""The windows of the breaker, B4, against a list of all that ever happened."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.window import BUCKETS, SHARE, CountWindow, NoWindow, TimeWindow

Step = tuple[float, str]  # seconds pass, and then this happens
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 10.0, 11.0, 100.0]) | st.floats(0, 12),
        st.sampled_from(["good", "bad", "slow"]),
    )
)


@pytest.mark.rule("B4")
@settings(max_examples=400)
@given(steps=steps, end=st.sampled_from([0.0, 9.9, 10.0, 11.0, 11.1]) | st.floats(0, 12))
def test_it_holds_everything_younger_than_its_length_and_nothing_older_than_eleven_tenths(
    steps: list[Step], end: float
) -> None:
    now, total, past = 50.0, 0, list[Step]()
    window = TimeWindow(10.0, now, 0)
    for seconds, what in (*steps, (end, "")):
        now += seconds
        window.roll(now, total)
        kept = [kind for at, kind in past if now - at < 10.0]
        maybe = [kind for at, kind in past if now - at <= 11.0]
        assert len(kept) <= window.calls(total) <= len(maybe)
        assert kept.count("bad") <= window.failures <= maybe.count("bad")
        assert kept.count("slow") <= window.slow <= maybe.count("slow")
        assert (
            window.since <= math.nextafter(now, math.inf) <= math.nextafter(window.until, math.inf)
        )
        if what == "bad":
            window.add(failed=True, slow=False)
        elif what:
            total += 1
        if what == "slow":
            window.add(failed=False, slow=True)
        past += [(now, what)] if what else []


@pytest.mark.rule("B4")
def test_a_time_window_counts_and_forgets() -> None:
    window = TimeWindow(10.0, 0.0, 100)
    window.add(failed=True, slow=True)
    window.add(failed=True, slow=False)
    assert (window.calls(103), window.failures, window.slow) == (5, 2, 1)
    window.roll(10.0, 103)
    assert (window.calls(103), window.failures, window.slow) == (5, 2, 1)
    window.roll(11.0, 103)
    assert (window.calls(103), window.failures, window.slow) == (0, 0, 0)
    window.add(failed=False, slow=True)
    assert (window.calls(104), window.slow) == (1, 1)


@pytest.mark.rule("B4")
@pytest.mark.parametrize("later", [12.01 * 0.913, 13.0 * 0.913, 1e9])
def test_an_idle_time_longer_than_all_buckets_empties_it(later: float) -> None:
    window = TimeWindow(10.0, 0.0, 0)
    window.add(failed=True, slow=True)
    window.roll(later, 7)
    assert (window.calls(7), window.failures, window.slow) == (0, 0, 0)
    assert window.since <= later < window.until
    window.roll(later, 7)
    assert window.calls(8) == 1


@pytest.mark.rule("B4")
def test_buckets_follow_one_another_without_a_gap() -> None:
    window = TimeWindow(10.0, 5.0, 0)
    width = 10.0 * SHARE
    assert (window.since, window.until) == (5.0, 5.0 + width)
    window.roll(window.until, 0)
    assert (window.since, window.until) == (5.0 + width, 5.0 + width + width)
    window.roll(math.nextafter(window.until, 0.0), 0)
    assert window.since == 5.0 + width
    assert 1.0 < (BUCKETS - 1) * SHARE < BUCKETS * SHARE < 1.1


@pytest.mark.rule("B4")
def test_rolling_bucket_by_bucket_or_at_once_is_the_same() -> None:
    slowly, at_once = TimeWindow(10.0, 0.0, 0), TimeWindow(10.0, 0.0, 0)
    for window in (slowly, at_once):
        window.add(failed=True, slow=True)
        window.roll(1.0, 3)
        window.add(failed=True, slow=False)
    for tenth in range(10, 110):
        slowly.roll(tenth / 10, 4)
    at_once.roll(10.9, 4)
    for window in (slowly, at_once):
        assert (window.calls(4), window.failures, window.slow) == (6, 2, 1)
        window.roll(11.0, 4)
        assert (window.calls(4), window.failures, window.slow) == (2, 1, 0)
        window.roll(11.87, 4)
        assert (window.calls(4), window.failures, window.slow) == (0, 0, 0)


@pytest.mark.rule("B1", "B4")
def test_a_success_that_is_skipped_is_not_in_it() -> None:
    window = TimeWindow(10.0, 0.0, 0)
    window.skip_success()
    assert window.calls(1) == 0
    window.roll(1.0, 1)
    assert window.calls(2) == 1


@pytest.mark.rule("B4")
@settings(max_examples=200)
@given(
    length=st.integers(1, 5), marks=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20)
)
def test_a_count_window_holds_exactly_the_last_calls(
    length: int, marks: list[tuple[bool, bool]]
) -> None:
    window = CountWindow(length)
    for number, (failed, slow) in enumerate(marks, start=1):
        window.add(failed=failed, slow=slow)
        last = marks[:number][-length:]
        assert window.calls(number) == len(last)
        assert window.failures == sum(failed for failed, _ in last)
        assert window.slow == sum(slow for _, slow in last)


@pytest.mark.rule("B4")
def test_a_cleared_count_window_is_as_new() -> None:
    window = CountWindow(2)
    for _ in range(3):
        window.add(failed=True, slow=True)
    window.clear(9.0, 3)
    assert (window.calls(3), window.failures, window.slow) == (0, 0, 0)
    window.add(failed=True, slow=False)
    window.add(failed=False, slow=True)
    window.add(failed=False, slow=False)
    assert (window.calls(5), window.failures, window.slow) == (2, 0, 1)


@pytest.mark.rule("B4")
def test_a_count_window_knows_no_time_and_no_total() -> None:
    window = CountWindow(2)
    window.add(failed=True, slow=True)
    window.skip_success()
    window.roll(1e9, 100)
    assert (window.calls(100), window.failures, window.slow) == (1, 1, 1)
    assert (window.until, window.reads_total) == (math.inf, False)


@pytest.mark.rule("B4")
def test_a_cleared_time_window_is_as_new() -> None:
    window = TimeWindow(10.0, 0.0, 0)
    window.add(failed=True, slow=True)
    window.roll(5.0, 7)
    window.add(failed=True, slow=True)
    window.clear(6.0, 9)
    assert (window.calls(9), window.failures, window.slow) == (0, 0, 0)
    assert (window.since, window.until, window.reads_total) == (6.0, 6.0 + 10.0 * SHARE, True)
    window.roll(12.0, 10)
    assert (window.calls(10), window.failures, window.slow) == (1, 0, 0)


@pytest.mark.rule("F10")
def test_no_window_remembers_only_whether_the_last_call_failed() -> None:
    window = NoWindow()
    assert window.failures == 0
    window.add(failed=True, slow=True)
    window.add(failed=True, slow=False)
    window.roll(1e9, 5)
    assert (window.calls(5), window.failures, window.slow) == (0, 1, 0)
    window.skip_success()
    assert window.failures == 1
    window.add(failed=False, slow=True)
    assert (window.calls(6), window.failures, window.slow) == (0, 0, 0)
    window.add(failed=True, slow=False)
    window.clear(1e9, 6)
    assert window.failures == 0
    assert (window.until, window.reads_total) == (math.inf, True)


@pytest.mark.rule("B4")
def test_every_slow_call_leaves_the_window() -> None:
    window = TimeWindow(10.0, 0.0, 0)
    for _ in range(3):
        window.add(failed=False, slow=True)
        window.add(failed=True, slow=False)
    window.roll(1.0, 0)
    assert (window.slow, window.failures) == (3, 3)
    window.roll(11.0, 0)
    assert (window.slow, window.failures) == (0, 0)

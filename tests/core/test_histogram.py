"""The latency histogram: within five percent, bounded, and forgetful."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.histogram import BUCKETS, FULL, GROWTH, LEAST, Histogram

MOST = LEAST * GROWTH ** (BUCKETS - 1)
latencies = st.floats(LEAST, MOST)


def of(*values: float) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@pytest.mark.rule("H4")
@settings(max_examples=200)
@given(values=st.lists(latencies, min_size=1, max_size=60), q=st.floats(0.01, 1.0))
def test_a_quantile_is_never_less_than_it_truly_is_and_at_most_five_percent_more(
    values: list[float], q: float
) -> None:
    truly = sorted(values)[max(0, math.ceil(q * len(values) - 1e-9) - 1)]
    assert truly * (1 - 1e-9) <= of(*values).quantile(q) <= truly * GROWTH * (1 + 1e-9)


@pytest.mark.rule("H4")
@settings(max_examples=100)
@given(
    values=st.lists(latencies, min_size=1, max_size=30),
    lower=st.floats(0.01, 1.0),
    higher=st.floats(0.01, 1.0),
)
def test_a_higher_quantile_is_not_lower(values: list[float], lower: float, higher: float) -> None:
    histogram = of(*values)
    lower, higher = min(lower, higher), max(lower, higher)
    assert histogram.quantile(lower) <= histogram.quantile(higher)


@pytest.mark.parametrize("place", [0, 1, 2, 100, 300, BUCKETS - 1])
def test_the_end_of_a_bucket_belongs_to_it(place: int) -> None:
    end = LEAST * GROWTH**place
    assert of(end).quantile(1.0) == end


@pytest.mark.parametrize("tiny", [0.0, 1e-12, LEAST / 2, LEAST])
def test_what_is_shorter_than_a_microsecond_counts_as_one(tiny: float) -> None:
    assert of(tiny).quantile(0.5) == LEAST


@pytest.mark.parametrize("huge", [MOST * 1.01, 1e6, 1e300])
def test_what_is_longer_than_a_day_counts_as_the_longest(huge: float) -> None:
    assert MOST > 22 * 3600
    assert of(huge).quantile(0.5) == MOST


def test_a_few_slow_ones_among_many_move_only_the_quantiles_above_them() -> None:
    histogram = of(*[0.01] * 97, *[5.0] * 3)
    assert histogram.quantile(0.5) == histogram.quantile(0.97) < 0.0106
    assert 5.0 <= histogram.quantile(0.98) == histogram.quantile(1.0) < 5.3


def test_seen_counts_every_value_faded_or_not() -> None:
    histogram = Histogram()
    assert histogram.seen == 0
    for n in range(1, int(3 * FULL) + 1):
        histogram.add(0.01)
        assert histogram.seen == n


@pytest.mark.rule("H4")
def test_with_the_two_hundredth_value_all_counts_are_halved() -> None:
    assert FULL == 200
    assert of(*[0.01] * 199, 1.0).quantile(0.992) < 0.011, "one of two hundred, all halved"
    assert of(*[0.01] * 200, 1.0).quantile(0.992) >= 1.0, "one whole one, and a hundred"


@pytest.mark.rule("H4")
def test_old_values_fade_so_that_a_change_shows_after_a_few_hundred() -> None:
    histogram = of(*[0.01] * 10_000)
    for _ in range(int(FULL)):
        histogram.add(1.0)
    assert histogram.quantile(0.5) >= 1.0, "most of what it knows is new"
    for _ in range(20 * int(FULL)):
        histogram.add(1.0)
    assert histogram.quantile(0.001) >= 1.0, "and nothing is left of the old ones"


def test_one_outlier_is_forgotten_even_by_the_highest_quantile() -> None:
    histogram = of(60.0)
    for _ in range(100 * int(FULL)):
        histogram.add(0.01)
    assert histogram.quantile(1.0) < 0.011


def test_fading_changes_no_quantile_of_a_steady_stream() -> None:
    rng, histogram = random.Random(5), Histogram()
    truly = [math.exp(rng.gauss(-4.0, 0.5)) for _ in range(int(10 * FULL))]
    for value in truly:
        histogram.add(value)
    for q in (0.1, 0.5, 0.9, 0.95):
        of_all = sorted(truly)[math.ceil(q * len(truly)) - 1]
        assert histogram.quantile(q) == pytest.approx(of_all, rel=0.25)


def test_clear_forgets_everything() -> None:
    histogram = of(*[5.0] * 50)
    histogram.clear()
    assert histogram.seen == 0
    histogram.add(0.01)
    assert histogram.quantile(1.0) < 0.011

"""How long to wait: growth, cap, jitter."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.backoff import BackoffConfig, Jitter

MOST = sys.float_info.max
chance = st.floats(0, 1, exclude_max=True)
jitters = st.sampled_from(["full", "equal", "none"]) | st.floats(0, 1)


def test_it_grows_from_the_base_to_the_cap() -> None:
    rule = BackoffConfig(0.5, 3.0, 5.0, "none")
    assert [rule.delay(n, 0.5) for n in (1, 2, 3, 4)] == [0.5, 1.5, 4.5, 5.0]
    assert [rule.ceiling(n) for n in (1, 2, 3, 4)] == [0.5, 1.5, 4.5, 5.0]


@pytest.mark.parametrize(
    ("jitter", "at_0", "at_half"),
    [
        ("full", 0.0, 2.0),
        ("equal", 2.0, 3.0),
        ("none", 4.0, 4.0),
        (0.25, 3.0, 4.0),
        (0, 4.0, 4.0),
        (1, 0.0, 4.0),
    ],
)
def test_jitter_spreads_the_delay(jitter: Jitter, at_0: float, at_half: float) -> None:
    rule = BackoffConfig(4.0, 2.0, 100.0, jitter)
    assert (rule.delay(1, 0.0), rule.delay(1, 0.5)) == (at_0, at_half)


def test_jitter_never_goes_above_the_cap() -> None:
    assert BackoffConfig(4.0, 2.0, 4.5, 0.5).delay(1, 0.99) == 4.5
    assert BackoffConfig(4.0, 2.0, 6.5, 0.5).delay(1, 0.75) == 5.0


def test_growth_beyond_all_floats_gives_the_cap_or_the_largest_float() -> None:
    assert BackoffConfig(1.0, 2.0, 60.0, "none").delay(100_000, 0.0) == 60.0
    assert BackoffConfig(1.0, 2.0, math.inf, "none").delay(100_000, 0.0) == MOST
    assert BackoffConfig(1.0, 2.0, math.inf, 0.5).delay(100_000, 0.9) == MOST
    assert BackoffConfig(MOST, 2.0, math.inf, "none").delay(2, 0.0) == MOST


def test_a_base_of_nothing_never_waits() -> None:
    assert BackoffConfig(0.0, 2.0, math.inf, "none").delay(100_000, 0.0) == 0.0


rules = st.builds(
    BackoffConfig,
    base=st.floats(0, 1e300),
    factor=st.floats(1e-3, 1e6),
    max=st.floats(0, allow_infinity=True),
    jitter=jitters,
)


@given(rule=rules, n=st.integers(1, 10**6), u=chance)
def test_a_delay_is_finite_and_between_nothing_and_the_cap(
    rule: BackoffConfig, n: int, u: float
) -> None:
    assert 0 <= rule.delay(n, u) <= min(rule.max, MOST)


@given(base=st.floats(0.001, 1e3), jitter=jitters, n=st.integers(1, 20), u=chance)
def test_a_delay_is_within_its_jitter(base: float, jitter: Jitter, n: int, u: float) -> None:
    rule = BackoffConfig(base, 2.0, math.inf, jitter)
    d = base * 2.0 ** (n - 1)
    spans = {"full": (0.0, d), "equal": (d / 2, d), "none": (d, d)}
    if isinstance(jitter, str):
        low, high = spans[jitter]
    else:
        low, high = d * (1 - jitter), d * (1 + jitter)
    assert low * (1 - 1e-9) <= rule.delay(n, u) <= high * (1 + 1e-9)


@pytest.mark.rule("F7")
@pytest.mark.parametrize("n", [0, -1])
def test_a_try_before_the_first_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"^n must be a whole number of at least 1, not {n}$"):
        BackoffConfig(1.0, 2.0, 1.0, "none").delay(n, 0.0)


@pytest.mark.rule("F7")
@pytest.mark.parametrize("n", [True, 1.0, "1"])
def test_a_try_is_a_whole_number(n: Any) -> None:
    with pytest.raises(TypeError, match=f"^n must be a whole number of at least 1, not {n!r}$"):
        BackoffConfig(1.0, 2.0, 1.0, "none").ceiling(n)


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"base": -1.0}, ValueError, "base must be a finite number of at least 0, not -1.0"),
        ({"base": math.inf}, ValueError, "base must be a finite number of at least 0, not inf"),
        ({"base": math.nan}, ValueError, "base must be a finite number of at least 0, not nan"),
        ({"base": "1"}, TypeError, "base must be seconds or a timedelta, of at least 0, not '1'"),
        ({"factor": 0.0}, ValueError, "factor must be a finite number above 0, not 0.0"),
        ({"max": -0.1}, ValueError, "max must be a number of at least 0, not -0.1"),
        (
            {"jitter": 1.1},
            ValueError,
            "jitter must be a finite number of at least 0 and at most 1, not 1.1",
        ),
        (
            {"jitter": -0.1},
            ValueError,
            "jitter must be a finite number of at least 0 and at most 1, not -0.1",
        ),
        (
            {"jitter": "half"},
            ValueError,
            "jitter must be 'full', 'equal', 'none' or a number in [0, 1], not 'half'",
        ),
        (
            {"jitter": None},
            TypeError,
            "jitter must be a number of at least 0 and at most 1, not None",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refused:
        BackoffConfig(**{"base": 1.0, "factor": 2.0, "max": 1.0, "jitter": "none", **changes})
    assert str(refused.value) == words


def test_arguments_are_kept_as_floats() -> None:
    rule = BackoffConfig(1, 2, 3, 1)
    assert [type(value) for value in (rule.base, rule.factor, rule.max, rule.jitter)] == [float] * 4
    assert BackoffConfig(1, 2, 3, "none").delay(1, 0.0) == 1.0

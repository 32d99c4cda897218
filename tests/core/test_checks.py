"""Bad arguments are refused with the name, the value and the allowed range: F7."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.checks import (
    check_callable,
    check_int,
    check_name,
    check_number,
    check_seconds,
    refuse,
    refuse_type,
)

HUGE = 10**400


def words_of(
    check: Callable[..., object], *args: Any, error: type[Exception] = ValueError, **kwargs: Any
) -> str:
    with pytest.raises(error) as refused:
        check(*args, **kwargs)
    assert type(refused.value) is error
    return str(refused.value)


def test_a_refusal_names_the_argument_the_range_and_the_value() -> None:
    assert words_of(refuse, "rate", 2, "at most 1") == "rate must be at most 1, not 2"
    assert (
        words_of(refuse_type, "rate", "2", "a number", error=TypeError)
        == "rate must be a number, not '2'"
    )


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (0.0, {"above": 0}, "x must be a finite number above 0, not 0.0"),
        (-1.0, {"least": 0}, "x must be a finite number of at least 0, not -1.0"),
        (1.5, {"above": 0, "most": 1}, "x must be a finite number above 0 and at most 1, not 1.5"),
        (1.5, {"most": 1}, "x must be a finite number at most 1, not 1.5"),
        (math.inf, {"least": 0}, "x must be a finite number of at least 0, not inf"),
        (-math.inf, {"least": 0, "finite": False}, "x must be a number of at least 0, not -inf"),
        (math.nan, {}, "x must be a finite number , not nan"),
        (math.nan, {"least": 0, "finite": False}, "x must be a number of at least 0, not nan"),
        (math.nan, {"above": 0}, "x must be a finite number above 0, not nan"),
    ],
)
def test_a_number_outside_its_range_is_refused(
    value: float, limits: dict[str, Any], words: str
) -> None:
    assert words_of(check_number, "x", value, **limits) == words


@pytest.mark.rule("F7")
@pytest.mark.parametrize("finite", [True, False])
def test_a_number_that_no_float_holds_is_refused(finite: bool) -> None:
    assert (
        words_of(check_number, "x", HUGE, finite=finite)
        == f"x must be a number that a float can hold, not {HUGE}"
    )
    assert (
        words_of(check_seconds, "x", -HUGE, finite=finite)
        == f"x must be a number that a float can hold, not {-HUGE}"
    )


@pytest.mark.rule("F7")
@pytest.mark.parametrize("value", [True, "1", None, 1j, dt.timedelta(1)])
def test_what_is_no_number_is_refused(value: object) -> None:
    assert (
        words_of(check_number, "x", value, above=0, most=1, error=TypeError)
        == f"x must be a number above 0 and at most 1, not {value!r}"
    )


@pytest.mark.rule("F7")
@given(
    value=st.floats() | st.integers(),
    above=st.none() | st.integers(-5, 5),
    least=st.none() | st.integers(-5, 5),
    most=st.integers(-5, 5),
)
def test_a_number_passes_exactly_if_it_is_inside(
    value: float, above: int | None, least: int | None, most: int
) -> None:
    inside = value <= most and (
        value > above if above is not None else least is None or value >= least
    )
    if inside and math.isfinite(value):
        assert check_number("x", value, above=above, least=least, most=most) == value
    else:
        with pytest.raises(ValueError, match=r"^x must be a"):
            check_number("x", value, above=above, least=least, most=most)


def test_a_number_at_its_borders_passes_as_a_float() -> None:
    assert check_number("x", 1, least=1, most=1) == 1.0
    assert type(check_number("x", 1)) is float
    assert check_number("x", math.inf, finite=False) == math.inf
    assert check_number("x", -5) == -5.0


@pytest.mark.rule("F7")
def test_seconds_are_a_number_or_a_timedelta() -> None:
    assert check_seconds("x", dt.timedelta(milliseconds=1500)) == 1.5
    assert check_seconds("x", 2) == 2.0
    assert check_seconds("x", 0) == 0.0
    assert check_seconds("x", math.inf, finite=False) == math.inf
    assert (
        words_of(check_seconds, "x", math.inf) == "x must be a finite number of at least 0, not inf"
    )
    assert words_of(check_seconds, "x", -1.0) == "x must be a finite number of at least 0, not -1.0"
    assert (
        words_of(check_seconds, "x", dt.timedelta(seconds=-1))
        == "x must be a finite number of at least 0, not -1.0"
    )
    assert (
        words_of(check_seconds, "x", 0.0, above=0) == "x must be a finite number above 0, not 0.0"
    )
    assert (
        words_of(check_seconds, "x", True, error=TypeError)
        == "x must be seconds or a timedelta, of at least 0, not True"
    )
    assert (
        words_of(check_seconds, "x", "1", above=0, error=TypeError)
        == "x must be seconds or a timedelta, above 0, not '1'"
    )


@pytest.mark.rule("F7")
def test_a_whole_number_is_an_int_that_is_no_bool() -> None:
    assert (check_int("x", 1), check_int("x", HUGE), check_int("x", 0, least=0)) == (1, HUGE, 0)
    assert words_of(check_int, "x", 0) == "x must be a whole number of at least 1, not 0"
    assert words_of(check_int, "x", 1, least=2) == "x must be a whole number of at least 2, not 1"
    assert (
        words_of(check_int, "x", True, error=TypeError)
        == "x must be a whole number of at least 1, not True"
    )
    assert (
        words_of(check_int, "x", 1.0, least=3, error=TypeError)
        == "x must be a whole number of at least 3, not 1.0"
    )


@pytest.mark.rule("F1", "F7")
def test_a_name_is_a_string_and_a_function_in_its_place_is_told_what_to_write() -> None:
    assert (check_name("name", "db", instead="@b()"), check_name("name", None, instead="@b()")) == (
        "db",
        None,
    )
    assert words_of(check_name, "name", len, instead="@b()", error=TypeError) == (
        f"name must be a string, not {len!r}: write @b(), with parentheses"
    )
    assert (
        words_of(check_name, "name", 5, instead="@b()", error=TypeError)
        == "name must be a string or None, not 5"
    )


@pytest.mark.rule("F7")
def test_a_function_can_be_called() -> None:
    assert (check_callable("copy", len), check_callable("copy", None)) == (len, None)
    assert (
        words_of(check_callable, "copy", 5, error=TypeError)
        == "copy must be a function or None, not 5"
    )
    assert (
        words_of(check_callable, "handler", 5, "a function of the error", error=TypeError)
        == "handler must be a function of the error, not 5"
    )


@pytest.mark.rule("F17")
def test_a_policy_is_no_function() -> None:
    class Decorator:
        def __call__(self, fn: object) -> object:
            return fn

        def __repr__(self) -> str:
            return "<Breaker>"

    assert check_callable("copy", known := Decorator()) is known
    Decorator._wrap_sync = None  # type: ignore[attr-defined]  # as every policy has
    assert words_of(check_callable, "copy", Decorator(), error=TypeError) == (
        "copy must be a function or None, not <Breaker>: a policy is no function, it decorates one"
    )

"""HTTP: statuses, what may be repeated, and what the headers say (W3 to W8, W11)."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.http import (
    FAILURES,
    IDEMPOTENT,
    LEAST,
    Fault,
    attempt_of,
    forbids_retry,
    limit_of,
    limit_text,
    margin_of,
    problem,
    repeatable,
    retry_after_of,
    whole_seconds,
)

WALL = 1_792_000_000.0  # 52,800 s before the date below
DATE = "Thu, 15 Oct 2026 08:26:40 GMT"
LATER = "Thu, 15 Oct 2026 08:26:47 GMT"


@pytest.mark.rule("W3")
def test_failures_are_what_may_change() -> None:
    assert {408, 429, 500, 502, 503, 504, 599} <= FAILURES
    assert not {200, 304, 400, 404, 409, 501, 505, 600} & FAILURES


@pytest.mark.rule("W5")
def test_idempotent_methods() -> None:
    assert {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"} == IDEMPOTENT


@pytest.mark.rule("W4", "W5", "W6")
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("replayable", [True, False])
def test_what_may_be_repeated(fault: Fault, idempotent: bool, replayable: bool) -> None:
    may = {Fault.NOT_SENT: True, Fault.BROKEN: idempotent, Fault.OWN: False}[fault]
    got = repeatable(fault, idempotent=idempotent, replayable=replayable)
    assert got is (may and replayable)


@pytest.mark.rule("W7")
@pytest.mark.parametrize(
    ("seconds", "milliseconds", "dates", "asked"),
    [
        ([], [], [], None),
        (["3"], [], [], 3.0),
        (["0"], [], [], 0.0),
        (["0.25"], [], [], 0.25),
        ([" 3\t"], [], [], 3.0),
        (["3."], [], [], 3.0),
        ([".5"], [], [], 0.5),
        (["3"], ["250"], [], 0.25),
        ([], ["1500.5"], [], 1.5005),
        (["3"], ["soon"], [], 3.0),  # malformed, so as if absent
        (["3"], ["250", "250"], [], 3.0),
        (["3", "3"], [], [], None),
        (["-1"], [], [], None),
        (["+1"], [], [], None),
        (["1e3"], [], [], None),
        (["inf"], [], [], None),
        (["nan"], [], [], None),
        (["\u0663"], [], [], None),  # a digit, but none of HTTP's
        ([""], [], [], None),
        (["3, 4"], [], [], None),
        (["0" * 63 + "7"], [], [], 7.0),
        (["0" * 64 + "7"], [], [], None),
        ([LATER], [], [DATE], 7.0),
        ([DATE], [], [LATER], 0.0),
        ([LATER], [], [], 7.0 + 1_792_052_800 - WALL),
        ([LATER], [], [DATE, DATE], 7.0 + 1_792_052_800 - WALL),
        ([LATER], [], ["today"], 7.0 + 1_792_052_800 - WALL),
        (["Thursday, 15-Oct-26 08:26:47 GMT"], [], [DATE], 7.0),  # RFC 850
        (["Thu Oct 15 08:26:47 2026"], [], [DATE], 7.0),  # asctime
        (["Thu, 99 Oct 2026 08:26:47 GMT"], [], [DATE], None),
        (["Thu, 15 Oct 99999999999 08:26:47 GMT"], [], [DATE], None),
        (["tomorrow"], [], [DATE], None),
    ],
)
def test_when_a_server_wants_to_be_asked_again(
    seconds: list[str], milliseconds: list[str], dates: list[str], asked: float | None
) -> None:
    assert retry_after_of(seconds, milliseconds, dates, WALL) == asked


@pytest.mark.rule("W7")
def test_a_date_without_a_zone_is_in_utc_wherever_the_machine_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoneless = LATER.replace("GMT", "-0000")
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert retry_after_of([zoneless], [], [DATE], WALL) == 7
        assert retry_after_of([LATER.replace("GMT", "+0100")], [], [DATE], WALL) == 0
        assert retry_after_of([LATER], [], [DATE.replace("GMT", "+0100")], WALL) == 3607
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.rule("W7")
@given(st.lists(st.text(max_size=80), max_size=2), st.lists(st.text(max_size=80), max_size=2))
def test_nothing_that_a_server_says_is_an_error(seconds: list[str], others: list[str]) -> None:
    for given_values in ((seconds, others, others), (others, seconds, [DATE])):
        asked = retry_after_of(*given_values, WALL)
        assert asked is None or asked >= 0
    assert forbids_retry(seconds) is (
        len(seconds) == 1 and seconds[0].strip(" \t").lower() == "false"
    )


@pytest.mark.rule("W8")
@pytest.mark.parametrize(
    ("values", "forbids"),
    [
        (["false"], True), (["False"], True), ([" FALSE "], True), ([], False), ([""], False),
        (["true"], False), (["0"], False), (["no"], False), (["false", "false"], False),
        (["\x0cfalse"], False), (["XfalseX"], False),
    ],
)  # fmt: skip
def test_only_false_forbids(values: list[str], forbids: bool) -> None:
    assert forbids_retry(values) is forbids


@pytest.mark.rule("W11")
@pytest.mark.parametrize(
    ("seconds", "text", "in_ms"),
    [
        (0.284, "0.284", "284"), (0.2849, "0.284", "284"), (LEAST, "0.001", "1"),
        (1.0, "1.000", "1000"), (61.5, "61.500", "61500"), (3.0000004, "3.000", "3000"),
    ],
)  # fmt: skip
def test_a_limit_is_rounded_down(seconds: float, text: str, in_ms: str) -> None:
    assert limit_text(seconds, "s") == text
    assert limit_text(seconds, "ms") == in_ms


@pytest.mark.rule("W11")
@given(st.floats(LEAST, 1e7))
def test_a_limit_is_never_more_than_what_is_left(seconds: float) -> None:
    told = float(limit_text(seconds, "s"))
    assert told <= seconds * (1 + 1e-15)
    assert told > seconds - 0.001 - 1e-8
    assert int(limit_text(seconds, "ms")) == round(told * 1000)


# Servers.


@pytest.mark.rule("W20")
@pytest.mark.parametrize(
    ("values", "seconds", "ignored"),
    [
        ({}, math.inf, 0),
        ({"x-left": ["250"]}, 0.25, 0),
        ({"x-left": ["2.5"]}, math.inf, 1),  # milliseconds are whole
        ({"request-timeout": [" 2.5\t"]}, 2.5, 0),
        ({"request-timeout": ["\x0c2.5"]}, math.inf, 1),  # no blank of HTTP's
        ({"request-timeout": ["X2.5X"]}, math.inf, 1),
        ({"request-timeout": ["123456789.123456789"]}, 123456789.123456789, 0),
        ({"x-envoy-expected-rq-timeout-ms": ["1500"], "request-timeout": ["9"]}, 1.5, 0),
        ({"x-left": ["0"], "request-timeout": ["soon"]}, 0.0, 1),
        ({"x-left": ["1", "1"], "request-timeout": ["1e3"]}, math.inf, 2),
    ],
)
def test_the_smallest_limit_that_is_well_formed(
    values: dict[str, list[str]], seconds: float, ignored: int
) -> None:
    assert limit_of(values, "ms", "X-Left") == (seconds, ignored)


@pytest.mark.rule("W20")
def test_of_a_header_that_is_not_read_nothing_is_read() -> None:
    assert limit_of({"x-left": ["1"], "request-timeout": ["3"]}, "s", None) == (3.0, 0)


@pytest.mark.rule("W29")
@pytest.mark.parametrize(
    ("values", "number"),
    [([], 1), (["3"], 3), ([" 12 "], 12), (["0"], 1), (["12345"], 1), (["3", "3"], 1), (["x"], 1)],
)
def test_the_number_of_an_attempt(values: list[str], number: int) -> None:
    assert attempt_of(values) == number


@pytest.mark.rule("W22")
def test_the_margin_is_a_tenth_of_the_limit_at_most() -> None:
    assert (margin_of(2.0, 0.005), margin_of(0.01, 0.005), margin_of(math.inf, 0.5)) == (
        0.005, 0.001, 0.5,
    )  # fmt: skip


@pytest.mark.rule("W23")
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(None, 1), (0.0, 1), (1.0, 1), (1.01, 2), (7.0, 7), (math.inf, 10**9), (math.nan, 1)],
)
def test_retry_after_in_whole_seconds(retry_after: float | None, seconds: int) -> None:
    assert whole_seconds(retry_after) == seconds


@pytest.mark.rule("W23")
@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_problem_is_json_and_tells_nothing_else(status: int) -> None:
    told = json.loads(problem(status))
    assert set(told) == {"title", "status"}
    assert told["status"] == status

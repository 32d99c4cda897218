"""When to try again: R1, R5, R6."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.retry import REASONS, Reason, max_retry_after, reason_to_stop

seconds = st.floats(0, 100) | st.just(math.inf)


def after(
    attempt: int = 1,
    attempts: int | None = 3,
    *,
    stopped: bool = False,
    wait: float = 1.0,
    left: float = math.inf,
) -> Reason | None:
    return reason_to_stop(attempt, attempts, stopped, wait, left)


@pytest.mark.rule("R1")
def test_attempts_count_the_first_call() -> None:
    assert [after(n) for n in (1, 2, 3, 4)] == [
        None,
        None,
        "attempts",
        "attempts",
    ]


@pytest.mark.rule("R1")
def test_without_a_number_of_attempts_there_is_no_limit() -> None:
    assert after(10**9, None) is None


@pytest.mark.rule("R1")
def test_given_together_whichever_says_so_first_stops() -> None:
    assert after(2, 3, stopped=True) == "stop"
    assert after(3, 3, stopped=True) == "attempts"


@pytest.mark.rule("R5")
def test_it_gives_up_when_what_is_left_is_not_more_than_the_wait() -> None:
    assert after(wait=1.0, left=1.0) == "deadline"
    assert after(wait=1.0, left=0.5) == "deadline"
    assert after(wait=1.0, left=math.nextafter(1.0, 2.0)) is None
    assert after(wait=0.0, left=0.0) == "deadline"


@pytest.mark.rule("R1", "R5")
@given(
    attempt=st.integers(1, 5),
    attempts=st.none() | st.integers(1, 5),
    stopped=st.booleans(),
    wait=seconds,
    left=seconds,
)
def test_it_sleeps_exactly_if_nothing_speaks_against_it(
    attempt: int, attempts: int | None, stopped: bool, wait: float, left: float
) -> None:
    answer = after(attempt, attempts, stopped=stopped, wait=wait, left=left)
    if (attempts is None or attempt < attempts) and not stopped and wait < left:
        assert answer is None
    else:
        assert answer in REASONS


class AskedError(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@pytest.mark.rule("R6")
def test_the_largest_retry_after_is_the_floor() -> None:
    assert max_retry_after((AskedError(1), AskedError(2.5), ValueError(), None)) == 2.5
    assert type(max_retry_after((AskedError(3),))) is float
    assert max_retry_after((AskedError(sys.float_info.max),)) == sys.float_info.max


@pytest.mark.rule("R6")
def test_the_leaves_of_a_group_may_come_as_an_iterator() -> None:
    def leaves() -> Iterator[BaseException]:
        yield AskedError(1.5)
        yield ValueError()

    assert max_retry_after(leaves()) == 1.5


@pytest.mark.rule("R6")
@pytest.mark.parametrize("value", [None, True, "5", -1, -0.5, math.nan, math.inf, 10**400, [1.0]])
def test_an_unusable_retry_after_is_ignored(value: object) -> None:
    assert max_retry_after((AskedError(value),)) == 0.0
    assert max_retry_after((AskedError(value), AskedError(0.5))) == 0.5


@pytest.mark.rule("R6")
def test_without_errors_there_is_no_floor() -> None:
    assert max_retry_after(()) == 0.0
    assert max_retry_after((None,)) == 0.0


@pytest.mark.rule("R6", "F8")
def test_a_retry_after_that_can_not_be_read_is_ignored() -> None:
    class AskingBadly(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError("no header")

    assert max_retry_after((AskingBadly(),)) == 0.0

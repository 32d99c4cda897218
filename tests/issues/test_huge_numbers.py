"""Whole numbers that no float can hold raised `OverflowError`."""

from __future__ import annotations

import pytest

from resilient._core.checks import check_number, check_seconds
from resilient._core.retry import max_retry_after

HUGE = 10**400


class AskingError(Exception):
    retry_after = HUGE


@pytest.mark.rule("F7")
@pytest.mark.parametrize("finite", [True, False])
def test_a_number_that_no_float_holds_is_refused(finite: bool) -> None:
    with pytest.raises(ValueError, match="ratio must be a number that a float can hold"):
        check_number("ratio", HUGE, least=0, finite=finite)
    with pytest.raises(ValueError, match="base must be a number that a float can hold"):
        check_seconds("base", HUGE, finite=finite)


@pytest.mark.rule("R6", "F8")
def test_a_retry_after_that_no_float_holds_is_ignored() -> None:
    assert max_retry_after((AskingError(),)) == 0.0

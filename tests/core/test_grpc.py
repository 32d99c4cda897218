"""The rules of gRPC's hints and limits."""

from __future__ import annotations

import pytest

from resilient._core.grpc import pushback, pushback_of, rounded_up
from resilient._core.http import Hint

NO = Hint(None, should_retry=False)


@pytest.mark.rule("W7", "W8")
@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([], None),
        (["0"], Hint(0, should_retry=True)),
        (["1500"], Hint(1.5, should_retry=True)),
        (["999999999"], Hint(999_999.999, should_retry=True)),
        (["-1"], NO),
        (["1.5"], NO),
        (["+1"], NO),
        (["1e3"], NO),
        ([" 1"], NO),
        (["\u0661"], NO),
        (["9999999999"], NO),
        ([""], NO),
        (["1", "1"], NO),
    ],
)
def test_a_pushback(values: list[str], hint: Hint | None) -> None:
    assert pushback_of(values) == hint


@pytest.mark.rule("W43")
@pytest.mark.parametrize(
    ("retry_after", "milliseconds"),
    [(None, 1000), (0, 0), (0.0001, 1), (2.5, 2500), (-1, 0), (float("inf"), 10**9)],
)
def test_what_a_caller_is_asked_to_wait(retry_after: float | None, milliseconds: int) -> None:
    assert pushback(retry_after) == milliseconds


@pytest.mark.rule("W22")
@pytest.mark.parametrize(
    ("limit", "step"),
    [(0, 0), (0.999, 0), (1, 0.01), (9.99, 0.01), (10, 0.1), (99.9, 0.1), (100, 1), (1e6, 1)],
)
def test_what_the_wire_rounds_up(limit: float, step: float) -> None:
    assert rounded_up(limit) == step

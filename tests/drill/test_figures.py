"""Arithmetic over records."""

from __future__ import annotations

import pytest

from resilient.drill.figures import net_seconds, percentile, row, rows, state_at
from resilient.drill.records import Outcome, Stall
from tests.drill.records import call, ledger, opened


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("stalls", "net"),
    [
        ([], 1.0),
        ([Stall(10.2, 10.5, 0.3)], 0.7),
        ([Stall(10.2, 10.5, 0.1)], 0.9),
        ([Stall(9.0, 10.4, 1.4)], 0.6),
        ([Stall(10.9, 12.0, 1.1)], 0.9),
        ([Stall(8.0, 9.0, 1.0), Stall(12.0, 13.0, 1.0)], 1.0),
        ([Stall(9.9, 10.1, 0.2), Stall(10.5, 10.6, 0.1), Stall(10.9, 11.5, 0.6)], 0.7),
        ([Stall(9.0, 10.0, 1.0), Stall(11.0, 12.0, 1.0)], 1.0),
    ],
)
def test_time_in_which_the_machine_did_not_run_the_client_is_taken_off(
    stalls: list[Stall], net: float
) -> None:
    assert net_seconds(call(10.0, 1.0), stalls) == pytest.approx(net)


def test_a_row_holds_the_calls_that_ended_in_its_second() -> None:
    made = ledger(
        [
            call(0.5, 0.1),
            call(0.9, 0.2),
            call(1.0, 0.4, Outcome.FAILED, "ReadTimeout"),
            call(1.1, 0.6, Outcome.LOST),
            call(1.2, 0.0, Outcome.REJECTED, "CircuitOpen"),
        ],
        moves=[opened(1.15)],
    )
    made.accepted, made.reached = {1: 7}, {1: 5}
    found = row(made, 1)
    assert (found.answered, found.failed, found.rejected) == (1, 2, 1)
    assert found.p50 == pytest.approx(0.2)
    assert found.p99 == pytest.approx(0.6)
    assert (found.sent, found.reached, found.state) == (7, 5, "open")


def test_a_second_without_calls_is_empty() -> None:
    found = row(ledger(), 3)
    assert (found.answered, found.p50, found.sent) == (0, None, 0)


def test_rows_go_on_until_the_last_call_has_ended() -> None:
    assert [found.second for found in rows(ledger([call(1.0, 3.5)]), 2.5)] == [0, 1, 2, 3, 4]
    assert [found.second for found in rows(ledger(), 2.5)] == [0, 1, 2]


def test_the_state_is_that_of_the_last_move_before() -> None:
    made = ledger(moves=[opened(2.0)])
    assert state_at(made, 2.0) == "closed"
    assert state_at(made, 2.1) == "open"
    assert state_at(ledger(state=None), 2.1) is None


def test_a_ledger_counts_outcomes_and_errors() -> None:
    made = ledger([call(1), call(2, outcome=Outcome.FAILED, error="ReadTimeout")], sent=5)
    assert made.outcomes() == {Outcome.ANSWERED: 1, Outcome.FAILED: 1}
    assert made.errors() == {"ReadTimeout": 1}
    assert made.sent == 5

"""Each objective, on both sides of its limit."""

from __future__ import annotations

import pytest

from resilient.drill import verdicts
from resilient.drill.records import Ledger, Move, Outcome, Stall
from resilient.drill.scenarios import OUTAGES, Scenario
from tests.drill.records import call, evidence, good_run, ledger, opened

MANY = [call(at / 10) for at in range(200)]


def passes(objective: str, made: Ledger, scenario: Scenario = Scenario.PARTITION) -> bool:
    (verdict,) = (v for v in verdicts.judge(evidence(made, scenario)) if v.objective == objective)
    return verdict.finding.passed


def says(objective: str, made: Ledger, scenario: Scenario = Scenario.PARTITION) -> str:
    (verdict,) = (v for v in verdicts.judge(evidence(made, scenario)) if v.objective == objective)
    return verdict.finding.says


def test_a_good_run_passes() -> None:
    assert all(verdict.finding.passed for verdict in verdicts.judge(evidence(good_run())))


@pytest.mark.parametrize("scenario", Scenario)
def test_each_scenario_has_its_objectives(scenario: Scenario) -> None:
    names = {verdict.objective for verdict in verdicts.judge(evidence(ledger(), scenario))}
    always = {"longest call", "requests sent for a call", "success after the fault", "lost calls"}
    outage = {"breaker opened after", "p99 of rejected calls"}
    assert names == always | (outage if scenario in OUTAGES else {"success during the fault"})


@pytest.mark.parametrize("scenario", Scenario)
def test_a_run_without_a_call_passes_nothing(scenario: Scenario) -> None:
    assert not any(v.finding.passed for v in verdicts.judge(evidence(ledger(), scenario)))


@pytest.mark.parametrize(("seconds", "passed"), [(0.599, True), (0.601, False)])
def test_no_call_outlasts_its_deadline(seconds: float, passed: bool) -> None:
    slow = call(6.0, seconds, Outcome.FAILED, "DeadlineExceeded")
    assert passes("longest call", ledger([*MANY, slow])) is passed
    assert says("longest call", ledger([slow])) == f"{seconds:.3f} s"


def test_a_call_that_the_machine_kept_waiting_is_not_late() -> None:
    late = ledger([call(6.0, 0.9)], stalls=[Stall(6.0, 6.9, 0.35)])
    assert passes("longest call", late)


@pytest.mark.parametrize(("sent", "passed"), [(250, True), (251, False)])
def test_little_is_sent(sent: int, passed: bool) -> None:
    assert passes("requests sent for a call", ledger(MANY, sent=sent)) is passed


@pytest.mark.parametrize(("bad", "passed"), [(1, True), (2, False)])
def test_nearly_all_succeed_once_the_grace_is_over(bad: int, passed: bool) -> None:
    good = [call(16 + at / 100) for at in range(100 - bad)]
    failed = [call(17.5, 0.1, Outcome.FAILED, "ReadTimeout")] * bad
    before = [call(15.9, 0.1, Outcome.FAILED, "ReadTimeout")] * 50
    after = [call(20.0, 0.1, Outcome.FAILED, "ReadTimeout")] * 50
    assert passes("success after the fault", ledger([*good, *failed, *before, *after])) is passed


def test_an_answer_that_comes_too_late_is_no_success() -> None:
    assert not passes("success after the fault", ledger([call(17.0, 0.7)]))
    assert passes("success after the fault", ledger([call(17.0, 0.55)]))


def test_it_says_when_the_client_was_back() -> None:
    made = ledger([*MANY, call(12.5, 0.1, Outcome.REJECTED, "CircuitOpen", 0)])
    assert says("success after the fault", made) == "100.0%, back after 0.5 s"
    assert says("success after the fault", ledger(MANY)) == "100.0%"


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.STRANGE])
def test_nothing_is_lost(outcome: Outcome) -> None:
    assert passes("lost calls", ledger(MANY))
    assert not passes("lost calls", ledger([*MANY, call(6.0, outcome=outcome)]))


def test_strange_errors_are_named_as_such() -> None:
    made = ledger(
        [call(1.0, outcome=Outcome.STRANGE, error="KeyError"), call(2.0, outcome=Outcome.LOST)]
    )
    assert says("lost calls", made) == "2 (1 strange errors)"


@pytest.mark.parametrize(("at", "passed"), [(5.0, True), (8.0, True), (8.01, False)])
def test_the_breaker_opens_soon(at: float, passed: bool) -> None:
    assert passes("breaker opened after", ledger(MANY, moves=[opened(at)])) is passed


def test_the_first_opening_in_the_fault_counts() -> None:
    moves = [opened(2.0), Move(3.0, "half_open", "closed", "probes"), opened(5.5), opened(9.0)]
    assert says("breaker opened after", ledger(MANY, moves=moves)) == "0.50 s"


def test_a_breaker_that_was_open_has_opened() -> None:
    assert says("breaker opened after", ledger(MANY, moves=[opened(4.9)])) == "0.00 s"


def test_a_breaker_that_opens_after_a_short_fault_was_too_late() -> None:
    made = ledger(MANY, moves=[opened(6.5)])
    short = verdicts.Evidence(Scenario.HANG, 0.5, 5.0, 6.4, 9.0, made)
    assert not verdicts.opens_soon(short).passed
    assert verdicts.opens_soon(short).value == pytest.approx(1.5)


def test_a_breaker_that_never_opened_or_is_not_there_fails() -> None:
    assert says("breaker opened after", ledger(MANY)) == "never"
    assert says("breaker opened after", ledger(MANY, state=None)) == "no breaker"
    assert not passes("breaker opened after", ledger(MANY))
    assert not passes("breaker opened after", ledger(MANY, state=None))


@pytest.mark.parametrize(("slow", "passed"), [(1, True), (2, False)])
def test_rejections_are_fast(slow: int, passed: bool) -> None:
    quick = [call(6.0, 0.001, Outcome.REJECTED, "CircuitOpen", 0)] * (100 - slow)
    late = [call(6.0, 0.03, Outcome.REJECTED, "CircuitOpen", 0)] * slow
    assert passes("p99 of rejected calls", ledger([*quick, *late])) is passed


def test_a_run_that_rejects_nothing_did_not_shed() -> None:
    assert says("p99 of rejected calls", ledger(MANY)) == "none rejected"
    assert not passes("p99 of rejected calls", ledger(MANY))


@pytest.mark.parametrize(("bad", "passed"), [(1, True), (2, False)])
def test_flaky_answers_are_repaired_while_they_are_flaky(bad: int, passed: bool) -> None:
    inside = [call(6.0)] * (100 - bad)
    failed = [call(11.9, outcome=Outcome.FAILED, error="ServiceUnavailable")] * bad
    outside = [call(at, outcome=Outcome.FAILED, error="ServiceUnavailable") for at in (4.9, 12.0)]
    made = ledger([*inside, *failed, *outside])
    assert passes("success during the fault", made, Scenario.FLAKY) is passed

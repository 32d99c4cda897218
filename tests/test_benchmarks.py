"""The benchmarks' own tools; that the cases run is seen by ``python -m benchmarks --short``."""

from __future__ import annotations

import asyncio
import inspect
import sys
from dataclasses import replace
from typing import Any

import pytest
from benchmarks import stack
from benchmarks.__main__ import arguments, chosen
from benchmarks.chart import SHOWN
from benchmarks.report import Report, as_json, target_table
from benchmarks.targets import TARGETS, over, over_all_but
from benchmarks.timing import FLOOR, OURS, Call, Case, Effort, Entry, Figure, Outcome, run

from resilient import Pipeline, policy_of

ONCE = Effort(rounds=3, batch=0.0)


def counting(counts: dict[str, int], name: str) -> Call:
    def call() -> None:
        counts[name] = counts.get(name, 0) + 1

    return call


def missing() -> Call:
    raise ModuleNotFoundError("No module named 'peer'")


def test_a_peer_that_is_not_installed_is_named_and_left_out() -> None:
    counts: dict[str, int] = {}
    case = Case(
        "idea",
        "a case",
        "sync",
        (
            Entry(FLOOR, lambda: counting(counts, FLOOR), by_hand=True),
            Entry(OURS, lambda: counting(counts, OURS)),
            Entry("peer", missing),
        ),
    )
    (outcome,) = run(case, ONCE)
    assert outcome.skipped == {"peer": "not installed"}
    assert [figure.library for figure in outcome.figures] == [FLOOR, OURS]
    assert all(len(figure.times) == 3 for figure in outcome.figures)
    assert counts[FLOOR] == counts[OURS] > 3
    assert outcome.fastest_peer() is None


def test_ours_may_not_be_left_out() -> None:
    with pytest.raises(ModuleNotFoundError):
        list(run(Case("idea", "a case", "sync", (Entry(OURS, missing),)), ONCE))


def test_a_peer_of_which_a_part_is_by_hand_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m benchmarks --only retry` crashed where pyfailsafe was not installed."""
    monkeypatch.setitem(sys.modules, "failsafe", None)
    names = [FLOOR, OURS, "pyfailsafe, three by hand"]
    case = stack.CASES[1]
    entries = tuple(entry for entry in case.entries if entry.library in names)
    assert len(entries) == len(names)
    for outcome in run(replace(case, entries=entries), ONCE):
        assert outcome.skipped == {"pyfailsafe, three by hand": "not installed"}
        assert [figure.library for figure in outcome.figures] == [FLOOR, OURS]


@pytest.mark.parametrize("error", [ValueError(), ModuleNotFoundError(name="resilient._core.gone")])
def test_what_is_by_hand_may_not_fail_otherwise(error: Exception) -> None:
    def fail() -> Call:
        raise error

    entry = Entry("by hand", fail, by_hand=True)
    with pytest.raises(type(error)):
        list(run(Case("idea", "a case", "sync", (entry,)), ONCE))


def test_an_async_case_runs_on_each_loop_and_units_share_its_time() -> None:
    async def call() -> None: ...

    async def make() -> Call:
        return call

    case = Case("idea", "a case", "async", (Entry("peer", make),), units=10**9)
    outcomes = list(run(case, ONCE))
    assert [one.loop for one in outcomes] == ["asyncio", "uvloop"]
    for one in outcomes:
        peer = one.fastest_peer()
        assert peer is not None
        assert peer.least <= peer.median < 1.0


def test_what_was_not_measured_is_said_so() -> None:
    report = Report(rounds=1)
    assert {one["is"] for one in as_json(report, TARGETS)["targets"]} == {None}
    assert target_table(report, TARGETS).count("not measured") == len(TARGETS)


def test_a_word_chooses_cases_and_bad_rounds_and_batches_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert {case.idea for case in chosen("breaker")} >= {"breaker", "growth"}
    assert chosen("no such thing") == []
    with pytest.raises(SystemExit):
        arguments(["--rounds", "0"])
    assert "--rounds must be at least 1, not 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments(["--batch", "nan"])
    assert "--batch must be above 0, not nan" in capsys.readouterr().err


def as_if_measured(case: Case, **times: float) -> Outcome:
    """Each entry of *case* took one nanosecond, but for those that are named."""
    figures = [
        Figure(entry.library, entry.lacks, entry.by_hand, [times.get(entry.library, 1.0)])
        for entry in case.entries
    ]
    return Outcome(case.idea, case.name, case.world, case.loops[0], figures)


def test_every_goal_reads_a_case_and_a_library_that_are_there() -> None:
    report = Report(rounds=1)
    for case in chosen(None):
        outcome = as_if_measured(case)
        report.outcomes.append(outcome if case.world == "async" else with_no_loop(outcome))
    report.imports = {"import resilient": [1.0], "import anyio, tenacity": [1.0]}
    report.memory = {
        "memory of one breaker, window filled": 1.0,
        "memory of a key of 100,000": 1.0,
    }
    assert [one.row for one in TARGETS if one.read(report) is None] == []
    assert [one for one in SHOWN if report.outcome(*one) is None] == []


def with_no_loop(outcome: Outcome) -> Outcome:
    return Outcome(outcome.idea, outcome.case, outcome.world, "", outcome.figures)


def test_a_goal_may_leave_the_fastest_peer_out_but_not_ours_or_what_is_by_hand() -> None:
    (case,) = (one for one in chosen("rate limit, permitted") if one.world == "async")
    times = {OURS: 6.0, "hyx": 1.0, "aiolimiter": 3.0}
    others = {entry.library: 9.0 for entry in case.entries if entry.library not in times}
    others[FLOOR] = others["bare"] = 0.5
    report = Report(rounds=1, outcomes=[as_if_measured(case, **times, **others)])
    assert over(case.name, "async", None)(report) == 6.0
    assert over_all_but("hyx", case.name, "async")(report) == 2.0
    assert over_all_but("hyx", "no such case", "async")(report) is None


NEW = ("bulkhead", "rate_limit", "cache", "stack", "metrics")
DONE_BY_US = [
    pytest.param(case, entry, id=f"{case.name}-{case.world}-{entry.library}")
    for idea in NEW
    for case in chosen(idea)
    if case.idea == idea
    for entry in case.entries
    if entry.library == OURS or (entry.by_hand and "," not in entry.library)  # no library's
]


@pytest.mark.parametrize(("case", "entry"), DONE_BY_US)
def test_what_is_timed_returns_what_the_function_does(case: Case, entry: Entry) -> None:
    wanted = "key" if case.idea == "cache" else 1
    if case.world == "sync":
        call: Any = entry.make()
        assert [call(), call()] == [wanted, wanted]
        return

    async def twice() -> list[object]:
        made: Any = entry.make()
        call = await made if inspect.isawaitable(made) else made
        return [await call(), await call()]

    assert asyncio.run(twice()) == [wanted, wanted]


def test_the_five_policies_are_the_same_as_a_pipeline_and_as_decorators() -> None:
    piped = policy_of(stack.our_five())
    assert isinstance(piped, Pipeline)
    wanted = ["fallback", "retry", "breaker", "bulkhead", "timeout"]
    assert [getattr(one, "kind", None) for one in piped.policies] == wanted
    assert kinds_of(stack.our_five_decorators()) == wanted


def kinds_of(layer: Any) -> list[str]:
    """The policies of decorators, from the top to the bottom."""
    policy = policy_of(layer)
    return [] if policy is None else [policy.kind, *kinds_of(layer.__wrapped__)]

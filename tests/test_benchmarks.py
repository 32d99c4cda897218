"""The benchmarks' own tools; that the cases run is seen by ``python -m benchmarks --short``."""

from __future__ import annotations

import pytest
from benchmarks.__main__ import arguments, chosen
from benchmarks.report import Report, as_json, target_table
from benchmarks.targets import TARGETS
from benchmarks.timing import FLOOR, OURS, Call, Case, Effort, Entry, run

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


def test_a_word_chooses_cases_and_bad_rounds_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert {case.idea for case in chosen("breaker")} >= {"breaker", "growth"}
    assert chosen("no such thing") == []
    with pytest.raises(SystemExit):
        arguments(["--rounds", "0"])
    assert "--rounds must be at least 1, not 0" in capsys.readouterr().err

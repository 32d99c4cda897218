"""One command line from the first process to the exit code, seen from inside."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from resilient.drill import __main__ as command
from resilient.drill import session
from resilient.drill.conductor import Result, View
from resilient.drill.plan import Plan
from resilient.drill.scenarios import Scenario
from tests.drill.drilling import start
from tests.drill.records import good_run, ledger, result

QUICK = ("flaky", "--seconds", "3", "--rate", "40", "--seed", "1")


@pytest.mark.real_clock
@pytest.mark.every_drill
def test_a_drill_from_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    code = command.main(["drill", *QUICK, "--json", str(file)])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "flaky: PASS" in out
    found = json.loads(file.read_text())
    assert found["passed"]
    assert found["runs"][0]["broken"] == pytest.approx(0.75, abs=0.5)
    assert found["runs"][0]["healed"] == pytest.approx(1.8, abs=1.0)


@pytest.mark.real_clock
def test_metrics_are_served_while_it_runs() -> None:
    with start(*QUICK, "--metrics", "0") as running:
        assert running.stdout is not None
        line = next(line for line in running.stdout if line.startswith("metrics of"))
        with urllib.request.urlopen(line.split()[-1]) as answer:
            text = answer.read().decode()
        running.terminate()
        running.communicate()
    assert 'resilient_breaker_state{policy="drill",state="closed"} 1.0' in text


def run_imagined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **passed: bool
) -> tuple[int, dict[str, object]]:
    """A session whose runs are imagined."""
    file = tmp_path / "result.json"
    plan = Plan(
        scenarios=tuple(Scenario(name) for name in passed),
        rate=10, seconds=20, deadline=0.5, seed=1, json=file, plain=True,
    )  # fmt: skip

    async def conduct(plan: Plan, scenario: Scenario, view: View) -> Result:
        return result(good_run() if passed[scenario] else ledger(), scenario)

    monkeypatch.setattr(session, "conduct", conduct)
    return session.run(plan), json.loads(file.read_text())


def test_all_scenarios_must_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, written = run_imagined(monkeypatch, tmp_path, partition=True, hang=True)
    assert (code, written["passed"]) == (0, True)
    assert "partition PASS, hang PASS" in capsys.readouterr().out


def test_one_that_fails_is_enough_for_a_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, written = run_imagined(monkeypatch, tmp_path, partition=True, slow=False)
    assert (code, written["passed"]) == (1, False)
    assert "partition PASS, slow FAIL" in capsys.readouterr().out

"""What is shown during a run and at its end, and what the file says."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from resilient.drill import report, results, words
from resilient.drill.conductor import Board, View
from resilient.drill.live import LiveView
from resilient.drill.plain import PlainView
from resilient.drill.plan import CLIENTS
from resilient.drill.records import Ledger, Outcome, Stall
from resilient.drill.scenarios import Scenario
from tests.drill.records import call, good_run, ledger, plan, result


def shown(resilient: Ledger) -> str:
    out = io.StringIO()
    report.show(result(resilient), Console(file=out, width=110, no_color=True))
    return out.getvalue()


def test_the_report_has_each_objective_with_the_figures_of_all_three() -> None:
    out = shown(good_run())
    (line,) = (line for line in out.splitlines() if line.startswith("breaker opened after"))
    assert line.split() == [
        *("breaker", "opened", "after", "<=", "3", "s"),
        *("no", "breaker", "no", "breaker", "0.30", "s", "PASS"),
    ]
    assert "partition: PASS" in out
    assert "80 CircuitOpen" in out


def test_the_report_names_what_was_missed() -> None:
    out = shown(ledger([call(at / 10) for at in range(200)], state=None))
    assert "partition: FAIL (breaker opened after, p99 of rejected calls)" in out


def test_one_line_sums_up_several_runs() -> None:
    both = [result(good_run()), result(ledger(), Scenario.SLOW)]
    assert report.summary(both).plain == "partition PASS, slow FAIL"


def test_what_makes_figures_doubtful_is_said() -> None:
    made = good_run()
    assert list(report.remarks(result(made))) == []
    made.latest_start = 0.4
    made.stalls = [Stall(1.0, 1.3, 0.2), Stall(2.0, 2.3, 0.2)]
    late, away = report.remarks(result(made))
    assert "resilient: a call began 0.40 s after it was due" in late
    assert "for 0.40 s the machine did not run the resilient client" in away


def test_the_file_holds_settings_seconds_and_verdicts(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    results.write(file, plan(), [result(good_run())])
    found = json.loads(file.read_text())
    assert found["passed"]
    assert found["asked"]["seed"] == 7
    client = found["runs"][0]["clients"]["resilient"]
    assert client["settings"] == ["the settings of resilient"]
    assert len(client["seconds"]) == 20
    assert client["seconds"][0]["answered"] == 10
    assert {each["passed"] for each in client["verdicts"]} == {True}
    assert client["outcomes"] == {"answered": 120, "failed": 3, "rejected": 77}
    assert [move["new"] for move in client["breaker"]] == ["open", "half_open", "closed"]


def watch(view: View, *, now: float, target: str | None = None) -> None:
    """Let a view see a run that has reached *now*."""

    async def see() -> None:
        made = good_run()
        made.add([call(6.5, outcome=Outcome.LOST)])
        board = Board(
            plan=plan(target=target),
            scenario=Scenario.PARTITION,
            settings={name: [f"the settings of {name}", "    and more"] for name in CLIENTS},
            ledgers=dict.fromkeys(CLIENTS, made),
            metrics="http://127.0.0.1:9/metrics",
            begins_at=asyncio.get_running_loop().time() - now,
        )
        view.refresh()
        view.begin(board)
        view.refresh()
        view.finish()

    asyncio.run(see())


def test_the_plain_view_prints_each_second_once() -> None:
    out = io.StringIO()
    watch(PlainView(out), now=7.7)
    lines = out.getvalue().splitlines()
    assert lines[0] == "partition: the proxy swallows every byte"
    assert "metrics of the resilient client: http://127.0.0.1:9/metrics" in lines
    assert "usual      the settings of usual" in lines
    rows = [line.split() for line in lines if "resilient " in line and "settings" not in line]
    seconds = [row[0] for row in rows if row[1] == "resilient"]
    assert seconds == ["0", "1", "2", "3", "4", "5", "6"]
    assert next(line for line in lines if line.split()[:2] == ["5", "bare"]).endswith("fault")


def test_the_plain_view_waits_for_reports_that_are_still_on_their_way() -> None:
    out = io.StringIO()
    watch(PlainView(out), now=1.5)
    assert not [line for line in out.getvalue().splitlines() if line.split()[:1] == ["0"]]


@pytest.mark.parametrize("now", [-0.2, 3.0, 7.7, 30.0])
def test_the_live_view_shows_the_last_seconds_and_the_progress(now: float) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=110, height=40)
    watch(LiveView(console), now=now)
    assert "the settings of resilient" in out.getvalue()
    assert f"{min(max(now, 0), 20):.0f} of 20 s" in out.getvalue()
    if now == 7.7:
        assert "fault" in out.getvalue()
        assert "open" in out.getvalue()


def test_a_target_is_named() -> None:
    out = io.StringIO()
    watch(PlainView(out), now=0, target="http://127.0.0.1:1/x")
    assert "to http://127.0.0.1:1/x, deadline 0.5 s, seed 7" in out.getvalue()


def test_no_time_is_a_dash() -> None:
    assert words.milliseconds(None) == "-"
    assert words.milliseconds(0.0123) == "12 ms"

"""The command's first and last words."""

from __future__ import annotations

import os
import sys

import pytest

from resilient.drill import __main__ as command
from resilient.drill import session
from resilient.drill.crew import DrillError
from resilient.drill.plan import Plan


def test_the_command_knows_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert command.main(["exercise"]) == 2
    assert "usage: resilient drill" in capsys.readouterr().err
    assert command.main(["--help"]) == 0
    assert "usage: resilient drill" in capsys.readouterr().out


def test_the_word_drill_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def run(plan: Plan) -> int:
        plans.append(plan)
        return 7

    monkeypatch.setattr(session, "run", run)
    assert command.main(["drill", "slow", "--seed", "3"]) == 7
    monkeypatch.setattr(sys, "argv", ["resilient", "drill", "slow", "--seed", "3"])
    assert command.main() == 7
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("extra", "words"), [("uvicorn", []), ("prometheus_client", ["--metrics", "0"])]
)
def test_a_missing_extra_is_named_with_what_to_install(
    extra: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    assert command.drill(words) == 2
    err = capsys.readouterr().err
    assert err == f"resilient drill: {extra} not installed; pip install 'resilient-py[drill]'\n"


def test_without_posix_signals_there_is_no_drill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "name", "nt")
    assert command.drill([]) == 2
    assert "run it on Linux or macOS" in capsys.readouterr().err


def test_a_ctrl_c_before_it_has_begun_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "run", run)
    assert command.drill([]) == 130


@pytest.mark.parametrize("error", [DrillError("the floor is wet"), OSError(28, "disk full")])
def test_what_can_not_go_on_says_why(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def conduct(*_: object) -> None:
        raise error

    monkeypatch.setattr(session, "conduct", conduct)
    assert command.drill(["--plain"]) == 2
    assert capsys.readouterr().err == f"resilient drill: {error}\n"

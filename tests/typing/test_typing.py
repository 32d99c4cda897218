"""The usage file under two type checkers: they see what we promise (F1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

pytestmark = [pytest.mark.real_clock, pytest.mark.rule("F1")]  # subprocesses


def check(*command: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_usage_and_mistakes_are_what_mypy_says_they_are() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    files = [str(HERE / "usage.py"), str(HERE / "mistakes.py")]
    check(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", *files)


def test_usage_is_clean_under_pyright() -> None:
    pytest.importorskip("pyright", reason="pyright is not installed")
    check(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(HERE / "usage.py"))


def test_usage_runs_as_far_as_it_runs() -> None:
    """Type checkers read it, and Python can as well."""
    check(sys.executable, "-W", "error", str(HERE / "usage.py"))

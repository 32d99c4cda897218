"""`with record() as events` was no list of anything for a type checker: "Need type annotation"."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
from typing_extensions import assert_type
from resilient.events import Event, StateChanged
from resilient.testing import record
with record() as events:
    assert_type(events, list[Event])
with record(StateChanged) as moves:
    assert_type(moves, list[StateChanged])
"""


@pytest.mark.real_clock
@pytest.mark.rule("F1")
def test_a_record_of_everything_is_a_list_of_events() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "-c", CODE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout

"""hyx reads `datetime.utcnow`, which went on in real time: it seemed never to come back."""

from __future__ import annotations

import sys
from datetime import datetime
from types import ModuleType

import pytest
from benchmarks.outcomes.contenders import patched
from benchmarks.outcomes.faults import FAULTS
from benchmarks.outcomes.scenario import SCENARIOS, run
from benchmarks.outcomes.verdicts import judge


def test_a_datetime_of_a_peer_reads_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = ModuleType("hyx.stand_in")
    peer.datetime = datetime  # type: ignore[attr-defined]  # as `from datetime import datetime`
    monkeypatch.setitem(sys.modules, "hyx.stand_in", peer)
    now = 1000.0
    with patched(lambda: now):
        since = peer.datetime.utcnow()
        now += 60
        assert (peer.datetime.utcnow() - since).total_seconds() == 60
    assert peer.datetime is datetime


def test_hyx_comes_back_after_an_outage() -> None:
    pytest.importorskip("hyx", reason="hyx is not installed")
    down = next(fault for fault in FAULTS if fault.name == "down")
    assert judge(run(SCENARIOS[0], down, "hyx", 1)).back < 30

"""Who was late: the client, or the machine that did not run it?"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from resilient.drill import heartbeat
from resilient.drill.records import Stall
from resilient.testing import VirtualTime


def beats(time: VirtualTime, waited: list[float]) -> list[Stall]:
    """What is noted when the system reports these total waits, one at each beat."""
    found: list[Stall] = []
    left = list(waited)

    async def story() -> None:
        task = asyncio.create_task(heartbeat.listen(found.append, lambda _: left.pop(0)))
        await asyncio.sleep(heartbeat.BEAT * (len(waited) - 0.5))
        task.cancel()
        await asyncio.wait([task])

    time.run(story)
    return found


def test_a_machine_that_runs_us_leaves_nothing_to_note(virtual_time: VirtualTime) -> None:
    assert beats(virtual_time, [7.0, 7.0, 7.004, 7.008]) == []


def test_each_wait_is_noted_with_its_length(virtual_time: VirtualTime) -> None:
    (found,) = beats(virtual_time, [7.0, 7.0, 7.2, 7.2])
    assert found.away == pytest.approx(0.2)
    assert found.end - found.begin == pytest.approx(heartbeat.BEAT)


def test_linux_says_how_long_a_process_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schedstat").write_text("123 4500000000 6\n")
    monkeypatch.setattr(heartbeat, "SCHEDSTAT", tmp_path / "schedstat")
    assert heartbeat.waiting()(99.0) == 4.5


def test_elsewhere_it_is_the_time_without_computing_but_for_the_sleep_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime
) -> None:
    monkeypatch.setattr(heartbeat, "SCHEDSTAT", tmp_path / "none")
    waited = heartbeat.waiting()
    assert waited(10**6) == pytest.approx(10**6 - sum(os.times()[:2]), abs=5)
    found: list[Stall] = []

    async def story() -> None:
        task = asyncio.create_task(heartbeat.listen(found.append, waited))
        await asyncio.sleep(10 * heartbeat.BEAT)
        task.cancel()
        await asyncio.wait([task])

    virtual_time.run(story)
    assert found == []

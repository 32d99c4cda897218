"""The queue of limits kept the dead: it cleaned up in one of the three ways in which it shrinks."""

from __future__ import annotations

from functools import partial

import pytest

from resilient._core.deadline import FEW, TimerQueue


@pytest.mark.rule("D9")
def test_dead_limits_go_when_the_living_are_taken_out_newest_first() -> None:
    queue: TimerQueue[str] = TimerQueue()
    early = [queue.push(n, "early") for n in range(1000)]
    late = [queue.push(1000 + n, "late") for n in range(1000)]
    for entry in (*early, *reversed(late)):
        queue.remove(entry)
    assert len(queue._heap) <= FEW


@pytest.mark.rule("D9")
def test_dead_limits_go_when_the_living_have_fired() -> None:
    queue: TimerQueue[str] = TimerQueue()
    for n in range(1000):
        queue.push(n, "early")
    late = [queue.push(1000 + n, "late") for n in range(1000)]
    for entry in late[1:]:
        queue.remove(entry)
    assert len(list(iter(partial(queue.first_due, 999), None))) == 1000
    assert len(queue._heap) <= FEW + 2

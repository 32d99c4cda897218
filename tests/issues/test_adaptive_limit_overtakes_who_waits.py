"""A caller of low priority waited. When the high priorities were forgotten, a newcomer of the same
priority came in before it."""

from __future__ import annotations

from collections import deque

import pytest

from resilient._core.adaptive_limit import PriorityWaiter
from tests.core.overload import core_of


@pytest.mark.rule("L7")
def test_a_newcomer_does_not_overtake_who_waits_when_priorities_are_forgotten() -> None:
    woken = deque[PriorityWaiter]()
    core = core_of(initial=4, room=4, woken=woken)
    assert core.enter(9.0, 0.0)
    assert core.enter(1.0, 0.0)
    first = PriorityWaiter(1.0)
    assert core.arrive(first, 0.0)
    assert not first.given, "the low ones have two places of four"
    assert core.enter(1.0, 60.0), "there are four for all of them again"
    assert first.given
    assert list(woken) == [first]
    assert core.in_flight == 4


@pytest.mark.rule("L7")
def test_nor_when_a_lower_priority_has_come_and_the_share_has_grown() -> None:
    woken = deque[PriorityWaiter]()
    core = core_of(initial=8, room=4, woken=woken)
    assert core.enter(10.0, 0.0)
    for _ in range(3):
        assert core.enter(5.0, 0.0)
    first = PriorityWaiter(5.0)
    assert core.arrive(first, 0.0)
    assert not first.given
    assert not core.enter(0.0, 0.0)
    assert first.given, "it is in the middle now: six of eight"
    core.enter(5.0, 0.0)
    assert core.in_flight == 6

"""A caller of low priority waited. When the high priorities were forgotten, a newcomer of the same
priority came in before it."""

from __future__ import annotations

import pytest

from resilient._core.waiters import Waiter
from tests.core.overload import core_of


@pytest.mark.rule("L7")
def test_a_newcomer_does_not_overtake_who_waits_when_priorities_are_forgotten() -> None:
    woken = list[Waiter]()
    core = core_of(initial=4, room=4, woken=woken)
    assert core.try_acquire(9.0, 0.0)
    assert core.try_acquire(1.0, 0.0)
    first = Waiter(1.0)
    assert core.arrive(first, 0.0)
    assert not first.given, "the low ones have two places of four"
    assert core.try_acquire(1.0, 60.0), "there are four for all of them again"
    assert first.given
    assert list(woken) == [first]
    assert core.in_flight == 4


@pytest.mark.rule("L7")
def test_nor_when_a_lower_priority_has_come_and_the_share_has_grown() -> None:
    woken = list[Waiter]()
    core = core_of(initial=8, room=4, woken=woken)
    assert core.try_acquire(10.0, 0.0)
    for _ in range(3):
        assert core.try_acquire(5.0, 0.0)
    first = Waiter(5.0)
    assert core.arrive(first, 0.0)
    assert not first.given
    assert not core.try_acquire(0.0, 0.0)
    assert first.given, "it is in the middle now: six of eight"
    core.try_acquire(5.0, 0.0)
    assert core.in_flight == 6

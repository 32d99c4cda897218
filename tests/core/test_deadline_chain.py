"""Which limit of a chain counts, and who cancels: D1 and D2."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.deadline.chain import (
    UNBEGUN,
    Life,
    Limit,
    Read,
    first_that_counts,
    first_that_lives,
)

TASK, OTHER = object(), object()


def machine() -> float:
    return 100.0


def trio_clock() -> float:
    return 5000.0


def limit(
    at: float = math.inf,
    outer: Limit | None = None,
    *,
    life: Life = Life.OPEN,
    task: object = TASK,
    read: Read = machine,
) -> Limit:
    one = Limit()
    one._at, one._outer, one._life, one._task, one._read = at, outer, life, task, read
    return one


def test_a_new_limit_has_not_begun_and_is_none() -> None:
    one = Limit()
    assert one._life in UNBEGUN
    assert (one._at, one._outer, one._task) == (math.inf, None, None)


# What counts.


@pytest.mark.rule("D1")
@given(st.lists(st.integers(90, 120) | st.just(math.inf), min_size=1, max_size=5))
def test_the_earliest_of_the_chain_counts(ends: list[float]) -> None:
    one: Limit | None = None
    for at in ends:
        one = limit(at, one)
    assert one is not None
    assert one._left() == min(ends) - 100
    assert one._at_by(machine) == min(ends)
    chain = list(one._chain())
    assert [member._at for member in chain] == ends[::-1]
    assert list(one._above()) == chain[1:]
    assert one._binding() is next(member for member in chain if member._at == min(ends))


@pytest.mark.rule("D1")
def test_a_shield_hides_those_above_it() -> None:
    one = limit(110, limit(life=Life.SHIELD, outer=limit(101)))
    assert (one._left(), one._at_by(machine)) == (10, 110)
    assert (list(one._chain()), list(one._above())) == ([one], [])
    assert one._binding() is one
    assert one._enforced_at() == 110


@pytest.mark.rule("D1", "T2")
def test_limits_of_two_clocks_are_compared_by_what_is_left() -> None:
    outer = limit(5003, read=trio_clock, task=OTHER)
    one = limit(110, outer)
    assert one._left() == 3
    assert one._binding() is outer
    assert one._at_by(machine) == 103
    assert one._at_by(trio_clock) == 5003
    assert one._enforced_at() == 103
    assert limit(102, outer)._at_by(trio_clock) == 5002


def test_a_reading_that_is_at_hand_saves_another_of_that_clock_alone() -> None:
    one = limit(110, limit(5003, read=trio_clock))
    assert one._left(109.0, machine) == 1
    assert one._left(101.0, machine) == 3
    assert one._left(5002.0, trio_clock) == 1


# Who cancels.


@pytest.mark.rule("D1")
@pytest.mark.parametrize("life", [Life.OPEN, Life.FIRED])
def test_what_an_open_block_of_the_same_task_sets_that_block_sees_to(life: Life) -> None:
    inherited = limit(101, task=OTHER)
    assert limit(110, limit(105, inherited, life=life))._enforced_at() == 110


@pytest.mark.rule("D1")
@pytest.mark.parametrize("outer", [limit(105, task=OTHER), limit(105, life=Life.ENDED)])
def test_what_is_inherited_the_outermost_block_of_the_task_sees_to(outer: Limit) -> None:
    outermost = limit(110, limit(outer=outer, task=OTHER))
    assert outermost._enforced_at() == 105
    assert limit(103, outer)._enforced_at() == 103
    assert limit(120, outermost)._enforced_at() == 120


@pytest.mark.rule("D2")
def test_if_the_time_of_several_has_come_the_outermost_of_the_task_cancels() -> None:
    outermost = limit(105)
    middle = limit(110, outermost)
    inner = limit(101, middle)
    assert inner._due_at(104) is inner
    assert inner._due_at(105) is outermost
    assert middle._due_at(110) is outermost
    assert limit(101, limit(105, task=OTHER))._due_at(106)._task is TASK  # type: ignore[union-attr]


@pytest.mark.rule("D2")
def test_an_outer_one_that_cancels_for_what_it_inherited_is_due_by_that() -> None:
    outer = limit(120, limit(105, task=OTHER))
    inner = limit(101, outer)
    assert inner._due_at(104) is inner
    assert inner._due_at(105) is outer


@pytest.mark.rule("D2")
def test_nobody_cancels_what_is_cancelled_or_over() -> None:
    inner = limit(101, limit(110, limit(105, life=Life.FIRED)))
    assert inner._due_at(104) is None
    assert limit(101, life=Life.FIRED)._due_at(104) is None
    assert limit(101, life=Life.ENDED)._due_at(104) is None


# Those above that are passed over.


def test_one_that_is_over_and_has_no_end_says_nothing() -> None:
    counts = limit(105, life=Life.ENDED)
    over = limit(life=Life.ENDED, outer=limit(life=Life.ENDED, outer=counts))
    assert first_that_counts(over) is counts
    endless = limit()
    assert first_that_counts(limit(life=Life.ENDED, outer=endless)) is endless
    assert first_that_counts(limit(life=Life.ENDED)) is None
    assert first_that_counts(None) is None


def test_one_that_is_over_or_a_shield_is_the_cause_of_no_cancellation() -> None:
    lives = limit(105, life=Life.FIRED)
    shield = limit(life=Life.SHIELD, outer=limit(101, life=Life.ENDED, outer=lives))
    assert first_that_lives(shield) is lives
    assert first_that_lives(limit(101, life=Life.ENDED)) is None
    assert first_that_lives(None) is None

"""Which limit of a chain counts, and who cancels: D1 and D2."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.deadline.chain import (
    ALIVE,
    UNBEGUN,
    Life,
    Limit,
    Read,
    first_that_counts,
    first_that_lives,
    tidied,
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


def chain_of(*members: tuple[Life, float]) -> list[Limit]:
    """Limits, the outermost first."""
    chain: list[Limit] = []
    for life, at in members:
        outer = chain[-1] if chain else None
        chain.append(limit(math.inf if life is Life.SHIELD else at, outer, life=life))
    return chain


def walk(one: Limit | None) -> list[Limit]:
    found: list[Limit] = []
    while one is not None:
        found.append(one)
        one = one._outer
    return found


def says(one: Limit | None) -> tuple[float, Limit | None]:
    """What counts at *one*, and whose limit that is."""
    if one is None or one._life is Life.SHIELD or one._left() == math.inf:
        return math.inf, None
    return one._left(), one._binding()


def may_cancel(one: Limit | None) -> list[Limit]:
    return [other for other in walk(one) if other._life in ALIVE]


LIVES = st.sampled_from([Life.OPEN, Life.FIRED, Life.ENDED, Life.ENDED, Life.SHIELD])
ENDS = st.integers(90, 95).map(float) | st.just(math.inf)


@pytest.mark.rule("D1", "D9")
@given(st.lists(st.tuples(LIVES, ENDS), min_size=1, max_size=12), st.data())
def test_to_tidy_a_chain_changes_nothing_that_any_of_it_says(
    members: list[tuple[Life, float]], data: st.DataObject
) -> None:
    chain = chain_of(*members)
    before = [(says(one), may_cancel(one)) for one in chain]
    start = data.draw(st.sampled_from(chain))
    first = tidied(start)
    assert [(says(one), may_cancel(one)) for one in chain] == before
    assert says(first) == says(start)
    assert may_cancel(first) == may_cancel(start)
    shields = [one for one in walk(first) if one._life is Life.SHIELD]
    assert len(shields) <= len(may_cancel(first)) + 1
    assert len(walk(first)) <= 2 * len(may_cancel(first)) + len(shields) + 1


@pytest.mark.rule("D1", "D9")
def test_of_limits_in_a_row_that_are_over_the_earliest_stays_by_whatever_clock_it_goes() -> None:
    outermost = limit(120)
    last = limit(101, outermost, life=Life.ENDED)
    first = limit(100, last, life=Life.ENDED)
    assert tidied(limit(105, first, life=Life.ENDED)) is first
    assert first._outer is outermost
    other = limit(5000, outermost, life=Life.ENDED, read=trio_clock)
    assert tidied(limit(101, limit(102, other, life=Life.ENDED), life=Life.ENDED)) is not other
    inner = limit(110, limit(101, other, life=Life.ENDED))
    assert tidied(inner) is inner
    assert [one._at for one in walk(inner)] == [110, 101, 5000, 120]


@pytest.mark.rule("D6", "D9")
def test_above_a_shield_only_what_may_cancel_stays() -> None:
    lives = limit(105)
    over = limit(101, limit(life=Life.SHIELD, outer=lives), life=Life.ENDED)
    shield = limit(life=Life.SHIELD, outer=over)
    inner = limit(110, shield)
    assert tidied(inner) is inner
    assert walk(inner) == [inner, shield, lives]
    assert over._left() == 1, "to those who inherited it, it says what it said"
    assert len(list(over._chain())) == 1


def test_one_that_is_over_or_a_shield_is_the_cause_of_no_cancellation() -> None:
    lives = limit(105, life=Life.FIRED)
    shield = limit(life=Life.SHIELD, outer=limit(101, life=Life.ENDED, outer=lives))
    assert first_that_lives(shield) is lives
    assert first_that_lives(limit(101, life=Life.ENDED)) is None
    assert first_that_lives(None) is None

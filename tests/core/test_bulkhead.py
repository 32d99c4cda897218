"""The places of a bulkhead, L1 to L3, against a model that counts them in the plainest way.

The model knows a number of calls and a list of those who wait. What the core does besides, a
list of free places that is used without a turn, must not show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsIndex

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resilient._core.bulkhead import FEW, BulkheadCore
from resilient._core.waiters import Waiter


def core_of(limit: int, room: int = 0) -> tuple[BulkheadCore, list[Waiter]]:
    woken: list[Waiter] = []
    return BulkheadCore(limit, room, woken), woken


def arrive(core: BulkheadCore, *, patient: bool = True) -> Waiter | None:
    """A new caller; ``None`` if it is turned away."""
    waiter = Waiter()
    return waiter if core.arrive(waiter, patient=patient) else None


def queued(core: BulkheadCore, count: int = 1) -> list[Waiter]:
    """So many new callers that must wait."""
    found = [arrive(core) for _ in range(count)]
    assert all(waiter is not None and not waiter.given for waiter in found)
    return [waiter for waiter in found if waiter is not None]


def taken(core: BulkheadCore) -> int:
    """Take every place that can be had, and say how many there were."""
    count = 0
    while core.try_acquire():
        count += 1
    return count


class Looked(list[None]):
    """The free places. Where *looks* finds none, another thread comes just after."""

    def __init__(self, looks: Callable[[], bool], comes: Callable[[], object]) -> None:
        super().__init__()
        self.looks, self.comes = looks, comes

    def __delitem__(self, index: SupportsIndex | slice, /) -> None:
        if not self and self.looks():
            self.looks = lambda: False
            self.comes()
            raise IndexError
        super().__delitem__(index)


def enter_at_once(core: BulkheadCore) -> bool:
    """As a decorated function does it: without a turn."""
    try:
        core.offered.pop()
    except IndexError:
        return False
    return True


def leave_at_once(core: BulkheadCore, meanwhile: Callable[[], object] = lambda: None) -> None:
    """The same, for giving the place back; *meanwhile* another thread has its turn."""
    if core.wanted:
        core.release()
        return
    meanwhile()
    core.free.append(None)
    if core.wanted:
        core.even_out()


# L1: places and the queue.


@pytest.mark.rule("L1")
@pytest.mark.parametrize("limit", [1, 2, FEW, FEW + 1, 5 * FEW])
def test_as_many_places_can_be_taken_as_the_limit_says_and_not_one_more(limit: int) -> None:
    core, _ = core_of(limit)
    assert taken(core) == limit == core.in_flight()
    assert not core.try_acquire()
    core.release()
    assert (core.in_flight(), core.idle()) == (limit - 1, limit == 1)
    assert taken(core) == 1


@pytest.mark.rule("L1")
def test_a_place_that_is_given_back_goes_to_the_first_in_the_queue() -> None:
    core, woken = core_of(1, room=3)
    assert core.try_acquire()
    first, second, third = queued(core, 3)
    core.release()
    assert (first.given, second.given, third.given) == (True, False, False)
    assert (list(woken), core.in_flight()) == ([first], 1)
    core.release()
    core.release()
    assert list(woken) == [first, second, third]
    core.release()
    assert core.idle()


@pytest.mark.rule("L1")
def test_a_newcomer_stands_behind_those_who_wait_though_they_have_not_gone_on_yet() -> None:
    core, woken = core_of(1, room=2)
    assert core.try_acquire()
    (first,) = queued(core)
    core.release()
    assert first.given
    assert not core.try_acquire()
    assert not enter_at_once(core)
    (second,) = queued(core)
    core.release()
    assert list(woken) == [first, second]


@pytest.mark.rule("L1")
def test_a_waiter_that_goes_takes_no_place_with_it() -> None:
    core, woken = core_of(1, room=3)
    assert core.try_acquire()
    first, second, third = queued(core, 3)
    core.give_up(second)
    core.give_up(second)
    core.release()
    assert list(woken) == [first]
    core.release()
    assert list(woken) == [first, third]
    assert not second.given


@pytest.mark.rule("L1")
def test_a_place_that_was_given_to_a_waiter_that_goes_is_given_to_the_next() -> None:
    core, woken = core_of(1, room=2)
    assert core.try_acquire()
    first, second = queued(core, 2)
    core.release()
    core.give_up(first)
    assert (list(woken), core.in_flight()) == ([first, second], 1)
    core.give_up(second)
    assert core.idle()
    assert taken(core) == 1


@pytest.mark.rule("L1")
def test_a_place_given_back_while_somebody_joins_the_queue_is_seen_by_one_of_the_two() -> None:
    core, woken = core_of(1, room=1)
    assert enter_at_once(core)
    leave_at_once(core, meanwhile=lambda: queued(core))
    assert (len(woken), core.in_flight(), len(core.queue)) == (1, 1, 0)


@pytest.mark.rule("L1", "L2")
@pytest.mark.parametrize("resized", [False, True])
def test_who_gives_a_place_back_just_after_a_look_for_it_sees_that_it_is_wanted(
    resized: bool,
) -> None:
    """The look is that of a waiter that joins the queue, or of a limit that is set anew."""
    core, woken = core_of(1, room=1)
    assert enter_at_once(core)
    if resized:
        queued(core)
    saw = list[bool]()

    def give_back() -> None:
        core.free.append(None)
        saw.append(core.wanted)

    core.free = Looked(lambda: bool(core.queue), give_back)
    if resized:
        core.resize(1)
    else:
        queued(core)
    assert saw == [True]
    core.even_out()  # so it looks once more
    assert (len(woken), core.in_flight()) == (1, 1)


@pytest.mark.rule("L1")
def test_what_is_free_for_a_moment_while_somebody_waits_is_for_nobody_else() -> None:
    core, woken = core_of(1, room=2)
    assert enter_at_once(core)
    (first,) = queued(core)
    core.free.append(None)  # by a thread that saw the queue empty, and has yet to look again
    assert not enter_at_once(core)
    assert not core.try_acquire()
    (second,) = queued(core)
    assert (list(woken), core.in_flight()) == ([first], 1)
    core.release()
    assert list(woken) == [first, second]


@pytest.mark.rule("L3")
def test_a_full_queue_turns_callers_away_and_so_does_one_who_can_not_wait() -> None:
    core, _ = core_of(1, room=1)
    assert core.try_acquire()
    assert arrive(core, patient=False) is None
    queued(core)
    assert arrive(core) is None
    assert arrive(core, patient=False) is None
    no_room, _ = core_of(1)
    first = arrive(no_room)
    assert first is not None
    assert first.given
    assert arrive(no_room) is None


def test_its_totals_are_what_its_shell_has_counted() -> None:
    core, _ = core_of(1)
    assert core.totals() == {"calls": 0, "rejected": 0}
    core.calls.add(3)
    next(core.rejected.increment)
    assert core.totals() == {"calls": 3, "rejected": 1}


@pytest.mark.rule("L3")
def test_who_does_not_say_otherwise_can_wait() -> None:
    core, _ = core_of(1, room=1)
    assert core.try_acquire()
    assert core.arrive(Waiter())


# L2: another limit.


@pytest.mark.rule("L2")
def test_more_places_are_there_at_once_for_those_who_wait_and_for_newcomers() -> None:
    core, woken = core_of(1, room=2)
    assert core.try_acquire()
    waiting = queued(core, 2)
    core.resize(2)
    assert list(woken) == waiting[:1]
    core.resize(5)
    assert list(woken) == waiting
    assert taken(core) == 2
    assert core.in_flight() == 5


@pytest.mark.rule("L2")
def test_fewer_places_wait_for_running_calls() -> None:
    core, woken = core_of(3, room=1)
    assert taken(core) == 3
    core.resize(1)
    (waiter,) = queued(core)
    for left in (2, 1):
        core.release()
        assert (core.in_flight(), waiter.given) == (left, False)
    core.release()
    assert list(woken) == [waiter]
    core.release()
    assert taken(core) == 1


@pytest.mark.rule("L2")
def test_free_places_are_the_first_that_fewer_takes() -> None:
    for limit in (3, 5 * FEW):
        core, _ = core_of(limit)
        assert core.try_acquire()
        core.resize(2)
        assert core.in_flight() == 1
        assert taken(core) == 1


@pytest.mark.rule("L2")
def test_a_debt_is_paid_by_more_places_before_anybody_is_served() -> None:
    core, woken = core_of(4, room=2)
    assert taken(core) == 4
    core.resize(1)
    queued(core, 2)
    core.resize(3)
    assert (core.in_flight(), list(woken)) == (4, [])
    assert not core.try_acquire()
    core.resize(5)
    assert (core.in_flight(), len(woken)) == (5, 1)


@pytest.mark.rule("L2")
def test_a_place_that_is_given_back_while_the_limit_shrinks_is_not_used_again() -> None:
    core, _ = core_of(2)
    assert enter_at_once(core)
    assert enter_at_once(core)
    leave_at_once(core, meanwhile=lambda: core.resize(1))
    assert core.in_flight() == 1
    assert not core.try_acquire()

    core, _ = core_of(2)
    assert taken(core) == 2
    core.resize(1)
    core.free.append(None)  # by a thread that saw the old limit, and has yet to look again
    assert not enter_at_once(core)
    assert not core.try_acquire()
    core.even_out()
    assert core.in_flight() == 1


class Places(RuleBasedStateMachine):
    """Anybody comes, goes, gives up or changes the limit, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Waiter] = []
        self.line: list[Waiter] = []
        self.served: list[Waiter] = []

    @initialize(limit=st.integers(1, 4) | st.integers(FEW - 1, 3 * FEW), room=st.integers(0, 3))
    def build(self, limit: int, room: int) -> None:
        self.limit, self.room = limit, room
        self.core, self.woken = core_of(limit, room)

    def serve(self) -> None:
        """The model's only law: while there is a place, the first has it."""
        while self.line and len(self.calls) < self.limit:
            waiter = self.line.pop(0)
            self.calls.append(waiter)
            self.served.append(waiter)

    def over(self, call: Waiter) -> None:
        self.calls.remove(call)
        if call in self.served:
            self.served.remove(call)
        self.serve()

    @rule(patient=st.booleans())
    def arrive(self, patient: bool) -> None:
        waiter = Waiter()
        admitted = self.core.arrive(waiter, patient=patient)
        if not self.line and len(self.calls) < self.limit:
            assert admitted, "there was a place"
            assert waiter.given
            self.calls.append(waiter)
        elif patient and len(self.line) < self.room:
            assert admitted, "there was room in the queue"
            assert not waiter.given, "it came between, or there was no place"
            self.line.append(waiter)
        else:
            assert not admitted, "nothing was free"

    @rule()
    def enter_at_once(self) -> None:
        waiter = Waiter()
        if enter_at_once(self.core):
            assert not self.line, "it came between"
            assert len(self.calls) < self.limit
            waiter.given = True
            self.calls.append(waiter)

    @rule()
    def fill(self) -> None:
        while self.core.try_acquire():
            self.calls.append(Waiter())
        assert self.line or len(self.calls) >= self.limit, "a place is lost"

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), at_once=st.booleans())
    def leave(self, data: st.DataObject, at_once: bool) -> None:
        call = data.draw(st.sampled_from(self.calls))
        if at_once:
            leave_at_once(self.core)
        else:
            self.core.release()
        self.over(call)

    @precondition(lambda self: self.calls)
    @rule(patient=st.booleans())
    def leave_while_another_comes(self, patient: bool) -> None:
        call = self.calls[0]

        def meanwhile() -> None:
            self.arrive(patient)

        leave_at_once(self.core, meanwhile)
        self.over(call)

    @precondition(lambda self: self.calls)
    @rule(limit=st.integers(0, 5))
    def leave_while_the_limit_changes(self, limit: int) -> None:
        def meanwhile() -> None:
            self.resize(limit)

        call = self.calls[0]
        leave_at_once(self.core, meanwhile)
        self.over(call)

    @precondition(lambda self: self.line or self.served)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.line + self.served))
        self.core.give_up(waiter)
        self.core.give_up(waiter)  # one whose loop was closed goes twice
        if waiter in self.line:
            self.line.remove(waiter)
            self.serve()
        else:
            self.over(waiter)

    @rule(limit=st.integers(0, 5) | st.integers(1, 3 * FEW))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.core.resize(limit)
        self.serve()

    @rule()
    def go_on(self) -> None:
        """Those who were given a place find it, in the order of their arrival."""
        assert [waiter for waiter in self.woken if waiter in self.served] == self.served
        assert all(waiter.given for waiter in self.served)
        self.woken.clear()
        self.served.clear()

    @invariant()
    def agree(self) -> None:
        assert self.core.in_flight() == len(self.calls)
        assert list(self.core.queue) == self.line
        assert self.core.idle() == (not self.calls and not self.line)
        assert [waiter for waiter in self.woken if waiter in self.served] == self.served

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        for waiter in self.line:
            self.core.give_up(waiter)
        for _ in self.calls:
            self.core.release()
        assert self.core.idle()
        assert taken(self.core) == self.limit, "a place is lost, or there is one too many"


@pytest.mark.rule("L1", "L2", "L3")
def test_whoever_comes_and_goes_the_core_agrees_with_the_plainest_model() -> None:
    run_state_machine_as_test(Places, settings=settings(max_examples=200, stateful_step_count=30))

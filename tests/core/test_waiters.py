"""The queue of those who wait, L1, and against a list."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resilient._core.waiters import Waiter, WaitQueue


def queue_of(count: int) -> tuple[WaitQueue, list[Waiter], list[Waiter]]:
    """A queue in which so many wait, who was woken, and who waits."""
    woken = list[Waiter]()
    queue, waiters = WaitQueue(woken), [Waiter() for _ in range(count)]
    for waiter in waiters:
        queue.join(waiter)
    return queue, woken, waiters


def test_a_waiter_has_nothing_yet_and_the_priority_of_nought() -> None:
    waiter = Waiter()
    assert (waiter.priority, waiter.given, waiter.shed) == (0.0, False, False)
    assert Waiter(2.5).priority == 2.5


@pytest.mark.rule("L1")
def test_they_stand_in_the_order_of_arrival() -> None:
    queue, woken, waiters = queue_of(3)
    assert list(queue) == waiters
    assert (len(queue), queue.first(), queue.last()) == (3, waiters[0], waiters[2])
    assert not woken, "who joins is not woken"


@pytest.mark.rule("L1")
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_handed_over_is_the_waiter_s_who_is_out_of_the_queue_and_goes_on(at: int) -> None:
    queue, woken, waiters = queue_of(3)
    chosen = waiters.pop(at)
    queue.hand_over(chosen)
    assert (chosen.given, chosen.shed) == (True, False)
    assert list(woken) == [chosen]
    assert list(queue) == waiters
    assert not any(waiter.given for waiter in waiters)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_who_is_shed_is_out_of_the_queue_without_anything_and_goes_on(at: int) -> None:
    queue, woken, waiters = queue_of(3)
    chosen = waiters.pop(at)
    queue.shed(chosen)
    assert (chosen.given, chosen.shed) == (False, True)
    assert list(woken) == [chosen]
    assert list(queue) == waiters
    assert not any(waiter.shed for waiter in waiters)


@pytest.mark.rule("L1")
def test_who_leaves_takes_nothing_and_says_whether_it_was_the_first() -> None:
    queue, woken, (first, second, third) = queue_of(3)
    assert queue.leave(second) is False
    assert list(queue) == [first, third]
    assert queue.leave(first) is True
    assert queue.leave(first) is False, "it may go twice"
    assert queue.leave(third) is True
    assert queue.leave(third) is False, "nobody is there"
    assert (len(queue), list(woken)) == (0, [])
    assert not any(waiter.given or waiter.shed for waiter in (first, second, third))


@pytest.mark.rule("L1")
def test_the_first_is_woken_to_look_for_itself_and_stays() -> None:
    queue, woken, (first, second) = queue_of(2)
    queue.wake_first()
    assert list(woken) == [first]
    assert (list(queue), first.given) == ([first, second], False)
    queue.leave(first)
    queue.wake_first()
    assert list(woken) == [first, second]
    queue.leave(second)
    queue.wake_first()
    assert list(woken) == [first, second], "there is nobody"


class QueueMachine(RuleBasedStateMachine):
    """The model is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = list[Waiter]()
        self.queue = WaitQueue(self.woken)
        self.line, self.gone, self.expected = list[Waiter](), list[Waiter](), list[Waiter]()
        self.given, self.shed = set[Waiter](), set[Waiter]()

    @rule(priority=st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 2.0, 1e300]))
    def joins(self, priority: float) -> None:
        waiter = Waiter(priority)
        self.queue.join(waiter)
        self.line.append(waiter)
        self.line.sort(key=lambda one: -one.priority)  # stable, so that equals stay as they came

    @precondition(lambda self: self.line or self.gone)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.line + self.gone))
        assert self.queue.leave(waiter) is (self.line[:1] == [waiter])
        if waiter in self.line:
            self.line.remove(waiter)
            self.gone.append(waiter)

    @precondition(lambda self: self.line)
    @rule(data=st.data(), shed=st.booleans())
    def is_handed_something_or_shed(self, data: st.DataObject, shed: bool) -> None:
        waiter = data.draw(st.sampled_from(self.line))
        (self.queue.shed if shed else self.queue.hand_over)(waiter)
        (self.shed if shed else self.given).add(waiter)
        self.line.remove(waiter)
        self.gone.append(waiter)
        self.expected.append(waiter)

    @rule()
    def the_first_is_woken(self) -> None:
        self.queue.wake_first()
        self.expected += self.line[:1]

    @invariant()
    def they_agree(self) -> None:
        assert list(self.queue) == self.line
        assert len(self.queue) == len(self.line)
        assert bool(self.queue) is bool(self.line)
        if self.line:
            assert self.queue.first() is self.line[0]
            assert self.queue.last() is self.line[-1]
        assert list(self.woken) == self.expected
        for waiter in self.line + self.gone:
            assert waiter.given is (waiter in self.given)
            assert waiter.shed is (waiter in self.shed)


@pytest.mark.rule("L7")
def test_the_highest_priority_is_first_and_the_last_of_the_lowest_is_last() -> None:
    queue = WaitQueue([])
    low, high, as_high, as_low = (Waiter(priority) for priority in (1.0, 2.0, 2.0, 1.0))
    for waiter in (low, high, as_high, as_low):
        queue.join(waiter)
    assert list(queue) == [high, as_high, low, as_low]
    assert (queue.first(), queue.last()) == (high, as_low)
    assert not queue.leave(as_high)
    assert queue.leave(high)
    assert (queue.first(), queue.last()) == (low, as_low)


@pytest.mark.rule("L1")
def test_whoever_comes_and_goes_it_is_a_list() -> None:
    run_state_machine_as_test(
        QueueMachine, settings=settings(max_examples=50, stateful_step_count=30)
    )

"""The queue of limits, against a sorted list: D1, D8, D9."""

from __future__ import annotations

import math
from bisect import insort
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from resilient._core.deadline import FEW, Entry, TimerQueue

Limit = tuple[float, int, Entry]
T = TypeVar("T")


class QueueMachine(RuleBasedStateMachine):
    entries: Bundle[Limit] = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.queue: TimerQueue[int] = TimerQueue()
        self.model: list[
            tuple[float, int]
        ] = []  # sorted: by the instant, then by the order of pushing
        self.number = 0

    def put(self, at: float) -> Limit:
        self.number += 1
        entry = self.queue.push(at, self.number)
        insort(self.model, (at, self.number))
        return at, self.number, entry

    @rule(target=entries, at=st.integers(0, 9) | st.just(math.inf))
    def push(self, at: float) -> Limit:
        return self.put(at)

    @rule(
        target=entries,
        at=st.integers(0, 9),
        many=st.sampled_from([10, FEW, 2 * FEW]),
        rising=st.booleans(),
    )
    def push_many(self, at: float, many: int, rising: bool) -> Limit:
        return multiple(*(self.put(at + n / 1024 if rising else at) for n in range(many)))  # type: ignore[return-value]

    def take_out(self, limit: Limit) -> None:
        at, number, entry = limit
        self.queue.remove(entry)
        if (at, number) in self.model:
            self.model.remove((at, number))
        assert entry[2] is None

    @rule(limit=entries)
    def remove(self, limit: Limit) -> None:
        self.take_out(limit)

    @rule(some=st.lists(entries, min_size=20, max_size=80))
    def remove_many(self, some: list[Limit]) -> None:
        for limit in some:
            self.take_out(limit)

    @rule(now=st.integers(-1, 10))
    def due(self, now: float) -> None:
        expected = [number for at, number in self.model if at <= now]
        assert due(self.queue, now) == expected
        self.model = [row for row in self.model if row[0] > now]

    @rule(now=st.integers(-1, 10) | st.just(math.inf))
    def first_due(self, now: float) -> None:
        expected = self.model.pop(0)[1] if self.model and self.model[0][0] <= now else None
        assert self.queue.first_due(now) == expected

    @rule()
    def next_at(self) -> None:
        assert self.queue.next_at() == (self.model[0][0] if self.model else math.inf)

    @invariant()
    def it_holds_the_living_and_few_more(self) -> None:
        assert len(self.queue) == len(self.model)
        assert len(self.queue._heap) <= max(2 * len(self.model), len(self.model) + FEW) + 2


@pytest.mark.rule("D1", "D9")
def test_it_is_a_sorted_list_that_holds_few_of_the_dead() -> None:
    run_state_machine_as_test(
        QueueMachine, settings=settings(max_examples=120, stateful_step_count=30)
    )


def due(queue: TimerQueue[T], now: float) -> list[T]:
    return list(iter(partial(queue.first_due, now), None))


def filled(*instants: float) -> tuple[TimerQueue[str], list[Entry]]:
    queue: TimerQueue[str] = TimerQueue()
    return queue, [queue.push(at, f"{at:g}") for at in instants]


def test_what_is_due_comes_earliest_first_and_once() -> None:
    queue, _ = filled(3, 1, 2, 4)
    assert due(queue, 0.999) == []
    assert due(queue, 3) == ["1", "2", "3"]
    assert due(queue, 3) == []
    assert (len(queue), queue.next_at()) == (1, 4)


def test_at_one_instant_the_order_is_that_of_pushing() -> None:
    queue: TimerQueue[str] = TimerQueue()
    for word in "cab":
        queue.push(1.0, word)
    assert due(queue, 1.0) == ["c", "a", "b"]


def test_what_was_taken_out_is_never_due() -> None:
    queue, entries = filled(1, 2, 3)
    queue.remove(entries[0])
    queue.remove(entries[2])
    assert len(queue) == 1
    assert queue.next_at() == 2
    assert due(queue, 10) == ["2"]
    assert len(queue) == 0


def test_taking_out_twice_or_after_it_was_due_does_nothing() -> None:
    queue, entries = filled(1, 2, 3)
    queue.remove(entries[1])
    queue.remove(entries[1])
    assert (len(queue), due(queue, 1)) == (2, ["1"])
    queue.remove(entries[0])
    assert (len(queue), due(queue, 9)) == (1, ["3"])


def test_the_last_one_pushed_is_gone_at_once() -> None:
    queue, entries = filled(1, 2)
    queue.remove(entries[1])
    assert len(queue._heap) == 1


def test_an_empty_queue_is_never_due() -> None:
    queue, _ = filled()
    assert (len(queue), due(queue, math.inf), queue.next_at(), queue.armed_at) == (
        0,
        [],
        math.inf,
        math.inf,
    )


@pytest.mark.rule("D9")
@pytest.mark.parametrize("order", ["first in first out", "last in first out", "every second"])
def test_limits_that_never_fire_leave_no_residue(order: str) -> None:
    queue, entries = filled(*range(1000))
    outgoing = {"first in first out": entries, "last in first out": entries[::-1]}.get(
        order
    ) or entries[::2] + entries[1::2]
    for number, entry in enumerate(outgoing, start=1):
        queue.remove(entry)
        assert len(queue) == 1000 - number
        assert len(queue._heap) <= 2 * len(queue) + FEW
    assert due(queue, 2000) == []
    assert queue._heap == []


@pytest.mark.rule("D9")
def test_the_dead_go_too_when_the_living_fire() -> None:
    queue, entries = filled(*range(1000))
    for entry in entries[500:999]:
        queue.remove(entry)
    assert len(due(queue, 499)) == 500
    assert (len(queue), queue.next_at()) == (1, 999)
    assert len(queue._heap) <= FEW + 2


@pytest.mark.rule("D9")
def test_a_few_dead_are_left_where_they_are() -> None:
    queue, entries = filled(*range(2 * FEW))
    for entry in entries[:FEW]:
        queue.remove(entry)
    assert (len(queue), len(queue._heap)) == (FEW, 2 * FEW)
    queue.remove(entries[FEW])
    assert (len(queue), len(queue._heap)) == (FEW - 1, FEW - 1)
    assert due(queue, 1000) == [f"{n}" for n in range(FEW + 1, 2 * FEW)]


@pytest.mark.rule("D9")
def test_the_heap_is_built_anew_only_when_most_of_it_is_dead() -> None:
    queue, entries = filled(*range(1000))
    for entry in entries[:500]:
        queue.remove(entry)
    assert (len(queue), len(queue._heap)) == (500, 1000)
    queue.remove(entries[500])
    assert (len(queue), len(queue._heap)) == (499, 499)


@pytest.mark.rule("D9")
def test_a_small_heap_is_not_built_anew_for_a_few() -> None:
    queue, entries = filled(*range(FEW + 2))
    for entry in entries[:FEW]:
        queue.remove(entry)
    assert (len(queue), len(queue._heap)) == (2, FEW + 2)
    queue.remove(entries[FEW])
    assert (len(queue), len(queue._heap)) == (1, 1)

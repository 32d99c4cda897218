"""A state per key, bounded: F10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from resilient._core.keys import LOOKS, Keys

NAMES = st.sampled_from("abcdefgh")


@dataclass(eq=False)
class State:
    """A key's state, as far as its place is concerned."""

    key: str
    idle: bool = True
    healthy: bool = True


def keys_of(most: int, *names: str) -> Keys[State]:
    keys = Keys[State](most, idle=lambda state: state.idle, healthy=lambda state: state.healthy)
    for name in names:
        assert keys.add(name, State(name)) == []
    return keys


class KeysMachine(RuleBasedStateMachine):
    @initialize(most=st.integers(1, 5))
    def begin(self, most: int) -> None:
        self.most, self.keys = most, keys_of(most)
        self.model: list[State] = []  # least recently used first

    def known(self, key: str) -> State | None:
        return next((state for state in self.model if state.key == key), None)

    @rule(key=NAMES, idle=st.booleans(), healthy=st.booleans())
    def use(self, key: str, idle: bool, healthy: bool) -> None:
        state = self.keys.get(key)
        assert state is self.known(key)
        if state is not None:
            self.model.remove(state)
            self.model.append(state)
            return
        gone = []
        while len(self.model) >= self.most and (loser := self.next_to_go()) is not None:
            self.model.remove(loser)
            gone.append(loser)
        self.model.append(state := State(key, idle, healthy))
        assert self.keys.add(key, state) == gone
        assert [(slot.key, slot.state) for slot in self.laid_aside()] == [
            (one.key, one) for one in gone
        ]

    def next_to_go(self) -> State | None:
        idle = [state for state in self.model if state.idle]
        healthy = [state for state in idle if state.healthy]
        return next(iter(healthy or idle), None)

    @rule(key=NAMES, idle=st.booleans(), healthy=st.booleans())
    def change(self, key: str, idle: bool, healthy: bool) -> None:
        state = self.keys.peek(key)  # without using it
        assert state is self.known(key)
        if state is not None:
            state.idle, state.healthy = idle, healthy

    @rule()
    def all_become_busy(self) -> None:
        for state in self.model:
            state.idle = False

    @rule()
    def clear(self) -> None:
        self.keys.clear()
        slots, *_lines = self.laid_aside()
        assert {key: slot.state for key, slot in slots.items()} == {
            one.key: one for one in self.model
        }
        self.model = []

    def laid_aside(self) -> list[Any]:
        gone = list(self.keys.evicted)
        self.keys.evicted.clear()
        return gone

    @invariant()
    def they_keep_the_same(self) -> None:
        if hasattr(self, "keys"):
            assert len(self.keys) == len(self.model)
            assert set(self.keys) == {state.key for state in self.model}
            assert {id(state) for state in self.keys.states()} == {
                id(state) for state in self.model
            }


@pytest.mark.rule("F10")
def test_it_keeps_what_a_list_in_the_order_of_use_would_keep() -> None:
    run_state_machine_as_test(
        KeysMachine, settings=settings(max_examples=200, stateful_step_count=40)
    )


@pytest.mark.rule("F10")
@given(most=st.integers(1, 5), names=st.lists(NAMES, max_size=40))
def test_of_states_that_are_all_idle_and_healthy_exactly_the_least_recently_used_goes(
    most: int, names: list[str]
) -> None:
    keys, model = keys_of(most), dict[str, None]()
    for name in names:
        before = list(model)
        model.pop(name, None)
        model[name] = None
        if keys.get(name) is None:
            assert gone(keys, name) == before[:1] * (len(before) == most)
            model = dict.fromkeys(list(model)[-most:])
        assert set(keys) == set(model)


class CrowdedMachine(RuleBasedStateMachine):
    """A table that is too big to be looked at whole: what holds of it nevertheless."""

    @initialize(most=st.integers(1, 12))
    def begin(self, most: int) -> None:
        self.most, self.keys, self.inserted = most, keys_of(most), 0

    @rule(count=st.integers(1, 6), idle=st.booleans(), healthy=st.booleans())
    def insert(self, count: int, idle: bool, healthy: bool) -> None:
        for _ in range(count):
            before = len(self.keys)
            some_idle = [state for state in self.keys.states() if state.idle]
            gone = self.keys.add(name := f"key {self.inserted}", State(name, idle, healthy))
            self.inserted += 1
            assert all(state.idle for state in gone)
            assert not gone or len(self.keys) >= self.most, "more went than had to"
            assert gone or before < self.most or len(some_idle) < before, "all were idle"

    @rule(data=st.data(), idle=st.booleans(), healthy=st.booleans())
    def change(self, data: st.DataObject, idle: bool, healthy: bool) -> None:
        if states := list(self.keys.states()):
            for state in data.draw(st.lists(st.sampled_from(states), max_size=12)):
                state.idle, state.healthy = idle, healthy

    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        if names := list(self.keys):
            for name in data.draw(st.lists(st.sampled_from(names), max_size=12)):
                self.keys.get(name)

    @rule()
    def all_become_idle_and_those_that_are_too_many_go(self) -> None:
        for state in self.keys.states():
            state.idle = True
        inserts = len(self.keys) + 1
        for _ in range(inserts):
            self.insert(1, idle=True, healthy=True)
        assert len(self.keys) <= self.most

    @invariant()
    def each_stands_in_one_line(self) -> None:
        if hasattr(self, "keys"):
            lines = [*self.keys._ready, *self.keys._doubtful]
            assert len(lines) == len(self.keys)
            assert set(lines) == set(self.keys.slots.values())
            assert all(slot.stamp <= slot.used for slot in lines)


@pytest.mark.rule("F10")
def test_a_crowded_table_lets_nothing_go_that_is_in_use_and_finds_back_to_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for bound, few in {"LOOKS": 1, "STEPS": 3, "CHOICE": 2}.items():
        monkeypatch.setattr(f"resilient._core.keys.{bound}", few)
    run_state_machine_as_test(
        CrowdedMachine, settings=settings(max_examples=200, stateful_step_count=30)
    )


def gone(keys: Keys[State], name: str) -> list[str]:
    return [state.key for state in keys.add(name, State(name))]


@pytest.mark.rule("F10")
def test_the_least_recently_used_goes_first() -> None:
    keys = keys_of(3, "a", "b", "c")
    keys.get("a")
    assert gone(keys, "d") == ["b"]
    assert gone(keys, "e") == ["c"]
    assert gone(keys, "f") == ["a"]
    assert list(keys) == ["d", "e", "f"]


@pytest.mark.rule("F10")
def test_an_idle_and_healthy_one_goes_before_an_older_one_that_is_not_healthy() -> None:
    keys = keys_of(3, "a", "b", "c")
    for key in "ab":
        state = keys.peek(key)
        assert state is not None
        state.healthy = False
    assert gone(keys, "d") == ["c"]
    assert gone(keys, "e") == ["d"]
    for state in keys.states():
        state.healthy = False
    assert gone(keys, "f") == ["a"]


@pytest.mark.rule("F10")
def test_one_in_use_never_goes_so_that_there_may_be_more_than_the_bound() -> None:
    keys = keys_of(2, "a", "b")
    for state in keys.states():
        state.idle = False
    assert gone(keys, "c") == []
    assert len(keys) == 3
    assert gone(keys, "d") == ["c"]
    for state in keys.states():
        state.idle = True
    assert gone(keys, "e") == ["a", "b"]  # back within the bound
    assert list(keys) == ["d", "e"]


@pytest.mark.rule("F10")
def test_one_that_becomes_idle_behind_many_that_are_busy_is_found() -> None:
    keys = keys_of(200, *(f"key {number}" for number in range(200)))
    for state in keys.states():
        state.idle = False
    for more in range(10):
        assert keys.add(more, State("more", idle=False)) == []
    idle = keys.peek("key 199")
    assert idle is not None
    idle.idle, idle.healthy = True, False
    went = [keys.add(more, State("more", idle=False)) for more in range(10, 10 + 210 // LOOKS)]
    assert [one for one in went if one] == [[idle]]


@pytest.mark.rule("F10")
def test_to_peek_is_not_to_use() -> None:
    keys = keys_of(2, "a", "b")
    keys.peek("a")
    assert gone(keys, "c") == ["a"]
    assert keys.peek("a") is None
    assert keys.get("a") is None


@pytest.mark.rule("F10")
def test_a_key_that_was_passed_over_keeps_its_turn() -> None:
    keys = keys_of(2, "a", "b")
    busy = keys.peek("a")
    assert busy is not None
    busy.idle = False
    assert gone(keys, "c") == ["b"]
    busy.idle = True
    assert gone(keys, "d") == ["a"]


@pytest.mark.rule("F10", "T3")
def test_cleared_keys_are_laid_aside_and_come_no_more() -> None:
    keys = keys_of(2, "a", "b")
    keys.clear()
    assert isinstance(keys.evicted[0], dict)
    assert list(keys.evicted[0]) == ["a", "b"]
    assert (len(keys), list(keys), list(keys.states())) == (0, [], [])
    assert gone(keys, "a") == []
    assert gone(keys, "c") == []
    assert gone(keys, "d") == ["a"]


@pytest.mark.rule("F10", "B11")
def test_one_that_comes_into_use_while_it_is_made_to_go_stays() -> None:
    """Who uses a state without a turn may do so between the look at it and its removal."""
    asked: list[str] = []

    def retire(state: State) -> bool:
        asked.append(state.key)
        return state.key != "a"

    keys = Keys[State](1, idle=lambda _: True, healthy=lambda _: True, retire=retire)
    assert keys.add("a", State("a")) == []
    assert keys.add("b", State("b")) == []
    assert set(asked) == {"a"}
    assert sorted(str(key) for key in keys) == ["a", "b"]
    asked.clear()
    assert [state.key for state in keys.add("c", State("c"))] == ["b"]
    assert asked[:2] == ["a", "b"], "it is still the least recently used"
    assert sorted(str(key) for key in keys) == ["a", "c"]

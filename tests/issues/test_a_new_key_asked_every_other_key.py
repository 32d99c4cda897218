"""Where every key was busy or unhealthy, each new one asked them all, under the lock: with 10,000
keys that peers chose, a call that had cost microseconds cost tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import adaptive_limit, breaker, bulkhead, rate_limit, retry, throttle
from resilient._core import keys
from resilient._core.keys import Keys, Slot
from resilient._policies.common.keyed import KeyedState
from resilient.testing import virtual_time

SIZES = [1_000, 10_000]
FEW = 300
"""Questions to states that one insertion may ask, of more keys than that."""


class State:
    def __init__(self, name: int) -> None:
        self.name, self.idle, self.healthy = name, True, True


class Table:
    """Keys that count what an insertion does: looks at a state, and comparisons in the heap."""

    def __init__(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.work = 0
        less = Slot.__lt__

        def compared(one: Slot[Any], other: Slot[Any]) -> bool:
            self.work += 1
            return less(one, other)

        monkeypatch.setattr(Slot, "__lt__", compared)
        self.keys = Keys[State](size, idle=self.idle, healthy=self.healthy, retire=self.retire)
        self.names = iter(range(10**9))
        self.insert(size)

    def idle(self, state: State) -> bool:
        self.work += 1
        return state.idle

    def healthy(self, state: State) -> bool:
        self.work += 1
        return state.healthy

    def retire(self, state: State) -> bool:
        self.work += 1
        return state.idle

    def insert(self, count: int, **fields: bool) -> Iterator[int]:
        """Insert *count* keys; what each has cost."""
        costs = list[int]()
        for _ in range(count):
            before, name = self.work, next(self.names)
            state = State(name)
            vars(state).update(fields)
            self.keys.add(name, state)
            costs.append(self.work - before)
        return iter(costs)


def all_busy(table: Table) -> None:
    for state in table.keys.states():
        state.idle = False


def all_unhealthy(table: Table) -> None:
    for state in table.keys.states():
        state.healthy = False


def all_used(table: Table) -> None:
    for name in reversed(list(table.keys)):
        table.keys.get(name)


def all_recover(table: Table) -> None:
    for state in table.keys.states():
        state.healthy = not state.healthy


@pytest.mark.rule("F10")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", [all_busy, all_unhealthy, all_used, all_recover])
def test_no_insertion_asks_more_than_a_few(
    size: int, change: Callable[[Table], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys there are, and whatever becomes of all of them between two insertions."""
    table = Table(size, monkeypatch)
    comparisons = (2 * keys.STEPS + keys.LOOKS + 1) * 2 * math.ceil(math.log2(size + 100))
    for _ in range(20):
        change(table)
        assert max(table.insert(3)) <= FEW + comparisons
    assert len(table.keys) <= size + 60


@pytest.mark.rule("F10")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fields", [{"idle": False}, {"healthy": False}, {}])
def test_an_insertion_into_a_table_that_stays_as_it_is_asks_a_few(
    size: int, fields: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(size, monkeypatch)
    for state in table.keys.states():
        vars(state).update(fields)
    costs = list(table.insert(2 * size, **fields))
    assert sum(costs) / len(costs) <= 2 * keys.LOOKS + keys.CHOICE + 2 + 4 * math.log2(size)


@pytest.mark.rule("F10")
@pytest.mark.parametrize("size", SIZES)
def test_a_table_that_grew_while_all_were_busy_shrinks_again_without_a_stall(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(size, monkeypatch)
    all_busy(table)
    table.insert(size, idle=False)
    assert len(table.keys) == 2 * size
    for state in table.keys.states():
        state.idle = True
    inserted = 0
    while len(table.keys) > size:
        assert next(table.insert(1)) < 5_000
        inserted += 1
    assert inserted < size


@pytest.mark.rule("F10")
def test_of_many_that_were_used_the_one_that_goes_was_used_before_the_others_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Table(1_000, monkeypatch)
    all_used(table)  # the last that was inserted is now the least recently used
    looked_at = range(keys.STEPS)
    table.insert(1)
    assert set(range(1_000)) - set(table.keys) == {max(looked_at)}


def failing(_key: int) -> None:
    raise OSError


def first(key: int) -> int:
    return key


POLICIES: dict[str, Callable[[], Any]] = {
    "adaptive_limit": lambda: adaptive_limit(key=first, max_keys=1_000),
    "breaker": lambda: breaker(key=first, max_keys=1_000),
    "bulkhead": lambda: bulkhead(1, key=first, max_keys=1_000),
    "rate_limit": lambda: rate_limit(1, per=1_000, key=first, max_keys=1_000),
    "throttle": lambda: throttle(key=first, max_keys=1_000),
    "retry": lambda: retry(on=OSError, attempts=2, wait=0, key=first),
}


@pytest.mark.rule("F10")
@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("busy", [False, True])
def test_no_policy_asks_all_its_keys_when_one_more_comes(
    kind: str, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when calls fail, nor when they are under way."""
    asked = 0
    create = Keys.__init__

    def counting(table: Keys[Any], max_keys: int, **asks: Any) -> None:
        def counted(ask: Callable[[Any], bool]) -> Callable[[Any], bool]:
            def answer(state: Any) -> bool:
                nonlocal asked
                asked += 1
                return ask(state)

            return answer

        create(table, max_keys, **{name: ask and counted(ask) for name, ask in asks.items()})

    monkeypatch.setattr(Keys, "__init__", counting)
    monkeypatch.setattr("resilient._policies.retry.shell.MAX_KEYS", 1_000)
    policy = POLICIES[kind]()
    fn = policy(failing)
    calls = []
    with virtual_time():
        for key in range(1_200):
            before = asked
            if busy and kind != "retry":  # which holds no place
                calls.append(policy.of(key).admit())
            else:
                with pytest.raises(OSError):
                    fn(key)
            assert asked - before <= FEW
        for call in calls:
            call.close()
    assert asked, "it has had to make room"
    assert isinstance(getattr(policy, "_states", None) or policy._budgets, KeyedState)

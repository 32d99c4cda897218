"""Steps of the core that an interrupt cuts short, at every place, and what the next make of it.

A policy calls `mend` before its next step. What has none goes on by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from resilient._core.breaker import BreakerState
from resilient._core.bulkhead import BulkheadCore
from resilient._core.cache import Entry as Kept
from resilient._core.deadline import FEW, Entry, TimerQueue
from resilient._core.keys import Keys
from resilient._core.singleflight import Execution, FlightTable
from resilient._core.throttle import ThrottleConfig, ThrottleCore
from resilient._core.waiters import Waiter, WaitQueue
from tests.core import breakers, overload, test_cache, test_rate_limit
from tests.interrupts import Interrupter

pytestmark = pytest.mark.rule("F9")


def everywhere(prepare: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]) -> None:
    """Interrupt the first of the two functions at every place, and then call the second."""
    check: Callable[[], Any] = int

    def act() -> Callable[[], Any]:
        nonlocal check
        step, check = prepare()
        return step

    with Interrupter() as interrupter:
        places = interrupter.places(act)
        assert places
        for at in range(1, places + 1):
            interrupter.run(act, at)
            check()


# Places.


@pytest.mark.parametrize("where", ["first", "hand_over"])
def test_a_place_that_is_handed_to_nobody_is_free(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, waiter = BulkheadCore(1, 1, []), Waiter()
    core.resize(0)
    assert core.arrive(waiter)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(WaitQueue, where, interrupted)
        core.resize(1)
    assert (core.in_flight(), waiter.given) == (0, False)
    core.mend(0.0)
    assert (core.in_flight(), waiter.given) == (1, True)


def test_a_place_that_was_given_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    core, waiter = BulkheadCore(1, 1, []), Waiter()
    core.resize(0)
    assert core.arrive(waiter)
    hand_over = WaitQueue.hand_over

    def interrupted_after(queue: WaitQueue, one: Waiter) -> None:
        hand_over(queue, one)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(WaitQueue, "hand_over", interrupted_after)
        core.resize(1)
    assert (core.in_flight(), len(core.free), waiter.given) == (1, 0, True)


def test_a_bulkhead_that_is_resized_loses_no_place() -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        woken: list[Waiter] = []
        core, waiters = BulkheadCore(1, 2, woken), [Waiter(), Waiter()]
        core.resize(0)
        for waiter in waiters:
            assert core.arrive(waiter)

        def check() -> None:
            core.mend(0.0)
            core.resize(1)
            for waiter in waiters:
                assert (core.in_flight(), waiter.given) == (1, True)
                core.give_up(waiter)
            assert (core.in_flight(), len(core.queue)) == (0, 0)

        return partial(core.resize, 1), check

    everywhere(prepare)


@pytest.mark.parametrize("how", ["joins", "leaves", "is given", "is shed"])
def test_a_queue_counts_anew(how: str) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        woken: list[Waiter] = []
        queue = WaitQueue(woken)
        others, one = [Waiter(n) for n in (0, 1)], Waiter(1)
        for other in others:
            queue.join(other)
        if how != "joins":
            queue.join(one)
        steps = {"leaves": queue.leave, "is given": queue.hand_over, "is shed": queue.shed}

        def check() -> None:
            assert len(queue) >= 0
            queue.leave(one)
            queue.mend()
            assert (len(queue), list(queue)) == (2, others[::-1])
            assert one in woken or not (one.given or one.shed)

        return partial(steps.get(how, queue.join), one), check

    everywhere(prepare)


def test_nobody_waits_beside_a_free_place() -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        woken: list[Waiter] = []
        core = BulkheadCore(2, 9, woken)
        assert core.try_acquire()
        assert core.try_acquire()
        waiter = Waiter()
        core.arrive(waiter)

        def check() -> None:
            core.mend(0.0)
            core.release()  # that of the other one, which is not lost
            assert waiter.given
            assert waiter in woken
            assert not core.queue

        return core.release, check

    everywhere(prepare)


def test_nobody_waits_beside_a_free_place_of_an_adaptive_limit() -> None:
    woken: list[Waiter] = []
    core = overload.core_of(initial=2, room=9, woken=woken)
    waiter = Waiter()
    assert core.try_acquire(0.0, 0.0)
    assert core.try_acquire(0.0, 0.0)
    assert core.arrive(waiter, 0.0)
    core.in_flight -= 1  # a call ended, and was interrupted there
    core.mend(0.0)
    assert waiter.given
    assert woken == [waiter]


def test_whoever_is_first_at_a_rate_limit_looks_again() -> None:
    core, woken = test_rate_limit.core_of(1.0)
    core.mend(0.0)
    assert core.take(0.0)
    waiter = Waiter()
    core.queue.join(waiter)
    core.mend(0.0)
    assert woken == [waiter]


def test_nobody_waits_at_a_throttle() -> None:
    core = ThrottleCore(ThrottleConfig(2.0, 10.0, 10, 0.9), 0.0)
    core.mend(0.0)
    assert core.idle()


@pytest.mark.parametrize("state", [BreakerState.CLOSED, BreakerState.OPEN])
def test_a_breaker_that_was_to_go_and_is_kept_admits(state: BreakerState) -> None:
    core = breakers.core_of(initial=state)
    counts = core.shared_permit is not None
    assert core.retire()
    core.mend(0.0)
    assert not core.retired
    assert (core.shared_permit is not None) is counts
    breakers.admit(core, 10.0)


# Keys.


def test_every_key_can_go_after_an_insertion_that_was_cut_short() -> None:
    """Also where that was busy sorting out which had been used, or was no longer busy."""

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        busy = set("ab")
        keys: Keys[str] = Keys(4, idle=lambda key: key not in busy, healthy=lambda _key: True)
        for key in "abcd":
            keys.add(key, key)
        keys.add("e", "e")  # a and b are looked at, and doubtful
        busy.discard("a")
        keys.get("d")

        def check() -> None:
            busy.clear()
            keys.add("y", "y")
            assert len(keys) <= 4
            for key in "0123":
                keys.add(key, key)
            assert set(keys) == set("0123")
            assert len(keys._ready) + len(keys._doubtful) == 4

        return partial(keys.add, "x", "x"), check

    everywhere(prepare)


def test_keys_that_were_to_be_cleared_may_be_cleared_again() -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        keys: Keys[str] = Keys(2, idle=lambda _key: True, healthy=lambda _key: True)
        keys.add("a", "a")

        def check() -> None:
            keys.add("b", "b")
            keys.clear()
            for key in "cde":
                keys.add(key, key)
            assert set(keys) == set("de")

        return keys.clear, check

    everywhere(prepare)


# Limits.


def limits(queue: TimerQueue[str], *instants: float) -> list[Entry]:
    return [queue.push(at, f"{at:g}") for at in instants]


def pushes(queue: TimerQueue[str], _entries: list[Entry]) -> None:
    limits(queue, 0.5, 7)


def removes(queue: TimerQueue[str], entries: list[Entry]) -> None:
    for entry in (entries[-1], entries[0], *entries[2:]):
        queue.remove(entry)


def fires(queue: TimerQueue[str], _entries: list[Entry]) -> None:
    for _ in range(3):
        queue.first_due(9)


@pytest.mark.parametrize("act", [pushes, removes, fires])
@pytest.mark.parametrize("many", [3, FEW + 3])
def test_no_limit_that_lives_is_lost(act: Callable[..., None], many: int) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        queue: TimerQueue[str] = TimerQueue()
        entries = limits(queue, *range(1, many + 1))
        if many > 3:
            for entry in entries[2:]:
                queue.remove(entry)  # as many as are left where they are

        def check() -> None:
            living = [entry[2] for entry in entries if entry[2] is not None]
            more = limits(queue, *(10 + n for n in range(2 * FEW)))
            for entry in more[2:]:
                queue.remove(entry)  # it cleans up
            found = list(iter(partial(queue.first_due, math.inf), None))
            assert [one for one in found if one not in {"0.5", "7"} or one in living] == [
                *living,
                "10",
                "11",
            ]

        return partial(act, queue, entries), check

    everywhere(prepare)


def test_a_queue_that_is_cleaned_up_counts_no_more_dead_than_there_are() -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        queue: TimerQueue[str] = TimerQueue()
        entries = limits(queue, *range(2 * FEW + 4))
        for entry in entries[: FEW + 2]:
            queue.remove(entry)

        def check() -> None:
            assert len(queue) >= FEW + 1
            assert queue._dead <= sum(entry[2] is None for entry in queue._heap)

        return partial(queue.remove, entries[FEW + 2]), check

    everywhere(prepare)


# What a cache keeps.


def test_a_cache_keeps_no_more_than_it_may() -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        core = test_cache.core_of()
        test_cache.put(core, "a")
        test_cache.put(core, "b", now=1.0)

        def act() -> None:
            test_cache.put(core, "b", now=2.0)
            test_cache.put(core, "c", now=30.0)  # the others have ended
            core.drop("c")

        def check() -> None:
            for key in "def":
                test_cache.put(core, key, now=40.0)
            assert set(core.entries) == set("ef")
            assert len(core.order) == 2
            for key in "ghi":  # those have ended by now
                test_cache.put(core, key, now=100.0)
            assert set(core.entries) == set("hi")

        return act, check

    everywhere(prepare)


def test_what_was_to_be_dropped_may_be_dropped_again() -> None:
    """No run that began before brings its result in afterwards, and one that began later does."""

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        core = test_cache.core_of()
        before = core.begin("k")

        def check() -> None:
            interrupted_once = not before.wanted
            after = core.begin("k")
            assert after.wanted
            assert (after is before) is not interrupted_once
            core.drop("k")
            assert not before.wanted
            assert core.begin("k").wanted

        return partial(core.drop, "k"), check

    everywhere(prepare)


def test_an_entry_that_is_in_the_order_alone_goes_in_its_turn() -> None:
    core = test_cache.core_of()
    test_cache.put(core, "a")
    lost = core.entries.pop("a")  # as `drop` does first
    test_cache.put(core, "b", now=1.0)
    test_cache.put(core, "c", now=1.0)
    assert lost not in core.order
    assert set(core.entries) == set("bc")
    assert core.evictions.read() == 0


def test_an_entry_that_is_among_the_ends_alone_is_passed_over() -> None:
    core = test_cache.core_of(max_size=1)
    core._ends.push(2.0, Kept("never kept", negative=False))
    test_cache.put(core, "a")
    test_cache.put(core, "b", now=3.0)
    assert set(core.entries) == {"b"}


# Runs that are shared.


class Refusing:
    """A key that is equal to nothing, and says so by an exception."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError


def test_a_run_ends_though_its_key_refuses_to_be_compared() -> None:
    table: FlightTable[Execution] = FlightTable()
    table.begin(Execution(Refusing()))
    table.end(other := Execution(Refusing()))
    assert other.done

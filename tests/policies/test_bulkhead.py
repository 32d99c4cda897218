"""Bulkhead in every world: who gets in, who waits and who is turned away."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import trio

from resilient import (
    Bulkhead,
    BulkheadFull,
    BulkheadStats,
    DeadlineExceeded,
    bulkhead,
    deadline,
    timeout,
)
from resilient.events import CallRejected
from resilient.testing import fresh, record, virtual_time
from tests.worlds import World, in_threads, world_named

pytestmark = pytest.mark.loop

PATIENCE = 30.0


async def queued(w: World, policy: Bulkhead, count: int, key: object = None) -> None:
    """Return when so many wait. It only looks, so that it helps nobody on."""

    def waiting() -> int:
        if not policy._states.is_keyed:
            return len(policy._states.only.queue)
        core = policy._states.peek(key)
        return 0 if core is None else len(core.queue)

    pause = threading.Event()
    for _ in range(20_000):
        if waiting() == count:
            return
        if w.is_async:
            await anyio.lowlevel.checkpoint()
        else:
            pause.wait(0.0005)
    pytest.fail(f"{waiting()} wait, not {count}")


def free_places(policy: Any) -> int:
    """How many places can be taken; they are given back."""
    calls = []
    try:
        while True:
            calls.append(policy.admit())
    except BulkheadFull:
        return len(calls)
    finally:
        for call in calls:
            call.close()


def at_rest(policy: Any, limit: int) -> BulkheadStats:
    """Nobody is in, nobody waits, and every place is there."""
    stats: BulkheadStats = policy.stats()
    assert (stats.in_flight, stats.queued) == (0, 0)
    assert free_places(policy) == limit
    return stats


async def cut(w: World, units: float, fn: Callable[[], Any]) -> Any:
    """Call, but be cancelled by somebody else after so long."""
    with anyio.move_on_after(units * w.unit):
        return await fn()
    return "cancelled"


# L1: at most so many, in the order of arrival.


@pytest.mark.rule("L1")
def test_at_most_limit_are_in_at_once_and_no_place_is_lost(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(3, queue=20)
        inside: list[int] = []
        most: list[int] = []

        async def body() -> None:
            inside.append(1)
            most.append(len(inside))
            await w.sleep(0.1)
            inside.pop()

        fn = policy(w.function(body))
        results = await w.together(*([lambda: w.call(fn)] * 12))
        assert results == [None] * 12
        assert max(most) <= 3
        assert w.name == "threads" or max(most) == 3
        assert at_rest(policy, 3).calls == 12

    world.run(scenario)


@pytest.mark.rule("L1")
def test_who_waits_is_served_in_the_order_of_arrival(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=5)
        held = policy.admit()
        order: list[int] = []
        fn = policy(w.function(order.append))

        async def caller(number: int) -> None:
            await queued(w, policy, number)
            await w.call(fn, number)

        async def control() -> None:
            await queued(w, policy, 5)
            held.close()

        callers = [functools.partial(caller, number) for number in (3, 0, 4, 1, 2)]
        assert await w.together(*callers, control) == [None] * 6
        assert order == [0, 1, 2, 3, 4]
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L1")
def test_a_newcomer_stands_behind_those_who_wait_even_in_the_same_tick(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1)
        held = policy.admit()
        order: list[str] = []
        fn = policy(w.function(order.append))

        async def control() -> None:
            await queued(w, policy, 1)
            held.close()  # the one who waits has the place, and has had no chance to run
            if w.is_async:
                with pytest.raises(BulkheadFull):
                    policy.admit()
                assert order == []
            await w.call(fn, "newcomer")

        await w.together(lambda: w.call(fn, "waiter"), control)
        assert order == ["waiter", "newcomer"]
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L1", "F4")
def test_the_order_of_arrival_holds_across_tasks_loops_and_threads() -> None:
    policy = bulkhead(1, queue=6)
    held = policy.admit()
    order: list[int] = []
    pause = threading.Event()

    def queue_is(count: int) -> bool:
        return len(policy._states.only.queue) >= count

    def in_thread(number: int) -> None:
        while not queue_is(number):
            pause.wait(0.0005)
        policy(order.append)(number)

    async def body(number: int) -> None:
        order.append(number)

    async def task(number: int) -> None:
        while not queue_is(number):
            await anyio.lowlevel.checkpoint()
        await policy(body)(number)

    async def tasks(*numbers: int) -> None:
        async with anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(task, number)

    def control() -> None:
        while not queue_is(6):
            pause.wait(0.0005)
        held.close()

    outcomes = in_threads(
        lambda: asyncio.run(tasks(0, 4)),
        lambda: trio.run(tasks, 1, 5),
        lambda: in_thread(2),
        lambda: asyncio.run(tasks(3)),
        control,
    )
    assert outcomes == [None] * 5
    assert order == [0, 1, 2, 3, 4, 5]
    at_rest(policy, 1)


@pytest.mark.rule("L1", "F4")
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_loops_of_several_kinds_and_threads_share_one_bulkhead(limit: int) -> None:
    policy = bulkhead(limit, queue=200)
    inside: list[int] = []
    most: list[int] = []

    def enter() -> None:
        inside.append(1)
        most.append(len(inside))

    async def body() -> None:
        enter()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        inside.pop()

    def plain() -> None:
        enter()
        inside.pop()

    async def tasks() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(policy(body))

    def calls() -> None:
        for _ in range(40):
            policy(plain)()

    outcomes = in_threads(
        lambda: asyncio.run(tasks()), lambda: asyncio.run(tasks()), lambda: trio.run(tasks), calls
    )
    assert outcomes == [None] * 4
    assert max(most) <= limit
    assert at_rest(policy, limit).calls == 160


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.rule("L1", "F4")
@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
@pytest.mark.parametrize(("limit", "room"), [(1, 8), (3, 8), (3, 2), (3, 0), (20, 0)])
def test_eight_threads_are_never_more_than_the_limit_and_the_counts_add_up(
    limit: int, room: int, keyed: bool
) -> None:
    policy = bulkhead(limit, queue=room, key=(lambda: "k") if keyed else None)
    inside: list[int] = []
    most: list[int] = []
    ran, rejected = [0] * 8, [0] * 8

    def body() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    fn = policy(body)

    def work(index: int) -> None:
        for _ in range(150):
            try:
                fn()
                ran[index] += 1
            except BulkheadFull:
                rejected[index] += 1

    assert in_threads(*(functools.partial(work, index) for index in range(8))) == [None] * 8
    assert max(most) <= limit
    stats = policy.stats()
    assert (stats.calls, stats.rejected) == (sum(ran), sum(rejected))
    assert sum(ran) + sum(rejected) == 1200
    at_rest(policy.of("k") if keyed else policy, limit)


@pytest.mark.rule("L1", "L2", "F4")
@pytest.mark.usefixtures("switching")
def test_threads_that_change_the_limit_lose_no_place() -> None:
    policy = bulkhead(2, queue=8)
    inside: list[int] = []
    most: list[int] = []

    def body() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    def work() -> None:
        for _ in range(200):
            policy(body)()

    def change() -> None:
        for number in range(200):
            policy.resize(1 + number % 4)

    assert in_threads(work, work, work, work, work, change, change) == [None] * 7
    assert max(most) <= 4
    policy.resize(3)
    assert at_rest(policy, 3).calls == 1000


# L1: who goes takes nothing with it.


@pytest.mark.rule("L1", "F9")
def test_a_waiter_that_is_cancelled_takes_no_place_and_the_next_moves_up(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=3, name="pool")
        held = policy.admit()
        order: list[int] = []
        fn = policy(w.function(order.append))

        async def caller(number: int, cancelled_after: float) -> Any:
            await queued(w, policy, number)
            return await cut(w, cancelled_after, lambda: w.call(fn, number))

        async def control() -> None:
            await queued(w, policy, 3)
            await w.sleep(2)
            held.close()

        results = await w.together(
            lambda: caller(0, math.inf), lambda: caller(1, 1.0), lambda: caller(2, math.inf),
            control,
        )  # fmt: skip
        assert results == [None, "cancelled", None, None]
        assert order == [0, 2]
        assert policy.stats() == BulkheadStats("pool", 1, 0, 0, calls=3, rejected=0)
        at_rest(policy, 1)

    async_world.run(scenario)


@pytest.mark.rule("L1", "F9")
@pytest.mark.parametrize("first", ["served", "cancelled"])
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1), (0, 1, 2)], ids=str)
def test_cancelled_in_the_same_tick_in_which_a_place_is_handed_over_no_place_is_lost(
    async_world: World, first: str, victims: tuple[int, ...]
) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=4)
        held = policy.admit()
        outcomes: dict[int, str] = {}

        async def body(number: int) -> None:
            await anyio.lowlevel.checkpoint()
            outcomes[number] = "ran"

        fn = policy(body)
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def caller(number: int) -> None:
            await queued(w, policy, number)
            with scopes[number]:
                await fn(number)
            outcomes.setdefault(number, "cancelled")

        async def control() -> None:
            await queued(w, policy, 3)
            if first == "served":
                held.close()
            for victim in victims:
                scopes[victim].cancel()
            if first == "cancelled":
                held.close()

        await w.together(*(functools.partial(caller, number) for number in range(3)), control)
        assert outcomes == {n: "cancelled" if n in victims else "ran" for n in range(3)}
        at_rest(policy, 1)

    async_world.run(scenario)


@pytest.mark.rule("L1", "F9")
@pytest.mark.parametrize("order", ["served first", "cancelled first"])
def test_a_task_of_asyncio_that_is_cancelled_as_it_is_served_hands_the_place_on(
    order: str,
) -> None:
    async def main() -> None:
        policy = bulkhead(1, queue=2)
        held = policy.admit()
        ran: list[str] = []

        async def body(name: str) -> None:
            ran.append(name)

        one = asyncio.create_task(policy(body)("one"))
        two = asyncio.create_task(policy(body)("two"))
        await asyncio.sleep(0)
        if order == "served first":
            held.close()
            one.cancel()
        else:
            one.cancel()
            held.close()
        await asyncio.wait([one, two])
        assert one.cancelled()
        assert ran == ["two"]
        at_rest(policy, 1)

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("L1", "F9")
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1), (1, 0), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("limit", [1, 2])
def test_cancellation_at_every_step_of_the_loop_loses_no_place(
    async_world: World, victims: tuple[int, ...], limit: int
) -> None:
    """Three callers of a few steps each; the victims are cancelled after each possible number."""

    async def scenario(w: World) -> None:
        for step in range(16):
            policy = bulkhead(limit, queue=2)
            outcomes: dict[int, str] = {}
            inside: list[int] = []

            async def body(number: int, inside: list[int] = inside) -> None:
                inside.append(number)
                try:
                    for _ in range(2):
                        await anyio.lowlevel.checkpoint()
                finally:
                    inside.remove(number)

            fn = policy(body)
            scopes = [anyio.CancelScope() for _ in range(3)]

            async def caller(
                number: int, fn: Any = fn, scopes: Any = scopes, outcomes: Any = outcomes
            ) -> None:
                with scopes[number]:
                    for _ in range(number):
                        await anyio.lowlevel.checkpoint()
                    await fn(number)
                    outcomes[number] = "ran"
                outcomes.setdefault(number, "cancelled")

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(caller, number)
                for _ in range(step):
                    await anyio.lowlevel.checkpoint()
                    assert len(inside) <= limit
                for victim in victims:
                    scopes[victim].cancel()
                    await anyio.lowlevel.checkpoint()
            assert all(outcomes[n] == "ran" for n in range(3) if n not in victims)
            assert inside == []
            at_rest(policy, limit)

    async_world.run(scenario)


@pytest.mark.rule("L1", "F3", "F9")
@pytest.mark.parametrize("when", ["waiting", "served", "running"])
def test_a_coroutine_that_is_never_finished_gives_its_place_back(when: str) -> None:
    async def main() -> None:
        policy = bulkhead(1, queue=3)
        fn = policy(asyncio.sleep)
        held = policy.admit()
        lost = fn(5)
        if when == "running":
            held.close()
            lost.send(None)
        else:
            lost.send(None)
            assert policy.stats().queued == 1
        if when == "served":
            held.close()
        other = asyncio.create_task(fn(1))
        await asyncio.sleep(0)
        del lost
        gc.collect()
        held.close()
        await other
        at_rest(policy, 1)

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("L1", "F3")
def test_a_call_that_is_lost_gives_its_place_to_the_first_in_the_queue(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1)
        lost: Any = [policy.admit()]
        lost.append(lost)  # only the collector finds it

        async def control() -> None:
            nonlocal lost
            await queued(w, policy, 1)
            lost = None
            gc.collect()

        fn = policy(w.function(lambda: "ran"))
        assert await w.together(lambda: w.call(fn), control) == ["ran", None]
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L1")
def test_a_loop_that_is_closed_while_callers_wait_loses_no_place() -> None:
    policy = bulkhead(1, queue=2)
    held = policy.admit()

    async def main() -> None:
        tasks = [asyncio.create_task(policy(asyncio.sleep)(0)) for _ in range(2)]
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is the point
        await asyncio.sleep(0)
        assert policy.stats().queued == 2

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    held.close()
    while policy.stats().in_flight:
        assert gc.collect(), "a place is lost with a task that nobody will resume"
    at_rest(policy, 1)


@pytest.mark.rule("L1", "F8", "F9")
def test_however_a_call_ends_its_place_is_given_back(world: World) -> None:
    class Quit(BaseException):
        pass

    async def scenario(w: World) -> None:
        policy = bulkhead(1)

        def body(error: BaseException | None) -> str:
            if error is not None:
                raise error
            return "done"

        fn = policy(w.function(body))
        for error in (ValueError("mine"), Quit(), KeyboardInterrupt(), GeneratorExit()):
            with pytest.raises(type(error)) as caught:
                await w.call(fn, error)
            assert caught.value is error
            at_rest(policy, 1)
        assert await w.call(fn, None) == "done"
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L1", "F1")
def test_a_sync_function_that_returns_a_coroutine_is_refused_and_holds_nothing() -> None:
    policy = bulkhead(1)

    def returns_a_coroutine() -> object:
        return asyncio.sleep(1)

    with pytest.raises(TypeError, match="async def"):
        policy(returns_a_coroutine)()
    at_rest(policy, 1)


# L2: resize.


@pytest.mark.rule("L2")
def test_more_places_serve_those_who_wait_at_once(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=4)
        held = policy.admit()
        fn = policy(w.function(lambda: policy.stats().limit))

        async def control() -> None:
            await queued(w, policy, 3)
            policy.resize(2)

        results = await w.together(*([lambda: w.call(fn)] * 3), control)
        assert results == [2, 2, 2, None]
        held.close()
        at_rest(policy, 2)

    world.run(scenario)


@pytest.mark.rule("L2")
def test_fewer_places_cut_nobody_short_and_wait_for_running_calls(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(3, queue=1)
        held = [policy.admit() for _ in range(3)]
        policy.resize(1)
        assert (policy.stats().limit, policy.stats().in_flight) == (1, 3)
        fn = policy(w.function(lambda: policy.stats().in_flight))

        async def control() -> None:
            await queued(w, policy, 1)
            for call in held:
                assert policy.stats().queued == 1
                call.close()

        results = await w.together(lambda: w.call(fn), control)
        assert results == [1, None]
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L2")
def test_no_places_pause_it_until_there_are_some(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(2, queue=2)
        running = policy.admit()
        policy.resize(0)
        fn = policy(w.function(lambda: policy.stats().limit))

        async def control() -> None:
            await queued(w, policy, 2)
            with pytest.raises(BulkheadFull):
                policy.admit()
            running.close()
            assert policy.stats().queued == 2, "nobody gets the place of a call that ends"
            policy.resize(1)

        assert await w.together(*([lambda: w.call(fn)] * 2), control) == [1, 1, None]
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L2", "F10")
def test_resize_is_for_every_key_and_of_a_key_for_that_one(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(2, key=lambda tenant: tenant)
        fn = policy(w.function(lambda tenant: tenant))
        assert [await w.call(fn, tenant) for tenant in "ab"] == ["a", "b"]
        policy.resize(3)
        assert [free_places(policy.of(key)) for key in "abc"] == [3, 3, 3]
        policy.of("a").resize(5)
        assert [free_places(policy.of(key)) for key in "abc"] == [5, 3, 3]
        assert (policy.of("a").stats().limit, policy.stats().limit) == (5, 3)
        policy.resize(1)
        assert [free_places(policy.of(key)) for key in "abcd"] == [1, 1, 1, 1]

    world.run(scenario)


@pytest.mark.rule("L2", "T3")
def test_a_new_start_has_the_first_limit_and_every_place() -> None:
    policy = bulkhead(2, queue=1)
    policy.resize(5)
    held = policy.admit()
    with fresh():
        assert policy.stats() == BulkheadStats("bulkhead", 2, 0, 0, 0, 0)
        assert free_places(policy) == 2
        held.close()
        assert free_places(policy) == 2, "a call ends where it began"
    at_rest(policy, 2)


# L3: turned away.


@pytest.mark.rule("L3")
def test_a_full_queue_turns_callers_away(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1, name="pool")
        held = policy.admit()
        fn = policy(w.function(lambda: "ran"))

        async def control() -> str:
            await queued(w, policy, 1)
            with pytest.raises(BulkheadFull) as caught:
                await w.call(fn)
            assert (caught.value.policy, caught.value.reason) == ("pool", "full")
            assert caught.value.retry_after is None
            assert str(caught.value) == (
                "pool: bulkhead full (1 of 1 in flight, 1 of 1 queued); the call was not made"
            )
            held.close()
            return "told"

        with record(CallRejected) as events:
            assert await w.together(lambda: w.call(fn), control) == ["ran", "told"]
        assert [(e.policy, e.kind, e.reason, e.retry_after) for e in events] == [
            ("pool", "bulkhead", "full", None)
        ]
        assert policy.stats() == BulkheadStats("pool", 1, 0, 0, 2, 1)

    world.run(scenario)


@pytest.mark.rule("L3")
def test_without_a_queue_nobody_waits(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(2)
        fn = policy(w.function(lambda: "ran"))
        first, second = policy.admit(), policy.admit()
        with pytest.raises(BulkheadFull, match="2 of 2 in flight"):
            await w.call(fn)
        with pytest.raises(BulkheadFull):
            policy.admit()
        second.close()
        assert await w.call(fn) == "ran"
        first.close()
        assert at_rest(policy, 2).rejected == 2

    world.run(scenario)


@pytest.mark.rule("L3")
@pytest.mark.parametrize("max_wait", [0, 2])
def test_who_has_waited_max_wait_is_turned_away(world: World, max_wait: float) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=2, max_wait=max_wait * w.unit)
        held = policy.admit()
        fn = policy(w.function(lambda: "ran"))

        async def caller() -> float:
            with pytest.raises(BulkheadFull) as caught:
                await w.call(fn)
            assert caught.value.reason == "max_wait"
            return w.now()

        async def control() -> None:
            if max_wait:
                await queued(w, policy, 1)
            if not w.is_async:
                await w.sleep(max_wait)

        (at, _) = await w.together(caller, control)
        assert at >= max_wait
        assert w.name == "uvloop" or at == pytest.approx(max_wait)
        assert policy.stats().rejected == 1
        held.close()
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L3", "F11")
@pytest.mark.parametrize("max_wait", [None, 1.0, 5.0])
def test_a_deadline_that_comes_while_waiting_says_that_the_call_was_not_started(
    world: World, max_wait: float | None
) -> None:
    """With a `max_wait` of the same length it is the deadline that is reported."""

    async def scenario(w: World) -> None:
        policy = bulkhead(
            1, queue=2, max_wait=None if max_wait is None else max_wait * w.unit, name="pool"
        )
        held = policy.admit()
        ran: list[int] = []
        fn = policy(w.function(lambda: ran.append(1)))

        async def caller() -> float:
            with pytest.raises(DeadlineExceeded) as caught:
                with deadline(1.0 * w.unit):
                    await w.call(fn)
            assert (caught.value.policy, caught.value.started) == ("pool", False)
            return w.now()

        async def control() -> None:
            await queued(w, policy, 1)
            if not w.is_async:
                await w.sleep(1.0)

        if w.name == "uvloop" and max_wait == 1.0:
            return  # in real time the two are not at one instant
        (at, _) = await w.together(caller, control)
        assert at >= 1.0
        assert not ran
        stats = policy.stats()
        assert (stats.queued, stats.calls, stats.rejected) == (0, 1, 0)
        held.close()
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L3", "D5")
def test_nothing_left_of_the_deadline_takes_no_place(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1, name="pool")
        fn = policy(w.function(lambda: "ran"))
        seen: list[tuple[str, bool]] = []

        async def late() -> None:
            await w.sleep(2.0)
            for call in (fn, w.function(policy.admit)):
                try:
                    await w.call(call)
                except DeadlineExceeded as error:
                    seen.append((error.policy, error.started))

        if w.is_async:
            async with anyio.create_task_group() as group:
                with deadline(1.0 * w.unit):
                    group.start_soon(late)
        else:
            with deadline(1.0):
                await late()
        assert seen == [("pool", False)] * 2
        assert policy.stats() == BulkheadStats("pool", 1, 0, 0, 0, 0)
        at_rest(policy, 1)

    world.run(scenario)


@pytest.mark.rule("L3", "F11")
def test_an_inherited_deadline_ends_the_wait_of_a_child_task(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1, name="pool")
        held = policy.admit()
        seen: list[DeadlineExceeded] = []

        async def child() -> None:
            with pytest.raises(DeadlineExceeded) as caught:
                await policy(anyio.sleep)(0)
            seen.append(caught.value)

        async with anyio.create_task_group() as group:
            with deadline(1.0 * w.unit):
                group.start_soon(child)
                await anyio.lowlevel.checkpoint()
        assert [(error.policy, error.started) for error in seen] == [("pool", False)]
        held.close()
        at_rest(policy, 1)

    async_world.run(scenario)


@pytest.mark.rule("L3", "F9", "F11")
def test_a_foreign_limit_that_comes_while_waiting_stays_what_it_is(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1)
        held = policy.admit()
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(0.5 * w.unit):
                async with deadline(50 * w.unit):
                    await policy(anyio.sleep)(0)
        assert not isinstance(caught.value, DeadlineExceeded)
        assert policy.stats().rejected == 0
        held.close()
        at_rest(policy, 1)

    async_world.run(scenario)


@pytest.mark.rule("L3")
def test_a_timeout_around_it_covers_the_wait_and_the_call(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=2)
        fn = timeout(1.0 * w.unit)(policy(w.function(lambda: w.sleep(10))))
        results = await w.together(lambda: w.call(fn), lambda: w.call(fn))
        assert all(isinstance(error, DeadlineExceeded) for error in results)
        assert sorted(error.started for error in results) == [False, True]
        at_rest(policy, 1)

    async_world.run(scenario)


@pytest.mark.rule("L3", "F11")
def test_sync_code_in_a_thread_with_a_running_loop_does_not_wait(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1, name="pool")
        fn = policy(lambda: "ran")
        assert fn() == "ran"
        held = policy.admit()
        for call in (fn, lambda: policy.__enter__()):
            with pytest.raises(BulkheadFull) as caught:
                call()
            assert caught.value.reason == "would_block"
        async with anyio.create_task_group() as group:
            group.start_soon(policy(w.function(lambda: None)))
            await queued(w, policy, 1)
            with pytest.raises(BulkheadFull) as caught:
                fn()
            assert caught.value.reason == "full", "nor would it, could it wait"
            held.close()
        assert at_rest(policy, 1).rejected == 3

    async_world.run(scenario)


# Blocks, single calls and keys.


@pytest.mark.rule("L1", "L3", "F3")
def test_a_block_waits_as_a_call_does_and_admit_never_does(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=2)
        held = policy.admit()
        order: list[str] = []

        async def block() -> None:
            if w.is_async:
                async with policy:
                    order.append("block")
                    with pytest.raises(BulkheadFull):
                        policy.admit()
            else:
                with policy:
                    order.append("block")
                    with pytest.raises(BulkheadFull):
                        policy.admit()

        async def control() -> None:
            await queued(w, policy, 1)
            with pytest.raises(BulkheadFull) as caught:
                policy.admit()
            assert caught.value.reason == "full"
            order.append("control")
            held.close()

        assert await w.together(block, control) == [None, None]
        assert order == ["control", "block"]
        held.close()
        assert at_rest(policy, 1).rejected == 2

    world.run(scenario)


@pytest.mark.rule("L1", "F10")
def test_each_key_has_its_own_places_and_its_own_queue(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, queue=1, key=lambda tenant: tenant, name="pool")
        fn = policy(w.function(lambda tenant: tenant))
        held = policy.of("a").admit()

        async def control() -> None:
            await queued(w, policy, 1, "a")
            assert await w.call(fn, "b") == "b"
            with pytest.raises(BulkheadFull):
                await w.call(fn, "a")
            assert policy.of("a").stats() == BulkheadStats("pool", 1, 1, 1, 1, 1)
            held.close()

        results = await w.together(lambda: w.call(fn, "a"), control)
        assert results == ["a", None]
        stats = policy.stats()
        assert (stats.limit, stats.in_flight, stats.queued) == (1, 0, 0)
        assert (stats.calls, stats.rejected) == (3, 1)
        for key in "ab":
            at_rest(policy.of(key), 1)

    world.run(scenario)


@pytest.mark.rule("L1", "F10")
def test_a_key_that_is_in_use_or_waited_for_is_kept_and_totals_outlive_the_others() -> None:
    with world_named("asyncio") as world:

        async def scenario(w: World) -> None:
            policy = bulkhead(1, queue=1, key=lambda tenant: tenant, max_keys=2)
            fn = policy(w.function(lambda tenant: tenant))
            held = policy.of("held").admit()

            async def control() -> None:
                await queued(w, policy, 1, "held")
                for tenant in range(20):
                    assert await w.call(fn, tenant) == tenant
                assert "held" in set(policy.keys())
                held.close()

            assert await w.together(lambda: w.call(fn, "held"), control) == ["held", None]
            assert len(policy.keys()) == 2
            assert policy.stats().calls == 22

        world.run(scenario)


@pytest.mark.rule("F10")
def test_a_handle_of_a_key_does_what_the_policy_does(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = bulkhead(1, key=lambda tenant: tenant)
        handle = policy.of("a")
        assert (handle.name, handle.kind) == ("bulkhead", "bulkhead")
        assert policy.keys() == []
        assert handle.stats() == BulkheadStats("bulkhead", 1, 0, 0, 0, 0)
        assert policy.keys() == []
        assert await w.call(handle(w.function(lambda tenant: tenant)), "b") == "b"
        assert policy.keys() == ["a"]
        if w.is_async:
            async with handle:
                assert handle.stats().in_flight == 1
        with handle:
            assert handle.stats().in_flight == 1
            with pytest.raises(BulkheadFull):
                handle.admit()
        assert policy.stats().in_flight == 0
        for use in (policy.admit, policy.__enter__):
            with pytest.raises(TypeError, match=r"write \.of\(key\)"):
                use()
        with pytest.raises(TypeError, match="no key="):
            bulkhead(1).of("a")

    world.run(scenario)


# Bad input.


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"limit": 0}, ValueError, "limit must be a whole number of at least 1, not 0"),
        ({"limit": -1}, ValueError, "limit must be a whole number of at least 1, not -1"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number of at least 1, not 1.5"),
        ({"limit": True}, TypeError, "limit must be a whole number of at least 1, not True"),
        ({"limit": math.nan}, TypeError, "limit must be a whole number of at least 1, not nan"),
        ({"limit": None}, TypeError, "limit must be a whole number of at least 1, not None"),
        ({"queue": -1}, ValueError, "queue must be a whole number of at least 0, not -1"),
        ({"queue": 1.0}, TypeError, "queue must be a whole number of at least 0, not 1.0"),
        ({"queue": None}, TypeError, "queue must be a whole number of at least 0, not None"),
        ({"max_wait": -1}, ValueError, "max_wait must be a number of at least 0, not -1"),
        ({"max_wait": math.nan}, ValueError, "max_wait must be a number of at least 0, not nan"),
        ({"max_wait": "1"}, TypeError, "max_wait must be seconds or a timedelta, of at least 0"),
        ({"key": 3}, TypeError, "key must be a function of the call's arguments"),
        ({"max_keys": 0}, ValueError, "max_keys must be a whole number of at least 1, not 0"),
        ({"max_keys": 1.5}, TypeError, "max_keys must be a whole number of at least 1, not 1.5"),
        ({"name": 3}, TypeError, "name must be a string or None, not 3"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_its_value_and_range(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        bulkhead(**{"limit": 1, **arguments})
    assert said in str(caught.value)


@pytest.mark.rule("F1", "F7", "L2")
def test_a_wrong_limit_changes_nothing_and_a_forgotten_pair_of_parentheses_is_told() -> None:
    policy, keyed = bulkhead(2), bulkhead(2, key=lambda tenant: tenant)
    for resize in (policy.resize, keyed.resize, keyed.of("a").resize):
        for bad, error in ((-1, ValueError), (1.5, TypeError), (None, TypeError)):
            with pytest.raises(error, match="limit must be a whole number of at least 0"):
                resize(bad)  # type: ignore[arg-type]  # that is what is tested
    at_rest(policy, 2)
    with pytest.raises(TypeError, match=r"write @bulkhead\(10\), with parentheses"):
        bulkhead(lambda: None)  # type: ignore[arg-type]  # the same
    assert repr(bulkhead(1, name="pool")) == "<Bulkhead 'pool'>"


# A fork.


@pytest.mark.rule("L1", "F4")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform")
def test_the_child_of_a_fork_has_the_places_that_threads_of_its_parent_held() -> None:
    policy = bulkhead(1, queue=1)
    keyed = bulkhead(1, key=lambda: "k")
    held, held_too = policy.admit(), keyed.of("k").admit()  # as another thread would
    thread = threading.Thread(target=policy(os.getpid), daemon=True)
    thread.start()
    pause = threading.Event()
    while not policy._states.only.queue:
        pause.wait(0.0005)
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            at_rest(policy, 1)
            at_rest(keyed.of("k"), 1)
            held.close()
            held_too.close()
            good = at_rest(policy, 1).calls >= 1 and free_places(keyed.of("k")) == 1
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    held.close()
    held_too.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    at_rest(policy, 1)

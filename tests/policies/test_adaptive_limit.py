"""The adaptive limit in every world: what is a sample, who gets in, who waits, who is shed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import math
import os
import random
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import (
    AdaptiveLimit,
    AdaptiveLimitStats,
    BreakerState,
    Call,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    adaptive_limit,
    breaker,
    deadline,
    timeout,
)
from resilient.events import CallRejected, LimitChanged
from resilient.testing import VirtualTime, fresh, record, virtual_time
from tests.worlds import World, in_threads, world_named

pytestmark = pytest.mark.loop

PATIENCE = 30.0
NAN, INF = math.nan, math.inf


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with virtual_time() as one:
        yield one


@pytest.fixture(params=["asyncio", "trio"])
def exact(request: pytest.FixtureRequest) -> Any:
    """The loops whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


def counts(policy: Any) -> tuple[int, int, int, int]:
    """Calls, rejected, in flight, queued."""
    stats = policy.stats()
    return stats.calls, stats.rejected, stats.in_flight, stats.queued


async def rounds(w: World, policy: Any, *, times: int = 5, lasts: float = 1) -> None:
    """Twenty calls of so many units, or as many as may, begun and ended together."""
    for _ in range(times):
        calls: list[Call] = []
        with contextlib.suppress(Overloaded):
            while len(calls) < 20:
                calls.append(policy.admit())
        await w.sleep(lasts)
        for call in calls:
            call.close()


async def after(w: World, units: float, fn: Callable[[], Any]) -> Any:
    await w.sleep(units)
    return await fn()


def later(w: World, units: float, fn: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: after(w, units, fn)


async def cut(w: World, units: float, fn: Callable[[], Any]) -> Any:
    """Call, but be cancelled by somebody else after so long."""
    with anyio.move_on_after(units * w.unit):
        return await fn()
    return "cancelled"


# The limit.


@pytest.mark.rule("L7")
def test_whoever_comes_when_the_limit_is_reached_is_turned_away(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=2, name="db")
        fn = policy(w.function(lambda x: x))
        first, second = policy.admit(), policy.admit()
        with pytest.raises(Overloaded) as caught:
            await w.call(fn, 5)
        error = caught.value
        assert (error.policy, error.reason, error.retry_after) == ("db", "limit", None)
        assert str(error) == (
            "db: overloaded (2 in flight of the 2 that its latency allows); the call was not made"
        )
        with pytest.raises(Overloaded):
            policy.admit()
        first.close()
        assert await w.call(fn, 5) == 5
        async with policy:
            pass
        with policy:
            pass
        second.close()
        assert counts(policy) == (5, 2, 0, 0)

    world.run(scenario)


@pytest.mark.rule("L7")
def test_it_grows_while_calls_take_as_long_as_ever_and_shrinks_when_they_take_longer(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(name="db")
        with record(LimitChanged) as events:
            for _ in range(20):  # where time is real, the first calls may have been quick by chance
                await rounds(w, policy, times=4)
                if policy.stats().limit > 20:
                    break
        grown = policy.stats().limit
        assert grown > 20
        changes = [(event.old, event.new) for event in events]
        assert changes[0][0] == 20
        assert changes[-1][1] == grown
        assert all(old != new for old, new in changes)
        assert all(one[1] == next_[0] for one, next_ in itertools.pairwise(changes))
        assert {(event.policy, event.kind, event.key) for event in events} == {
            ("db", "adaptive_limit", None)
        }
        for _ in range(4):
            await rounds(w, policy, times=1, lasts=4)
            if policy.stats().limit < grown:
                break
        assert policy.stats().limit < grown

    world.run(scenario)


@pytest.mark.rule("L7")
def test_the_latencies_are_shown(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(name="db")
        assert policy.stats() == AdaptiveLimitStats("db", 20, 0, 0, 0, 0, None, None)
        await rounds(w, policy)
        stats = policy.stats()
        assert (stats.latency, stats.latency_unloaded, stats.calls) == (1.0, 1.0, 100)

    exact.run(scenario)


# L7: samples.


@pytest.mark.rule("L7")
@pytest.mark.parametrize("algorithm", ["gradient", "aimd", "vegas"])
def test_no_growth_while_less_than_half_of_it_is_used(world: World, algorithm: Any) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(algorithm=algorithm)
        fn = policy(w.function(lambda: None))
        for _ in range(200):
            await w.call(fn)
        assert policy.stats().latency is not None
        assert policy.stats().limit <= 20
        del w

    world.run(scenario)


class Interrupted(BaseException):
    """Such as a cancellation is."""


@pytest.mark.rule("L7", "F9")
@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, Interrupted])
def test_interrupted_calls_are_no_samples(world: World, error: type[BaseException]) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=2)

        def stops() -> None:
            raise error

        fn = policy(w.function(stops))
        for _ in range(30):
            with pytest.raises(error):
                await w.call(fn)
            with pytest.raises(error):
                with policy:
                    raise error
        assert counts(policy) == (60, 0, 0, 0)
        assert (policy.stats().latency, policy.stats().limit) == (None, 2)

    world.run(scenario)


@pytest.mark.rule("L7", "F9")
def test_cancelled_calls_are_no_samples(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=20)
        fn = policy(w.function(lambda: w.sleep(100)))

        async def block() -> None:
            async with policy:
                await w.sleep(100)

        results = await w.together(*[lambda: cut(w, 1, fn)] * 10, *[lambda: cut(w, 1, block)] * 10)
        assert results == ["cancelled"] * 20
        assert counts(policy) == (20, 0, 0, 0)
        assert (policy.stats().latency, policy.stats().limit) == (None, 20)

    async_world.run(scenario)


@pytest.mark.rule("L7")
def test_calls_that_an_inner_policy_rejected_are_no_samples(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(algorithm="aimd")
        forced = breaker(initial=BreakerState.FORCED_OPEN)
        fn = policy(forced(w.function(lambda: None)))
        full = adaptive_limit(initial=1)
        held = full.admit()
        other = policy(full(w.function(lambda: None)))
        late = policy(timeout(0)(w.function(lambda: None)))
        for _ in range(30):
            with pytest.raises(CircuitOpen):
                await w.call(fn)
            with pytest.raises(Overloaded):
                await w.call(other)
            with pytest.raises(DeadlineExceeded) as caught:
                await w.call(late)
            assert not caught.value.started
        held.close()
        assert counts(policy) == (90, 0, 0, 0)
        assert (policy.stats().latency, policy.stats().limit) == (None, 20)

    world.run(scenario)


@pytest.mark.rule("L7")
def test_calls_that_ended_by_another_error_are_no_samples(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit()

        def fails() -> None:
            raise ValueError("at once")

        fn = policy(w.function(fails))
        for _ in range(30):
            with pytest.raises(ValueError, match="at once"):
                await w.call(fn)
        assert policy.stats().latency is None
        assert counts(policy) == (30, 0, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F1")
def test_a_sync_function_that_returns_a_coroutine_is_refused_and_is_no_sample() -> None:
    async def work() -> None: ...

    policy = adaptive_limit()
    for _ in range(30):
        with pytest.raises(TypeError, match="async def"):
            policy.call(lambda: work())  # type: ignore[unused-coroutine]  # the wrong way to write it
    assert counts(policy) == (30, 0, 0, 0)
    assert policy.stats().latency is None


@pytest.mark.rule("L7")
@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        DeadlineExceeded("slow", 1.0, 1.0, True),
        ExceptionGroup("group", [ValueError(), ExceptionGroup("inner", [TimeoutError()])]),
    ],
    ids=["TimeoutError", "DeadlineExceeded", "group"],
)
def test_for_aimd_a_call_that_ended_in_a_time_out_is_a_drop(world: World, error: Exception) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(algorithm="aimd")

        def fails() -> None:
            raise error

        fn = policy(w.function(fails))
        for _ in range(50):
            with pytest.raises(type(error)):
                await w.call(fn)
        assert policy.stats().limit < 20
        assert policy.stats().latency is not None
        assert policy.stats().in_flight == 0

    world.run(scenario)


@pytest.mark.rule("L7")
def test_a_block_says_what_no_exception_shows(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(algorithm="aimd")
        for _ in range(50):
            with pytest.raises(TimeoutError):
                with policy as call:
                    call.ignore()
                    raise TimeoutError
        assert policy.stats().latency is None
        for _ in range(50):
            async with policy as call:
                call.fail()
        assert policy.stats().limit < 20
        call = policy.admit()
        call.close(TimeoutError())
        call.close()
        assert counts(policy) == (101, 0, 0, 0)
        del w

    world.run(scenario)


@pytest.mark.rule("L7")
@pytest.mark.parametrize(("lasts", "grows"), [(2.0, True), (2.1, False)])
def test_for_aimd_more_than_twice_the_latency_without_load_is_a_drop(
    exact: World, lasts: float, grows: bool
) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(algorithm="aimd")
        await rounds(w, policy, times=3)
        before = policy.stats().limit
        await rounds(w, policy, times=2, lasts=lasts)
        assert (policy.stats().limit > before) is grows

    exact.run(scenario)


@pytest.mark.rule("L7", "F3")
def test_a_lost_call_gives_its_place_back_and_is_no_sample(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1)
        for _ in range(30):
            call = policy.admit()
            del call
            gc.collect(0)
        assert counts(policy) == (30, 0, 0, 0)
        assert policy.stats().latency is None
        del w

    world.run(scenario)


# Priorities.


@pytest.mark.rule("L7")
def test_the_lowest_may_use_half_of_the_limit_and_the_highest_all_of_it(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=8, priority=lambda rank, *_: rank)
        inside: list[float] = []

        def body(rank: float, *then: float) -> Any:
            inside.append(rank)
            return w.call(fn, *then) if then else None

        fn: Any = policy(w.function(body))
        for ranks, enter in (
            ((1.0,) * 8, 8),  # alone
            ((5.0, *(1.0,) * 8), 4),
            ((5.0, *(3.0,) * 8), 6),
            ((1.0,) * 8, 4),
            ((5.0,) * 8, 8),
        ):
            inside.clear()
            if len(ranks) == enter:
                await w.call(fn, *ranks)
            else:
                with pytest.raises(Overloaded) as caught:
                    await w.call(fn, *ranks)
                assert caught.value.reason == "limit"
            assert len(inside) == enter, ranks
        assert policy.stats().in_flight == 0

    world.run(scenario)


def test_a_priority_may_be_a_number_for_functions_and_blocks() -> None:
    low, high = adaptive_limit(initial=4, priority=-3), adaptive_limit(initial=4, priority=0.5)
    for policy in (low, high):
        with policy, policy, policy, policy:
            with pytest.raises(Overloaded):
                policy.call(int)
    assert low._usual_priority == -3
    ranked = adaptive_limit(initial=2, priority=lambda rank: rank)
    assert ranked._usual_priority == 0.0
    with pytest.raises(ValueError, match=r"priority .*nan"):
        ranked.call(float, NAN)
    with pytest.raises(TypeError, match=r"priority .*'high'"):
        ranked.call(str, "high")
    assert counts(ranked) == (0, 0, 0, 0)


@pytest.mark.rule("L7")
def test_blocks_beside_functions_of_higher_priority_have_the_lowest(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=4, priority=lambda rank: rank)
        await policy(w.function(lambda rank: rank))(2.0)
        with policy, policy:
            with pytest.raises(Overloaded):
                policy.admit()
            await policy(w.function(lambda rank: rank))(2.0)

    exact.run(scenario)


# The queue.


@pytest.mark.rule("L7")
def test_who_waits_is_served_by_priority_and_then_in_the_order_of_arrival(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, max=1, queue=5, priority=lambda _, rank: rank)
        order: list[str] = []

        def body(name: str, rank: float) -> Awaitable[None]:
            order.append(name)
            return w.sleep(0.2)

        fn: Any = policy(w.function(body))
        names = [("first", 1), ("low", 0), ("mid 1", 1), ("high", 2), ("mid 2", 1), ("low 2", 0)]
        await w.together(
            *(later(w, n / 50, functools.partial(fn, *one)) for n, one in enumerate(names))
        )
        assert order == ["first", "high", "mid 1", "mid 2", "low", "low 2"]
        assert counts(policy) == (6, 0, 0, 0)

    async_world.run(scenario)


@pytest.mark.rule("L7")
def test_a_more_important_newcomer_takes_the_place_of_the_least_important(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(
            initial=1, max=1, queue=2, priority=lambda _, rank: rank, key=lambda *_: "k", name="db"
        )

        def body(name: str, rank: float) -> Any:
            return after(w, 1, w.function(lambda: name))

        fn: Any = policy(w.function(body))
        names = [("first", 1), ("low 1", 0), ("low 2", 0), ("equal", 0), ("high", 2), ("top", 3)]
        with record(CallRejected) as events:
            results = await w.together(
                *(later(w, n / 20, functools.partial(fn, *one)) for n, one in enumerate(names))
            )
        shown = [one.reason if isinstance(one, Overloaded) else one for one in results]
        assert shown == ["first", "shed", "shed", "limit", "high", "top"]
        assert counts(policy) == (3, 3, 0, 0)
        assert [(event.reason, event.key) for event in events] == [
            ("limit", "k"), ("shed", "k"), ("shed", "k"),
        ]  # fmt: skip
        assert isinstance(results[1], Overloaded)
        assert results[1].policy == "db"

    async_world.run(scenario)


@pytest.mark.rule("L7", "F11")
def test_a_deadline_ends_the_wait_and_the_call_was_not_made(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, max=1, queue=5, name="db")
        began: list[float] = []

        def body() -> Awaitable[None]:
            began.append(w.now())
            return w.sleep(4)

        fn = policy(w.function(body))

        async def limited() -> None:
            async with deadline(1.0 * w.unit):
                await fn()

        results = await w.together(fn, later(w, 0.1, limited), later(w, 0.2, fn))
        assert isinstance(results[1], DeadlineExceeded)
        assert (results[1].policy, results[1].started) == ("db", False)
        assert len(began) == 2
        assert counts(policy) == (2, 0, 0, 0)
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(0):
                await fn()
        assert not caught.value.started
        assert policy.stats().calls == 2

    async_world.run(scenario)


@pytest.mark.rule("L7", "F9")
def test_a_waiter_that_is_cancelled_takes_no_place(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, max=1, queue=5)
        fn = policy(w.function(lambda: w.sleep(2)))
        results = await w.together(
            fn, later(w, 0.1, lambda: cut(w, 1, fn)), later(w, 0.2, fn), later(w, 0.3, fn)
        )
        assert results == [None, "cancelled", None, None]
        assert counts(policy) == (3, 0, 0, 0)

    async_world.run(scenario)


@pytest.mark.rule("L7", "F9")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_waiter_that_is_cancelled_as_it_is_served_hands_the_place_on(name: str) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, max=1, queue=5)
        served: list[str] = []

        async def wait(name: str, scope: anyio.CancelScope) -> None:
            with scope:
                async with policy:
                    served.append(name)

        call, scope = policy.admit(), anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "first", scope)
            await w.sleep(1)
            group.start_soon(wait, "second", anyio.CancelScope())
            await w.sleep(1)
            assert counts(policy)[2:] == (1, 2)
            call.close()  # the first is given the place, and has not resumed
            assert counts(policy)[2:] == (1, 1)
            scope.cancel()
        assert served in (["second"], ["first", "second"])  # trio lets it go on, as it may
        assert counts(policy) == (1 + len(served), 0, 0, 0)

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("L7", "F9")
def test_a_waiter_that_is_shed_and_cancelled_at_once_leaves_nothing(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, max=1, queue=1, priority=lambda rank: rank)
        fn: Any = policy(w.function(lambda _: w.sleep(3)))
        scope = anyio.CancelScope()

        async def low() -> None:
            with scope:
                await fn(0)

        async def top() -> None:
            scope.cancel()
            await fn(2)

        results = await w.together(
            lambda: fn(1), later(w, 1, low), later(w, 2, top), later(w, 2, lambda: fn(3))
        )
        refused = sum(isinstance(one, Overloaded) for one in results)
        assert counts(policy) == (2, refused, 0, 0), "trio's order is that of chance"

    exact.run(scenario)


@pytest.mark.rule("L7", "F9")
def test_a_coroutine_that_is_collected_while_it_waits_or_runs_gives_its_place_back() -> None:
    policy = adaptive_limit(initial=1, max=1, queue=5)

    class Pause:
        def __await__(self) -> Any:
            yield

    async def body() -> None:
        await Pause()

    async def main() -> None:
        running, waiting = policy(body)(), policy(body)()
        running.send(None)
        waiting.send(None)
        assert counts(policy) == (1, 0, 1, 1)
        waiting.close()
        assert counts(policy) == (1, 0, 1, 0)
        third = policy(body)()
        third.send(None)
        del running
        gc.collect(0)
        assert counts(policy) == (1, 0, 1, 0), "the place is the third one's"
        third.close()
        never = policy(body)()
        never.close()
        assert counts(policy) == (1, 0, 0, 0)

    with virtual_time() as time:
        time.run(main)
    assert policy.stats().latency is None


@pytest.mark.rule("L7", "F11")
def test_sync_code_on_a_loops_thread_never_waits(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, max=1, queue=1, name="db")

        async def hold() -> None:
            async with policy:
                await w.sleep(1)

        async def tries() -> list[str]:
            reasons = []
            for _ in range(2):
                with pytest.raises(Overloaded) as caught:
                    policy.call(int)
                reasons.append(caught.value.reason)
                with pytest.raises(Overloaded) as caught:
                    with policy:
                        pass
                reasons.append(caught.value.reason)
                await w.sleep(0.4)
            return reasons

        results = await w.together(hold, later(w, 0.1, tries), later(w, 0.3, hold))
        assert results[1] == ["would_block", "would_block", "limit", "limit"]
        assert counts(policy) == (2, 4, 0, 0)
        assert policy.call(int) == 0

    async_world.run(scenario)


# Times on a grid, so that a waiter is served, shed, cancelled and out of time at one instant.
INSTANTS = st.integers(0, 8).map(lambda n: n / 2)
CALLERS = st.lists(
    st.tuples(
        INSTANTS,  # when it comes
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),  # how long it takes
        st.sampled_from([0.0, 1.0, 2.0]),  # its priority
        st.sampled_from(["stays", "stays", "cancelled", "deadline"]),
        INSTANTS,  # when it is cancelled, after it came, or its deadline
        st.booleans(),  # whether it ends in an error
    ),
    min_size=2,
    max_size=14,
)


@pytest.mark.rule("L7", "F9", "F11")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@settings(max_examples=60)
@given(callers=CALLERS, limit=st.integers(1, 3), room=st.integers(0, 3))
def test_whoever_comes_and_goes_no_place_is_lost_and_none_is_given_twice(
    name: str, callers: list[Any], limit: int, room: int
) -> None:
    inside, begun = 0, 0
    ends: Counter[str] = Counter()

    async def scenario(w: World) -> None:
        policy = adaptive_limit(
            initial=limit, min=1, max=limit, queue=room, priority=lambda rank, _, __: rank
        )

        @policy
        async def call(rank: float, lasts: float, fails: bool) -> None:
            nonlocal inside, begun
            begun += 1
            inside += 1
            try:
                assert inside <= limit
                await w.sleep(lasts)
                if fails:
                    raise KeyError(rank)
            finally:
                inside -= 1

        async def caller(one: tuple[float, float, float, str, float, bool]) -> None:
            at, lasts, rank, fate, after, fails = one
            await w.sleep(at)
            with anyio.move_on_after(after if fate == "cancelled" else None) as scope:
                try:
                    async with deadline(after if fate == "deadline" else None):
                        await call(rank, lasts, fails)
                    ends["good"] += 1
                except KeyError:
                    ends["bad"] += 1
                except Overloaded as error:
                    ends[error.reason] += 1
                except DeadlineExceeded as error:
                    ends["started" if error.started else "not made"] += 1
            ends["cancelled"] += scope.cancelled_caught

        await w.together(*(functools.partial(caller, one) for one in callers))
        stats = policy.stats()
        assert (stats.in_flight, stats.queued, stats.calls) == (0, 0, begun)
        assert stats.rejected == ends["limit"] + ends["shed"]
        assert ends.total() == len(callers)
        assert begun >= ends["good"] + ends["bad"]
        await w.together(*[functools.partial(call, 2.0, 1.0, False)] * limit)

    with world_named(name) as world:
        world.run(scenario)


# The queue, in plain threads.


class Crew:
    """Threads that wait, and what became of them."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.outcomes: dict[str, Any] = {}
        self.order: list[str] = []
        self.threads: list[threading.Thread] = []

    def start(self, name: str, fn: Callable[[], Any]) -> None:
        """Begin one, and go on when it waits."""

        def body() -> None:
            try:
                self.outcomes[name] = fn()
            except BaseException as error:
                self.outcomes[name] = error
            self.order.append(name)

        queued = self.policy.stats().queued
        thread = threading.Thread(target=body, daemon=True)
        self.threads.append(thread)
        thread.start()
        self.until(lambda: self.policy.stats().queued == queued + 1)

    def until(self, ready: Callable[[], bool]) -> None:
        """Let other threads run, in real time but briefly."""
        pause = threading.Event()
        for _ in range(20_000):
            if ready():
                return
            pause.wait(0.0005)
        pytest.fail("nothing happens")

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread hangs"


@pytest.mark.rule("L7")
@pytest.mark.parametrize("world", ["threads"])
def test_threads_are_served_by_priority_and_shed_too(world: str, time: VirtualTime) -> None:
    del world, time
    policy = adaptive_limit(initial=1, max=1, queue=3, priority=lambda _, rank: rank)
    order: list[str] = []

    @policy
    def fn(name: str, rank: float) -> str:
        order.append(name)
        return name

    fn("rank", 3)
    call, crew = policy.admit(), Crew(policy)
    for name, rank in (("low", 0), ("mid", 1), ("mid 2", 1)):
        crew.start(name, functools.partial(fn, name, rank))
    pushed = threading.Thread(target=fn, args=("high", 2), daemon=True)
    crew.threads.append(pushed)
    pushed.start()
    crew.until(lambda: "low" in crew.outcomes)
    assert crew.outcomes["low"].reason == "shed"
    with pytest.raises(Overloaded) as caught:
        fn("equal", 1)
    assert caught.value.reason == "limit"
    call.close()
    crew.join()
    assert order == ["rank", "high", "mid", "mid 2"]
    assert counts(policy) == (5, 2, 0, 0)


@pytest.mark.rule("L7", "F11")
@pytest.mark.parametrize("world", ["threads"])
def test_a_thread_waits_as_long_as_its_deadline_allows(world: str, time: VirtualTime) -> None:
    del world
    policy = adaptive_limit(initial=1, max=1, queue=3, name="db")
    call, crew = policy.admit(), Crew(policy)

    def limited() -> int:
        with deadline(5):
            return policy.call(int)

    crew.start("short", limited)
    crew.start("long", lambda: policy.call(int))
    time.advance(4.9)
    assert not crew.outcomes
    time.advance(0.2)
    crew.until(lambda: "short" in crew.outcomes)
    error = crew.outcomes["short"]
    assert isinstance(error, DeadlineExceeded)
    assert (error.policy, error.started) == ("db", False)
    assert counts(policy) == (1, 0, 1, 1)
    call.close()
    crew.join()
    assert crew.outcomes["long"] == 0
    assert counts(policy) == (2, 0, 0, 0)


@pytest.mark.rule("L7")
@pytest.mark.parametrize("world", ["threads"])
def test_a_place_goes_from_a_thread_to_a_task_and_back(world: str) -> None:
    """One object for all: a place that a thread gives back wakes a task on its loop."""
    del world
    policy = adaptive_limit(initial=1, max=1, queue=3)
    call, crew = policy.admit(), Crew(policy)

    async def task() -> str:
        async with policy:
            return "a task"

    crew.start("asyncio", lambda: asyncio.run(task()))
    crew.start("trio", lambda: trio.run(task))
    crew.start("thread", lambda: policy.call(lambda: "a thread"))
    call.close()
    crew.join()
    assert crew.outcomes == {"asyncio": "a task", "trio": "a task", "thread": "a thread"}
    assert crew.policy.stats().in_flight == 0


@pytest.mark.rule("L7", "F4")
@pytest.mark.parametrize("world", ["threads"])
@pytest.mark.parametrize("queue", [0, 100])
def test_with_many_threads_no_place_is_lost_and_none_is_given_twice(world: str, queue: int) -> None:
    del world
    policy = adaptive_limit(initial=3, max=3, queue=queue)
    inside, most, done, refused = [0], [0], deque[int](), deque[int]()
    lock = threading.Lock()

    @policy
    def work(number: int) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        done.append(number)
        with lock:
            inside[0] -= 1  # here, and not by the caller: by then its place may be another's
        if number % 7 == 0:
            raise ValueError
        if number % 11 == 0:
            raise Interrupted

    def caller() -> None:
        for number in range(200):
            try:
                work(number)
            except Overloaded:
                refused.append(number)
            except (ValueError, Interrupted):
                pass

    assert in_threads(*[caller] * 8) == [None] * 8
    stats = policy.stats()
    assert most[0] <= 3
    assert (stats.calls, stats.rejected) == (len(done), len(refused))
    assert stats.calls + stats.rejected == 1600
    assert (stats.in_flight, stats.queued) == (0, 0)
    assert not (queue and refused)


# Keys, a fresh start, the clock.


@pytest.mark.rule("L7", "F10")
def test_each_key_has_a_limit_of_its_own(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=2, key=lambda tenant: tenant, max_keys=2, name="db")
        fn = policy(w.function(lambda tenant: tenant))
        assert policy.of("a").stats() == AdaptiveLimitStats("db", 2, 0, 0, 0, 0, None, None)
        assert policy.keys() == []
        held = [policy.of("a").admit(), policy.of("a").admit()]
        with pytest.raises(Overloaded):
            await w.call(fn, "a")
        with record(LimitChanged) as events:
            for _ in range(10):
                calls = [policy.of("b").admit() for _ in range(2)]
                await w.sleep(1)
                for call in calls:
                    call.close()
        assert {event.key for event in events} == {"b"}
        assert policy.of("b").stats().limit > 2
        assert policy.of("a").stats().limit == 2
        assert policy.stats().limit == 2, "the lowest of them"
        assert policy.stats().latency == policy.of("b").stats().latency is not None
        assert await w.call(fn, "c") == "c"
        assert sorted(map(str, policy.keys())) == ["a", "c"], "one in use stays"
        for call in held:
            call.close()
        assert counts(policy) == (23, 1, 0, 0), "those of the key that went are in it"
        with pytest.raises(TypeError, match=r"\.of\(key\)\.admit"):
            policy.admit()
        with pytest.raises(TypeError, match="no key="):
            adaptive_limit().of("a")

    world.run(scenario)


@pytest.mark.rule("L7", "T3")
def test_a_fresh_one_starts_as_new_and_those_under_way_end_where_they_began(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=2, max=2, queue=3)
        fn = policy(w.function(lambda: w.sleep(2)))

        async def renew() -> None:
            with fresh():
                assert counts(policy) == (0, 0, 0, 0)
                await w.together(fn, fn)
                assert counts(policy)[0] == 2
            await w.sleep(0)

        results = await w.together(fn, fn, later(w, 0.5, fn), later(w, 1, renew))
        assert results == [None] * 4
        assert (policy.stats().in_flight, policy.stats().queued) == (0, 0)
        await w.together(fn, fn, fn)
        assert counts(policy) == (3, 0, 0, 0)

    exact.run(scenario)


@pytest.mark.rule("L7", "T2")
def test_after_virtual_time_it_goes_on_as_if_the_clock_had_stood_still() -> None:
    policy = adaptive_limit()

    def serve(time: VirtualTime, lasts: float, seconds: float) -> None:
        until = time.now() + seconds
        while time.now() < until:
            calls: list[Call] = []
            with contextlib.suppress(Overloaded):
                while len(calls) < 20:
                    calls.append(policy.admit())
            time.advance(lasts)
            for call in calls:
                call.close()

    with virtual_time() as time:
        serve(time, 0.25, 10)
        time.advance(100_000)
        serve(time, 1.0, 6)  # it has begun to measure
        held = policy.admit()
    with virtual_time() as time:
        held.close()  # it began a day from now
        serve(time, 1.0, 10)
        assert policy.stats().latency_unloaded == pytest.approx(1.0, rel=0.1)
        serve(time, 1.0, 60)
        assert policy.stats().limit > 10
        assert policy.stats().in_flight == 0


@pytest.mark.rule("L7", "F4")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform")
def test_the_child_of_a_fork_has_the_places_that_threads_of_its_parent_held() -> None:
    policy = adaptive_limit(initial=1, max=1, queue=1)
    held, crew = policy.admit(), Crew(policy)  # as another thread would
    crew.start("waits", lambda: policy.call(int))
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            good = counts(policy) == (1, 0, 0, 0)
            held.close()
            good = good and policy.call(lambda: 5) == 5 and counts(policy) == (2, 0, 0, 0)
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    held.close()
    crew.join()
    assert counts(policy) == (2, 0, 0, 0)


# An overload, from end to end.


@pytest.mark.rule("L7")
def test_at_three_times_the_capacity_those_who_get_in_are_served_in_time(exact: World) -> None:
    """A server of 20 workers and 50 ms, 1200 calls a second for 8 s, through the policy itself."""

    async def scenario(w: World) -> None:
        policy, chance = adaptive_limit(), random.Random(1)
        server, latencies = anyio.Semaphore(20), list[float]()

        @policy
        async def call() -> None:
            async with server:
                await w.sleep(0.05)

        async def client() -> None:
            began = w.now()
            try:
                await call()
            except Overloaded:
                return
            if began >= 2:
                latencies.append(w.now() - began)

        async with anyio.create_task_group() as group:
            while w.now() < 8:
                await w.sleep(chance.expovariate(1200))
                group.start_soon(client)
        assert len(latencies) >= 0.9 * 400 * 6
        assert sorted(latencies)[int(0.99 * len(latencies))] <= 3 * 0.05
        assert 15 <= policy.stats().limit <= 30
        assert policy.stats().rejected > policy.stats().calls

    exact.run(scenario)


def test_its_numbers_may_be_at_the_ends_of_their_ranges() -> None:
    policy = adaptive_limit(initial=7, min=7, max=7, queue=0, priority=-1e308, max_keys=1)
    assert isinstance(policy, AdaptiveLimit)
    assert policy.stats().limit == 7

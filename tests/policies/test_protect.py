"""Protect: the parts, their order, and what they share."""

from __future__ import annotations

import threading
import time as real_time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from resilient import (
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    Pipeline,
    Protection,
    adaptive_limit,
    breaker,
    deadline,
    fallback,
    hedge,
    lint,
    policy_of,
    protect,
)
from resilient.testing import virtual_time
from tests.worlds import World, world_named

ON = (ConnectionError, TimeoutError)


@pytest.fixture(params=["asyncio", "trio"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The worlds of virtual time."""
    with world_named(request.param) as one:
        yield one


def kinds(protection: Protection) -> list[str]:
    return [policy.kind for policy in protection.policies]  # type: ignore[attr-defined]  # Guarding


def test_the_order_is_that_of_the_page() -> None:
    whole = protect(on=ON, timeout=0.3, hedge=hedge("p98"), fallback=fallback(default=None))
    assert kinds(whole) == ["fallback", "retry", "breaker", "adaptive_limit", "hedge", "timeout"]
    assert isinstance(whole, Pipeline)
    parts = (whole.fallback, whole.retry, whole.breaker, whole.limit, whole.hedge, whole.timeout)
    assert parts == whole.policies
    assert lint(whole) == []


def test_what_is_left_out_is_none() -> None:
    plain = protect(on=ON, timeout=0.3)
    assert kinds(plain) == ["retry", "breaker", "adaptive_limit", "timeout"]
    assert (plain.fallback, plain.hedge) == (None, None)
    bare = protect(on=ON, timeout=0.3, breaker=None, limit=None)
    assert kinds(bare) == ["retry", "timeout"]
    assert (bare.breaker, bare.limit) == (None, None)


def test_a_part_that_is_given_is_taken_as_it_is() -> None:
    mine = breaker("mine"), adaptive_limit(name="mine")
    whole = protect("all", on=ON, timeout=0.3, breaker=mine[0], limit=mine[1])
    assert (whole.breaker, whole.limit) == mine
    assert mine[0].name == "mine"


def test_the_name_is_that_of_all_parts_and_else_that_of_the_function() -> None:
    given = fallback(default=None)
    named = protect("prices", on=ON, timeout=0.3, hedge=hedge("p98"), fallback=given)
    assert {one.name for one in named.policies} == {"prices"}  # type: ignore[attr-defined]  # Guarding
    unnamed = protect(on=ON, timeout=0.3)

    @unnamed
    def price() -> None: ...

    assert policy_of(price) is unnamed
    assert {one.name for one in unnamed.policies} == {price.__qualname__}  # type: ignore[attr-defined]  # Guarding


def test_within_may_be_the_timeout_of_a_single_attempt() -> None:
    assert protect(on=ON, timeout=0.3, within=0.3, attempts=1).retry._settings.within == 0.3


def failing(
    error: type[Exception], counted: list[int]
) -> Callable[[], Coroutine[object, None, None]]:
    async def fails() -> None:
        counted.append(1)
        raise error("no")

    return fails


def test_five_failures_in_a_row_open_it_and_then_nothing_is_tried(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack, counted = protect(on=ON, timeout=0.3), list[int]()
        fn = stack(failing(ConnectionError, counted))
        for _ in range(2):
            with pytest.raises((ConnectionError, CircuitOpen)):
                await fn()
        assert len(counted) == 5, "three attempts, and then two"
        with pytest.raises(CircuitOpen):
            await fn()
        assert len(counted) == 5

    exact.run(scenario)


def test_where_failures_are_usual_it_takes_more_of_them_in_a_row(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack, counted = protect(on=ON, timeout=0.3, attempts=1), list[int]()
        fn = stack(failing(ConnectionError, counted))
        for _ in range(6):
            for _ in range(3):
                with pytest.raises(ConnectionError):
                    await fn()
            for _ in range(2):
                await stack.call(anyio.sleep, 0)
        for _ in range(5 + 15):
            with pytest.raises(ConnectionError):
                await fn()
        with pytest.raises(CircuitOpen):
            await fn()
        assert len(counted) == 6 * 3 + 20, "ten more for each failure that came with a success"

    exact.run(scenario)


def test_it_asks_three_times_as_soon_as_the_first_time_and_then_half_as_often(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        stack, rests = protect(on=ON, timeout=0.3, attempts=1), list[float]()
        fn = stack(failing(ConnectionError, []))
        for _ in range(4):
            with pytest.raises(ConnectionError):
                await fn()
        for _ in range(5):
            with pytest.raises(ConnectionError):
                await fn()
            with pytest.raises(CircuitOpen) as refused:
                await fn()
            rests.append(refused.value.retry_after or 0.0)
            await w.sleep(rests[-1])
        assert rests == pytest.approx([1.0, 1.0, 1.0, 2.0, 2.0], rel=0.05)

    exact.run(scenario)


def test_two_retries_in_five_calls_and_ten_in_reserve(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack = protect(on=ON, timeout=0.3, attempts=2, breaker=None, limit=None)
        counted = list[int]()
        fn = stack(failing(ConnectionError, counted))
        for _ in range(100):
            with pytest.raises(ConnectionError):
                await fn()
        assert len(counted) == 100 + 40 + 10

    exact.run(scenario)


def test_what_is_not_named_is_neither_repeated_nor_a_failure(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack, counted = protect(on=ON, timeout=0.3), list[int]()
        with pytest.raises(KeyError):
            await stack.call(failing(KeyError, counted))
        assert len(counted) == 1
        assert stack.breaker is not None
        assert stack.breaker.stats().failures == 0

    exact.run(scenario)


@pytest.mark.rule("F16")
def test_a_result_may_be_as_bad_as_an_error(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack = protect(on=ON, timeout=0.3, on_result=lambda status: status >= 500)
        answers = iter([503, 200, 404])

        @stack
        async def ask() -> int:
            return next(answers, 500)

        assert [await ask(), await ask()] == [200, 404]
        assert stack.retry.stats().recovered == 1
        assert stack.breaker is not None
        assert (stack.breaker.stats().failures, stack.breaker.stats().successes) == (1, 2)
        await w.sleep(12)  # what was before is no longer in the window
        assert await ask() == 500, "after three attempts"
        with pytest.raises(CircuitOpen):
            await ask()
        assert stack.breaker.stats().failures == 6

    exact.run(scenario)


@pytest.mark.rule("F16")
def test_parts_that_are_given_judge_results_by_themselves() -> None:
    given = breaker(on_result=lambda result: result == "bad")
    whole = protect(on=ON, timeout=0.3, on_result=lambda result: result == "old", breaker=given)
    assert whole.call(lambda: "bad") == "bad"
    assert (given.stats().failures, whole.retry.stats().retries) == (1, 0)


def test_an_attempt_that_hangs_leaves_time_for_the_next(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack, attempts = protect(on=ON, timeout=0.3), list[float]()

        async def hangs_once() -> str:
            attempts.append(w.now())
            if len(attempts) == 1:
                await w.sleep(1e9)
            return "value"

        async with deadline(1.0):
            assert await stack.call(hangs_once) == "value"
        assert stack.retry.stats().recovered == 1
        assert stack.timeout.stats().expired == 1

    exact.run(scenario)


def test_each_key_has_a_breaker_and_a_limit_of_its_own(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack = protect(on=ON, timeout=0.3, key="shard")

        @stack
        async def read(shard: str) -> str:
            if shard == "dead":
                raise ConnectionError
            return shard

        for _ in range(9):
            with pytest.raises((ConnectionError, CircuitOpen)):
                await read("dead")
            assert await read("alive") == "alive"
        assert stack.breaker is not None
        assert stack.limit is not None
        assert sorted(map(str, stack.breaker.keys())) == ["alive", "dead"]
        assert sorted(map(str, stack.limit.keys())) == ["alive", "dead"]

    exact.run(scenario)


@pytest.mark.rule("P1")
def test_a_burst_waits_as_long_as_an_attempt_may_take_and_no_longer() -> None:
    with virtual_time() as time:

        async def main() -> None:
            stack = protect(on=ON, timeout=0.3)
            ended: list[tuple[str, float]] = []

            async def call(lasts: float) -> None:
                began = time.now()
                try:
                    await stack.call(anyio.sleep, lasts)
                    ended.append(("served", round(time.now() - began, 3)))
                except Overloaded as error:
                    ended.append((error.reason, round(time.now() - began, 3)))

            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(call, 0.29)
                for _ in range(4):
                    group.start_soon(call, 0.14)
                for _ in range(4):
                    group.start_soon(call, 0.05)
            assert ended == [
                ("served", 0.14),
                ("served", 0.28),
                *[("served", 0.29)] * 4,
                ("max_wait", 0.3),
                *[("served", 0.34)] * 3,
                ("served", 0.42),
                ("served", 0.43),
            ]

        time.run(main)


@pytest.mark.rule("P1")
@pytest.mark.parametrize("calls", [50, 100])
def test_what_a_user_sends_at_once_to_a_healthy_service_is_served(calls: int, exact: World) -> None:
    async def scenario(w: World) -> None:
        stack = protect(on=ON, timeout=0.3)

        @stack
        async def ask() -> None:
            await anyio.sleep(0.02)

        for _ in range(6):
            async with anyio.create_task_group() as group:
                for _ in range(calls):
                    group.start_soon(ask)
        assert stack.limit is not None
        assert (stack.limit.stats().rejected, stack.limit.stats().calls) == (0, 6 * calls)

    exact.run(scenario)


@pytest.mark.rule("P1")
@pytest.mark.real_clock
def test_so_is_what_many_threads_send() -> None:
    stack, ready = protect(on=ON, timeout=1.0), threading.Barrier(50)

    @stack
    def ask() -> None:
        real_time.sleep(0.02)

    def work() -> None:
        ready.wait()
        for _ in range(4):
            ask()

    with ThreadPoolExecutor(50) as pool:
        for done in [pool.submit(work) for _ in range(50)]:
            done.result()
    assert stack.limit is not None
    assert (stack.limit.stats().rejected, stack.limit.stats().calls) == (0, 200)


def test_with_a_fallback_no_error_that_it_names_comes_out(exact: World) -> None:
    async def scenario(w: World) -> None:
        stack = protect(on=ON, timeout=0.3, within=1.0, fallback=fallback(default="old"))
        fn = stack(failing(ConnectionError, []))
        assert [await fn() for _ in range(9)] == ["old"] * 9
        assert stack.fallback is not None
        assert stack.fallback.stats().used == 9

    exact.run(scenario)


def test_without_time_nothing_is_called() -> None:
    stack, counted = protect(on=ON, timeout=0.3), list[int]()
    with pytest.raises(DeadlineExceeded) as caught, deadline(0):
        stack.call(counted.append, 1)
    assert not caught.value.started
    assert counted == []

"""carry(): the deadline goes along where contexts do not."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from resilient import (
    DeadlineExceeded,
    carry,
    current_deadline,
    deadline,
    detached,
    remaining,
    timeout,
)
from resilient.testing import virtual_time
from tests.worlds import World

pytestmark = pytest.mark.loop


@pytest.mark.rule("D6")
def test_a_carried_function_runs_with_the_deadline_it_was_made_under() -> None:
    with virtual_time() as time, ThreadPoolExecutor(1) as pool:
        with deadline(9) as limit:
            carried = carry(lambda: (current_deadline(), remaining()))
        time.advance(2)
        assert pool.submit(carried).result() == (limit, 7)
        assert carried() == (limit, 7)
        assert current_deadline() is None, "it is put back"
        with deadline(1):
            assert carried() == (limit, 7), "the one carried, not the one here"


@pytest.mark.rule("D6")
def test_many_at_once_do_not_disturb_each_other() -> None:
    count = 8
    barrier = threading.Barrier(count)

    def work(number: int) -> float:
        barrier.wait(10)
        with deadline(10 + number):
            barrier.wait(10)
            left = remaining()
            barrier.wait(10)
        assert remaining() == 100
        return left

    with virtual_time(), ThreadPoolExecutor(count) as pool:
        with deadline(100):
            carried = carry(work)
        results = list(pool.map(carried, range(count)))
        assert results == [10 + number for number in range(count)]
        assert set(pool.map(lambda _: remaining(), range(count))) == {math.inf}


@pytest.mark.rule("D6")
def test_outside_of_any_deadline_none_is_carried() -> None:
    with virtual_time():
        carried = carry(remaining)
        with deadline(3):
            assert carried() == math.inf
            with detached():
                hidden = carry(remaining)
            assert hidden() == math.inf
            assert remaining() == 3


@pytest.mark.rule("D6", "D5")
def test_a_carried_call_that_comes_too_late_is_refused_by_policies() -> None:
    with virtual_time() as time, deadline(1):
        calls: list[int] = []
        carried = carry(timeout(5)(lambda: calls.append(1)))
        time.advance(1)
        with detached(), pytest.raises(DeadlineExceeded) as caught:
            carried()
        assert not caught.value.started
        assert not calls


@pytest.mark.rule("D6")
def test_errors_pass_and_the_context_is_put_back() -> None:
    error = KeyError("mine")

    def fail() -> None:
        raise error

    with virtual_time():
        with deadline(3):
            carried = carry(fail)
        with pytest.raises(KeyError) as caught:
            carried()
        assert caught.value is error
        assert current_deadline() is None


@pytest.mark.rule("D6")
def test_async_functions_are_carried_many_at_once(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async def work(number: int) -> tuple[int, bool]:
            await w.sleep(0.05 * (number % 3))
            return number, remaining() <= 90 * w.unit

        with deadline(90 * w.unit):
            carried = carry(work)
        assert inspect.iscoroutinefunction(carried)
        assert remaining() == math.inf
        results = await w.together(*((lambda n=n: carried(n)) for n in range(9)))
        assert results == [(n, True) for n in range(9)]
        assert remaining() == math.inf

    async_world.run(scenario)


@pytest.mark.rule("D6", "D1")
def test_a_block_inside_a_carried_function_is_cut_to_the_carried_limit(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async def work() -> None:
            with pytest.raises(DeadlineExceeded) as caught:
                async with deadline(50 * w.unit):
                    await w.sleep(60)
            assert caught.value.seconds == 2 * w.unit

        with deadline(2 * w.unit):
            carried = carry(work)
        await carried()
        assert w.now() >= 2

    async_world.run(scenario)


@pytest.mark.rule("D6")
def test_a_carried_function_keeps_its_name_and_takes_its_arguments() -> None:
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    carried = carry(add)
    assert carried(1, b=5) == 6
    assert carried.__name__ == "add"
    assert carried.__doc__ == "Add."
    assert inspect.signature(carried) == inspect.signature(add)


@pytest.mark.rule("D6")
def test_generator_functions_are_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        carry(numbers)
    with pytest.raises(TypeError):
        carry(5)  # type: ignore[arg-type]


@pytest.mark.rule("D6")
def test_an_executor_of_a_loop_loses_the_context_and_carry_keeps_it() -> None:
    with virtual_time() as time:

        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with deadline(7):
                assert await loop.run_in_executor(None, remaining) == math.inf
                assert await loop.run_in_executor(None, carry(remaining)) == 7
                assert await anyio.to_thread.run_sync(remaining) == 7

        time.run(main)

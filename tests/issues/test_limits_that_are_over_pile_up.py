"""A task that starts its successor inside its own deadline handed all deadlines before it down:
each generation under one long outer limit kept, and walked, a chain that was one longer. Below a
`timeout`, `detached` did the same.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
import trio

from resilient import DeadlineExceeded, deadline, detached, remaining, timeout
from resilient._policies.deadline import Deadline
from resilient._policies.deadline.block import deadline_here
from resilient.testing import virtual_time

GENERATIONS = 3_000
FEW = 16


class Census:
    """How long the chain is in each generation, and which deadlines are still there."""

    def __init__(self) -> None:
        self.longest = 0
        self.seen: weakref.WeakSet[Deadline] = weakref.WeakSet()

    def take(self) -> None:
        length, one = 0, deadline_here()
        while one is not None:
            self.seen.add(one)
            length, one = length + 1, one._outer
        self.longest = max(self.longest, length)

    def check(self) -> None:
        gc.collect()
        assert self.longest <= FEW
        assert len(self.seen) <= FEW


def same(_left: int) -> float:
    return 100_000


def later(left: int) -> float:
    return 200_000 - left


def earlier(left: int) -> float:
    return 100_000 + left


LENGTHS = pytest.mark.parametrize("length", [same, later, earlier])


async def begins(left: int, start: Callable[[], None], length: Callable[[int], float]) -> None:
    """The successor begins when this one is over."""
    with deadline(length(left)):
        start()


async def overlaps(left: int, start: Callable[[], None], length: Callable[[int], float]) -> None:
    """The successor begins while this one is still there."""
    with deadline(length(left)):
        start()
        await asyncio.sleep(3)


async def detaches(left: int, start: Callable[[], None], length: Callable[[int], float]) -> None:
    """The successor outlives this one."""

    @timeout(length(left))
    async def limited() -> None:
        with detached():
            start()
        await asyncio.sleep(left % 2)

    await limited()


async def detaches_and_overlaps(
    left: int, start: Callable[[], None], length: Callable[[int], float]
) -> None:
    """The successor outlives this one, which is still there when it begins."""
    with deadline(length(left)), detached():
        with deadline(length(left)):
            start()
            await asyncio.sleep(3)


@pytest.mark.rule("D9", "D6")
@LENGTHS
@pytest.mark.parametrize("generation", [begins, overlaps, detaches, detaches_and_overlaps])
def test_generations_of_tasks_keep_and_walk_a_few_limits(
    generation: Callable[..., Any], length: Callable[[int], float]
) -> None:
    census = Census()

    async def main() -> None:
        over, tasks = asyncio.Event(), set[asyncio.Task[None]]()

        async def live(left: int) -> None:
            await asyncio.sleep(1)
            if not left:
                over.set()
                return

            def start() -> None:
                census.take()
                tasks.add(task := asyncio.create_task(live(left - 1)))
                task.add_done_callback(tasks.discard)

            await generation(left, start, length)

        with deadline(1_000_000):
            tasks.add(asyncio.create_task(live(GENERATIONS)))
            await over.wait()
            census.check()

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("D9", "D6")
@LENGTHS
def test_generations_of_trio_tasks_keep_and_walk_a_few_limits(
    length: Callable[[int], float],
) -> None:
    census = Census()

    async def main() -> None:
        over = trio.Event()

        async def live(left: int) -> None:
            await trio.sleep(1)
            if not left:
                over.set()
                return
            with deadline(length(left)):
                census.take()
                trio.lowlevel.spawn_system_task(live, left - 1, context=copy_context())
                await trio.sleep(left % 3)

        with deadline(1_000_000):
            trio.lowlevel.spawn_system_task(live, 300, context=copy_context())
            await over.wait()
            census.check()

    with virtual_time() as time:
        trio.run(main, clock=time.trio_clock())


@pytest.mark.rule("D9", "D6")
@LENGTHS
def test_generations_of_threads_keep_and_walk_a_few_limits(
    length: Callable[[int], float],
) -> None:
    census, over = Census(), threading.Event()
    threads: list[threading.Thread] = []

    def live(left: int) -> None:
        if not left:
            over.set()
            return
        with deadline(length(left)):
            census.take()
            context = copy_context()
            successor = threading.Thread(target=context.run, args=(live, left - 1))
        threads.append(successor)
        successor.start()

    with deadline(1_000_000):
        live(300)
        assert over.wait(60)
        for thread in threads:  # one that has started its successor has not ended by that
            thread.join(60)
        census.check()


@pytest.mark.rule("D1", "D6")
def test_of_the_limits_that_are_over_the_one_that_ends_first_counts_and_is_named() -> None:
    async def main() -> None:
        async def live(lengths: list[float]) -> None:
            if lengths:
                with deadline(lengths[0], name=f"of {lengths[0]:g} s"):
                    task = asyncio.create_task(live(lengths[1:]))
                await task
                return
            assert remaining() == 20
            await asyncio.sleep(20)
            with pytest.raises(DeadlineExceeded) as caught, deadline(5):
                pytest.fail("nothing is left")
            assert caught.value.seconds == 20
            assert "deadline of 20 s was inherited from a block that ended" in str(caught.value)

        with deadline(1000):
            await live([50, 20, 70, 20, 30])

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("D1", "D7")
def test_a_limit_that_is_open_counts_below_those_that_are_over_and_is_followed() -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []

        async def live(left: int) -> None:
            if left:
                with deadline(100):
                    tasks.append(asyncio.create_task(live(left - 1)))
                return
            with pytest.raises(DeadlineExceeded), deadline(90):
                outer.reschedule(10)
                await asyncio.sleep(50)
            assert time.now() == 10

        with pytest.raises(DeadlineExceeded), deadline(200) as outer:
            tasks.append(asyncio.create_task(live(20)))
            await asyncio.sleep(1000)
        await asyncio.gather(*tasks)
        assert len(tasks) == 21

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("D9")
def test_a_limit_that_is_over_keeps_neither_its_task_nor_its_context() -> None:
    class Big:
        pass

    async def main() -> None:
        big: weakref.ref[Big]

        async def work() -> tuple[Deadline, Big]:
            nonlocal big
            found = Big()
            big = weakref.ref(found)
            with deadline(5) as limit:
                await asyncio.sleep(1)
            return limit, found

        limit = (await asyncio.create_task(work()))[0]
        await asyncio.sleep(0)  # the step that woke us has the task's result in its hands
        gc.collect()
        assert big() is None
        assert limit.expired is False

    with virtual_time() as time:
        time.run(main)

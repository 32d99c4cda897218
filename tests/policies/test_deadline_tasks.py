"""How a deadline travels: child tasks, threads, copies of the context; and what moves
when its block does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

from resilient import (
    DeadlineExceeded,
    current_deadline,
    deadline,
    detached,
    remaining,
    retry,
    timeout,
)
from resilient.testing import virtual_time
from tests.worlds import World, drive, in_threads, world_named

pytestmark = pytest.mark.loop

VIRTUAL = ("asyncio", "trio")


@pytest.mark.rule("D6")
def test_child_tasks_inherit_the_deadline(async_world: World) -> None:
    async def scenario(w: World) -> None:
        seen: list[object] = []

        async def child() -> None:
            seen.append(current_deadline())
            await w.sleep(0)
            seen.append(remaining() <= 9 * w.unit)

        async with deadline(9 * w.unit) as limit:
            await w.together(child, child)
        assert seen == [limit, limit, True, True]

    async_world.run(scenario)


@pytest.mark.rule("D1", "D6")
def test_a_child_keeps_its_inherited_limit_after_the_parents_block_is_over(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        ended = anyio.Event()
        ran: list[str] = []

        async def child() -> None:
            await ended.wait()
            assert remaining() <= 3 * w.unit
            with pytest.raises(DeadlineExceeded) as caught:
                async with deadline(50 * w.unit):
                    ran.append("begun")
                    await w.sleep(60)
            assert caught.value.seconds == 3 * w.unit
            ran.append("cut")
            with pytest.raises(DeadlineExceeded) as caught:
                await timeout(5 * w.unit, name="late").call(w.sleep, 1)
            assert not caught.value.started
            assert "inherited from a block that ended" in str(caught.value)
            assert "start this task inside detached()" in str(caught.value)
            assert "late" in str(caught.value)

        async with anyio.create_task_group() as group:
            async with deadline(3 * w.unit):
                group.start_soon(child)
                await w.sleep(0.5)
            ended.set()
        assert ran == ["begun", "cut"]
        assert w.now() >= 2.5

    async_world.run(scenario)


@pytest.mark.rule("E2")
def test_the_message_of_an_inherited_limit_is_the_one_that_was_promised() -> None:
    with virtual_time() as time:
        context = contextvars.copy_context()
        with deadline(0.5):
            context = contextvars.copy_context()
        time.advance(312)
        with pytest.raises(DeadlineExceeded) as caught:
            context.run(lambda: timeout(9, name="payments").call(int))
    assert str(caught.value) == (
        "payments: not started, deadline of 0.5 s was inherited from a block that ended 312 s ago; "
        "start this task inside detached()"
    )
    assert caught.value.ended_ago == 312


@pytest.mark.rule("D6", "F11")
def test_outside_its_block_an_inherited_deadline_interrupts_nothing(async_world: World) -> None:
    async def scenario(w: World) -> None:
        done = anyio.Event()

        async def child() -> None:
            await w.sleep(4)
            assert remaining() == 0
            done.set()

        async with anyio.create_task_group() as group:
            async with deadline(1 * w.unit):
                group.start_soon(child)
            await done.wait()
        assert w.now() > 3.5

    async_world.run(scenario)


@pytest.mark.rule("D6", "D5")
def test_policies_in_a_child_check_an_inherited_deadline_at_their_borders(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        calls: list[int] = []
        over = anyio.Event()

        async def child() -> None:
            await w.sleep(2)
            for policy in (timeout(9 * w.unit), retry(on=ValueError)):
                with pytest.raises(DeadlineExceeded) as caught:
                    await policy.call(w.function(lambda: calls.append(1)))
                assert not caught.value.started
            over.set()

        async with anyio.create_task_group() as group:
            async with deadline(1 * w.unit):
                group.start_soon(child)
            await over.wait()
        assert not calls

    async_world.run(scenario)


@pytest.mark.rule("D6")
def test_work_started_inside_detached_outlives_the_request(async_world: World) -> None:
    async def scenario(w: World) -> None:
        results: list[float] = []

        async def background() -> None:
            assert current_deadline() is None
            await w.sleep(3)
            results.append(remaining())
            async with deadline(60 * w.unit):
                await w.sleep(0.2)
            results.append(await timeout(9 * w.unit).call(w.function(lambda: 7)))

        async with anyio.create_task_group() as group:
            async with deadline(1 * w.unit):
                with detached():
                    group.start_soon(background)
        assert results == [math.inf, 7]

    async_world.run(scenario)


# Rescheduling and the blocks of other tasks.


@pytest.mark.rule("D7", "D1")
@pytest.mark.parametrize("name", VIRTUAL)
@pytest.mark.parametrize(("moved", "ends"), [(5.0, 5), (30.0, 30), (None, 40)])
def test_a_parents_reschedule_reaches_the_blocks_of_child_tasks(
    name: str, moved: float | None, ends: float
) -> None:
    async def scenario(w: World) -> None:
        ready = anyio.Event()
        times = []

        async def child() -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(40):
                    with pytest.raises(DeadlineExceeded):
                        async with deadline(1):
                            ready.set()
                            await w.sleep(60)
                    await w.sleep(60)
            times.append(w.now())

        async with anyio.create_task_group() as group:
            with contextlib.suppress(DeadlineExceeded):
                async with deadline(10) as limit:
                    group.start_soon(child)
                    await ready.wait()
                    limit.reschedule(moved)
                    await w.sleep(45)
        assert times == pytest.approx([ends])

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("D7", "D1")
@pytest.mark.parametrize("name", VIRTUAL)
def test_a_parents_reschedule_reaches_grandchildren_and_nested_blocks(name: str) -> None:
    async def scenario(w: World) -> None:
        times = []

        async def grandchild() -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(80), deadline(None), deadline(70):
                    await w.sleep(100)
            times.append(w.now())

        async def child() -> None:
            async with anyio.create_task_group() as group:
                with pytest.raises(DeadlineExceeded):
                    async with deadline(90):
                        group.start_soon(grandchild)
                        await w.sleep(100)
            times.append(w.now())

        async with anyio.create_task_group() as group:
            async with deadline(20), deadline(15) as limit:
                group.start_soon(child)
                await w.sleep(1)
                limit.reschedule(4)
                await w.sleep(3)
        assert times == pytest.approx([5, 5])

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("D7", "D1")
@pytest.mark.parametrize("name", VIRTUAL)
def test_a_child_block_moved_by_its_own_is_still_cut_to_the_inherited(name: str) -> None:
    async def scenario(w: World) -> None:
        async def child() -> None:
            with pytest.raises(DeadlineExceeded) as caught:
                async with deadline(2) as own:
                    own.reschedule(None)
                    await w.sleep(4)
                    assert remaining() == pytest.approx(6)
                    own.reschedule(100)
                    await w.sleep(60)
            assert caught.value.seconds == 10
            assert w.now() == pytest.approx(10)

        async with anyio.create_task_group() as group:
            async with deadline(10):
                group.start_soon(child)
                await w.sleep(1)

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("D1")
@pytest.mark.parametrize("name", VIRTUAL)
def test_a_parent_that_ends_early_moves_nothing_in_its_children(name: str) -> None:
    async def scenario(w: World) -> None:
        async def child() -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(50):
                    await w.sleep(60)
            assert w.now() == pytest.approx(10)

        async with anyio.create_task_group() as group:
            async with deadline(10):
                group.start_soon(child)
                await w.sleep(1)

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("D2")
@pytest.mark.parametrize("name", VIRTUAL)
def test_parent_and_child_are_each_cut_by_their_own_block(name: str) -> None:
    async def scenario(w: World) -> None:
        ends: list[tuple[str, Any]] = []

        async def child() -> None:
            try:
                async with deadline(2):
                    await w.sleep(60)
            except DeadlineExceeded:
                ends.append(("child", w.now()))
                raise

        with pytest.raises(BaseExceptionGroup) as caught:
            async with deadline(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(child)
                    await w.sleep(60)
        assert isinstance(caught.value.exceptions[0], DeadlineExceeded)
        assert ends == [("child", pytest.approx(2))]

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("D2")
@pytest.mark.parametrize("name", VIRTUAL)
def test_what_a_child_inherits_never_cancels_the_parent(name: str) -> None:
    async def scenario(w: World) -> None:
        async def child() -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(None):
                    await w.sleep(60)

        async with anyio.create_task_group() as group:
            async with deadline(2):
                group.start_soon(child)
                await w.sleep(1)
            await w.sleep(5)
        assert w.now() == pytest.approx(6)

    with world_named(name) as world:
        world.run(scenario)


# Threads.


@pytest.mark.rule("D6")
@pytest.mark.parametrize(
    "name", ["asyncio", "uvloop"]
)  # trio's mock clock jumps while a thread is out
def test_threads_started_through_anyio_see_what_is_left(name: str) -> None:
    async def scenario(w: World) -> None:
        def work() -> float:
            with deadline(500) as inner:
                assert inner.at <= remaining_at
            return remaining()

        async with deadline(70 * w.unit) as limit:
            remaining_at = limit.at
            assert 0 < await anyio.to_thread.run_sync(work) <= 70 * w.unit

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("D6")
def test_threads_started_through_asyncio_see_what_is_left() -> None:
    with virtual_time() as time:

        async def main() -> None:
            async with deadline(70):
                await asyncio.sleep(10)
                assert await asyncio.to_thread(remaining) == 60
                with detached():
                    assert await asyncio.to_thread(remaining) == math.inf

        time.run(main)


@pytest.mark.rule("D6")
def test_a_copied_context_carries_the_deadline_and_a_bare_thread_does_not() -> None:
    with virtual_time() as time, deadline(9), ThreadPoolExecutor(1) as pool:
        time.advance(2)
        context = contextvars.copy_context()
        assert pool.submit(context.run, remaining).result() == 7
        assert pool.submit(remaining).result() == math.inf


@pytest.mark.rule("D4", "D6")
def test_a_thread_that_inherited_an_expired_limit_is_not_interrupted() -> None:
    with virtual_time() as time, deadline(1) as limit, ThreadPoolExecutor(1) as pool:

        def work() -> str:
            time.advance(5)
            with pytest.raises(DeadlineExceeded):
                limit.check()
            with pytest.raises(DeadlineExceeded):
                timeout(3).call(int)
            return "done"

        assert pool.submit(contextvars.copy_context().run, work).result() == "done"


@pytest.mark.rule("D7")
def test_rescheduling_from_another_thread_reaches_the_one_who_looks() -> None:
    with virtual_time(), deadline(5) as limit:
        seen = in_threads(lambda: limit.reschedule(50), limit.remaining)
        assert seen[1] in {5, 50}
        assert remaining() == 50


@pytest.mark.rule("D1")
def test_sync_code_called_on_a_loop_shortens_the_same_chain(async_world: World) -> None:
    async def scenario(w: World) -> None:
        def sync() -> float:
            with deadline(1 * w.unit):
                return remaining()

        async with deadline(50 * w.unit):
            assert sync() <= 1 * w.unit
            assert remaining() > 1 * w.unit
            await w.sleep(2)

    async_world.run(scenario)


@pytest.mark.rule("D2")
def test_in_a_callback_of_the_loop_nobody_is_cancelled() -> None:
    with virtual_time() as time:

        async def main() -> None:
            seen: list[float] = []

            def callback() -> None:
                with deadline(1):
                    seen.append(remaining())
                    time.advance(2)

            asyncio.get_running_loop().call_soon(callback)
            await asyncio.sleep(10)
            assert seen == [1]

        time.run(main)


@pytest.mark.rule("D6")
def test_driving_by_hand_is_plain_code() -> None:
    async def body() -> float:
        async with deadline(5):
            return remaining()

    with virtual_time():
        assert drive(body()) == 5

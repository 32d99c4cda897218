"""Deadlines among asyncio's own means: cancellation and its counts, timeouts, task groups,
timers.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVarTuple

import anyio
import pytest
import trio

from resilient import DeadlineExceeded, current_deadline, deadline, remaining, timeout
from resilient._policies.deadline import Deadline as DeadlineBlock
from resilient.testing import VirtualTime, virtual_time
from tests.worlds import World, world_named

pytestmark = pytest.mark.loop

Ts = TypeVarTuple("Ts")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Both loops of asyncio."""
    with world_named(request.param) as one:
        yield one


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    """Virtual time, on asyncio's own loop."""
    with virtual_time() as one:
        yield one


def me() -> asyncio.Task[Any]:
    """The task that asks."""
    task = asyncio.current_task()
    assert task is not None
    return task


# Somebody else's cancellation.


@pytest.mark.rule("D2", "F9")
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_foreign_cancellation_at_the_same_instant_is_never_converted(
    time: VirtualTime, first: str
) -> None:
    async def body() -> None:
        async with deadline(1):
            await asyncio.sleep(60)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if first == "theirs":  # at one instant the loop goes by the order of setting
            loop.call_later(1, lambda: task.cancel())
        task: asyncio.Task[None] = asyncio.create_task(body())
        await asyncio.sleep(0)
        if first == "ours":
            loop.call_later(1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert time.now() == 1

    time.run(main)


@pytest.mark.rule("D2", "F9")
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.5])
def test_a_foreign_cancellation_before_or_during_the_clean_up_passes(
    time: VirtualTime, delay: float
) -> None:
    async def body() -> None:
        async with deadline(1, name="outer"), deadline(1):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(1)

    async def main() -> None:
        task = asyncio.create_task(body())
        asyncio.get_running_loop().call_later(delay, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    time.run(main)


@pytest.mark.rule("D2")
def test_the_count_of_cancellations_is_after_the_block_as_before(loop_world: World) -> None:
    async def scenario(w: World) -> None:
        assert me().cancelling() == 0
        with pytest.raises(DeadlineExceeded):
            async with deadline(0.5 * w.unit), deadline(0.5 * w.unit):
                await w.sleep(60)
        assert me().cancelling() == 0
        async with deadline(0.5 * w.unit):
            with contextlib.suppress(asyncio.CancelledError):
                await w.sleep(60)
        assert me().cancelling() == 0
        with pytest.raises(ValueError, match="mine"):
            async with deadline(0.5 * w.unit):
                try:
                    await w.sleep(60)
                finally:
                    raise ValueError("mine")
        assert me().cancelling() == 0
        await w.sleep(0.1)

    loop_world.run(scenario)


@pytest.mark.rule("D2")
def test_a_block_begun_by_a_task_that_is_being_cancelled_converts_its_own_only(
    time: VirtualTime,
) -> None:
    async def body() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            assert me().cancelling() == 1
            with pytest.raises(DeadlineExceeded):
                async with deadline(1):
                    await asyncio.sleep(60)
            assert me().cancelling() == 1

    async def main() -> None:
        task = asyncio.create_task(body())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    time.run(main)


@pytest.mark.rule("D2")
def test_a_cancelled_error_that_nobody_asked_for_is_not_ours(time: VirtualTime) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            async with deadline(1):
                raise asyncio.CancelledError
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with deadline(1):
                await future
        assert me().cancelling() == 0

    time.run(main)


# asyncio.timeout.


@pytest.mark.rule("D2")
@pytest.mark.parametrize(
    ("theirs", "ours", "error"), [(1, 9, "theirs"), (9, 1, "ours"), (1, 1, "ours")]
)
def test_asyncio_timeout_inside(time: VirtualTime, theirs: float, ours: float, error: str) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with deadline(ours), asyncio.timeout(theirs):
                await asyncio.sleep(60)
        assert isinstance(caught.value, DeadlineExceeded) is (error == "ours")
        assert time.now() == 1
        assert me().cancelling() == 0

    time.run(main)


@pytest.mark.rule("D2")
@pytest.mark.parametrize(
    ("theirs", "ours", "error"), [(1, 9, "theirs"), (9, 1, "ours"), (1, 1, "theirs")]
)
def test_asyncio_timeout_outside(time: VirtualTime, theirs: float, ours: float, error: str) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(theirs), deadline(ours):
                await asyncio.sleep(60)
        assert isinstance(caught.value, DeadlineExceeded) is (error == "ours")
        assert time.now() == 1
        assert me().cancelling() == 0

    time.run(main)


@pytest.mark.rule("D2")
def test_wait_for_and_anyio_scopes_around_and_inside(time: VirtualTime) -> None:
    async def limited(seconds: float) -> None:
        async with deadline(seconds):
            await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(limited(9), 1)
        assert not isinstance(caught.value, DeadlineExceeded)
        with anyio.move_on_after(1) as scope:
            await limited(9)
        assert scope.cancelled_caught
        with pytest.raises(DeadlineExceeded):
            with anyio.move_on_after(9):
                await limited(1)
        async with deadline(9):
            with anyio.move_on_after(1) as scope:
                await asyncio.sleep(60)
            assert scope.cancelled_caught
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                with anyio.move_on_after(9):
                    await asyncio.sleep(60)
        assert me().cancelling() == 0
        await asyncio.sleep(1)

    time.run(main)


@pytest.mark.rule("D2")
def test_an_anyio_scope_cancelled_at_the_same_instant_around_wins(time: VirtualTime) -> None:
    async def main() -> None:
        with anyio.move_on_after(1) as scope:
            async with deadline(1):
                await asyncio.sleep(60)
        assert scope.cancelled_caught
        await asyncio.sleep(1)
        assert me().cancelling() == 0

    time.run(main)


# Exception groups.


@pytest.mark.rule("D2")
def test_other_errors_of_a_task_group_leave_the_block_with_a_note(loop_world: World) -> None:
    async def scenario(w: World) -> None:
        async def stubborn() -> None:
            try:
                await w.sleep(60)
            finally:
                raise ValueError("of the child")

        with pytest.raises(ExceptionGroup) as caught:
            async with deadline(1 * w.unit, name="request"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(stubborn())
                    group.create_task(w.sleep(60))
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        notes = caught.value.__notes__
        assert len(notes) == 1
        assert "request" in notes[0]
        assert "had passed" in notes[0]
        assert me().cancelling() == 0
        await w.sleep(0.1)

    loop_world.run(scenario)


@pytest.mark.rule("D2")
def test_a_group_of_cancellations_alone_is_converted(time: VirtualTime) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError as error:
                    raise BaseExceptionGroup(
                        "all", [error, BaseExceptionGroup("more", [error])]
                    ) from None
        with pytest.raises(DeadlineExceeded):
            async with deadline(1), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
        with pytest.raises(DeadlineExceeded):
            async with deadline(1), anyio.create_task_group() as tasks:
                tasks.start_soon(asyncio.sleep, 60)
                await asyncio.sleep(60)
        assert me().cancelling() == 0

    time.run(main)


@pytest.mark.rule("D2", "F9")
def test_from_a_mixed_group_our_cancellation_is_taken_out(time: VirtualTime) -> None:
    async def main() -> None:
        mine = ValueError("mine")
        with pytest.raises(ExceptionGroup) as caught:
            async with deadline(1):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError as error:
                    raise BaseExceptionGroup(
                        "both", [mine, BaseExceptionGroup("inner", [error, KeyError("k")])]
                    ) from None
        assert caught.value.subgroup(asyncio.CancelledError) is None  # type: ignore[type-var]  # so say the types; here it is tested
        assert caught.value.exceptions[0] is mine
        assert len(caught.value.__notes__) == 1
        with pytest.raises(BaseExceptionGroup) as interrupted:
            async with deadline(1):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError as error:
                    raise BaseExceptionGroup("both", [KeyboardInterrupt(), error]) from None
        assert [type(one) for one in interrupted.value.exceptions] == [KeyboardInterrupt]

    time.run(main)


@pytest.mark.rule("D2", "F9")
def test_a_mixed_group_keeps_a_foreign_cancellation(time: VirtualTime) -> None:
    async def body() -> None:
        async with deadline(1):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as error:
                raise BaseExceptionGroup("both", [ValueError("mine"), error]) from None

    async def main() -> None:
        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1, task.cancel)
        with pytest.raises(BaseExceptionGroup) as caught:
            await task
        assert caught.value.subgroup(asyncio.CancelledError) is not None

    time.run(main)


@pytest.mark.rule("D2")
def test_a_child_that_fails_at_the_very_instant_is_not_lost(time: VirtualTime) -> None:
    async def child() -> None:
        await asyncio.sleep(1)
        raise ValueError("at the instant")

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with deadline(9) as limit, asyncio.TaskGroup() as group:
                group.create_task(child())
                await asyncio.sleep(0)
                limit.reschedule(1)  # set after the child's timer: the child goes first
                await asyncio.sleep(60)
        assert time.now() == 1
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        assert caught.value.__notes__
        assert me().cancelling() == 0
        await asyncio.sleep(1)

    time.run(main)


# Left elsewhere.


@pytest.mark.rule("D7")
def test_a_block_in_an_asynccontextmanager_works(loop_world: World) -> None:
    @contextlib.asynccontextmanager
    async def limited(seconds: float) -> AsyncIterator[None]:
        async with deadline(seconds, name="inside"):
            yield

    async def scenario(w: World) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with limited(0.5 * w.unit):
                assert remaining() <= 0.5 * w.unit
                await w.sleep(60)
        assert caught.value.policy == "inside"
        assert remaining() == float("inf")
        async with limited(50 * w.unit):
            pass
        assert current_deadline() is None

    loop_world.run(scenario)


@pytest.mark.rule("D7")
def test_a_generator_closed_by_another_task_disarms_its_deadline(time: VirtualTime) -> None:
    async def numbers() -> AsyncIterator[int]:
        async with deadline(1):
            yield 1
            yield 2

    async def main() -> None:
        stream = numbers()
        assert await anext(stream) == 1
        close = asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]  # of an async generator
        await close
        await asyncio.sleep(5)  # not cancelled
        assert me().cancelling() == 0
        assert remaining() == float("inf"), "what is left of it limits nobody"

    time.run(main)


@pytest.mark.rule("D7")
def test_a_deadline_left_in_another_task_raises_nothing_even_when_it_fired(
    time: VirtualTime,
) -> None:
    async def main() -> None:
        limit = deadline(1)

        async def begin() -> None:
            limit.__enter__()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

        await asyncio.create_task(begin())
        assert time.now() == 1
        assert limit.__exit__(None, None, None) is None
        await asyncio.sleep(1)

    time.run(main)


@pytest.mark.rule("D7")
def test_after_it_was_left_in_another_context_a_deadline_limits_nobody(time: VirtualTime) -> None:
    async def main() -> None:
        limit = deadline(1)
        seen: list[object] = []

        async def begin() -> None:
            limit.__enter__()
            child = asyncio.create_task(later())
            await asyncio.sleep(0.1)
            asyncio.get_running_loop().call_soon(limit.__exit__, None, None, None)
            await asyncio.sleep(0.1)
            seen.append(remaining())
            await asyncio.sleep(5)
            await child

        async def later() -> None:
            await asyncio.sleep(3)
            seen.append(timeout(1).call(lambda: "ran"))

        await asyncio.create_task(begin())
        assert seen == [float("inf"), "ran"]

    time.run(main)


# The timers.


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the timers that are set."""

    def __init__(self) -> None:
        self.set = 0
        super().__init__()

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        self.set += 1
        return super().call_later(delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_at(when, callback, *args, context=context)


@pytest.mark.rule("D8")
def test_a_thousand_open_deadlines_arm_one_timer_of_the_loop() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        everybody_in = asyncio.Event()
        entered = 0

        async def body(number: int) -> None:
            nonlocal entered
            async with deadline(3600 + number):
                entered += 1
                await everybody_in.wait()

        before = loop.set
        tasks = [asyncio.create_task(body(number)) for number in range(1000)]
        await asyncio.sleep(0)
        assert entered == 1000
        count = loop.set - before
        everybody_in.set()
        await asyncio.gather(*tasks)
        return count

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) == 1


@pytest.mark.rule("D8")
def test_one_after_the_other_they_do_not_set_a_timer_each() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        before = loop.set
        for _ in range(1000):
            async with deadline(3600):
                pass
        return loop.set - before

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) == 1


@pytest.mark.rule("D8")
def test_shorter_and_shorter_ones_leave_one_living_timer(time: VirtualTime) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            for number in range(200):
                stack.enter_context(deadline(1000 - number))
            assert len([handle for handle in loop._scheduled if not handle.cancelled()]) == 1

    time.run(main)


@pytest.mark.rule("D2", "D8")
def test_each_of_many_is_cut_at_its_own_instant(time: VirtualTime) -> None:
    async def main() -> None:
        ended: dict[int, float] = {}

        async def body(number: int) -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(1 + number % 7):
                    await asyncio.sleep(1000)
            ended[number] = time.now()

        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(body(number))
        assert ended == {number: 1 + number % 7 for number in range(300)}

    time.run(main)


@pytest.mark.rule("D2", "D8")
def test_the_timer_of_a_block_that_ended_early_does_not_delay_or_hasten_others(
    time: VirtualTime,
) -> None:
    async def main() -> None:
        async def brief() -> None:
            async with deadline(2):
                await asyncio.sleep(0.5)

        async def long() -> float:
            with pytest.raises(DeadlineExceeded):
                async with deadline(3):
                    await asyncio.sleep(60)
            return time.now()

        ends = await asyncio.gather(brief(), long(), brief(), long())
        assert ends == [None, 3, None, 3]  # type: ignore[comparison-overlap]  # a list, which typeshed calls a tuple

    time.run(main)


@pytest.mark.rule("D2", "D8")
@pytest.mark.parametrize("other", ["loop", "trio"])
def test_deadlines_of_one_loop_have_nothing_to_do_with_those_of_the_next(
    time: VirtualTime, other: str
) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await asyncio.sleep(60)

    time.run(main)
    if other == "trio":

        async def on_trio() -> None:
            with pytest.raises(DeadlineExceeded):
                async with deadline(1):
                    await trio.sleep(60)

        trio.run(on_trio, clock=time.trio_clock())
    time.run(main)
    assert time.now() == (3 if other == "trio" else 2)


# Residue.


async def many(count: int) -> None:
    for _ in range(count):
        with deadline(3600.0):
            pass


@pytest.mark.rule("D9")
def test_deadlines_that_never_fire_leave_no_residue() -> None:
    async def main() -> int:
        await many(1000)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await many(200_000)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    assert asyncio.run(main()) < 20_000


@pytest.mark.rule("D9")
def test_deadlines_that_overlap_and_never_fire_leave_no_residue() -> None:
    async def rounds(count: int) -> None:
        for _ in range(count):
            limits = [deadline(3600.0) for _ in range(100)]
            for limit in limits:
                await asyncio.get_running_loop().create_task(_enter(limit))
            for limit in limits:  # the oldest first: none of them is the last one that was set
                limit.__exit__(None, None, None)

    async def main() -> int:
        tracemalloc.start()
        try:
            await rounds(60)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await rounds(200)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    assert asyncio.run(main()) < 200_000


async def _enter(limit: DeadlineBlock) -> None:
    limit.__enter__()


@pytest.mark.rule("D9")
def test_no_deadline_outlives_its_block(time: VirtualTime) -> None:
    async def main() -> None:
        kept: list[weakref.ref[DeadlineBlock]] = []
        for _ in range(200):
            with deadline(3600) as limit:
                kept.append(weakref.ref(limit))
            del limit
        gc.collect()
        assert not [ref for ref in kept if ref() is not None]

    time.run(main)

"""Two deadlines that ended in the order in which they began left the ended one behind: every later
call of that task failed.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient import (
    Deadline,
    DeadlineExceeded,
    carry,
    current_deadline,
    deadline,
    detached,
    remaining,
    retry,
)
from resilient._policies.deadline.block import ambient
from resilient.testing import virtual_time
from tests.worlds import World, in_threads

pytestmark = pytest.mark.loop


def end(block: Any) -> None:
    block.__exit__(None, None, None)


def end_badly(block: Any, w: World) -> None:
    """trio's scopes must be nested, and it says so; what it does to its own is its own."""
    with suppress(RuntimeError) if w.name == "trio" else ExitStack():
        end(block)


@pytest.mark.rule("D1", "D6")
def test_after_both_have_ended_there_is_none(world: World) -> None:
    async def scenario(w: World) -> None:
        if w.name == "trio":
            return  # see below
        first, second = deadline(2 * w.unit), deadline(60 * w.unit)
        first.__enter__()
        second.__enter__()
        assert remaining() <= 2 * w.unit
        end(first)
        assert current_deadline() is second
        await w.sleep(3)
        assert 2 * w.unit < remaining() <= 57 * w.unit, "it goes by its own limit alone"
        await w.call(retry(on=()).call, w.function(lambda: None))
        end(second)
        assert current_deadline() is ambient.get() is None
        await w.call(retry(on=()).call, w.function(lambda: None))

    world.run(scenario)


@pytest.mark.rule("D1")
def test_on_trio_what_is_here_is_right_although_its_scopes_must_be_nested(world: World) -> None:
    async def scenario(w: World) -> None:
        first, second = deadline(1), deadline(60)
        first.__enter__()
        second.__enter__()
        end_badly(first, w)
        assert current_deadline() is second
        end_badly(second, w)
        assert ambient.get() is None

    if world.name != "trio":
        world.run(scenario)
        return
    with suppress(RuntimeError):  # the run ends by it
        world.run(scenario)


def orders() -> st.SearchStrategy[list[tuple[str, int]]]:
    """Blocks begin and end: the number is the length of a limit, or which open block ends."""
    step = st.tuples(st.sampled_from(["limit", "detached", "end", "end"]), st.integers(0, 9))
    return st.lists(step, max_size=12)


class Model:
    """The open blocks, in the order in which they began, and which limits count for each."""

    def __init__(self) -> None:
        self.open: list[tuple[Any, list[Deadline]]] = []

    def begin(self, what: str, length: int) -> None:
        around = self.open[-1][1] if self.open else []
        block: Any = deadline(length + 1.0) if what == "limit" else detached()
        block.__enter__()
        self.open.append((block, [*around, block] if what == "limit" else []))

    def end(self, which: int) -> None:
        block, _ = self.open.pop(which % len(self.open))
        end(block)

    def check(self) -> None:
        if not self.open:
            assert ambient.get() is None
            assert remaining() == math.inf
            return
        block, around = self.open[-1]
        assert current_deadline() is (block if isinstance(block, Deadline) else None)
        still = [one.seconds for one in around if any(one is block for block, _ in self.open)]
        assert remaining() == min(still, default=math.inf)

    def play(self, order: list[tuple[str, int]]) -> None:
        for what, number in order:
            if what != "end":
                self.begin(what, number)
            elif self.open:
                self.end(number)
            self.check()
        while self.open:
            self.end(0)
            self.check()


@pytest.mark.rule("D1", "D6")
@example(order=[("limit", 3), ("detached", 0), ("limit", 5), ("end", 1), ("end", 0), ("limit", 1)])
@example(order=[("limit", 3), ("limit", 1), ("limit", 2), ("end", 1), ("end", 0), ("end", 0)])
@given(order=orders())
def test_in_any_order_the_innermost_that_is_open_counts(order: list[tuple[str, int]]) -> None:
    async def main() -> None:
        Model().play(order)
        await asyncio.create_task(inherit())
        assert ambient.get() is None

    async def inherit() -> None:
        Model().play(order)

    with virtual_time() as time:
        contextvars.Context().run(Model().play, order)
        time.run(main)


@pytest.mark.rule("D1", "D6")
def test_a_child_keeps_what_it_inherited_from_blocks_that_overlapped(async_world: World) -> None:
    async def scenario(w: World) -> None:
        if w.name == "trio":
            return
        began, ended = asyncio.Event(), asyncio.Event()

        async def child() -> None:
            began.set()
            await ended.wait()
            assert remaining() <= 2 * w.unit
            with detached(), deadline(50 * w.unit):
                assert remaining() > 2 * w.unit
            assert remaining() <= 2 * w.unit
            with pytest.raises(DeadlineExceeded):
                async with deadline(50 * w.unit):
                    await w.sleep(60)
            assert remaining() == 0

        first, second = deadline(2 * w.unit), deadline(60 * w.unit)
        first.__enter__()
        task = asyncio.create_task(child())
        await began.wait()
        second.__enter__()
        end(first)
        end(second)
        ended.set()
        await task
        assert ambient.get() is None

    async_world.run(scenario)


@pytest.mark.rule("D1", "D2")
def test_what_a_block_had_watched_for_others_is_watched_on(async_world: World) -> None:
    """The first block of a child task sees to the limit that it inherits, for those inside, too."""

    async def scenario(w: World) -> None:
        if w.name == "trio":
            return

        async def child() -> None:
            first, second = deadline(30 * w.unit), deadline(60 * w.unit)
            first.__enter__()
            with pytest.raises(DeadlineExceeded) as caught:
                async with second:
                    end(first)
                    inherited.reschedule(4 * w.unit)
                    await w.sleep(0.1)
                    await w.sleep(20)
            assert caught.value.seconds == 4 * w.unit

        async with deadline(5 * w.unit) as inherited:
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        await task

    async_world.run(scenario)


@pytest.mark.rule("D1")
def test_generators_and_exit_stacks_that_overlap() -> None:
    def stream(seconds: float) -> Iterator[float]:
        with deadline(seconds):
            while True:
                yield remaining()

    @asynccontextmanager
    async def connection(seconds: float) -> AsyncIterator[None]:
        async with deadline(seconds):
            yield

    async def main() -> None:
        first, second = connection(1.0), connection(60.0)
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        await asyncio.sleep(5.0)
        assert remaining() == 55.0
        await second.__aexit__(None, None, None)
        assert ambient.get() is None

    with virtual_time() as time:
        one, other = stream(2.0), stream(60.0)
        assert [next(one), next(other)] == [2.0, 2.0]
        one.close()  # type: ignore[attr-defined]  # a generator
        assert next(other) == 60.0
        other.close()  # type: ignore[attr-defined]
        stack, inner = ExitStack(), ExitStack()
        stack.enter_context(deadline(2.0))
        inner.enter_context(detached())
        stack.close()
        assert remaining() == math.inf
        inner.close()
        assert ambient.get() is None
        time.run(main)


@pytest.mark.rule("D6")
def test_a_block_that_ends_inside_a_carried_function() -> None:
    def inside() -> None:
        end(outer)
        with deadline(9.0):
            assert remaining() == 9.0

    with virtual_time():
        bare = carry(inside)
        with deadline(90.0) as around:
            outer = deadline(5.0)
            outer.__enter__()
            bare()
            assert current_deadline() is around
        assert ambient.get() is None


@pytest.mark.rule("D7")
def test_a_block_that_is_left_in_another_context_changes_nothing_there() -> None:
    """Nor in the one that it began in, which goes on without its limit."""
    with virtual_time():
        first = deadline(1.0)
        first.__enter__()
        with deadline(60.0) as second:
            in_threads(lambda: end(first))
            assert current_deadline() is second
            assert remaining() == 60.0

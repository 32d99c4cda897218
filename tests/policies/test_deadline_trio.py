"""Deadlines among trio's own means: scopes, nurseries, its clock; and virtual time among
both loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio
import pytest
import trio
from trio.testing import MockClock

from resilient import DeadlineExceeded, current_deadline, deadline, remaining, retry, timeout
from resilient.testing import VirtualTime, virtual_time

Play = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    """Virtual time."""
    with virtual_time() as one:
        yield one


@pytest.fixture
def play(time: VirtualTime) -> Play:
    """Run a function on trio, in virtual time."""
    return lambda fn: trio.run(fn, clock=time.trio_clock())


@pytest.mark.rule("D2", "F9")
@pytest.mark.parametrize("ours_first", [True, False])
def test_a_scope_around_that_is_cancelled_at_the_same_instant_wins(
    play: Play, ours_first: bool
) -> None:
    async def main() -> None:
        with trio.CancelScope() as theirs:
            async with deadline(1) as limit:
                if not ours_first:
                    theirs.cancel()
                await trio.sleep_until(limit.at)
        if ours_first:
            return
        assert theirs.cancelled_caught

    if ours_first:
        with pytest.raises(DeadlineExceeded):
            play(main)
    else:
        play(main)


@pytest.mark.rule("D2")
@pytest.mark.parametrize(
    ("theirs", "ours", "error"), [(1, 9, "theirs"), (9, 1, "ours"), (1, 1, "theirs")]
)
def test_fail_after_outside(play: Play, theirs: float, ours: float, error: str) -> None:
    async def main() -> None:
        with pytest.raises((trio.TooSlowError, DeadlineExceeded)) as caught:
            with trio.fail_after(theirs):
                async with deadline(ours):
                    await trio.sleep(60)
        assert isinstance(caught.value, DeadlineExceeded) is (error == "ours")
        await trio.sleep(1)

    play(main)


@pytest.mark.rule("D2")
@pytest.mark.parametrize(
    ("theirs", "ours", "error"), [(1, 9, "theirs"), (9, 1, "ours"), (1, 1, "ours")]
)
def test_fail_after_inside(play: Play, theirs: float, ours: float, error: str) -> None:
    async def main() -> None:
        with pytest.raises((trio.TooSlowError, DeadlineExceeded)) as caught:
            async with deadline(ours):
                with trio.fail_after(theirs):
                    await trio.sleep(60)
        assert isinstance(caught.value, DeadlineExceeded) is (error == "ours")
        await trio.sleep(1)

    play(main)


@pytest.mark.rule("D2")
def test_move_on_after_inside_and_around(play: Play) -> None:
    async def main() -> None:
        async with deadline(5):
            with trio.move_on_after(1) as scope:
                await trio.sleep(60)
            assert scope.cancelled_caught
        with anyio.move_on_after(1) as outer:
            async with deadline(5):
                await trio.sleep(60)
        assert outer.cancelled_caught

    play(main)


@pytest.mark.rule("D2")
def test_a_shield_inside_holds_the_cancellation_back(play: Play, time: VirtualTime) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)
                await trio.sleep(60)
        assert time.now() == pytest.approx(3)
        async with deadline(1) as limit:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            assert limit.expired

    play(main)


@pytest.mark.rule("D2")
def test_other_errors_of_a_nursery_leave_the_block_with_a_note(play: Play) -> None:
    async def stubborn() -> None:
        try:
            await trio.sleep(60)
        finally:
            raise ValueError("of the child")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with deadline(1, name="request"), trio.open_nursery() as nursery:
                nursery.start_soon(stubborn)
                nursery.start_soon(trio.sleep, 60)
        flat = caught.value
        assert flat.subgroup(trio.Cancelled) is None  # type: ignore[type-var]  # so say the types; here it is tested
        assert flat.subgroup(ValueError) is not None
        notes = [note for note in flat.__notes__ if "request" in note]
        assert len(notes) == 1
        assert "had passed" in notes[0]
        await trio.sleep(1)

    play(main)


@pytest.mark.rule("D2")
def test_a_nursery_of_cancelled_children_alone_is_converted(play: Play) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1), trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(trio.sleep, 60)
        with pytest.raises(DeadlineExceeded):
            async with deadline(1), anyio.create_task_group() as group:
                group.start_soon(trio.sleep, 60)
                await trio.sleep(60)

    play(main)


@pytest.mark.rule("D2")
def test_errors_without_a_fired_limit_get_no_note(play: Play) -> None:
    async def fail() -> None:
        raise ValueError("early")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with deadline(1), trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep, 60)
        assert not getattr(caught.value, "__notes__", [])

    play(main)


@pytest.mark.rule("D7")
def test_a_block_in_an_asynccontextmanager_works_on_trio(play: Play) -> None:
    @contextlib.asynccontextmanager
    async def limited(seconds: float) -> AsyncIterator[None]:
        async with deadline(seconds, name="inside"):
            yield

    async def main() -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with limited(1):
                await trio.sleep(60)
        assert caught.value.policy == "inside"
        assert current_deadline() is None
        async with limited(5):
            await trio.sleep(1)
        assert current_deadline() is None

    play(main)


@pytest.mark.rule("D7")
def test_a_deadline_left_in_another_trio_task_disarms_and_raises_nothing(play: Play) -> None:
    async def main() -> None:
        limit = deadline(1)
        left = trio.Event()
        reached = []

        async def begin() -> None:
            limit.__enter__()
            await left.wait()
            await trio.sleep(5)
            reached.append("not cancelled")

        async def leave() -> None:
            assert limit.__exit__(None, None, None) is None
            left.set()

        with contextlib.suppress(BaseExceptionGroup):  # trio itself minds a scope that is left open
            async with trio.open_nursery() as nursery:
                nursery.start_soon(begin)
                await trio.sleep(0.5)
                nursery.start_soon(leave)
        assert reached == ["not cancelled"]

    play(main)


@pytest.mark.rule("D7", "T2")
def test_on_trio_the_instant_is_a_reading_of_that_runs_clock() -> None:
    async def main() -> None:
        async with deadline(5) as limit:
            assert limit.at == pytest.approx(trio.current_time() + 5)
            assert limit.remaining() == pytest.approx(5)
            await trio.sleep(2)
            assert limit.remaining() == pytest.approx(3)
            assert remaining() == pytest.approx(3)
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(100):
                await trio.sleep(1000)
        assert trio.current_time() == pytest.approx(began + 100)
        assert caught.value.elapsed == pytest.approx(100)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.rule("D7", "T2")
def test_under_a_bare_mock_clock_timeouts_and_backoffs_follow_it() -> None:
    async def main() -> None:
        began = trio.current_time()
        tries = []

        @retry(on=ValueError, attempts=3, wait=1000)
        async def fail() -> None:
            tries.append(trio.current_time() - began)
            raise ValueError

        with pytest.raises(ValueError):
            await fail()
        assert tries == pytest.approx([0, 1000, 2000])
        with pytest.raises(DeadlineExceeded):
            await timeout(50).call(trio.sleep, 60)
        assert trio.current_time() - began == pytest.approx(2050)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.rule("D6", "D7")
def test_remaining_works_in_a_thread_that_inherited_the_context_from_trio() -> None:
    async def main() -> None:
        async with deadline(5) as limit:
            at, left = await anyio.to_thread.run_sync(lambda: (limit.at, remaining()))
            assert at == limit.at
            assert left == pytest.approx(limit.remaining())
            assert await trio.to_thread.run_sync(remaining) == pytest.approx(limit.remaining())

    trio.run(main, clock=MockClock())


@pytest.mark.rule("D6", "D1")
def test_a_limit_of_plain_code_holds_in_a_run_of_trio_inside_it() -> None:
    async def main() -> None:
        assert 0 < remaining() <= 50
        async with deadline(None) as inner:
            assert inner.remaining() <= 50
            await trio.sleep(1)
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(None):
                await trio.sleep(1e6)  # noqa: ASYNC116  # virtual time, and it must be cut before
        assert caught.value.seconds == 50, "the limit that counted"

    with virtual_time() as time, deadline(50, name="around"):
        trio.run(main, clock=time.trio_clock())


@pytest.mark.rule("D2")
def test_virtual_time_runs_on_from_one_run_to_the_next(time: VirtualTime) -> None:
    async def expire() -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await anyio.sleep(60)

    for number in range(1, 4):
        time.run(expire)
        trio.run(expire, clock=time.trio_clock())
        assert time.now() == pytest.approx(2 * number)


@pytest.mark.rule("D2", "T2")
def test_a_trio_run_in_a_thread_of_an_asyncio_run_keeps_the_limit(time: VirtualTime) -> None:
    async def on_trio() -> float:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await trio.sleep(60)
        return remaining()

    async def main() -> None:
        async with deadline(1000):
            left = await asyncio.to_thread(lambda: trio.run(on_trio))
            assert 0 < left < math.inf

    del time
    asyncio.run(main())

"""Attempts that awaited while they cleaned up: a breaker inside a hedge no longer saw that it was
a deadline of ours that had cut them, because the task group had cancelled the caller once more.
And on asyncio each ``await`` of a clean-up was cancelled anew.
"""

from __future__ import annotations

import asyncio

import anyio
import pytest

from resilient import DeadlineExceeded, breaker, deadline, hedge
from resilient.testing import VirtualTime
from tests.worlds import World

pytestmark = pytest.mark.loop


def test_a_dependency_that_hangs_trips_its_breaker(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fuse = breaker()

        @hedge(w.unit, budget=None)
        @fuse
        async def fn() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await w.sleep(1)

        with pytest.raises(DeadlineExceeded):
            async with deadline(3 * w.unit):
                await fn()
        assert fuse.stats().failures == 2

    async_world.run(scenario)


def test_on_asyncio_a_loser_is_cancelled_once(virtual_time: VirtualTime) -> None:
    cleaned = 0

    async def fn() -> None:
        nonlocal cleaned
        if next(numbers) == 2:
            return
        try:
            await asyncio.sleep(300)
        finally:
            await asyncio.sleep(1)
            cleaned += 1

    numbers = iter((1, 2))
    virtual_time.run(hedge(1, budget=None)(fn))
    assert cleaned == 1

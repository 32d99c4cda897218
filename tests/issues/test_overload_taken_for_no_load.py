"""Fifty workers kept a service busy that had five places left: the adaptive limit took the waiting
for the latency without load, and never shed again. And it let in fewer than `min` to measure.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from resilient import Overloaded, adaptive_limit
from resilient.testing import virtual_time

WORKERS, LEFT, LASTS = 50, 5, 0.5


@pytest.mark.rule("L10")
@pytest.mark.parametrize("algorithm", ["gradient", "aimd", "vegas"])
def test_a_closed_loop_on_what_is_left_is_shed(algorithm: str) -> None:
    limit = adaptive_limit(algorithm=algorithm)  # type: ignore[arg-type]  # one of the three

    async def main() -> None:
        places, until = asyncio.Semaphore(LEFT), 400.0

        @limit
        async def call() -> None:
            async with AsyncExitStack() as stack:
                if time.now() > 30.0:
                    await stack.enter_async_context(places)
                await asyncio.sleep(LASTS)

        async def worker() -> None:
            while time.now() < until:
                try:
                    await call()
                except Overloaded:
                    await asyncio.sleep(LASTS)

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(worker())

    with virtual_time() as time:
        time.run(main)
        stats = limit.stats()
    assert stats.limit <= 3 * LEFT
    assert stats.latency_unloaded == pytest.approx(LASTS, rel=0.3)

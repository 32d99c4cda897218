"""Work that starts its successor inside detached(): each cover kept the one before it alive,
for ever.
"""

from __future__ import annotations

import asyncio
import gc

import pytest

from resilient import detached
from resilient._policies.deadline import Deadline as DeadlineBlock
from resilient.testing import virtual_time


@pytest.mark.rule("D9", "D6")
def test_generations_of_detached_work_do_not_pile_up() -> None:
    async def main() -> None:
        left = 300
        over = asyncio.Event()
        tasks = set()

        async def tick() -> None:
            nonlocal left
            await asyncio.sleep(0)
            left -= 1
            if not left:
                gc.collect()
                alive.append(sum(isinstance(one, DeadlineBlock) for one in gc.get_objects()))
                over.set()
                return
            with detached():
                tasks.add(task := asyncio.create_task(tick()))
                task.add_done_callback(tasks.discard)

        alive: list[int] = []
        gc.collect()
        before = sum(isinstance(one, DeadlineBlock) for one in gc.get_objects())
        tasks.add(asyncio.create_task(tick()))
        await over.wait()
        assert alive[0] - before < 20

    with virtual_time() as time:
        time.run(main)

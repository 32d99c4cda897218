"""A waiter whose deadline was moved further away: the run was cut at the old instant,
and the waiter with it.
"""

from __future__ import annotations

import anyio
import pytest

from resilient import deadline, singleflight
from tests.worlds import World, world_named


@pytest.mark.rule("S4", "D7")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_the_run_follows_a_waiter_whose_deadline_is_rescheduled(name: str) -> None:
    async def scenario(w: World) -> None:
        async def work() -> str:
            await w.sleep(5)
            return "done"

        flight = singleflight()
        results: list[object] = []

        async with anyio.create_task_group() as group:
            async with deadline(2) as limit:

                async def extend() -> None:
                    await w.sleep(1)
                    limit.reschedule(20)

                group.start_soon(extend)
                results.append(await flight.do("k", work))
        assert results == ["done"]

    with world_named(name) as world:
        world.run(scenario)

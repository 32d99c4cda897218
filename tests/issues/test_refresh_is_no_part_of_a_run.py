"""A refresh passed for a part of the run in which it was begun, and was refused what that runs."""

from __future__ import annotations

import pytest

from resilient import cache
from tests.policies.caches import settled
from tests.worlds import World

pytestmark = pytest.mark.loop


@pytest.mark.rule("C8", "S7")
def test_a_refresh_may_ask_for_what_the_run_that_began_it_is_for(async_world: World) -> None:
    async def scenario(w: World) -> None:
        outer = cache(1000 * w.unit, key=lambda: "outer")
        inner = cache(10 * w.unit, refresh_ahead=9.99 * w.unit, jitter=0, key=lambda: "inner")
        asked: list[object] = []

        @outer
        async def total() -> str:
            await w.sleep(1)
            part = await one_part()
            await w.sleep(0.2)
            return f"total of {part}"

        @inner
        async def one_part() -> str:
            if asked:
                asked.append(await total())
            return "part"

        await one_part()
        asked.append("from now on")
        await total()
        await settled(w)
        assert asked == ["from now on", "total of part"]
        assert (inner.stats().refreshes, inner.stats().refresh_failed) == (1, 0)

    async_world.run(scenario)

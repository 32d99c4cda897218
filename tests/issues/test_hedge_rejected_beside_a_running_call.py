"""A hedge that a policy inside rejected ended the call, and cancelled an attempt that was well."""

from __future__ import annotations

import pytest

from resilient import bulkhead, hedge
from tests.worlds import World

pytestmark = pytest.mark.loop


def test_the_attempt_that_runs_goes_on(async_world: World) -> None:
    async def scenario(w: World) -> None:
        @hedge(w.unit, budget=None)
        @bulkhead(1)
        async def fn() -> str:
            await w.sleep(3)
            return "first"

        assert await fn() == "first"

    async_world.run(scenario)

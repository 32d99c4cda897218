"""What is no Exception left a single-flight's own task as well, for trio an internal error."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from resilient import singleflight
from tests.worlds import World

pytestmark = pytest.mark.loop


class Quit(BaseException):
    """No Exception, and no cancellation."""


@pytest.mark.rule("F8", "F9", "S6")
def test_what_is_no_exception_reaches_the_callers_and_nobody_else(
    async_world: World, caplog: Any
) -> None:
    async def scenario(w: World) -> None:
        error = Quit()

        async def fail() -> None:
            await anyio.sleep(0.5 * w.unit)
            raise error

        fn, caught = singleflight()(fail), []

        async def one() -> None:
            try:
                await fn()
            except Quit as quit_:
                caught.append(quit_)

        await w.together(one, one)
        assert caught == [error, error]

    with caplog.at_level(logging.ERROR, "asyncio"):
        async_world.run(scenario)
    assert not caplog.records, "nor is it reported as one that nobody asked for"

"""A call that passed a rate limit by its own short way gave the lock up without a look at who had
gone meanwhile. Where a waiter went that had stood there since before `fresh`, whoever was behind it
waited for ever.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient import rate_limit
from resilient._runtime import clock
from resilient.testing import VirtualTime, virtual_time


class Watched:
    """Virtual time, in one of whose readings something else happens."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.meanwhile: Callable[[], None] | None = None

    def now(self) -> float:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return self._time.reading()

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        self._time.advance(seconds)

    def wait(self, event: clock.Event, until: float) -> None:
        self._time.wait(event, until)


@pytest.mark.rule("L6")
def test_a_waiter_that_goes_while_a_call_passes_lets_those_behind_it_move_up() -> None:
    async def wait_behind(watched: Watched) -> str:
        policy = rate_limit(1, per=10, burst=20, max_wait=math.inf)

        @policy
        async def fn() -> str:
            return "passed"

        policy.take(20)
        lost: Coroutine[Any, Any, str] = fn()
        lost.send(None)
        second = asyncio.create_task(fn())
        await asyncio.sleep(0)
        policy._reset()
        watched.meanwhile = lost.close  # in the turn of the next call
        assert await fn() == "passed"
        return await second

    with virtual_time() as time:
        watched = Watched(time)
        with clock.install(watched):
            assert time.run(wait_behind, watched) == "passed"

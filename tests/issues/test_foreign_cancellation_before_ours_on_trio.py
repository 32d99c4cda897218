"""On trio a foreign cancellation before our limit passed for a consequence of it (B9).

A scope of trio inherits the reason of the scope around it. The reason of ours was the
foreign one's, so that the foreign scope looked as if it had inherited ours.
"""

from __future__ import annotations

import pytest
import trio

from resilient import breaker, deadline
from resilient.testing import virtual_time


@pytest.mark.rule("B9", "D2")
@pytest.mark.parametrize("how", ["cancel", "move_on_after"])
def test_a_foreign_cancellation_before_ours_makes_it_ignored(how: str) -> None:
    policy = breaker()

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    async def work() -> None:
        async with deadline(2):
            await policy(stubborn)()

    async def main() -> None:
        if how == "move_on_after":
            with trio.move_on_after(1):
                await work()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                await trio.sleep(1)
                nursery.cancel_scope.cancel()

    with virtual_time() as time:
        trio.run(main, clock=time.trio_clock())
    stats = policy.stats()
    assert (stats.ignored, stats.failures) == (1, 0)

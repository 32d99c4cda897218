"""From 2**24 seconds on, virtual time stood still: asyncio's resolution is less than
a float can tell there.
"""

from __future__ import annotations

import asyncio

import pytest

from resilient import DeadlineExceeded, deadline
from resilient.testing import virtual_time


@pytest.mark.rule("T2")
@pytest.mark.parametrize("far", [2.0**24, 2.0**33])
def test_time_passes_after_many_days(far: float) -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        with pytest.raises(DeadlineExceeded):
            async with deadline(0.3):
                await asyncio.sleep(1)

    with virtual_time() as time:
        time.advance(far)
        time.run(main)
        assert time.now() == pytest.approx(far + 1.3)

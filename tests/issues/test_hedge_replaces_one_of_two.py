"""Two attempts that failed in one tick were replaced by one; and one that failed in the tick in
which a hedge was due, but enough were out, was not replaced at once.
"""

from __future__ import annotations

import anyio

from resilient import hedge
from resilient.testing import VirtualTime


def test_each_is_replaced_at_once(virtual_time: VirtualTime) -> None:
    begun: list[float] = []
    began = virtual_time.now()

    @hedge(1.5, max=3, budget=None)
    async def fn() -> str:
        begun.append(virtual_time.now() - began)
        if len(begun) <= 2:
            await anyio.sleep(2 - begun[-1])
            raise KeyError
        await anyio.sleep(1)
        return "won"

    async def main() -> None:
        assert await fn() == "won"

    virtual_time.run(main)
    assert begun == [0, 1.5, 2, 2]

"""A hedge that never ended, in a loop that was closed or in the parent of a child, counted as out
for ever: and then no other may be launched.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CLOSED = """
import asyncio
from resilient import hedge

policy, count = hedge(1e-4, budget=None), 0

@policy
async def fn():
    global count
    count += 1
    if count <= 3:
        await asyncio.get_running_loop().create_future()
    return "won"

async def look():
    while count < 2:
        await asyncio.sleep(0)

loop = asyncio.new_event_loop()
task = loop.create_task(fn())
loop.run_until_complete(look())
"""

THEN = {
    "closed": """
loop.close()
print(asyncio.run(asyncio.wait_for(fn(), 20)))
""",
    "forked": """
import os
if (child := os.fork()) == 0:
    print(asyncio.run(asyncio.wait_for(fn(), 20)), flush=True)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
""",
}


@pytest.mark.real_clock  # subprocess polls
@pytest.mark.parametrize("how", [how for how in THEN if how != "forked" or hasattr(os, "fork")])
def test_the_next_call_is_hedged_all_the_same(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSED + THEN[how]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "won\n", done.stderr

"""Tell a client that was late from a machine that did not run it.

A task that wakes up every 10 ms asks how long the process had to wait for a processor since
the last time, and notes it. On a machine of one's own there is next to nothing to note; on
a crowded one the drill would else blame a client for its neighbours. A client that is late
because it computes, or because it blocks the loop, gets no such excuse.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from resilient.drill.records import Stall

BEAT: Final = 0.01
LATE: Final = 0.005
"""Shorter waits are part of life."""
SCHEDSTAT: Final = Path("/proc/self/schedstat")
"""Linux: nanoseconds on a processor, nanoseconds of waiting for one, and how often."""


def waiting() -> Callable[[float], float]:
    """What tells, at an instant, for how long this process has waited for a processor so far."""
    if SCHEDSTAT.exists():
        return lambda _: int(SCHEDSTAT.read_bytes().split()[1]) / 1e9
    return _idle_or_waiting


def _idle_or_waiting(now: float) -> float:
    """Where the system does not tell: all the time in which it did not compute."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return now - usage.ru_utime - usage.ru_stime


async def listen(note: Callable[[Stall], None], waited: Callable[[float], float]) -> None:
    """Beat, and *note* each time that was spent waiting, for ever."""
    loop = asyncio.get_running_loop()
    allowed = BEAT if waited is _idle_or_waiting else 0.0
    since, before = loop.time(), waited(loop.time())
    while True:
        await asyncio.sleep(BEAT)
        now = loop.time()
        so_far = waited(now)
        if (away := so_far - before - allowed) > LATE:
            note(Stall(since, now, away))
        since, before = now, so_far

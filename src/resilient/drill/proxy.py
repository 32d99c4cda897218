"""The fault proxy's process: a gate, its weather and its counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from resilient.drill import child
from resilient.drill.gate import Gate
from resilient.drill.messages import Change, Count, Counts, Done, Go, Guard, Opened

REPORT_EVERY: Final = 0.25
RECENT: Final = 3
"""How many seconds of counts a report holds: none of them is missed if one report is late."""


async def live(parent: child.Parent) -> None:
    """Open the gate, then change its weather as told."""
    order = await parent.order()
    if not isinstance(order, Guard):
        raise TypeError(order)
    gate = Gate((order.host, order.port), seed=order.seed, speaks_http=order.speaks_http)
    parent.say(Opened(await gate.open()))
    try:
        async with asyncio.TaskGroup() as group:
            while True:
                match await parent.order():
                    case Go(at):
                        group.create_task(_report(parent, gate, at))
                    case said:
                        _follow(said, gate, parent)
    finally:
        gate.close()


def _follow(order: object, gate: Gate, parent: child.Parent) -> None:
    match order:
        case Count():
            parent.say(_counts(gate, since=0))
        case Change(weather, slowest):
            gate.change(weather, slowest)
        case _:
            raise TypeError(order)
    parent.say(Done())


async def _report(parent: child.Parent, gate: Gate, begins_at: float) -> None:
    loop = asyncio.get_running_loop()
    gate.begins_at = begins_at
    while True:
        await asyncio.sleep(REPORT_EVERY)
        parent.say(_counts(gate, since=max(0, int(loop.time() - begins_at) - RECENT)))


def _counts(gate: Gate, *, since: int) -> Counts:
    return Counts(_since(gate.sent_in, since), _since(gate.reached_in, since))


def _since(counts: Counter[int], second: int) -> dict[int, int]:
    return {at: count for at, count in counts.items() if at >= second}


if __name__ == "__main__":
    child.run(live)

"""The figures that the three services promise, and how each is measured.

On a busy machine a process waits for a processor, which is nobody's fault. So the best of several
requests counts where one is enough to show it; and `busy` says how long the processes had waited.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import httpx2

from examples.three_services.edge import TIMEOUT
from examples.three_services.leaf import Mood
from examples.three_services.process import waited
from examples.three_services.services import (
    PATIENCE,
    Answer,
    Process,
    Three,
    three_services,
)
from resilient import retry
from resilient.integrations.httpx2 import TRANSIENT, ResilientTransport

OFF: Final = 0.020
"""Seconds by which the leaf's deadline may be off."""
QUICK: Final = 0.050
"""Seconds in which the edge answers while the breaker is open."""
LATE: Final = 0.100
"""Seconds that an answer may be late after the limit, or the first success after the cooldown."""
GROWTH: Final = 5 * 2**20
"""Bytes by which the memory of a process may grow under load."""
FAILURES: Final = 5
"""After which the breaker opens."""
OK: Final = 200
RATE: Final = 200
"""Requests a second."""
AT_ONCE: Final = 50
"""Requests at one time."""
IDLE: Final = 0.3
"""Seconds after which the middle closes connections that it does not use."""


async def make_well(three: Three) -> None:
    """Mend the leaf, and wait until the edge says so."""
    await three.let_leaf_be(Mood.WELL)
    await until(lambda: is_well(three))


async def is_well(three: Three) -> bool:
    """Whether the edge gives an answer of the leaf."""
    return (await three.ask()).status == OK


async def is_at_rest(three: Three) -> bool:
    """Whether nothing is in flight."""
    return await three.in_flight() == 0


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it *holds*, no longer than `PATIENCE`."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110  # another process knows
            await asyncio.sleep(0.005)


async def busy(three: Three) -> float:
    """Seconds that the four processes have waited for a processor so far."""
    every = (three.edge, three.middle, three.leaf)
    return waited() + sum([float((await three.stats(each))["waited"]) for each in every])


async def deadline_off(three: Three, requests: int = 20) -> float:
    """Seconds between what is left in truth and what the leaf sees, in the fastest request."""
    await make_well(three)
    found = [json.loads((await three.ask()).body) for _ in range(requests)]
    took, left = min((one["at"] - one["began"], one["left"]) for one in found)
    return float(TIMEOUT - took - left)


@dataclass(frozen=True, slots=True)
class Outage:
    """What the edge has answered while the leaf hung, and until it was well again.

    Attributes:
        hung: the answers while the leaf hung, each with the seconds until nothing was in flight.
        opened: the state of the breaker then.
        refused: the answers while it was open.
        recovered: seconds from its opening to the first success.
    """

    hung: list[tuple[Answer, float]]
    opened: str
    refused: list[Answer]
    recovered: float


async def outage(three: Three) -> Outage:
    """Let the leaf hang until the breaker opens, then mend it."""
    await make_well(three)
    await three.let_leaf_be(Mood.HANGS)
    hung, opened_at = [], 0.0
    for _ in range(FAILURES):
        began = time.monotonic()
        answer = await three.ask()
        opened_at = began + answer.seconds
        await until(lambda: is_at_rest(three))
        hung.append((answer, time.monotonic() - began))
    refused = [await three.ask() for _ in range(3)]
    state = (await three.breaker())["state"]
    await three.let_leaf_be(Mood.WELL)
    await until(lambda: is_well(three))
    return Outage(hung, state, refused, time.monotonic() - opened_at)


@dataclass(frozen=True, slots=True)
class Layers:
    """What three clients with three attempts each have sent to a leaf that fails.

    Attributes:
        status: what the caller got in the end.
        calls: what the client of the middle has sent.
        asked: what the leaf has seen.
    """

    status: int
    calls: int
    asked: int


async def layers(three: Three, mood: Mood) -> Layers:
    """Ask once, with a client that repeats, over two services that repeat."""
    await make_well(three)
    calls, asked = (await three.breaker())["calls"], (await three.stats(three.leaf))["asked"]
    again = retry(on=TRANSIENT, attempts=3, wait=0.01, budget=None)
    transport = ResilientTransport(policy=again)
    async with httpx2.AsyncClient(transport=transport, timeout=10) as http:
        await three.let_leaf_be(mood)
        answer = await three.ask(http)
    return Layers(
        answer.status,
        (await three.breaker())["calls"] - calls,
        (await three.stats(three.leaf))["asked"] - asked,
    )


@dataclass(frozen=True, slots=True)
class Load:
    """What a load has left behind in each process.

    Attributes:
        statuses: how often the edge has answered what; 0 for a request without an answer.
        tasks, sockets: how many more there are than before, by process.
        memory: bytes by which each has grown.
    """

    statuses: Counter[int]
    tasks: dict[str, int]
    sockets: dict[str, int]
    memory: dict[str, int]


async def load(three: Three, seconds: float, warm_up: float = 2.0) -> Load:
    """Send `RATE` requests a second, and compare what is there before and after.

    Before, each process has seen as many requests at once as there can be, for it keeps the memory.
    """
    await make_well(three)
    async with client() as http:
        for _ in range(ceil(5 * warm_up)):
            await asyncio.gather(*(three.ask(http) for _ in range(AT_ONCE)))
    await make_well(three)
    await send(three, warm_up)
    before = await at_rest(three)
    statuses = await send(three, seconds)
    after = await at_rest(three)

    def more(key: str) -> dict[str, int]:
        return {name: int(after[name][key] - before[name][key]) for name in before}

    return Load(statuses, more("tasks"), more("sockets"), more("memory"))


async def send(three: Three, seconds: float) -> Counter[int]:
    """Send `RATE` requests a second, whatever becomes of them."""
    statuses = Counter[int]()

    async def one() -> None:
        try:
            statuses[(await three.ask(http)).status] += 1
        except httpx2.TransportError:
            statuses[0] += 1

    clock = asyncio.get_running_loop().time
    async with client() as http, asyncio.TaskGroup() as group:
        began = clock()
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(max(0.0, began + number / RATE - clock()))
            group.create_task(one())
    return statuses


def client() -> httpx2.AsyncClient:
    """A client that sends at most `AT_ONCE` requests at once."""
    limits = httpx2.Limits(max_connections=AT_ONCE)
    return httpx2.AsyncClient(trust_env=False, timeout=10, limits=limits)


async def at_rest(three: Three) -> dict[str, Any]:
    """What each process has, when connections that nobody uses are closed."""
    await asyncio.sleep(IDLE)
    await make_well(three)
    await asyncio.sleep(0.1)
    every: tuple[Process, ...] = (three.edge, three.middle, three.leaf)
    return {each.name: await three.stats(each) for each in every}


async def show(seconds: float) -> None:
    """Measure all of them, and print a table."""
    cooldown = 1.0
    async with three_services(cooldown) as three:
        before, began = await busy(three), time.monotonic()
        off, out = await deadline_off(three), await outage(three)
        at_the_leaf = [(await layers(three, mood)).calls for mood in FAILING]
        late = await load(three, seconds)
        waiting, took = await busy(three) - before, time.monotonic() - began
    hung = max(each for _, each in out.hung)
    refused = min(each.seconds for each in out.refused)
    rows = [
        ("the leaf's remaining(), off by", ms(off), ms(OFF)),
        ("leaf hangs: 504, and nothing in flight", ms(hung), ms(TIMEOUT + LATE)),
        ("breaker open: 503, Retry-After: 1", ms(refused), ms(QUICK)),
        ("leaf heals: first 200", ms(out.recovered), ms(cooldown + LATE)),
        ("three layers: calls at the leaf", " ".join(map(str, at_the_leaf)), "3 3 3"),
        (f"{RATE}/s for {seconds:g} s: more tasks", f"{sum(late.tasks.values())}", "0"),
        ("  more sockets", f"{sum(late.sockets.values())}", "0"),
        ("  more memory", mib(max(late.memory.values())), mib(GROWTH)),
    ]
    print(f"{'':<42}{'measured':>10}{'limit':>10}")
    for what, measured, limit in rows:
        print(f"{what:<42}{measured:>10}{limit:>10}")
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(late.statuses.items()))
    print(f"\nUnder load the edge has answered {answers}.")
    print(f"In {took:.0f} s the four processes have waited {waiting:.1f} s for a processor.")


FAILING: Final = (Mood.BUSY, Mood.BREAKS, Mood.REFUSES)


def ms(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{seconds * 1000:.0f} ms"


def mib(size: float) -> str:
    """Bytes as mebibytes."""
    return f"{size / 2**20:.1f} MiB"

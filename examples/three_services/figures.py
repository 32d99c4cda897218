"""The figures that the three services promise, and how each is measured.

On a busy machine a process waits for a processor, which is nobody's fault. So the best of several
requests counts where one is enough to show it; and `busy` says how long the processes had waited.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

import httpx2

from examples.three_services.edge import TIMEOUT
from examples.three_services.leaf import Mood
from examples.three_services.load import RATE, load
from examples.three_services.process import waited
from examples.three_services.services import Answer, Three, three_services, until
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
FAILING: Final = (Mood.BUSY, Mood.BREAKS, Mood.REFUSES)


async def busy(three: Three) -> float:
    """Seconds that the four processes have waited for a processor so far."""
    return waited() + sum([float((await three.stats(each))["waited"]) for each in three.every])


async def deadline_off(three: Three, requests: int = 20) -> float:
    """Seconds between what is left in truth and what the leaf sees, in the fastest request."""
    await three.make_well()
    found = [json.loads((await three.ask()).body) for _ in range(requests)]
    took, left = min((one["at"] - one["began"], one["left"]) for one in found)
    return float(TIMEOUT - took - left)


@dataclass(frozen=True, slots=True)
class Outage:
    """What the edge has answered while the leaf hung, and until it was well again.

    Attributes:
        hung: the answers while the leaf hung, each with the seconds until nothing was in flight.
        failures: how many the breaker had seen when it opened. On a busy machine a request may not
            come so far.
        refused: the answers while it was open.
        recovered: seconds from its opening to the first success.
    """

    hung: list[tuple[Answer, float]]
    failures: int
    refused: list[Answer]
    recovered: float


async def outage(three: Three) -> Outage:
    """Let the leaf hang until the breaker opens, then mend it."""
    await three.make_well()
    await three.let_leaf_be(Mood.HANGS)
    failures = (await three.breaker())["failures"]
    hung: list[tuple[Answer, float]] = []
    opened_at = 0.0
    while (await three.breaker())["state"] == "closed" and len(hung) < 2 * FAILURES:
        began = time.monotonic()
        answer = await three.ask()
        opened_at = began + answer.seconds
        await until(three.is_at_rest)
        hung.append((answer, time.monotonic() - began))
    refused = [await three.ask() for _ in range(3)]
    failures = (await three.breaker())["failures"] - failures
    await three.let_leaf_be(Mood.WELL)
    await until(three.is_well)
    return Outage(hung, failures, refused, time.monotonic() - opened_at)


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
    await three.make_well()
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


def ms(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{seconds * 1000:.0f} ms"


def mib(size: float) -> str:
    """Bytes as mebibytes."""
    return f"{size / 2**20:.1f} MiB"

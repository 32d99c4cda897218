"""Starts the three processes, asks and breaks them, and ends them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from examples.three_services.leaf import Mood
from examples.three_services.process import bind

Child = asyncio.subprocess.Process
ROOT = Path(__file__).resolve().parents[2]
OK = 200
PATIENCE = 30.0
"""Seconds in which a process has to start, and whatever is waited for to happen."""
GOODBYE = 5.0
"""Seconds that it gets to end by itself."""


@dataclass(frozen=True, slots=True)
class Process:
    """One of the three: where it serves, and where it is watched."""

    name: str
    pid: int
    port: int
    control: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the edge has answered, and how many seconds that took."""

    status: int
    headers: httpx2.Headers
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Three:
    """The three processes, while they live."""

    edge: Process
    middle: Process
    leaf: Process
    http: httpx2.AsyncClient

    @property
    def url(self) -> str:
        """What to ask the edge."""
        return f"http://127.0.0.1:{self.edge.port}/price/A-17"

    @property
    def every(self) -> tuple[Process, Process, Process]:
        """All three."""
        return self.edge, self.middle, self.leaf

    async def ask(self, http: httpx2.AsyncClient | None = None) -> Answer:
        """Ask the edge, and take the time."""
        began = time.monotonic()
        answer = await (http or self.http).get(self.url)
        took = time.monotonic() - began
        return Answer(answer.status_code, answer.headers, answer.content, took)

    async def let_leaf_be(self, mood: Mood) -> None:
        """Break the leaf, or mend it."""
        answer = await self.http.post(f"http://127.0.0.1:{self.leaf.control}/be/{mood}")
        answer.raise_for_status()

    async def stats(self, process: Process) -> dict[str, Any]:
        """How a process is now."""
        answer = await self.http.get(f"http://127.0.0.1:{process.control}/stats")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def in_flight(self) -> int:
        """Requests that are served, and calls in the policies of clients, in all three."""
        every = [await self.stats(each) for each in self.every]
        counts = [one["served"] for one in every]
        counts += [policy["stats"] for one in every for policy in one["policies"]]
        return sum(int(each.get("in_flight", 0)) for each in counts)

    async def make_well(self) -> None:
        """Mend the leaf, and wait until the edge says so."""
        await self.let_leaf_be(Mood.WELL)
        await until(self.is_well)

    async def is_well(self) -> bool:
        """Whether the edge gives an answer of the leaf."""
        return (await self.ask()).status == OK

    async def is_at_rest(self) -> bool:
        """Whether nothing is in flight."""
        return await self.in_flight() == 0

    async def breaker(self) -> dict[str, Any]:
        """The totals of the middle's breaker."""
        policies = (await self.stats(self.middle))["policies"]
        (found,) = (each["stats"] for each in policies if each["kind"] == "breaker")
        return dict(found)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it *holds*, no longer than `PATIENCE`."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110  # another process knows
            await asyncio.sleep(0.005)


@asynccontextmanager
async def three_services(cooldown: float = 1.0) -> AsyncIterator[Three]:
    """The three, in the block. The middle's breaker stays open for *cooldown* seconds."""
    with bind() as first, bind() as second, bind() as third:
        # nobody else gets the port of one that does not listen, such as a leaf that refuses
        edge, middle, leaf = (held.getsockname()[1] for held in (first, second, third))
        words = {
            "leaf": (leaf,),
            "middle": (middle, f"http://127.0.0.1:{leaf}", cooldown),
            "edge": (edge, f"127.0.0.1:{middle}"),
        }
        async with (
            processes(words) as every,
            httpx2.AsyncClient(trust_env=False, timeout=10) as http,
        ):
            yield Three(**every, http=http)


@asynccontextmanager
async def processes(words: Mapping[str, Sequence[object]]) -> AsyncIterator[dict[str, Process]]:
    """Processes that listen, and do not outlive the block: for each its port and other words."""
    started: dict[str, Child] = {}
    try:
        for name, each in words.items():
            started[name] = await start(name, *each)
        controls = {name: await control_of(name, child) for name, child in started.items()}
        yield {
            name: Process(name, started[name].pid, int(str(each[0])), controls[name])
            for name, each in words.items()
        }
    finally:
        await asyncio.gather(*(end(child) for child in started.values()))


async def start(name: str, *words: object) -> Child:
    """Start one of them."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"examples.three_services.{name}", *map(str, words),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        start_new_session=True,  # a Ctrl-C is for this program alone
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


async def control_of(name: str, child: Child) -> int:
    """The port on which it is watched, when it listens."""
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), PATIENCE)
    if not line:
        raise RuntimeError(f"the {name} did not start; what it said stands above")
    return int(line)


async def end(child: Child) -> None:
    """Let it end by itself, or after a while by force."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        await asyncio.wait_for(child.wait(), GOODBYE)
    except TimeoutError:
        child.kill()
        await child.wait()

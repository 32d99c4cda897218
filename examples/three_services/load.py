"""Sends many requests to the edge, and compares what is there before and after.

Connections are kept by hand, and know just enough HTTP: a client of a library would take as much of
a processor as the edge.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Self

from examples.three_services.leaf import Mood
from examples.three_services.services import Three

RATE: Final = 200
"""Requests a second."""
AT_ONCE: Final = 50
"""Requests at one time."""
IDLE: Final = 0.3
"""Seconds after which the middle closes connections that it does not use."""
LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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

    Before, each process has seen as many requests at once as there can be, and errors, for it keeps
    the memory that they took.
    """
    await three.let_leaf_be(Mood.HANGS)
    await send(three, warm_up)
    await three.make_well()
    async with Sender(three.edge.port) as sender:
        for _ in range(ceil(5 * warm_up)):
            await asyncio.gather(*(sender.ask() for _ in range(AT_ONCE)))
    before = await at_rest(three)
    statuses = await send(three, seconds)
    after = await at_rest(three)

    def more(key: str) -> dict[str, int]:
        return {name: int(after[name][key] - before[name][key]) for name in before}

    return Load(statuses, more("tasks"), more("sockets"), more("memory"))


async def send(three: Three, seconds: float) -> Counter[int]:
    """Send `RATE` requests a second, whatever becomes of them; how often came which status."""
    clock = asyncio.get_running_loop().time
    async with Sender(three.edge.port) as sender, asyncio.TaskGroup() as group:
        began = clock()
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(max(0.0, began + number / RATE - clock()))
            group.create_task(sender.ask())
    return sender.statuses


class Sender:
    """At most `AT_ONCE` connections to the edge, each for one request at a time."""

    def __init__(self, port: int) -> None:
        self.statuses = Counter[int]()
        self._port = port
        self._places = asyncio.Semaphore(AT_ONCE)
        self._idle: list[Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _reader, writer in self._idle:
            writer.close()

    async def ask(self) -> None:
        """Send a request, and count its answer."""
        async with self._places:
            try:
                status = await self._exchange()
            except (OSError, asyncio.IncompleteReadError):
                status = 0
            self.statuses[status] += 1

    async def _connection(self) -> Connection:
        """One that is idle and that the edge has not closed, or a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _exchange(self) -> int:
        reader, writer = await self._connection()
        is_whole = False
        try:
            writer.write(b"GET /price/A-17 HTTP/1.1\r\nhost: edge\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            is_whole = b"connection: close" not in head.lower()
            return int(head.split()[1])
        finally:
            if is_whole:
                self._idle.append((reader, writer))
            else:
                writer.close()


async def at_rest(three: Three) -> dict[str, Any]:
    """What each process has, when connections that nobody uses are closed."""
    await asyncio.sleep(IDLE)
    await three.make_well()
    await asyncio.sleep(0.1)
    return {each.name: await three.stats(each) for each in three.every}

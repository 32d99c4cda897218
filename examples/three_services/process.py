"""How each of the three processes lives, ends, and tells how it is.

A process ends when its standard input does, so it never outlives the program that has started it,
whatever becomes of that. To be watched it has a second port, where no limit and no policy stands
between; it says on standard output which.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from resilient import health

SELF = Path("/proc/self")
"""What Linux knows of a process. Elsewhere sockets, memory and waiting are 0."""


def bind(port: int = 0) -> socket.socket:
    """Take a *port* of loopback, shared with those of us that hold it; 0 takes any."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    taken.bind(("127.0.0.1", port))
    return taken


class Server(uvicorn.Server):
    """uvicorn, of which there can be two in one process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program."""
        yield

    def drop_connections(self) -> None:
        """Break whatever is under way."""
        for each in list(self.server_state.connections):
            if each.transport is not None:
                each.transport.abort()


@asynccontextmanager
async def serving(app: Any, listens: socket.socket) -> AsyncIterator[Server]:
    """Serve *app* in the block."""
    config = uvicorn.Config(
        app, lifespan="off", ws="none", log_level="critical", timeout_graceful_shutdown=1
    )
    server = Server(config)
    running = asyncio.create_task(server.serve([listens]))
    try:
        await server.listens.wait()
        yield server
    finally:
        server.should_exit = True
        await running


async def live(tells: Callable[[], Mapping[str, object]], routes: Sequence[Route] = ()) -> None:
    """Say that the service listens, and be watched, until standard input ends.

    ``GET /stats`` of the second port gives what *tells* returns, the policies, and the process.
    """
    logging.basicConfig(level=logging.CRITICAL)  # a terminal is for the story

    async def stats(_request: Request) -> JSONResponse:
        return JSONResponse({**tells(), **residue(), "policies": health()["policies"]})

    listens = bind()
    async with serving(Starlette(routes=[Route("/stats", stats), *routes]), listens):
        with suppress(BrokenPipeError):  # nobody listens any more: then input has ended, too
            os.write(sys.stdout.fileno(), b"%d\n" % listens.getsockname()[1])
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        await reader.read()


def residue() -> dict[str, float]:
    """What a process would gather if something leaked, and how long it has waited for a processor:
    tasks, sockets, bytes of memory, seconds.
    """
    found: dict[str, float] = {"tasks": len(asyncio.all_tasks()), "sockets": 0, "memory": 0}
    found["waited"] = 0.0
    if SELF.exists():
        found["sockets"] = sum(_is_socket(each) for each in (SELF / "fd").iterdir())
        (line,) = (
            line for line in (SELF / "status").read_text().splitlines() if line.startswith("VmRSS")
        )
        found["memory"] = int(line.split()[1]) * 1024
        found["waited"] = waited()
    return found


def _is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:  # it was the one by which they are listed
        return False


def waited() -> float:
    """Seconds that the threads of this process were ready to run, and had no processor."""
    if not SELF.exists():
        return 0.0
    found = (each.read_text() for each in (SELF / "task").glob("*/schedstat"))
    return sum(int(text.split()[1]) for text in found) / 1e9

"""The service that gets broken: a small HTTP application on uvicorn, in its own process.

Its answers take a steady time, and it can be told to be slow or to say 503. Chance is
drawn from the seed and from the number of the call and of the attempt, which the drill's
clients send along: the same request meets the same fate in every run of a seed.
"""

from __future__ import annotations

import asyncio
import socket
from random import Random
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from resilient.drill import child
from resilient.drill.messages import Behave, Done, Failed, Serve
from resilient.drill.plan import CALL_HEADER, PATH
from resilient.drill.ports import bind

BACKLOG: Final = 2048


class Service:
    """The work that clients ask for."""

    def __init__(self, latency: float, seed: int) -> None:
        self._latency = latency
        self._seed = seed
        self.behave = Behave()

    def app(self) -> Starlette:
        """The application to serve."""
        return Starlette(routes=[Route(PATH, self._work)])

    async def _work(self, request: Request) -> PlainTextResponse:
        dice = Random(f"{self._seed} {request.headers.get(CALL_HEADER)}")  # noqa: S311  # no secret
        if dice.random() < self.behave.unavailable:
            return PlainTextResponse("unavailable\n", 503)
        await asyncio.sleep(self._latency * self.behave.slowdown * dice.uniform(0.5, 1.5))
        return PlainTextResponse("done\n")


class Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    def __init__(self, app: Starlette, parent: child.Parent) -> None:
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
            backlog=BACKLOG, timeout_graceful_shutdown=1, timeout_keep_alive=60,
        )  # fmt: skip
        super().__init__(config)
        self._parent = parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell the parent."""
        await super().startup(sockets)
        self._parent.say(Done())


async def live(parent: child.Parent) -> None:
    """Wait to be told to serve; serve, and behave as told."""
    parent.say(Done())
    order = await parent.order()
    if not isinstance(order, Serve):
        raise TypeError(order)
    service = Service(order.latency, order.seed)
    async with asyncio.TaskGroup() as group:
        group.create_task(_serve(Server(service.app(), parent), order.port, parent))
        while True:
            said = await parent.order()
            if not isinstance(said, Behave):
                raise TypeError(said)
            service.behave = said
            parent.say(Done())


async def _serve(server: Server, port: int, parent: child.Parent) -> None:
    try:
        await server.serve([bind(port)])
    except OSError as error:
        parent.say(Failed(f"the service can't listen on 127.0.0.1:{port}: {error}"))
    finally:
        if server.started:
            for each in server.servers:
                each.close()


if __name__ == "__main__":
    child.run(live)

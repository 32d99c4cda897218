"""The last of the three, which fails as it is told: Starlette on uvicorn."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from enum import StrEnum

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.three_services.process import Server, bind, live, serving
from resilient import remaining
from resilient.integrations.asgi import ResilientMiddleware


class Mood(StrEnum):
    """What the leaf does with a request."""

    WELL = "well"
    HANGS = "hangs"
    BUSY = "busy"
    BREAKS = "breaks"
    REFUSES = "refuses"


class Leaf:
    """The service, and how it is now."""

    def __init__(self, port: int) -> None:
        routes = [Route("/price/{sku}", self._price)]
        self.app = ResilientMiddleware(Starlette(routes=routes), name="leaf")
        self.asked = 0
        self._mood = Mood.WELL
        self._port = port
        self._listening = AsyncExitStack()
        self._server: Server | None = None

    async def _price(self, request: Request) -> Response:
        self.asked += 1
        match self._mood:
            case Mood.HANGS:
                await asyncio.sleep(60)
            case Mood.BUSY:
                return Response(status_code=503)
            case Mood.BREAKS if self._server is not None:
                self._server.drop_connections()
        sku = request.path_params["sku"]
        left = remaining(60)  # of the 300 ms that the edge allows, two processes away
        return JSONResponse({"sku": sku, "price": 42, "left": left, "at": time.monotonic()})

    async def be(self, mood: Mood) -> None:
        """Do so from now on. One that refuses does not listen."""
        self._mood = mood
        if mood is Mood.REFUSES:
            await self.close()
        elif self._server is None:
            self._server = await self._listening.enter_async_context(
                serving(self.app, bind(self._port))
            )

    async def close(self) -> None:
        """Listen no more."""
        self._server = None
        await self._listening.aclose()


async def main(port: str) -> None:
    """Serve, until the program that has started this one ends."""
    leaf = Leaf(int(port))

    async def be(request: Request) -> Response:
        await leaf.be(Mood(request.path_params["mood"]))
        return Response(status_code=204)

    await leaf.be(Mood.WELL)
    try:
        await live(
            lambda: {"served": asdict(leaf.app.stats()), "asked": leaf.asked},
            [Route("/be/{mood}", be, methods=["POST"])],
        )
    finally:
        await leaf.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

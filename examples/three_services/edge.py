"""The first of the three: FastAPI on uvicorn. Its 300 ms are all that a request may take."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import Any

import grpc
from fastapi import FastAPI, Request

from examples.three_services.process import bind, live, serving
from resilient import bulkhead, pipeline, retry
from resilient.integrations.asgi import ResilientMiddleware
from resilient.integrations.grpc import TRANSIENT, aio_client_interceptors

TIMEOUT = 0.3
SHORT = 0.05
"""Seconds to wait for the middle at most. After a longer wait there would be too little left of the
limit: the attempt would be cut short, and the breaker would take that for a failure of the leaf.
"""
METHOD = "/three.Prices/Get"


def app_over(channel: grpc.aio.Channel) -> FastAPI:
    """The application, which asks the middle for what it answers."""
    app = FastAPI()
    get = channel.unary_unary(METHOD)

    @app.get("/price/{sku}")
    async def price(sku: str, request: Request) -> dict[str, Any]:
        found = json.loads(await get(json.dumps({"sku": sku}).encode()))
        return {**found, "began": request.scope["began"]}

    return app


async def main(port: str, middle: str) -> None:
    """Serve, until the program that has started this one ends."""
    policy = pipeline(
        retry("middle", on=TRANSIENT, attempts=3, wait=0.01, budget=None),
        bulkhead(100, name="middle"),
    )
    interceptors = aio_client_interceptors(
        policy=policy,
        idempotent={METHOD},
        max_retry_after=SHORT,
    )
    async with grpc.aio.insecure_channel(middle, interceptors=interceptors) as channel:
        guarded = ResilientMiddleware(app_over(channel), timeout=TIMEOUT, name="edge")

        async def stamped(scope: Any, receive: Any, send: Any) -> None:
            """What the figures need: when a request has begun, by the clock that all share."""
            await guarded({**scope, "began": time.monotonic()}, receive, send)

        async with serving(stamped, bind(int(port))):
            await live(lambda: {"served": asdict(guarded.stats())})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

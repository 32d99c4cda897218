"""The second of the three: a server of grpc.aio, whose client has a breaker for the leaf.

The messages are bytes of JSON, so that there is nothing to compile.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

import grpc
import httpx2

from examples.three_services.process import live
from resilient import breaker, pipeline, retry
from resilient.integrations.grpc import aio_server_interceptors
from resilient.integrations.httpx2 import TRANSIENT, ResilientTransport

SERVICE = "three.Prices"


def client_of(leaf: str, cooldown: float) -> httpx2.AsyncClient:
    """The client for the leaf: three attempts, and none while its breaker is open.

    The retry has no budget, to show that it is not what keeps three layers of three attempts from
    sending 27 requests. Leave yours the default.
    """
    policy = pipeline(
        retry("leaf", on=TRANSIENT, attempts=3, wait=0.01, budget=None),
        breaker("leaf", on=TRANSIENT, consecutive_failures=5, failure_rate=None, cooldown=cooldown),
    )
    limits = httpx2.Limits(max_connections=100, keepalive_expiry=0.2)
    inner = httpx2.AsyncHTTPTransport(limits=limits)
    return httpx2.AsyncClient(transport=ResilientTransport(inner, policy=policy), base_url=leaf)


async def main(port: str, leaf: str, cooldown: str) -> None:
    """Serve, until the program that has started this one ends."""
    ours = aio_server_interceptors(name="middle")
    server = grpc.aio.server(interceptors=ours)
    server.add_insecure_port(f"127.0.0.1:{port}")
    async with client_of(leaf, float(cooldown)) as client:

        async def get(request: bytes, _context: Any) -> bytes:
            sku = json.loads(request)["sku"]
            answer = await client.get(f"/price/{sku}")
            return answer.raise_for_status().content

        handlers = {"Get": grpc.unary_unary_rpc_method_handler(get)}
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, handlers)],
        )
        await server.start()
        try:
            await live(lambda: {"served": asdict(ours[0].stats())})
        finally:
            await server.stop(1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

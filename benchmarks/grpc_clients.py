"""One call of a gRPC client, one message each way, to a server on loopback that answers at once.

The server has a process of its own. The floor of each case is the channel as it comes.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.timing import FLOOR, OURS, Call, Case, Entry

BARE = f"{OURS}, policy=None"
METHOD = "/shop.Cart/Get"


@functools.cache
def target() -> str:
    """Where the server of this process listens; it ends with this process."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.grpc_clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child.stdout.readline().strip()


def serve() -> None:
    """Answer each call by its message, until nobody can write here any more."""
    import grpc

    class Cart(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda message, _context: message)

    server = grpc.server(ThreadPoolExecutor(4), (Cart(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(None).wait()


def channel(interceptors: list[Any]) -> Call:
    """One call of a sync channel."""
    import grpc

    made = grpc.intercept_channel(grpc.insecure_channel(target()), *interceptors)
    call = made.unary_unary(METHOD)
    return lambda: call(b"A-17")


async def aio_channel(interceptors: list[Any]) -> Call:
    """One call of an async channel."""
    import grpc

    made = grpc.aio.insecure_channel(target(), interceptors=interceptors)
    call = made.unary_unary(METHOD)

    async def ask() -> None:
        await call(b"A-17")

    ask.channel = made  # type: ignore[attr-defined]  # which must live as long
    return ask


def ours(**settings: Any) -> Call:
    from resilient.integrations.grpc import client_interceptors

    return channel(client_interceptors(**settings))


def ours_aio(**settings: Any) -> Awaitable[Call]:
    from resilient.integrations.grpc import aio_client_interceptors

    return aio_channel(aio_client_interceptors(**settings))


CASES = [
    Case(
        "grpc_clients",
        "gRPC call",
        "sync",
        (
            Entry(FLOOR, lambda: channel([]), by_hand=True),
            Entry(OURS, ours),
            Entry(BARE, lambda: ours(policy=None), "no policy", by_hand=True),
        ),
    ),
    Case(
        "grpc_clients",
        "gRPC call",
        "async",
        (
            Entry(FLOOR, lambda: aio_channel([]), by_hand=True),
            Entry(OURS, ours_aio),
            Entry(BARE, lambda: ours_aio(policy=None), "no policy", by_hand=True),
        ),
        loops=("asyncio",),
    ),
]


if __name__ == "__main__":
    serve()

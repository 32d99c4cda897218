"""One request of an HTTP client, over a transport that answers at once.

So the rows show what a library adds to a request, and no network. requests and aiohttp have no such
transport, and ask a server on loopback. The floor of each case is the client as it comes.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import loopback
from benchmarks.timing import FLOOR, OURS, Call, Case, Entry, World

BARE = f"{OURS}, policy=None"


def asking(client: Any) -> Call:
    """One GET of *client*; a coroutine function if it is async."""

    def ask() -> Any:
        return client.get("http://shop.test/price")

    return ask


def transport_of(library: str) -> Any:
    lib = importlib.import_module(library)
    return lib.MockTransport(lambda _request: lib.Response(200, content=b"19.9"))


def client_of(library: str, world: World, transport: Any) -> Any:
    lib = importlib.import_module(library)
    kind = lib.AsyncClient if world == "async" else lib.Client
    return kind(transport=transport, trust_env=False)


def bare(library: str, world: World) -> Call:
    return asking(client_of(library, world, transport_of(library)))


def ours(library: str, world: World, **settings: Any) -> Call:
    module = importlib.import_module(f"resilient.integrations.{library}")
    transport = module.ResilientTransport(transport_of(library), **settings)
    return asking(client_of(library, world, transport))


def httpx_retries(library: str, world: World) -> Call:
    from httpx_retries import RetryTransport

    return asking(client_of(library, world, RetryTransport(transport=transport_of(library))))


def interlock(library: str, world: World) -> Call:
    module = importlib.import_module(f"interlock.integrations.{library}")
    kind = (
        module.AsyncCircuitBreakerTransport if world == "async" else module.CircuitBreakerTransport
    )
    return asking(client_of(library, world, kind(transport_of(library))))


def clientwright(library: str, world: World) -> Call:
    """It makes the client itself, with a transport of its own around the one that sends."""
    from clientwright import ClientConfig, build, build_sync

    make = build if world == "async" else build_sync
    client = make(library, ClientConfig(service_name="shop", base_url="http://shop.test"))
    client._transport._inner = transport_of(library)
    return asking(client)


def case(library: str, world: World) -> Case:
    entries = [
        Entry(FLOOR, lambda: bare(library, world), by_hand=True),
        Entry(OURS, lambda: ours(library, world)),
        Entry(BARE, lambda: ours(library, world, policy=None), "no policy", by_hand=True),
        Entry("clientwright", lambda: clientwright(library, world), "no limit, no budget"),
        Entry("interlock-cb", lambda: interlock(library, world), "a breaker alone"),
    ]
    if library == "httpx":
        retries = Entry("httpx-retries", lambda: httpx_retries(library, world), "retries alone")
        entries.append(retries)
    return Case("http_clients", f"{library} request", world, tuple(entries), loops=("asyncio",))


def session(adapter: Any) -> Call:
    """One GET of a session with *adapter*, its own if that is None."""
    import requests

    url, made = loopback.url(), requests.Session()
    made.trust_env = False
    if adapter is not None:
        made.mount("http://", adapter)
    return lambda: made.get(url)


def ours_of_requests(**settings: Any) -> Call:
    from resilient.integrations.requests import ResilientAdapter

    return session(ResilientAdapter(**settings))


def urllib3_retry() -> Call:
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    return session(HTTPAdapter(max_retries=Retry(2, backoff_factor=0.1, status_forcelist={503})))


class Server(asyncio.Protocol):
    """Answers every part that comes, which is a request on loopback."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n19.9")


_sessions: set[asyncio.Task[None]] = set()
"""One for each entry, until its loop ends it."""


async def over_loopback(make: Callable[[], Any]) -> Call:
    """One GET of the client that *make* makes, with a server of its own."""
    ready: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

    async def live() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Server, "127.0.0.1", 0) as server, make() as client:
            url = "http://{}:{}/price".format(*server.sockets[0].getsockname())

            async def ask() -> None:
                async with client.get(url) as answer:
                    await answer.read()

            ready.set_result(ask)
            await loop.create_future()

    _sessions.add(task := asyncio.create_task(live()))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    return ready.result() if ready.done() else await task  # type: ignore[func-returns-value]


def aiohttp_alone() -> Awaitable[Call]:
    import aiohttp

    return over_loopback(aiohttp.ClientSession)


def aiohttp_ours(**settings: Any) -> Awaitable[Call]:
    import aiohttp

    from resilient.integrations.aiohttp import ResilientMiddleware

    middleware = ResilientMiddleware(**settings)
    return over_loopback(lambda: aiohttp.ClientSession(middlewares=(middleware,)))


def aiohttp_retry() -> Awaitable[Call]:
    from aiohttp_retry import ExponentialRetry, RetryClient

    return over_loopback(lambda: RetryClient(retry_options=ExponentialRetry(attempts=3)))


CASES = [
    *(case(library, world) for library in ("httpx2", "httpx") for world in ("async", "sync")),
    Case(
        "http_clients",
        "requests request",
        "sync",
        (
            Entry(FLOOR, lambda: session(None), by_hand=True),
            Entry(OURS, ours_of_requests),
            Entry(BARE, lambda: ours_of_requests(policy=None), "no policy", by_hand=True),
            Entry("urllib3's Retry", urllib3_retry, "retries alone"),
        ),
    ),
    Case(
        "http_clients",
        "aiohttp request",
        "async",
        (
            Entry(FLOOR, aiohttp_alone, by_hand=True),
            Entry(OURS, aiohttp_ours),
            Entry(BARE, lambda: aiohttp_ours(policy=None), "no policy", by_hand=True),
            Entry("aiohttp-retry", aiohttp_retry, "retries alone"),
        ),
        loops=("asyncio",),
    ),
]

"""Three clients in a row over a service that is dead, over gRPC, and over gRPC and HTTP in turns:
one of them repeats, not each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import httpx2
import pytest
from grpc import StatusCode

from resilient import bulkhead, deadline, pipeline, remaining, retry
from resilient.integrations import grpc as ours
from resilient.integrations import httpx2 as ours_http
from resilient.integrations.asgi import ResilientMiddleware
from tests.integrations.test_asgi import answer

pytestmark = pytest.mark.real_clock  # gRPC has its own

ONE = "/shop.Cart/One"
Ask = Callable[[], Any]
DEAD = (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNKNOWN)


def again(on: Any) -> Any:
    return retry(on=on, attempts=3, wait=0, budget=None)


@contextmanager
def served(stack: ExitStack, handle: Callable[[Any], bytes]) -> Any:
    """A gRPC server whose handler is *handle*; yields how to ask it, with three attempts."""

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _request, context: handle(context))

    pool = stack.enter_context(ThreadPoolExecutor(4))
    server = grpc.server(pool, (Handlers(),), ours.server_interceptors())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield asking(stack, f"127.0.0.1:{port}")
    finally:
        assert server.stop(None).wait(10)


def asking(stack: ExitStack, target: str, policy: Any = None) -> Ask:
    interceptors = ours.client_interceptors(
        policy=policy or again(ours.TRANSIENT), idempotent={ONE}
    )
    bare = stack.enter_context(grpc.insecure_channel(target))
    call = grpc.intercept_channel(bare, *interceptors).unary_unary(ONE)
    return lambda: call(b"")


@pytest.mark.rule("W25", "W8", "W40")
@pytest.mark.parametrize("dead", DEAD)
def test_three_attempts_reach_the_bottom(dead: StatusCode, caplog: Any) -> None:
    asked: list[int] = []

    def bottom(context: Any) -> bytes:
        asked.append(1)
        context.abort(dead, "dead")
        return b""

    caplog.set_level("CRITICAL")
    with ExitStack() as stack:
        last = stack.enter_context(served(stack, bottom))
        middle = stack.enter_context(served(stack, lambda _context: last()))
        edge = stack.enter_context(served(stack, lambda _context: middle()))
        with pytest.raises(grpc.RpcError):
            edge()
        assert len(asked) == 3


@pytest.mark.rule("W25", "W8")
def test_three_attempts_at_a_port_where_nobody_listens(caplog: Any) -> None:
    caplog.set_level("CRITICAL")
    places = bulkhead(9)
    with ExitStack() as stack:
        last = asking(stack, "127.0.0.1:1", pipeline(again(ours.TRANSIENT), places))
        edge = stack.enter_context(served(stack, lambda _context: last()))
        with pytest.raises(grpc.RpcError):
            edge()
        assert places.stats().calls == 3


@pytest.mark.rule("W25", "W8")
def test_http_over_grpc(caplog: Any) -> None:
    """A gRPC service asks one of HTTP that is dead."""
    asked: list[int] = []

    def bottom(_request: Any) -> Any:
        asked.append(1)
        return httpx2.Response(503)

    caplog.set_level("CRITICAL")
    transport = ours_http.ResilientTransport(
        httpx2.MockTransport(bottom), policy=again(ours_http.TRANSIENT)
    )
    with ExitStack() as stack:
        client = stack.enter_context(
            httpx2.Client(transport=transport, base_url="http://next.test")
        )

        def ask(_context: Any) -> bytes:
            return client.get("/").raise_for_status().content

        middle = stack.enter_context(served(stack, ask))
        edge = stack.enter_context(served(stack, lambda _context: middle()))
        with pytest.raises(grpc.RpcError):
            edge()
        assert len(asked) == 3


@pytest.mark.rule("W25", "W8")
def test_grpc_over_http(caplog: Any) -> None:
    """A service of HTTP asks one of gRPC that is dead."""
    asked: list[int] = []

    def bottom(context: Any) -> bytes:
        asked.append(1)
        context.abort(StatusCode.UNAVAILABLE, "dead")
        return b""

    caplog.set_level("CRITICAL")
    with ExitStack() as stack:
        last = stack.enter_context(served(stack, bottom))

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send, 200, await asyncio.to_thread(last))

        async def main() -> int:
            inner = httpx2.ASGITransport(ResilientMiddleware(app), raise_app_exceptions=False)
            transport = ours_http.ResilientTransport(inner, policy=again(ours_http.TRANSIENT))
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://next.test"
            ) as client:
                return (await client.get("/")).status_code

        assert asyncio.run(main()) == 500
        assert len(asked) == 3


@pytest.mark.rule("W11", "W22", "W23")
def test_a_hint_and_a_deadline_pass_through() -> None:
    left: list[float] = []

    def bottom(context: Any) -> bytes:
        left.append(remaining())
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "2500"),))
        context.abort(StatusCode.RESOURCE_EXHAUSTED, "busy")
        return b""

    with ExitStack() as stack:
        last = stack.enter_context(served(stack, bottom))
        middle = stack.enter_context(served(stack, lambda _context: last()))
        with pytest.raises(grpc.RpcError) as caught, deadline(0.9):
            middle()
        error: Any = caught.value
        assert (error.code(), error.retry_after) == (StatusCode.UNAVAILABLE, 2.5)
        assert 0 < left[0] <= 0.9 - 2 * 0.005

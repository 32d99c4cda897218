"""Real gRPC on loopback: a server that does what it is told, and callers of both kinds.

``with Service() as service`` is a sync server, which answers both. `play` runs a scenario with a
`Caller`: an ``async def`` that waits on a loop, or, in plain threads, is driven by hand.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc
import pytest
from grpc import StatusCode

from resilient.integrations.grpc import aio_client_interceptors, client_interceptors
from tests.worlds import drive

KINDS = {
    "One": grpc.unary_unary_rpc_method_handler,
    "Many": grpc.unary_stream_rpc_method_handler,
    "Sum": grpc.stream_unary_rpc_method_handler,
    "Chat": grpc.stream_stream_rpc_method_handler,
}
PUSHBACK = "grpc-retry-pushback-ms"


def asks_to_wait(milliseconds: object) -> tuple[tuple[str, str], ...]:
    return ((PUSHBACK, str(milliseconds)),)


NOW = asks_to_wait(0)
DOWN = StatusCode.UNAVAILABLE


def eventually(done: Callable[[], bool]) -> None:
    """Wait for what another thread does just now."""
    for _ in range(2000):
        if done():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it does not come")


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
    """It answers by its *script*, the last entry again and again: a message, a status, a status
    with trailing metadata, or what a function of the messages and the context gives. A stream's
    entry is a tuple of such.
    """

    def __init__(self, *script: Any, interceptors: Any = ()) -> None:
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.over = threading.Event()
        self._pool = ThreadPoolExecutor(20)
        self._server = grpc.server(self._pool, (self,), interceptors)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        assert self._server.stop(None).wait(10), "the server does not end"
        self._pool.shutdown()

    def attempts(self) -> list[Any]:
        return [one.get("x-request-attempt") for one in self.asked]

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        kind = details.method.rpartition("/")[2]
        if kind not in KINDS:
            return None
        return KINDS[kind](self._many if kind in {"Many", "Chat"} else self._one)

    def _entry(self, messages: Any, context: Any) -> Any:
        told = dict(context.invocation_metadata())
        self.asked.append({"time_remaining": context.time_remaining(), **told})
        if not isinstance(messages, bytes):
            messages = list(messages)  # an async client takes an early end for an error of its own
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return entry(messages, context) if callable(entry) else entry

    def _one(self, messages: Any, context: Any) -> bytes:
        return self._say(self._entry(messages, context), context)

    def _many(self, messages: Any, context: Any) -> Iterator[bytes]:
        for one in self._entry(messages, context):
            yield self._say(one, context)

    def _say(self, entry: Any, context: Any) -> bytes:
        if isinstance(entry, bytes):
            return entry
        code, trailing = entry if isinstance(entry, tuple) else (entry, ())
        context.set_trailing_metadata(trailing)
        context.abort(code, "as told")
        raise AssertionError("abort raises")

    def hangs(self, messages: Any, context: Any) -> bytes:
        """An entry that answers nothing while its caller waits."""
        gone = threading.Event()
        if context.add_callback(gone.set):
            while not self.over.wait(0.002) and not gone.is_set():
                pass
        return b""


class Caller:
    """A channel with interceptors, whose calls are awaited in both worlds."""

    def __init__(self, channel: Any, interceptors: list[Any], *, is_async: bool) -> None:
        self.channel, self.interceptors, self.is_async = channel, interceptors, is_async
        self.policy: Any = interceptors[0].policy if interceptors else None

    async def one(self, message: bytes = b"", **settings: Any) -> Any:
        """A call with one message there and one back."""
        done = self.channel.unary_unary("/shop.Cart/One")(message, **settings)
        return await done if self.is_async else done

    def many(self, **settings: Any) -> Any:
        """A call with many messages back."""
        return self.channel.unary_stream("/shop.Cart/Many")(b"", **settings)

    async def sum(self, *messages: bytes) -> Any:
        """A call with many messages there."""
        done = self.channel.stream_unary("/shop.Cart/Sum")(iter(messages))
        return await done if self.is_async else done

    def chat(self, *messages: bytes) -> Any:
        """A call with many messages both ways."""
        return self.channel.stream_stream("/shop.Cart/Chat")(iter(messages))

    async def read(self, call: Any) -> list[bytes]:
        """Every message of a call, or its error."""
        if self.is_async:
            return [message async for message in call]
        return list(call)

    async def next(self, call: Any) -> Any:
        """The next message of a call."""
        return await call.read() if self.is_async else next(call)


@asynccontextmanager
async def calling(target: str, interceptors: list[Any]) -> AsyncIterator[Caller]:
    """A caller on the loop that runs."""
    async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
        yield Caller(channel, interceptors, is_async=True)


def play(
    world: str,
    target: str,
    scenario: Callable[[Caller], Awaitable[None]],
    **settings: Any,
) -> None:
    """Run *scenario* in *world*, with a caller of these settings."""
    if world == "threads":
        with grpc.insecure_channel(target, options=[("grpc.enable_retries", 0)]) as channel:
            ours = client_interceptors(**settings)
            caller = Caller(grpc.intercept_channel(channel, *ours), ours, is_async=False)
            drive(scenario(caller))
        return

    async def main() -> None:
        async with calling(target, aio_client_interceptors(**settings)) as caller:
            await scenario(caller)

    if world == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    else:
        asyncio.run(main())

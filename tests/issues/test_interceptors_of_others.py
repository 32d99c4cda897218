"""With an interceptor of others beside ours, calls of gRPC broke with an ``AttributeError``, and
failures were not seen: it may raise errors without a status, and give messages without a call.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from resilient import breaker, bulkhead, fallback, pipeline
from resilient.integrations.grpc import TRANSIENT, aio_client_interceptors, client_interceptors
from tests.integrations.grpc_service import DOWN, Caller, Service, calling
from tests.worlds import drive

pytestmark = pytest.mark.real_clock  # gRPC has its own

Ask = Callable[[Caller], Any]


async def one(caller: Caller) -> Any:
    return await caller.one()


async def many(caller: Caller) -> Any:
    return await caller.read(caller.many())


async def add(caller: Caller) -> Any:
    return await caller.sum(b"1")


async def chat(caller: Caller) -> Any:
    return await caller.read(caller.chat(b"1"))


each_kind = pytest.mark.parametrize("ask", [one, many, add, chat])


class TheirError(grpc.RpcError):  # type: ignore[misc]  # it has no types
    """Says no status."""


BASES: Any = (
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor, grpc.StreamStreamClientInterceptor,
)  # fmt: skip


class Theirs(*BASES):  # type: ignore[misc]  # they have no types
    def __init__(self, does: Any) -> None:
        self._does = does

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._does(continuation, details, request)

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = (
        intercept_unary_unary
    )


def aio_interceptors(does: Any) -> list[Any]:
    return [
        type(kind, (getattr(grpc.aio, base),), {f"intercept_{kind}": does})()
        for kind, base in {
            "unary_unary": "UnaryUnaryClientInterceptor",
            "unary_stream": "UnaryStreamClientInterceptor",
            "stream_unary": "StreamUnaryClientInterceptor",
            "stream_stream": "StreamStreamClientInterceptor",
        }.items()
    ]


def raises(_continuation: Any, _details: Any, _request: Any) -> Any:
    raise TheirError("no status")


async def raises_async(_self: Any, _continuation: Any, _details: Any, _request: Any) -> Any:
    raise TheirError("no status")


def generates(continuation: Any, details: Any, request: Any) -> Iterator[bytes]:
    """As the instrumentation of OpenTelemetry does."""

    def messages() -> Iterator[bytes]:
        yield from continuation(details, request)

    return messages()


@each_kind
@pytest.mark.rule("W4", "F8")
def test_an_error_without_a_status_reaches_the_caller(ask: Ask) -> None:
    guard = breaker("b")
    ours = client_interceptors(policy=guard)
    with grpc.insecure_channel("127.0.0.1:1") as bare:
        channel = grpc.intercept_channel(bare, *ours, Theirs(raises))
        with pytest.raises(TheirError):
            drive(ask(Caller(channel, ours, is_async=False)))
    assert (guard.stats().failures, guard.stats().in_flight) == (1, 0)


@each_kind
@pytest.mark.rule("W4", "F8")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of grpcio 1.66
def test_an_error_without_a_status_reaches_the_async_caller(ask: Ask) -> None:
    async def main() -> None:
        ours = aio_client_interceptors(policy=guard)
        async with calling("127.0.0.1:1", [*ours, *aio_interceptors(raises_async)]) as caller:
            with pytest.raises(TheirError):
                await ask(caller)

    guard = breaker("b")
    asyncio.run(main())
    gc.collect()
    assert (guard.stats().failures, guard.stats().in_flight) == (1, 0)


@pytest.mark.parametrize("ask", [many, chat])
@pytest.mark.parametrize(("end", "failures"), [(b"2", 0), (DOWN, 1)])
@pytest.mark.rule("W10", "W40")
def test_messages_without_a_call_are_a_stream(ask: Ask, end: Any, failures: int) -> None:
    guard = breaker("b", on=TRANSIENT)
    ours = client_interceptors(policy=pipeline(guard, bulkhead(1)))
    with Service((b"1", end)) as service, grpc.insecure_channel(service.target) as bare:
        channel = grpc.intercept_channel(bare, *ours, Theirs(generates))
        caller = Caller(channel, ours, is_async=False)
        for _ in range(2):  # the place is free as soon as the caller knows of the end
            if failures:
                with pytest.raises(grpc.RpcError):
                    drive(ask(caller))
            else:
                assert drive(ask(caller)) == [b"1", b"2"]
        assert (guard.stats().failures, guard.stats().in_flight) == (2 * failures, 0)
        call = caller.many()
        assert (next(call), guard.stats().in_flight) == (b"1", 1)
        del call
        gc.collect()
        assert guard.stats().in_flight == 0


@each_kind
@pytest.mark.rule("W10", "W40")
def test_a_list_of_ours_around_another_sees_failures(ask: Ask) -> None:
    outer, inner = breaker("outer", on=TRANSIENT), breaker("inner", on=TRANSIENT)
    ours = client_interceptors(policy=outer)
    script = DOWN if ask in {one, add} else (b"1", DOWN)
    with Service(script) as service, grpc.insecure_channel(service.target) as bare:
        channel = grpc.intercept_channel(bare, *ours, *client_interceptors(policy=inner))
        with pytest.raises(grpc.RpcError):
            drive(ask(Caller(channel, ours, is_async=False)))
        assert (inner.stats().failures, outer.stats().failures) == (1, 1)


def broken_with_fallback(value: Any) -> Any:
    broken = breaker("broken")
    broken.force_open()
    return pipeline(fallback(lambda _error: value, on=lambda _error: True), broken)


@pytest.mark.rule("W1")
def test_a_fallback_of_a_stream_is_iterated() -> None:
    ours = client_interceptors(policy=broken_with_fallback([b"1", b"2"]))
    with grpc.insecure_channel("127.0.0.1:1") as bare:
        call = Caller(grpc.intercept_channel(bare, *ours), ours, is_async=False).many()
        assert (next(call), list(call)) == (b"1", [b"2"])
        assert (call.code(), call.time_remaining()) == (grpc.StatusCode.OK, None)
        assert not call.add_callback(list)


@pytest.mark.rule("W1", "W40")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_fallback_of_an_async_stream_is_a_call(kind: str) -> None:
    """The channel could not be closed, and ``call.code()`` broke."""

    async def messages() -> Any:
        for message in (b"1", b"2"):
            yield message

    async def main() -> None:
        value = messages() if kind == "async" else (b"1", b"2")
        ours = aio_client_interceptors(policy=broken_with_fallback(value))
        done: list[Any] = []
        async with calling("127.0.0.1:1", ours) as caller:
            assert await caller.sum(b"1") is value
            call = caller.many()
            call.add_done_callback(done.append)
            await call.wait_for_connection()
            assert await caller.read(call) == [b"1", b"2"]
            assert (await call.code(), await call.details()) == (grpc.StatusCode.OK, "")
            assert await call.debug_error_string() == ""
            assert not list(await call.initial_metadata())
            assert not list(await call.trailing_metadata())
            assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
            assert done == [call]

    asyncio.run(main())

"""The interceptors of gRPC's servers: sync, async, and sync handlers on async servers, asked by a
client of the library's own on loopback.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Self

import grpc
import pytest
from grpc import StatusCode

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    breaker,
    bulkhead,
    rate_limit,
    remaining,
    retry,
)
from resilient.integrations._client.met import Met, note
from resilient.integrations._grpc.hints import hint_of
from resilient.integrations._grpc.server import GrpcServer
from resilient.integrations.grpc import aio_server_interceptors, server_interceptors
from resilient.integrations.http import current_attempt
from tests.integrations.grpc_service import KINDS, PUSHBACK, eventually

pytestmark = pytest.mark.real_clock  # gRPC has its own

Body = Callable[[Any, Any], Any]


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
    """One body, as the handler of every kind of call; a stream's gives an iterator."""

    serializer: Any = None

    def __init__(self, body: Body, *, is_async: bool) -> None:
        self._body, self._is_async = body, is_async

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        kind = details.method.rpartition("/")[2]
        if kind not in KINDS:
            return None
        if not self._is_async:
            fn = self._body
        else:
            fn = self._generated if kind in {"Many", "Chat"} else self._awaited
        return KINDS[kind](fn, response_serializer=self.serializer)

    async def _awaited(self, request: Any, context: Any) -> Any:
        if not isinstance(request, bytes):
            request = [message async for message in request]
        found = self._body(request, context)
        return await found if inspect.isawaitable(found) else found

    async def _generated(self, request: Any, context: Any) -> Any:
        for message in self._body(request, context):
            yield message


class Server:
    """A server of one *side* on loopback, and a channel to it."""

    def __init__(self, side: str, body: Body, **settings: Any) -> None:
        self._is_aio, self._pool = side != "sync", ThreadPoolExecutor(4)
        self._handlers = Handlers(body, is_async=side == "aio")
        make = aio_server_interceptors if self._is_aio else server_interceptors
        self.interceptors = make(**settings)
        self._ready, self._ends = threading.Event(), asyncio.Event()

    def __enter__(self) -> Self:
        if self._is_aio:
            self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
            self._thread.start()
            assert self._ready.wait(10), "the server does not start"
        else:
            self._server = grpc.server(self._pool, (self._handlers,), self.interceptors)
            self._port = self._server.add_insecure_port("127.0.0.1:0")
            self._server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self._port}")
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        if self._is_aio:
            self._loop.call_soon_threadsafe(self._ends.set)
            self._thread.join(10)
            assert not self._thread.is_alive(), "the server does not end"
        else:
            assert self._server.stop(None).wait(10), "the server does not end"
        self._pool.shutdown()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = grpc.aio.server(self._pool, (self._handlers,), self.interceptors)
        self._port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._ready.set()
        await self._ends.wait()
        await server.stop(None)

    def one(self, message: bytes = b"", **settings: Any) -> Any:
        return self.channel.unary_unary("/shop.Cart/One")(message, **settings)

    def many(self, **settings: Any) -> Any:
        return self.channel.unary_stream("/shop.Cart/Many")(b"", **settings)

    def settled(self, **totals: int) -> None:
        """Wait for the totals, which a call's end in the server may follow its status."""

        def are_so() -> bool:
            stats = self.interceptors[0].stats()
            return all(getattr(stats, name) == value for name, value in totals.items())

        eventually(are_so)


Serve = Callable[..., Server]


@pytest.fixture(params=["sync", "aio", "sync on aio"])
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve(side: str) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda body, **settings: stack.enter_context(Server(side, body, **settings))


# W20 to W22: the limit.


class Context:
    """A stand-in for the context of a call: what the wire can't be made to say on loopback."""

    def __init__(self, left: float | None, peer: str = "ipv4:127.0.0.1:5", *told: Any) -> None:
        self._left, self._peer, self._told = left, peer, told

    def time_remaining(self) -> float | None:
        return self._left

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._told


def server(**settings: Any) -> GrpcServer:
    usual: dict[str, Any] = {
        "timeout": None, "limit": None, "trust": None, "max_deadline": 300.0, "margin": 0.005,
        "name": None,
    }  # fmt: skip
    return GrpcServer(**{**usual, **settings})


@pytest.mark.rule("W20", "W22")
@pytest.mark.parametrize(
    ("left", "settings", "seconds"),
    [
        (None, {}, math.inf),
        (9.2e18, {}, math.inf),  # what a sync server says
        (0.5, {}, 0.495),
        (0.01, {}, 0.009),
        (0.5, {"margin": 0.2}, 0.45),
        (2, {}, 1.985),
        (20, {}, 19.895),
        (200, {}, 198.995),
        (1000, {}, 298.995),
        (0, {}, 0),
        (None, {"timeout": 3}, 3),
        (0.5, {"timeout": 3}, 0.495),
        (200, {"timeout": lambda context: 4 if context.peer() else None}, 4),
        (0.5, {"trust": False}, math.inf),
    ],
)
def test_the_limit_of_a_call(left: float | None, settings: Any, seconds: float) -> None:
    block, _ = server(**settings).arrived(Context(left))
    assert block.seconds == pytest.approx(seconds)


@pytest.mark.rule("W21")
@pytest.mark.parametrize(
    ("peer", "counts"),
    [
        ("ipv4:127.0.0.1:5", True),
        ("ipv4:10.1.2.3:5", True),
        ("ipv6:[::1]:5", True),
        ("ipv6:%5B::1%5D:5", True),
        ("ipv6:[::ffff:127.0.0.1]:5", True),
        ("unix:/run/x", True),
        ("unix-abstract:x", True),
        ("inproc", True),
        ("ipv4:8.8.8.8:5", False),
        ("ipv6:[2001:4860::8]:5", False),
        ("vsock:3:5", False),
    ],
)
def test_whose_limits_count(peer: str, counts: bool) -> None:
    one = server()
    block, request = one.arrived(Context(0.5, peer, ("x-request-attempt", "3")))
    assert (block.seconds < math.inf) is counts
    assert request.attempt == (3 if counts else 1)
    assert one.stats().ignored_headers == (not counts)
    one.arrived(Context(None, peer))
    assert one.stats().ignored_headers == (not counts)


@pytest.mark.rule("W21", "W22", "F7")
@pytest.mark.parametrize("make", [server_interceptors, aio_server_interceptors])
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"timeout": "1"}, TypeError, "timeout must be"),
        ({"limit": breaker("b")}, TypeError, "limit must be a bulkhead, rate limit"),
        ({"trust": 1}, TypeError, "trust must be True, False, or a predicate"),
        ({"max_deadline": 0}, ValueError, "max_deadline must be"),
        ({"margin": -1}, ValueError, "margin must be"),
        ({"name": 5}, TypeError, "name must be a string"),
    ],
)
def test_bad_settings(make: Any, settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(**settings)


@pytest.mark.rule("W22")
def test_the_handler_sees_what_its_caller_leaves(serve: Serve) -> None:
    with_limits = serve(lambda _request, _context: f"{remaining()}".encode())
    assert 4 < float(with_limits.one(timeout=5)) < 5 - 0.004  # gRPC counts in milliseconds
    assert float(with_limits.one()) == math.inf


@pytest.mark.rule("W20")
def test_what_has_expired_does_not_run(serve: Serve) -> None:
    ran: list[int] = []
    one = serve(lambda *_: ran.append(1), timeout=1e-9)
    with pytest.raises(grpc.RpcError) as caught:
        one.one()
    assert (caught.value.code(), caught.value.details()) == (
        StatusCode.DEADLINE_EXCEEDED, "deadline exceeded"
    )  # fmt: skip
    assert not ran
    one.settled(requests=1, not_started=1, deadline_exceeded=0, in_flight=0)


@pytest.mark.rule("W22", "W43")
def test_the_limit_cancels_an_async_handler() -> None:
    with Server("aio", lambda *_: asyncio.sleep(60), timeout=0.02) as one:
        with pytest.raises(grpc.RpcError) as caught:
            one.one()
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
        one.settled(deadline_exceeded=1, not_started=0, in_flight=0)


@pytest.mark.rule("W22", "D4")
@pytest.mark.parametrize("side", ["sync", "sync on aio"])
def test_a_limit_does_not_stay_in_the_threads_of_the_server(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not between two messages, when the server's own work is done."""
    outside: list[float] = []

    def serializes(message: bytes) -> bytes:
        outside.append(remaining())
        return message

    def body(_request: Any, _context: Any) -> Any:
        found = f"{remaining()}".encode()
        return iter((found, found))

    monkeypatch.setattr(Handlers, "serializer", staticmethod(serializes))
    one = serve(body)
    for _ in range(3):
        assert all(float(left) < 5 for left in one.many(timeout=5))
        assert all(float(left) == math.inf for left in one.many())
    assert outside == [math.inf] * 12


# W23, W43: what is answered.


class TheirError(Exception):
    """A stand-in for what a library raises for an answer."""


def met(status: int, retry_after: float | None) -> Exception:
    """What a client of ours has met."""
    error = TheirError("inside")
    note(error, Met(status, retry_after))
    return error


@pytest.mark.rule("W23", "W43")
@pytest.mark.parametrize(
    ("error", "code", "retry_after"),
    [
        (CircuitOpen("inside", 2.5, "open"), StatusCode.UNAVAILABLE, 2.5),
        (CircuitOpen("inside", None, "forced_open"), StatusCode.UNAVAILABLE, 1),
        (BulkheadFull("inside", None), StatusCode.RESOURCE_EXHAUSTED, 1),
        (RateLimited("inside", 0.25), StatusCode.RESOURCE_EXHAUSTED, 0.25),
        (Overloaded("inside", None), StatusCode.RESOURCE_EXHAUSTED, 1),
        (DeadlineExceeded("inside", 1, 1, True), StatusCode.DEADLINE_EXCEEDED, None),
        (
            ExceptionGroup("inside", [BulkheadFull("inside"), CircuitOpen("inside")]),
            StatusCode.RESOURCE_EXHAUSTED,
            1,
        ),
        (met(504, None), StatusCode.DEADLINE_EXCEEDED, None),
        (met(503, 3), StatusCode.UNAVAILABLE, 3),
    ],
    ids=repr,
)
def test_the_status_of_an_error(
    serve: Serve, error: Exception, code: StatusCode, retry_after: float | None
) -> None:
    def body(_request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("x-mine", "kept"),))
        raise error

    one = serve(body)
    with pytest.raises(grpc.RpcError) as caught:
        one.one()
    assert caught.value.code() is code
    assert caught.value.details() == code.value[1]
    trailing = caught.value.trailing_metadata()
    assert hint_of(trailing).retry_after == retry_after
    assert hint_of([pair for pair in trailing if pair[0] != PUSHBACK]).retry_after == retry_after
    assert b"inside" not in repr(trailing).encode()
    late = code is StatusCode.DEADLINE_EXCEEDED
    one.settled(rejected=not late, deadline_exceeded=late, in_flight=0)


@pytest.mark.rule("W23")
def test_what_the_handler_says_itself_stands(serve: Serve, caplog: Any) -> None:
    def aborts(_request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("x-mine", "kept"),))
        return context.abort(StatusCode.UNAVAILABLE, "mine")

    def breaks(_request: Any, _context: Any) -> Any:
        raise KeyError("mine")

    caplog.set_level(logging.CRITICAL)
    for body, code in ((aborts, StatusCode.UNAVAILABLE), (breaks, StatusCode.UNKNOWN)):
        one = serve(body)
        with pytest.raises(grpc.RpcError, match="mine") as caught:
            one.one()
        assert caught.value.code() is code
        assert PUSHBACK not in dict(caught.value.trailing_metadata())
        one.settled(requests=1, rejected=0, in_flight=0)


@pytest.mark.rule("W40")
def test_all_four_kinds(side: str, serve: Serve) -> None:
    def body(request: Any, _context: Any) -> Any:
        assert remaining() < 5
        return iter((b"1", b"2")) if request == b"" else b"".join(request)

    one = serve(body)
    assert list(one.many(timeout=5)) == [b"1", b"2"]
    add = one.channel.stream_unary("/shop.Cart/Sum")
    assert add(iter((b"a", b"b")), timeout=5) == b"ab"
    with pytest.raises(grpc.RpcError) as caught:
        one.channel.unary_unary("/shop.Cart/None")(b"")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED

    def echo(request: Any, _context: Any) -> Any:
        return iter(request)

    if side != "aio":  # whose requests are an async iterator
        chat = serve(echo).channel.stream_stream("/shop.Cart/Chat")
        assert list(chat(iter((b"a", b"b")), timeout=5)) == [b"a", b"b"]


@pytest.mark.rule("W23", "W43")
def test_a_stream_that_breaks_says_why(serve: Serve) -> None:
    def body(_request: Any, _context: Any) -> Iterator[bytes]:
        yield b"1"
        raise CircuitOpen("inside", 2, "open")

    one = serve(body)
    call = one.many()
    assert next(call) == b"1"
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert hint_of(caught.value.trailing_metadata()).retry_after == 2


@pytest.mark.rule("W43")
@pytest.mark.parametrize("side", ["sync", "aio"])  # the context of the third does not tell
@pytest.mark.parametrize("details", ["mine", ""])
def test_a_status_that_was_set_stands(serve: Serve, details: str) -> None:
    def fails(_request: Any, context: Any) -> Any:
        context.set_code(StatusCode.NOT_FOUND)
        context.set_details(details)
        raise CircuitOpen("inside", 2, "open")

    def is_well(_request: Any, context: Any) -> Any:
        context.set_code(StatusCode.OK)
        raise CircuitOpen("inside", 2, "open")

    for body, code in ((fails, StatusCode.NOT_FOUND), (is_well, StatusCode.UNAVAILABLE)):
        one = serve(body)
        for ask in (one.one, lambda one=one: list(one.many())):
            with pytest.raises(grpc.RpcError) as caught:
                ask()
            assert caught.value.code() is code
            assert "inside" not in caught.value.details()
        one.settled(rejected=2 * (body is is_well), in_flight=0)


@pytest.mark.rule("W43")
def test_an_abort_that_is_swallowed_stands() -> None:
    async def swallows(context: Any) -> Any:
        with suppress(grpc.aio.AbortError):
            await context.abort(StatusCode.NOT_FOUND, "mine")
        raise CircuitOpen("inside", 2, "open")

    with Server("aio", lambda _request, context: swallows(context)) as one:
        with pytest.raises(grpc.RpcError, match="mine") as caught:
            one.one()
        assert caught.value.code() is StatusCode.NOT_FOUND
        one.settled(requests=1, rejected=0, in_flight=0)


# W24: the server's own limit.


@pytest.mark.rule("W24", "W43")
def test_what_the_limit_refuses_is_shed(serve: Serve) -> None:
    ran: list[int] = []

    def body(_request: Any, _context: Any) -> bytes:
        ran.append(1)
        return b""

    one = serve(body, limit=rate_limit(1, per=60, burst=1, max_wait=0))
    one.one()
    with pytest.raises(grpc.RpcError) as caught:
        one.one()
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert 58 < (hint_of(caught.value.trailing_metadata()).retry_after or 0) <= 60
    assert ran == [1]
    one.settled(requests=2, shed=1, rejected=0, in_flight=0)


@pytest.mark.rule("W24")
def test_the_limit_is_asked_with_the_details_of_the_call(serve: Serve) -> None:
    limit = bulkhead(1, key=lambda details: details.method)
    serve(lambda *_: b"", limit=limit).one()
    assert limit.keys() == ["/shop.Cart/One"]


@pytest.mark.rule("W24")
def test_a_stream_holds_its_place_until_it_has_ended(serve: Serve) -> None:
    limit, goes_on = bulkhead(1), threading.Event()

    def body(_request: Any, _context: Any) -> Iterator[bytes]:
        yield b"1"
        goes_on.wait(10)
        yield b"2"

    one = serve(body, limit=limit)
    call = one.many()
    assert next(call) == b"1"
    assert limit.stats().in_flight == 1
    goes_on.set()
    assert list(call) == [b"2"]
    one.settled(in_flight=0)
    assert limit.stats().in_flight == 0


# W25: whether another attempt is of use.


@pytest.mark.rule("W25")
def test_a_call_that_is_used_up_is_marked(side: str, serve: Serve, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL)

    @retry(on=OSError, attempts=2, wait=0, budget=None)
    def inner() -> None:
        raise OSError("down")

    def breaks(_request: Any, context: Any) -> bytes:
        context.set_trailing_metadata((("x-mine", "kept"),))
        inner()
        return b""

    def fails(_request: Any, context: Any) -> bytes:
        with suppress(OSError):
            inner()
        context.set_code(StatusCode.UNAVAILABLE)
        return b""

    def recovers(_request: Any, _context: Any) -> bytes:
        with suppress(OSError):
            inner()
        return b"well"

    def aborts(_request: Any, context: Any) -> bytes:
        with suppress(OSError):
            inner()
        context.set_trailing_metadata((("x-mine", "kept"),))
        return context.abort(StatusCode.UNAVAILABLE, "mine")  # type: ignore[no-any-return]  # raises

    if side != "sync on aio":  # whose context does not tell the code
        with pytest.raises(grpc.RpcError, match="mine") as caught:
            serve(aborts).one()
        assert dict(caught.value.trailing_metadata()) == {"x-mine": "kept"}
    for body in (breaks, fails):
        if side == "sync on aio" and body is fails:
            continue
        with pytest.raises(grpc.RpcError) as caught:
            serve(body).one()
        trailing = dict(caught.value.trailing_metadata())
        assert trailing[PUSHBACK] == "-1"
        assert side == "sync on aio" or body is fails or trailing["x-mine"] == "kept"
    assert serve(recovers).one() == b"well"


# W26: a caller that leaves.


@pytest.mark.rule("W26", "B9")
def test_a_caller_that_leaves_cancels_an_async_handler() -> None:
    guard, runs = breaker("b"), threading.Event()

    async def hangs() -> None:
        async with guard:
            runs.set()
            await asyncio.sleep(60)

    with Server("aio", lambda *_: hangs(), limit=bulkhead(1)) as one:
        call = one.channel.unary_unary("/shop.Cart/One").future(b"")
        assert runs.wait(10)
        call.cancel()
        one.settled(disconnected=1, in_flight=0)
        assert (guard.stats().ignored, guard.stats().failures) == (1, 0)


@pytest.mark.rule("W26")
@pytest.mark.parametrize("side", ["sync", "aio"])  # an async server runs a sync handler to its end
def test_a_stream_whose_caller_leaves_gives_its_place_back(serve: Serve) -> None:
    limit = bulkhead(1)

    def body(_request: Any, _context: Any) -> Iterator[bytes]:
        while True:
            yield b"1"

    one = serve(body, limit=limit)
    call = one.many()
    assert next(call) == b"1"
    call.cancel()
    one.settled(in_flight=0, disconnected=1)
    assert limit.stats().in_flight == 0


# W29: what the handler may ask.


@pytest.mark.rule("W29")
def test_which_attempt_it_is(serve: Serve) -> None:
    one = serve(lambda *_: str(current_attempt()).encode(), name="shop")
    assert one.one() == b"1"
    assert one.one(metadata=[("x-request-attempt", "3")]) == b"3"
    assert one.one(metadata=[("x-request-attempt", "many")]) == b"1"
    one.settled(name="shop", requests=3, in_flight=0)  # type: ignore[arg-type]  # a str
    assert current_attempt() == 1

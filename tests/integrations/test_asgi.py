"""The ASGI middleware around applications of a few lines, in virtual time, on asyncio and trio."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    DeadlineExceeded,
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    rate_limit,
    remaining,
    retry,
    throttle,
    timeout,
)
from resilient.integrations.asgi import ResilientMiddleware
from resilient.integrations.http import Wire, current_attempt
from resilient.testing import virtual_time
from tests.worlds import World, world_named

App = Callable[..., Awaitable[None]]
IN_MS = Wire("X-Left", "ms")


@pytest.fixture(params=["asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_named(request.param) as one:
        yield one


class Peer:
    """A caller of one request: what it sends, when it leaves, and what it is sent."""

    def __init__(
        self,
        *headers: tuple[str, str],
        method: str = "GET",
        client: tuple[str, int] | None = ("127.0.0.1", 1),
        body: list[bytes] | None = None,
        leaves_at: float | None = None,
        kind: str = "http",
        **scope: Any,
    ) -> None:
        self.scope = {
            "type": kind,
            "method": method,
            "path": "/",
            "client": client,
            "headers": [
                (name.lower().encode(), value.encode("latin-1")) for name, value in headers
            ],
            **scope,
        }
        parts = [b""] if body is None else body
        self._to_send = deque(
            {"type": "http.request", "body": part, "more_body": part is not parts[-1]}
            for part in parts
        )
        self._leaves_at = leaves_at
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if self._to_send:
            return self._to_send.popleft()
        if self._leaves_at is None:
            await anyio.sleep_forever()
        await anyio.sleep(self._leaves_at or 0)
        self._leaves_at = 0
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def ask(self, app: App) -> Peer:
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def answer(send: Any, status: int = 200, body: bytes = b"hello") -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


def app_of(work: Callable[[], Awaitable[Any]]) -> App:
    """An application that answers when *work* is done, with what it gives."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        result = await work()
        await answer(send, body=repr(result).encode())

    return app


async def left() -> float:
    return round(remaining(99), 3)


async def sleeps() -> None:
    await anyio.sleep(60)


# W20, W22: the limit.


@pytest.mark.rule("W20", "W22")
@pytest.mark.parametrize(
    ("headers", "settings", "seconds", "ignored"),
    [
        ([], {}, 99, 0),
        ([], {"timeout": 2}, 2, 0),
        ([("X-Request-Timeout", "4")], {}, 3.995, 0),
        ([("X-Request-Timeout", " 0.5\t")], {}, 0.495, 0),
        ([("X-Request-Timeout", "0.010")], {}, 0.009, 0),  # a tenth, if that is less
        ([("X-Request-Timeout", "4")], {"margin": 1}, 3.6, 0),
        ([("X-Request-Timeout", "4")], {"margin": 0}, 4, 0),
        ([("X-Request-Timeout", "4")], {"timeout": 2}, 2, 0),
        ([("X-Request-Timeout", "4")], {"timeout": lambda scope: len(scope["path"])}, 1, 0),
        ([("X-Request-Timeout", "4")], {"timeout": lambda _: None}, 3.995, 0),
        ([("X-Request-Timeout", "60")], {"max_deadline": 8}, 7.995, 0),
        ([("Request-Timeout", "3")], {}, 2.995, 0),
        ([("x-envoy-expected-rq-timeout-ms", "2000")], {}, 1.995, 0),
        ([("Request-Timeout", "3"), ("X-Request-Timeout", "2")], {}, 1.995, 0),
        ([("X-Left", "2000"), ("X-Request-Timeout", "1")], {"wire": IN_MS}, 1.995, 0),
        ([("X-Request-Timeout", "4")], {"wire": None}, 99, 0),
        ([("X-Request-Timeout", "4")], {"wire": Wire(timeout=None)}, 99, 0),
        ([("X-Request-Timeout", "4"), ("X-Request-Timeout", "4")], {}, 99, 1),
        *[
            ([("X-Request-Timeout", bad)], {}, 99, 1)
            for bad in ("-1", "+1", "1e3", "inf", "nan", "", "1,5", ".5", "5.", "1234567890", "1 2",
                        "\u00b2", "0x10", "1.1234567891")
        ],
        ([("x-envoy-expected-rq-timeout-ms", "1.5")], {}, 99, 1),
        ([("X-Request-Timeout", "soon"), ("Request-Timeout", "3")], {}, 2.995, 1),
    ],
)  # fmt: skip
def test_how_long_a_request_may_take(
    world: World, headers: Any, settings: Any, seconds: float, ignored: int
) -> None:
    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(app_of(left), **settings)
        peer = await Peer(*headers).ask(guarded)
        assert float(peer.body) == pytest.approx(seconds, abs=0.0011)
        assert guarded.stats().ignored_headers == ignored

    world.run(scenario)


@pytest.mark.rule("W20")
@pytest.mark.parametrize("zero", ["0", "0.0", "000.000"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_caller_that_has_given_up_is_not_served(world: World, zero: str, kind: str) -> None:
    async def scenario(_: World) -> None:
        served: list[Any] = []

        async def app(*args: Any) -> None:
            served.append(args)

        guarded = ResilientMiddleware(app)
        denial: dict[str, Any] = {"websocket.http.response": {}}
        peer = Peer(("X-Request-Timeout", zero), kind=kind, extensions=denial)
        await peer.ask(guarded)
        assert (peer.status, served) == (504, [])
        assert (guarded.stats().not_started, guarded.stats().deadline_exceeded) == (1, 0)

    world.run(scenario)


@pytest.mark.rule("W22")
def test_a_timeout_function_that_fails_is_logged_once_and_limits_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(_: World) -> None:
        for bad in (lambda _: 1 / 0, lambda _: -1):
            guarded = ResilientMiddleware(app_of(left), timeout=bad)
            for _request in range(2):
                assert (await Peer().ask(guarded)).body == b"99.0"

    with caplog.at_level(logging.ERROR, "resilient"):
        world.run(scenario)
    assert len(caplog.records) == 2


# W21: whose headers count.


@pytest.mark.rule("W21")
@pytest.mark.parametrize(
    ("client", "near"),
    [
        (("127.0.0.1", 1), True), (("10.1.2.3", 1), True), (("192.168.0.9", 1), True),
        (("172.16.0.1", 1), True), (("169.254.1.1", 1), True), (("::1", 1), True),
        (("fd00::1", 1), True), (("fe80::1", 1), True), (("::ffff:10.0.0.1", 1), True),
        (None, True), (("", 0), True),
        (("8.8.8.8", 1), False), (("2001:4860:4860::8888", 1), False),
        (("::ffff:8.8.8.8", 1), False), (("example.test", 1), False),
    ],
)  # fmt: skip
def test_a_stranger_can_shorten_nothing(world: World, client: Any, near: bool) -> None:
    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(app_of(left))
        await Peer(("X-Request-Timeout", "soon"), client=client).ask(guarded)
        assert guarded.stats().ignored_headers == 1  # malformed, whoever says it
        guarded = ResilientMiddleware(app_of(left))
        headers = [("X-Request-Timeout", "2"), ("X-Request-Attempt", "3")]
        peer = await Peer(*headers, client=client).ask(guarded)
        assert float(peer.body) == (1.995 if near else 99)
        assert guarded.stats().ignored_headers == 1 - near

    world.run(scenario)


@pytest.mark.rule("W21", "W29")
def test_trust_can_be_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def attempt() -> int:
        return current_attempt()

    async def scenario(_: World) -> None:
        far = ("8.8.8.8", 1)
        for trust, number in (
            (True, b"3"), (False, b"1"), (lambda scope: scope["path"] == "/", b"3"),
            (lambda _: 1 / 0, b"1"),
        ):  # fmt: skip
            guarded = ResilientMiddleware(app_of(attempt), trust=trust)
            for _request in range(2):
                peer = await Peer(("X-Request-Attempt", "3"), client=far).ask(guarded)
                assert peer.body == number

    with caplog.at_level(logging.ERROR, "resilient"):
        world.run(scenario)
    assert len(caplog.records) == 1
    assert current_attempt() == 1


@pytest.mark.rule("W29")
@pytest.mark.parametrize(
    ("told", "number"),
    [("1", 1), ("9999", 9999), ("0", 1), ("10000", 1), ("-1", 1), ("1.0", 1), ("", 1), ("two", 1)],
)
def test_the_number_of_the_attempt(world: World, told: str, number: int) -> None:
    async def attempt() -> int:
        return current_attempt()

    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(app_of(attempt))
        assert int((await Peer(("X-Request-Attempt", told)).ask(guarded)).body) == number

    world.run(scenario)


# W23: errors as answers.


def raising(error: BaseException) -> App:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise error

    return app


REFUSED = Rejected("inside", 2.5)
LATE = DeadlineExceeded("inside", 1, 1, started=True)


@pytest.mark.rule("W23")
@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (LATE, 504, None),
        (DeadlineExceeded("inside", 1, 1, started=False), 504, None),
        (Rejected("inside", None), 503, "1"),
        (Rejected("inside", 0.0), 503, "1"),
        (REFUSED, 503, "3"),
        (Rejected("inside", 1e300), 503, "1000000000"),
        (ExceptionGroup("", [REFUSED, ExceptionGroup("", [LATE])]), 503, "3"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_leaves_the_handler_is_answered(
    world: World, error: Exception, status: int, after: str | None, method: str
) -> None:
    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(raising(error))
        peer = await Peer(method=method).ask(guarded)
        assert peer.status == status
        assert peer.headers.get("retry-after") == after
        assert peer.headers["cache-control"] == "no-store"
        assert peer.headers["content-type"] == "application/problem+json"
        if method == "HEAD":
            assert peer.body == b""
        else:
            assert json.loads(peer.body)["status"] == status
            assert int(peer.headers["content-length"]) == len(peer.body)
        assert b"inside" not in b"".join(map(repr_of, peer.sent))
        stats = guarded.stats()
        assert (stats.deadline_exceeded, stats.rejected) == ((1, 0) if status == 504 else (0, 1))
        assert (stats.requests, stats.in_flight) == (1, 0)

    world.run(scenario)


def repr_of(message: Any) -> bytes:
    return repr(message).encode()


@pytest.mark.rule("W23")
@pytest.mark.parametrize("watches", [True, False])
@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ExceptionGroup("", [REFUSED, KeyError("x")]), TimeoutError(), SystemExit(3),
     KeyboardInterrupt()],
    ids=repr,
)  # fmt: skip
def test_other_errors_pass(world: World, error: BaseException, watches: bool) -> None:
    async def scenario(_: World) -> None:
        peer = Peer()
        try:
            guarded = ResilientMiddleware(raising(error), cancel_on_disconnect=watches)
            await peer.ask(guarded)
        except BaseException as raised:
            assert raised is error  # noqa: PT017  # it may be no Exception
        else:
            pytest.fail("nothing was raised")
        assert peer.sent == []

    world.run(scenario)


@pytest.mark.rule("W22", "W23")
def test_a_handler_that_hangs_is_answered_504_at_the_limit(world: World) -> None:
    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(app_of(sleeps), timeout=4)
        peer = await Peer(("X-Request-Timeout", "2")).ask(guarded)
        assert peer.status == 504
        assert world.now() == pytest.approx(1.995)
        assert guarded.stats().deadline_exceeded == 1

    world.run(scenario)


@pytest.mark.rule("W23")
@pytest.mark.parametrize("error", [REFUSED, None], ids=["rejected", "hangs"])
def test_an_answer_that_has_begun_is_broken_off(world: World, error: Exception | None) -> None:
    async def scenario(_: World) -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            if error is not None:
                raise error
            await sleeps()

        peer = Peer()
        with pytest.raises(Rejected if error is not None else DeadlineExceeded):
            await peer.ask(ResilientMiddleware(app, timeout=1))
        assert len(peer.sent) == 2

    world.run(scenario)


@pytest.mark.rule("W23")
@pytest.mark.parametrize("kind", ["early_hint", "push", "debug"])
def test_what_goes_before_an_answer_does_not_begin_it(world: World, kind: str) -> None:
    async def scenario(_: World) -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": f"http.response.{kind}"})
            raise REFUSED

        peer = await Peer().ask(ResilientMiddleware(app))
        assert [message.get("status") for message in peer.sent] == [None, 503, None]

    world.run(scenario)


@pytest.mark.rule("W23", "W29")
@pytest.mark.parametrize("raises", [True, False])
def test_a_frameworks_500_made_of_such_an_error_is_replaced(world: World, raises: bool) -> None:
    def framework(inner: App) -> App:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await inner(scope, receive, send)
            except Exception:
                await answer(send, 500, b"Internal Server Error")
                if raises:
                    raise

        return app

    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(framework(raising(REFUSED)))
        peer = await Peer().ask(guarded)
        assert (peer.status, peer.headers["retry-after"], len(peer.sent)) == (503, "3", 2)
        assert (guarded.stats().rejected, guarded.stats().requests) == (1, 1)
        peer = Peer()
        with pytest.raises(KeyError) if raises else nullcontext():
            await peer.ask(ResilientMiddleware(framework(raising(KeyError("x")))))
        assert (peer.status, peer.body) == (500, b"Internal Server Error")

    world.run(scenario)


@pytest.mark.rule("W23")
def test_what_is_handled_around_the_middleware_is_not_taken_for_the_cause_of_a_500(
    world: World,
) -> None:
    async def scenario(_: World) -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send, 500)

        peer = Peer()
        try:
            await refuses()
        except Rejected:
            await peer.ask(ResilientMiddleware(app))  # another application, instead
        assert (peer.status, peer.body) == (500, b"hello")

    world.run(scenario)


# W24: a limit of the server's own.


@pytest.mark.rule("W24", "W23")
@pytest.mark.parametrize(
    ("limit", "status"),
    [
        (lambda: bulkhead(1), 503),
        (lambda: rate_limit(1, per=4), 429),
        (lambda: adaptive_limit(initial=1), 503),
    ],
)
def test_what_the_limit_refuses_is_shed(world: World, limit: Any, status: int) -> None:
    async def scenario(_: World) -> None:
        served = 0

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            nonlocal served
            served += 1
            await anyio.sleep(1)
            await answer(send)

        guarded = ResilientMiddleware(app, limit=limit())
        peers = [Peer(), Peer()]
        async with anyio.create_task_group() as group:
            for peer in peers:
                group.start_soon(peer.ask, guarded)
        assert sorted(peer.status or 0 for peer in peers) == [200, status]
        shed = next(peer for peer in peers if peer.status == status)
        assert int(shed.headers["retry-after"]) >= 1
        assert (served, guarded.stats().shed, guarded.stats().rejected) == (1, 1, 0)

    world.run(scenario)


@pytest.mark.rule("W24", "F3")
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_what_is_shed_leaves_nothing_for_the_collector(world: World, kind: str) -> None:
    async def scenario(_: World) -> None:
        places = bulkhead(1)
        guarded = ResilientMiddleware(app_of(left), limit=places)
        with places:
            peer = Peer(kind=kind)
            gone = weakref.ref(peer)
            await peer.ask(guarded)
            del peer
            await anyio.lowlevel.checkpoint()
            assert gone() is None

    gc.collect()
    gc.disable()
    try:
        world.run(scenario)
    finally:
        gc.enable()


@pytest.mark.rule("W24")
def test_a_limit_is_asked_with_the_scope_and_waits_under_the_deadline(world: World) -> None:
    async def scenario(_: World) -> None:
        places = bulkhead(1, queue=5, key=lambda scope: scope["path"])
        guarded = ResilientMiddleware(app_of(sleeps), limit=places, timeout=2)
        peers = [Peer(path="/a"), Peer(path="/a"), Peer(path="/b")]
        async with anyio.create_task_group() as group:
            for peer in peers:
                group.start_soon(peer.ask, guarded)
            await anyio.sleep(1)
            assert (places.of("/a").stats().in_flight, places.of("/a").stats().queued) == (1, 1)
            assert places.of("/b").stats().in_flight == 1
        assert [peer.status for peer in peers] == [504, 504, 504]
        stats = guarded.stats()
        assert (stats.deadline_exceeded, stats.not_started) == (2, 1)
        assert (places.stats().in_flight, places.stats().queued) == (0, 0)

    world.run(scenario)


@pytest.mark.rule("W24", "W27")
def test_when_the_answer_has_ended_nothing_is_held(world: World) -> None:
    async def scenario(_: World) -> None:
        seen: list[Any] = []
        places = bulkhead(1)

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            seen.append(places.stats().in_flight)
            await send({"type": "http.response.body", "body": b"b"})
            seen.extend((places.stats().in_flight, remaining(99)))
            await anyio.sleep(9)  # a background task, after the caller has left, and the limit
            seen.append("done")

        guarded = ResilientMiddleware(app, limit=places, timeout=2)
        peer = await Peer(leaves_at=1).ask(guarded)
        assert peer.body == b"ab"
        assert seen == [1, 0, 99, "done"]
        assert guarded.stats().disconnected == 0

    world.run(scenario)


@pytest.mark.rule("W27")
@pytest.mark.parametrize(
    ("trailers", "parts"),
    [
        (False, [{"type": "body", "more_body": True}, {"type": "body"}]),
        (True, [{"type": "body"}, {"type": "trailers", "more_trailers": True},
                {"type": "trailers"}]),
        (False, [{"type": "pathsend"}]),
        (True, [{"type": "pathsend"}, {"type": "trailers"}]),
        (False, [{"type": "zerocopysend", "more_body": True}, {"type": "zerocopysend"}]),
        (False, [{"type": "zerocopysend", "more_body": True}, {"type": "body"}]),
    ],
)  # fmt: skip
def test_which_part_is_the_last(world: World, trailers: bool, parts: list[Any]) -> None:
    async def scenario(_: World) -> None:
        held: list[int] = []
        places = bulkhead(1)

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            start = {"type": "http.response.start", "status": 200, "trailers": trailers}
            await send(start)
            for part in parts:
                held.append(places.stats().in_flight)
                await send({**part, "type": f"http.response.{part['type']}"})
            held.append(places.stats().in_flight)

        await Peer().ask(ResilientMiddleware(app, limit=places))
        assert held == [1] * len(parts) + [0]

    world.run(scenario)


@pytest.mark.rule("W27", "W23")
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("fails", [timeout(1)(sleeps), None, KeyError("x")])
def test_what_a_background_task_raises_goes_to_the_server(
    world: World, status: int, fails: Any
) -> None:
    async def scenario(_: World) -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            try:
                raise REFUSED
            except Rejected:
                await answer(send, status)
            if isinstance(fails, KeyError):
                raise fails
            await (fails or refuses)()

        guarded, peer = ResilientMiddleware(app), Peer()
        if status == 500 and not isinstance(fails, KeyError):  # taken for the same error
            await peer.ask(guarded)
        else:
            with pytest.raises((DeadlineExceeded, Rejected, KeyError)):
                await peer.ask(guarded)
            stats = guarded.stats()
            assert (stats.deadline_exceeded, stats.rejected) == (0, 0)
        assert len(peer.sent) == 2

    world.run(scenario)


@pytest.mark.rule("W27")
def test_a_limit_that_passes_as_the_last_part_is_sent_is_no_error() -> None:
    async def scenario() -> None:
        async def blocks(message: Any) -> None:
            if message["type"] == "http.response.body":
                time.advance(2)

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send)
            await sleeps()

        guarded = ResilientMiddleware(app, timeout=1)
        await guarded(Peer().scope, Peer().receive, blocks)
        assert guarded.stats().deadline_exceeded == 0

    with virtual_time() as time:
        time.run(scenario)


@pytest.mark.rule("W27")
@pytest.mark.parametrize("drains", [0, 1])
def test_a_server_that_says_goodbye_when_the_answer_is_complete(
    world: World, drains: float
) -> None:
    async def scenario(_: World) -> None:
        complete, done = anyio.Event(), anyio.Event()

        async def receive() -> Any:
            if not complete.is_set():
                await complete.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                complete.set()
                if drains:
                    await anyio.sleep(drains)

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send)
            await anyio.sleep(1)
            done.set()

        await ResilientMiddleware(app)(Peer().scope, receive, send)
        assert done.is_set()

    world.run(scenario)


# W25: used up.


@pytest.mark.rule("W25")
@pytest.mark.parametrize("status", [200, 404, 429, 451, 500, 502])
@pytest.mark.parametrize("gives_up", [True, False])
def test_a_request_whose_retries_are_used_up_says_so(
    world: World, status: int, gives_up: bool
) -> None:
    async def scenario(_: World) -> None:
        again = retry(on=ConnectionError, attempts=2, wait=0, budget=None)

        async def fails() -> None:
            raise ConnectionError if gives_up else KeyError

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(fails_in_a_task)
            await answer(send, status)

        async def fails_in_a_task() -> None:
            with pytest.raises((ConnectionError, KeyError)):
                await again.call(fails)

        peer = await Peer().ask(ResilientMiddleware(app))
        said = peer.headers.get("x-should-retry")
        assert said == ("false" if gives_up and (status == 429 or status >= 500) else None)
        peer = await Peer().ask(ResilientMiddleware(app, wire=None))
        assert "x-should-retry" not in peer.headers

    world.run(scenario)


@pytest.mark.rule("W25", "W8")
def test_a_handler_that_passes_the_word_on_says_it_once(world: World) -> None:
    async def scenario(_: World) -> None:
        again = retry(on=ConnectionError, attempts=2, wait=0, budget=None)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(ConnectionError):
                await again.call(raising(ConnectionError()), scope, receive, send)
            told = [(b"X-Should-Retry", b"false"), (b"a", b"b")]
            await send({"type": "http.response.start", "status": 503, "headers": told})
            await send({"type": "http.response.body"})

        peer = await Peer().ask(ResilientMiddleware(app))
        assert peer.sent[0]["headers"] == [(b"a", b"b"), (b"x-should-retry", b"false")]

    world.run(scenario)


@pytest.mark.rule("W25")
def test_an_error_that_passes_a_used_up_request_is_answered_and_raised(world: World) -> None:
    async def scenario(_: World) -> None:
        again = retry(on=ConnectionError, attempts=2, wait=0, budget=None)
        peer = Peer()
        with pytest.raises(ConnectionError):
            await peer.ask(ResilientMiddleware(again.__call__(raising(ConnectionError()))))
        assert (peer.status, peer.headers["x-should-retry"]) == (500, "false")
        again = retry(on=Rejected, attempts=2, wait=0, budget=None)
        peer = await Peer().ask(ResilientMiddleware(again.__call__(raising(REFUSED))))
        assert (peer.status, peer.headers["retry-after"]) == (503, "3")
        assert "x-should-retry" not in peer.headers

    world.run(scenario)


# W26: a caller that leaves.


@pytest.mark.rule("W26", "B9")
@pytest.mark.parametrize(
    ("leaves_at", "ignored", "failures"), [(1.0, 1, 0), (1.9965, 0, 1), (None, 0, 1)]
)
def test_a_caller_that_leaves_cancels_the_handler(
    world: World, leaves_at: float | None, ignored: int, failures: int
) -> None:
    async def scenario(_: World) -> None:
        guard = breaker()
        app = app_of(lambda: guard.call(sleeps))
        guarded = ResilientMiddleware(app, margin=0.004)
        peer = await Peer(("X-Request-Timeout", "2"), leaves_at=leaves_at).ask(guarded)
        stats = guard.stats()
        assert (stats.ignored, stats.failures) == (ignored, failures)
        assert guarded.stats().disconnected == (leaves_at is not None and leaves_at < 1.996)
        assert peer.status == (504 if leaves_at is None or leaves_at > 1.996 else None)
        assert world.now() == pytest.approx(min(leaves_at or 2, 1.996), abs=0.001)

    world.run(scenario)


@pytest.mark.rule("W26", "W24", "B9")
def test_to_the_limit_a_caller_that_leaves_is_no_success(world: World) -> None:
    async def scenario(_: World) -> None:
        for work, leaves_at, requests in ((sleeps, 1, 0), (left, None, 1)):
            limit = throttle()
            guarded = ResilientMiddleware(app_of(work), limit=limit)
            await Peer(leaves_at=leaves_at).ask(guarded)
            assert limit.stats().requests == requests

        async def answers_all_the_same(_scope: Any, _receive: Any, send: Any) -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
                await answer(send)
            await sleeps()

        limit = throttle()
        await Peer(leaves_at=1).ask(ResilientMiddleware(answers_all_the_same, limit=limit))
        assert limit.stats().requests == 1

    world.run(scenario)


@pytest.mark.rule("W26")
def test_one_that_leaves_at_its_limit_has_met_it(world: World) -> None:
    async def scenario(_: World) -> None:
        guard = breaker()
        app = app_of(lambda: guard.call(sleeps))
        peer = await Peer(("X-Request-Timeout", "2"), leaves_at=1.75).ask(
            ResilientMiddleware(app, margin=0.15)
        )
        assert (guard.stats().failures, peer.sent) == (1, [])

    world.run(scenario)


@pytest.mark.rule("W26")
def test_it_can_be_let_go_on(world: World) -> None:
    async def scenario(_: World) -> None:
        async def works() -> str:
            await anyio.sleep(3)
            return "done"

        guarded = ResilientMiddleware(app_of(works), cancel_on_disconnect=False)
        assert (await Peer(leaves_at=1).ask(guarded)).body == b"'done'"

    world.run(scenario)


@pytest.mark.rule("W26")
def test_a_body_stays_whole_and_in_order(world: World) -> None:
    async def scenario(_: World) -> None:
        got: list[Any] = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await anyio.sleep(1)
            while True:
                message = await receive()
                got.append(message.get("body"))
                if not message.get("more_body"):
                    break
            with anyio.CancelScope(shield=True):
                got.append((await receive())["type"])
                got.append((await receive())["type"])

        parts = [b"a", b"b", b"c"]
        guarded = ResilientMiddleware(app)
        await Peer(body=parts, leaves_at=0.5).ask(guarded)
        assert got == [*parts, "http.disconnect", "http.disconnect"]
        assert guarded.stats().disconnected == 1

    world.run(scenario)


@pytest.mark.rule("W26")
def test_a_caller_that_leaves_is_told_of_again_and_again(world: World) -> None:
    async def scenario(_: World) -> None:
        got: list[Any] = []
        messages = iter([{"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(messages)  # and no more: a server may forget the connection

        async def app(_scope: Any, receive: Any, _send: Any) -> None:
            with anyio.CancelScope(shield=True):
                got.extend([(await receive())["type"] for _ in range(3)])

        await ResilientMiddleware(app)(Peer().scope, receive, Peer().send)
        assert got == ["http.disconnect"] * 3

    world.run(scenario)


@pytest.mark.rule("W26")
def test_a_body_that_is_given_again_and_again_is_not_read_ahead(world: World) -> None:
    async def scenario(_: World) -> None:
        asked, whole = 0, {"type": "http.request", "body": b"whole"}

        async def replays() -> Any:  # as middlewares do that have read the body before
            nonlocal asked
            asked += 1
            assert asked < 10, "read ahead without end"
            return whole

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await anyio.sleep(1)
            assert [await receive() for _ in range(4)] == [whole] * 4
            assert asked == 4
            await answer(send)

        peer = Peer()
        await ResilientMiddleware(app)(peer.scope, replays, peer.send)
        assert peer.status == 200

    world.run(scenario)


@pytest.mark.rule("W26")
def test_what_breaks_in_receiving_is_the_handlers(world: World) -> None:
    async def scenario(_: World) -> None:
        async def app(_scope: Any, receive: Any, _send: Any) -> None:
            await receive()

        async def broken() -> Any:
            raise OSError("broken")

        peer = Peer()
        with pytest.raises(OSError, match="broken"):
            await ResilientMiddleware(app)(peer.scope, broken, peer.send)

    world.run(scenario)


# W28: WebSockets and the rest.


def socket_app(accepts: bool, work: Callable[[], Awaitable[Any]]) -> App:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if accepts:
            await send({"type": "websocket.accept"})
        await work()

    return app


async def refuses() -> None:
    raise REFUSED


@pytest.mark.rule("W28")
@pytest.mark.parametrize(
    ("accepts", "work", "extensions", "last"),
    [
        (True, refuses, {}, {"type": "websocket.close", "code": 1013}),
        (True, timeout(1)(sleeps), {}, {"type": "websocket.close", "code": 1011}),
        (False, refuses, {}, {"type": "websocket.close", "code": 1013}),
        (False, sleeps, {}, {"type": "websocket.close", "code": 1011}),
        (False, refuses, {"websocket.http.response": {}}, 503),
        (False, sleeps, {"websocket.http.response": {}}, 504),
    ],
)
def test_a_websocket_is_refused_or_closed(
    world: World, accepts: bool, work: Any, extensions: Any, last: Any
) -> None:
    async def scenario(_: World) -> None:
        guarded = ResilientMiddleware(socket_app(accepts, work), timeout=2)
        peer = await Peer(kind="websocket", extensions=extensions).ask(guarded)
        if isinstance(last, int):
            assert (peer.status, peer.sent[0]["type"]) == (last, "websocket.http.response.start")
        else:
            assert {**peer.sent[-1], **last} == peer.sent[-1]

    world.run(scenario)


@pytest.mark.rule("W28")
@pytest.mark.parametrize(
    ("begins", "then"),
    [
        ({"type": "websocket.accept"}, "websocket.close"),
        ({"type": "websocket.http.response.start", "status": 403, "headers": []}, None),
    ],
)
def test_a_limit_that_passes_while_a_websocket_is_decided(
    world: World, begins: Any, then: str | None
) -> None:
    async def scenario(_: World) -> None:
        sent: list[str] = []

        async def slow(message: Any) -> None:
            sent.append(message["type"])
            if message is begins:
                await sleeps()

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send(begins)

        peer = Peer(kind="websocket", extensions={"websocket.http.response": {}})
        try:
            await ResilientMiddleware(app, timeout=1)(peer.scope, peer.receive, slow)
        except DeadlineExceeded:
            assert then is None
        assert sent == [begins["type"], *([] if then is None else [then])]

    world.run(scenario)


@pytest.mark.rule("W28", "W24")
def test_a_websocket_holds_its_place_and_limit_until_it_is_accepted(world: World) -> None:
    async def scenario(_: World) -> None:
        places, seen = bulkhead(1), []

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            seen.append((places.stats().in_flight, remaining(99)))
            await send({"type": "websocket.accept"})
            seen.append((places.stats().in_flight, remaining(99)))
            await anyio.sleep(9)

        guarded = ResilientMiddleware(app, limit=places, timeout=2)
        await Peer(kind="websocket").ask(guarded)
        assert seen == [(1, 2), (0, 99)]
        with places:
            peer = await Peer(kind="websocket").ask(guarded)
            assert peer.sent[0]["code"] == 1013
        assert guarded.stats().shed == 1

    world.run(scenario)


@pytest.mark.rule("W28")
@pytest.mark.parametrize("kind", ["lifespan", "mqtt"])
def test_other_scopes_pass_untouched(world: World, kind: str) -> None:
    async def scenario(_: World) -> None:
        passed: list[Any] = []

        async def app(*args: Any) -> None:
            passed.extend(args)
            raise REFUSED

        scope, receive, send = {"type": kind}, object(), object()
        guarded: Any = ResilientMiddleware(app, timeout=1)
        with pytest.raises(Rejected):
            await guarded(scope, receive, send)
        assert passed == [scope, receive, send]
        assert guarded.stats().requests == 0

    world.run(scenario)


# Bad settings, and cancellation.


@pytest.mark.rule("F7", "W22", "W24")
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"app": None}, TypeError, "app must be an ASGI application"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"timeout": "1"}, TypeError, "timeout must be"),
        ({"limit": breaker()}, TypeError, "limit must be a bulkhead, rate limit"),
        ({"limit": bulkhead}, TypeError, r"write bulkhead\(...\)"),
        ({"trust": "10.0.0.0/8"}, TypeError, "trust must be True, False, or a predicate"),
        ({"max_deadline": 0}, ValueError, "max_deadline must be"),
        ({"margin": -1}, ValueError, "margin must be"),
        ({"wire": "ms"}, TypeError, "wire must be"),
        ({"name": 1}, TypeError, "name must be"),
        ({"cancel_on_disconnect": 1}, TypeError, "cancel_on_disconnect must be True or False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ResilientMiddleware(**{"app": app_of(left), **settings})


@pytest.mark.rule("F9", "W24")
def test_a_server_that_cancels_gets_its_cancellation(world: World) -> None:
    async def scenario(_: World) -> None:
        places = bulkhead(1)
        guarded = ResilientMiddleware(app_of(sleeps), limit=places)
        peer = Peer()
        with anyio.move_on_after(1) as scope:
            await peer.ask(guarded)
        assert scope.cancelled_caught
        if world.name == "asyncio":
            task = asyncio.ensure_future(peer.ask(guarded))
            await anyio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (places.stats().in_flight, guarded.stats().in_flight, peer.sent) == (0, 0, [])

    world.run(scenario)

"""The transport of httpx and httpx2 over a transport that makes its answers, in virtual time.

Every test runs with both libraries, on asyncio, on trio and in plain threads, with the client that
is at home there. What needs a network is in `test_httpx_real.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import importlib
import logging
import pickle
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import anyio
import pytest

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    RateLimited,
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    deadline,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    retry,
    throttle,
    timeout,
)
from resilient.integrations._client.exchange import Held
from resilient.integrations.http import BadStatus, Wire, options
from tests.integrations.tables import BAD_SETTINGS, IDEMPOTENT, NOW, ORIGINS, runs
from tests.worlds import World, drive, world_named

Handler = Callable[[Any], Any]
UNIT = 2.0**-9
"""Seconds, exact in binary."""


@pytest.fixture(params=["httpx2", "httpx"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def ours(lib: ModuleType) -> ModuleType:
    return importlib.import_module(f"resilient.integrations.{lib.__name__}")


@pytest.fixture(params=["asyncio", "trio", "threads"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_named(request.param) as one:
        yield one


class Streamed:
    """A body in parts, of which the last may be an error; it counts how often it is closed."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts, self.closed = parts, 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Service:
    """A stand-in for a service: it answers by its *script*, the last entry again and again, and
    keeps what it was asked.
    """

    def __init__(self, lib: ModuleType, *script: Any) -> None:
        self.lib, self.script = lib, list(script)
        self.asked: list[Any] = []
        self.bodies: list[Streamed] = []
        kinds = (Streamed, lib.SyncByteStream, lib.AsyncByteStream)
        self._body = type("Body", kinds, {})
        self.transport = lib.MockTransport(self.handle)

    def handle(self, request: Any) -> Any:
        self.asked.append(request)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        status, headers, *parts = answer if isinstance(answer, tuple) else (answer, {})
        self.bodies.append(self._body(*parts))
        return self.lib.Response(status, headers=headers, stream=self.bodies[-1])

    def attempts(self) -> list[str | None]:
        return [request.headers.get("x-request-attempt") for request in self.asked]


class Caller:
    """A client of the world, whose calls are awaited in all of them."""

    def __init__(self, world: Any, lib: ModuleType, transport: Any) -> None:
        self.is_async = world.is_async
        kind = lib.AsyncClient if world.is_async else lib.Client
        self.client = kind(transport=transport, base_url="http://Shop.test")

    async def __call__(self, method: str = "GET", path: str = "/", **kwargs: Any) -> Any:
        done = self.client.request(method, path, **kwargs)
        return await done if self.is_async else done

    async def open(self, method: str = "GET", path: str = "/") -> Any:
        """The answer, of which the body is not read."""
        request = self.client.build_request(method, path)
        done = self.client.send(request, stream=True)
        return await done if self.is_async else done

    async def read(self, answer: Any) -> Any:
        return await answer.aread() if self.is_async else answer.read()

    async def close(self, answer: Any) -> None:
        await answer.aclose() if self.is_async else answer.close()


Make = Callable[..., tuple[Caller, Service, Any]]


@pytest.fixture
def make(world: World, lib: ModuleType, ours: ModuleType) -> Make:
    """A caller, the service that it asks by *script*, and the transport between them."""

    def make(*script: Any, **settings: Any) -> tuple[Caller, Service, Any]:
        service = Service(lib, *script)
        transport = ours.ResilientTransport(service.transport, **settings)
        return Caller(world, lib, transport), service, transport

    return make


# W1, W2: the policy, and what it is asked with.


@pytest.mark.rule("W1")
def test_what_stands_around_a_request_by_itself(lib: ModuleType, ours: ModuleType) -> None:
    transport = ours.ResilientTransport()
    again, guard, places = transport.policy.policies
    assert [one.kind for one in transport.policy.policies] == ["retry", "breaker", "bulkhead"]
    assert {one.name for one in (again, guard, places)} == {lib.__name__}
    assert places.stats().limit == 50
    assert ours.ResilientTransport(name="shop").policy.policies[1].name == "shop"
    assert ours.ResilientTransport(policy=None).policy is None
    assert repr(ours.ResilientTransport(policy=None)) == "ResilientTransport(policy=None)"


@pytest.mark.rule("W1", "F7")
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [*BAD_SETTINGS, ({"transport": "http"}, TypeError, "transport must be a transport of")],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(ours: ModuleType, settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ours.ResilientTransport(**settings)


@pytest.mark.rule("W12", "F7")
def test_bad_wires() -> None:
    wire: Any = Wire
    for bad in ({"timeout": 5}, {"attempt": b"x"}):
        with pytest.raises(TypeError, match="must be the name of a header, or None"):
            wire(**bad)
    for name in ("", "X Retry", "X-Vers\u00fcch"):
        with pytest.raises(ValueError, match="should_retry must be the name of a header"):
            wire(should_retry=name)
    for unit in ("h", ["s"]):
        with pytest.raises(ValueError, match='unit must be "s" or "ms"'):
            wire(unit=unit)


@pytest.mark.rule("W1")
def test_a_policy_is_asked_with_the_request(world: World, make: Make) -> None:
    asked: list[str] = []

    def rank(request: Any) -> float:
        asked.append(request.url.path)
        return 1.0

    def weight(request: Any) -> int:
        return 2 if request.method == "PUT" else 1

    async def scenario(_: World) -> None:
        limits = pipeline(adaptive_limit(priority=rank), rate_limit(3, burst=3, cost=weight))
        caller, _service, _ = make(200, policy=limits)
        await caller("PUT", "/a")
        await caller("GET", "/b")
        with pytest.raises(RateLimited):
            await caller("GET", "/c")
        assert asked == ["/a", "/b", "/c"]

    world.run(scenario)


@pytest.mark.rule("W1")
def test_each_origin_has_a_state_of_its_own(world: World, make: Make, ours: ModuleType) -> None:
    async def scenario(_: World) -> None:
        caller, _service, transport = make(200)
        await caller("GET", "http://a.test/x")
        await caller("GET", "https://A.test/y")
        await caller("GET", "http://a.test:81/z")
        assert transport.policy.policies[1].keys() == [
            "http://a.test:80", "https://a.test:443", "http://a.test:81"
        ]  # fmt: skip

    world.run(scenario)


@pytest.mark.rule("W2")
@pytest.mark.parametrize(("url", "where"), ORIGINS)
def test_the_origin_of_a_request(lib: ModuleType, ours: ModuleType, url: str, where: str) -> None:
    assert ours.origin(lib.Request("GET", url)) == where


@pytest.mark.rule("W2")
def test_a_redirect_is_a_request_of_its_own(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, service, transport = make((302, {"location": "http://other.test/"}), 200)
        answer = await caller(follow_redirects=True)
        assert answer.status_code == 200
        assert transport.policy.policies[1].keys() == [
            "http://shop.test:80",
            "http://other.test:80",
        ]
        assert service.attempts() == ["1", "1"]

    world.run(scenario)


# W3: the caller gets the answer.


@pytest.mark.rule("W3")
def test_the_last_answer_is_the_callers_unread(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, service, transport = make((503, NOW, b"a"), (502, NOW, b"b"), (500, {}, b"c"))
        answer = await caller.open()
        assert answer.status_code == 500
        assert [body.closed for body in service.bodies] == [1, 1, 0]
        assert await caller.read(answer) == b"c"
        assert service.bodies[2].closed == 1
        assert transport.policy.policies[1].stats().failures == 3

    world.run(scenario)


@pytest.mark.rule("W3", "W12")
def test_a_policy_may_ask_an_answer_what_it_is_the_answer_to(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        asked: list[Any] = []

        def busy(error: Any) -> bool:
            asked.append(error.response.request)
            return bool(error.response.url.path == "/busy")

        caller, service, _ = make(503, policy=retry(on=busy, wait=0))
        answer = await caller("GET", "/busy")
        assert (len(service.asked), asked[0] is answer.request) == (3, True)
        await caller("GET", "/")
        assert len(service.asked) == 4

    world.run(scenario)


@pytest.mark.rule("W3")
def test_one_answer_may_come_again_and_again(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        same = lib.Response(503, text="busy")
        transport = ours.ResilientTransport(lib.MockTransport(lambda _request: same))
        answer = await Caller(world, lib, transport)()
        assert (answer.status_code, answer.text) == (503, "busy")
        assert transport.policy.policies[1].stats().failures == 3

    world.run(scenario)


@pytest.mark.rule("W3")
def test_what_is_a_failure_can_be_said(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        for failures in ({404}, lambda status: status == 404):
            caller, service, transport = make((404, NOW), 503, failures=failures)
            assert (await caller()).status_code == 503
            assert service.attempts() == ["1", "2"]
            assert transport.policy.policies[1].stats().successes == 1

    world.run(scenario)


@pytest.mark.rule("W3")
def test_a_predicate_that_raises_is_logged_and_means_no(
    world: World, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(_: World) -> None:
        caller, service, _ = make(503, failures=lambda _: 1 / 0)
        for _again in range(2):
            assert (await caller()).status_code == 503
        assert service.attempts() == ["1", "1"]

    with caplog.at_level(logging.ERROR, "resilient"):
        world.run(scenario)
    assert len(caplog.records) == 1
    assert "failures predicate" in caplog.text


@pytest.mark.rule("W3")
def test_a_fallback_gives_an_answer_or_is_refused(
    world: World, make: Make, lib: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        spare = lib.Response(203, text="from here")
        caller, service, _ = make((503, {}), policy=fallback(default=spare, on=BadStatus))
        assert (await caller()).text == "from here"
        assert service.bodies[0].closed == 1
        seen: list[Any] = []

        def keep(error: Any) -> Any:
            seen.append(error)
            return error.response

        caller, service, _ = make(
            (503, {}, b"kept"),
            policy=fallback(keep, on=BadStatus),
        )
        answer = await caller()
        assert (answer.status_code, answer.content) == (503, b"kept")
        assert seen[0].status == 503
        assert str(seen[0]) == "HTTP 503"
        caller, *_rest = make(503, policy=fallback(default=None, on=BadStatus))
        with pytest.raises(TypeError, match=r"must give a .*Response, not None"):
            await caller()

    world.run(scenario)


# W4 to W6: what is repeated.


def error_of(lib: ModuleType, name: str) -> Exception:
    return getattr(lib, name)("it broke")  # type: ignore[no-any-return]


@pytest.mark.rule("W4")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("name", "repeated", "failures"),
    [
        ("ConnectError", "always", 1),
        ("ConnectTimeout", "always", 1),
        ("ProxyError", "always", 1),
        ("ReadError", "idempotent", 1),
        ("ReadTimeout", "idempotent", 1),
        ("WriteError", "idempotent", 1),
        ("WriteTimeout", "idempotent", 1),
        ("RemoteProtocolError", "idempotent", 1),
        ("PoolTimeout", "never", 0),
        ("LocalProtocolError", "never", 0),
        ("UnsupportedProtocol", "never", 0),
    ],
)
def test_an_error_of_the_way(  # noqa: PLR0917
    world: World, make: Make, lib: ModuleType, method: str, name: str, repeated: str, failures: int
) -> None:
    async def scenario(_: World) -> None:
        caller, service, transport = make(error_of(lib, name), 200)
        again = repeated == "always" or (repeated == "idempotent" and method == "GET")
        if again:
            assert (await caller(method)).status_code == 200
        else:
            with pytest.raises(getattr(lib, name)) as raised:
                await caller(method)
            assert type(raised.value) is getattr(lib, name)
        assert service.attempts() == (["1", "2"] if again else ["1"])
        stats = transport.policy.policies[1].stats()
        assert (stats.failures, stats.ignored) == (failures, 1 - failures)
        assert transport.policy.policies[2].stats().in_flight == 0

    world.run(scenario)


@pytest.mark.rule("W5")
@pytest.mark.parametrize(("method", "kwargs", "settings", "said", "repeated"), IDEMPOTENT)
def test_what_is_idempotent(  # noqa: PLR0917
    world: World, make: Make, method: str, kwargs: Any, settings: Any, said: Any, repeated: bool
) -> None:
    async def scenario(_: World) -> None:
        caller, service, transport = make((503, NOW), 200, **settings)
        with options(idempotent=said):
            answer = await caller(method, **kwargs)
        assert answer.status_code == (200 if repeated else 503)
        assert len(service.asked) == 1 + repeated
        assert transport.policy.policies[1].stats().failures == 1

    world.run(scenario)


@pytest.mark.rule("W6")
@pytest.mark.parametrize("body", ["bytes", "json", "parts", "file", "raises"])
def test_a_body_that_is_gone_is_not_sent_again(
    world: World, make: Make, lib: ModuleType, body: str
) -> None:
    async def scenario(_: World) -> None:
        def parts() -> Iterator[bytes]:
            yield b"half "
            if body == "raises":
                raise KeyError("mine")
            yield b"and half"

        async def parts_async() -> AsyncIterator[bytes]:
            for part in parts():
                yield part

        def connects_first(request: Any) -> Any:
            return error_of(lib, "ConnectError")

        def answers(request: Any) -> Any:
            sent.append(request.content)
            return (503, NOW)

        sent: list[bytes] = []
        bodies: dict[str, Any] = {
            "bytes": {"content": b"half and half"},
            "json": {"json": "half and half"},
            "file": {"files": {"f": b"half and half"}},
        }
        kwargs = bodies.get(body, {"content": parts_async() if world.is_async else parts()})
        caller, service, transport = make(answers, connects_first, 200)
        if body == "raises":
            with pytest.raises(KeyError, match="mine"):
                await caller("PUT", **kwargs)
            assert transport.policy.policies[1].stats().ignored == 1  # it is the caller's (W4)
            return
        answer = await caller("PUT", **kwargs)
        whole = body in {"bytes", "json"}
        assert answer.status_code == (200 if whole else 503)
        assert len(service.asked) == (3 if whole else 1)
        assert b"half and half" in sent[0]

    world.run(scenario)


class OfMine(Exception):
    """It can be watched, unlike those of Python."""


@pytest.mark.rule("W4")
def test_what_a_body_raises_is_gone_with_its_call(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        raised: list[weakref.ref[Exception]] = []

        def parts() -> Iterator[bytes]:
            yield b"half"
            raised.append(weakref.ref(error := OfMine()))
            try:
                raise error
            finally:
                del error

        async def parts_async() -> AsyncIterator[bytes]:
            for part in parts():
                yield part

        caller, _service, _ = make(200)
        gc.disable()
        try:
            with suppress(OfMine):
                await caller("PUT", content=parts_async() if world.is_async else parts())
            await world.sleep(UNIT)  # the loop lets go of it, too
            assert raised[0]() is None
        finally:
            gc.enable()

    world.run(scenario)


@pytest.mark.rule("W4", "B9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_deadline_may_come_while_the_callers_body_is_made(
    world: World, make: Make, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        async def hangs() -> AsyncIterator[bytes]:
            yield b"half"
            await anyio.sleep(60)

        guard = breaker(on=ours.TRANSIENT)
        caller, _service, _ = make(200, policy=guard)
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await caller("PUT", content=hangs())
        assert guard.stats().failures == 1
        with anyio.move_on_after(1):
            await caller("PUT", content=hangs())
        assert (guard.stats().failures, guard.stats().ignored) == (1, 1)

    world.run(scenario)


# W7, W8: what the server asks.


@pytest.mark.rule("W7")
def test_the_wait_is_at_least_what_the_server_asks(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, _service, _ = make((503, {"retry-after": "20"}), 200)
        began = world.now()
        assert (await caller()).status_code == 200
        assert 20 <= world.now() - began < 21
        date = {
            "retry-after": "Thu, 15 Oct 2026 08:26:47 GMT",
            "date": "Thu, 15 Oct 2026 08:26:40 GMT",
        }
        caller, _service, _ = make((429, date), 200)
        began = world.now()
        assert (await caller()).status_code == 200
        assert 7 <= world.now() - began < 8

    world.run(scenario)


@pytest.mark.rule("W7")
def test_one_that_asks_for_too_much_is_returned_at_once(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        for most, asks in ((30.0, "31"), (0.5, "0.6")):
            caller, service, _ = make((503, {"retry-after": asks}), max_retry_after=most)
            began = world.now()
            assert (await caller()).status_code == 503
            assert (len(service.asked), world.now()) == (1, began)

    world.run(scenario)


@pytest.mark.rule("W8")
def test_a_server_may_forbid_another_attempt(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        no = {"x-should-retry": "False", **NOW}
        caller, service, _ = make((503, no), 200)
        assert (await caller()).status_code == 503
        assert len(service.asked) == 1
        caller, service, _ = make(
            (503, {"x-stop": "false", **no}), 200, wire=Wire(should_retry=None)
        )
        assert (await caller()).status_code == 200  # nothing is read by that name
        caller, service, _ = make((503, no), 200, policy=retry(on=lambda _: True, wait=0))
        assert (await caller()).status_code == 503  # whatever ``on`` says

    world.run(scenario)


# W9, W10: answers, and what stays open with them.


@pytest.mark.rule("W9")
def test_an_answer_is_closed_before_the_wait(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        closed: list[int] = []

        def wait(_attempt: int, _error: Any) -> float:
            return 1.0

        def look(_request: Any) -> Any:
            closed.append(service.bodies[0].closed)
            return 200

        caller, service, _ = make((503, {}, b"x"), look, policy=retry(on=BadStatus, wait=wait))
        assert (await caller()).status_code == 200
        assert closed == [1]

    world.run(scenario)


@pytest.mark.rule("W9")
def test_an_unwanted_answer_is_closed_too(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        policy = retry(on=BadStatus, on_result=lambda answer: answer.status_code == 202, wait=1)
        caller, service, _ = make((202, {}, b"x"), (200, {}, b"y"), policy=policy)
        assert (await caller()).content == b"y"
        assert [body.closed for body in service.bodies] == [1, 1]
        caller, service, _ = make((202, {}, b"x"), policy=policy)
        assert (await caller()).content == b"x"
        assert len(service.asked) == 3

    world.run(scenario)


@pytest.mark.rule("W10")
def test_the_place_is_held_until_the_body_has_ended(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        places, guard = bulkhead(1), breaker(on=Exception)
        caller, service, _ = make((200, {}, b"a", b"b"), policy=pipeline(guard, places))
        answer = await caller.open()
        with pytest.raises(BulkheadFull):
            await caller.open()
        assert await caller.read(answer) == b"ab"
        assert places.stats().in_flight == 0
        answer = await caller.open()
        await caller.close(answer)  # early: it was an answer all the same
        await caller.close(answer)
        assert places.stats().in_flight == 0
        assert (guard.stats().successes, guard.stats().in_flight) == (2, 0)
        assert [body.closed for body in service.bodies] == [1, 1]

    world.run(scenario)


@pytest.mark.rule("W10", "F4")
def test_two_threads_may_end_a_body_at_once() -> None:
    class Racing(list[Any]):
        def __len__(self) -> int:  # what the one sees that comes a moment too late
            return 1

    places = bulkhead(1)
    held = Held(Racing([places.admit()]))
    held.end()
    held.end(KeyError("read"))
    assert places.stats().in_flight == 0


@pytest.mark.rule("W10")
def test_a_body_that_breaks_is_a_failure_and_not_repeated(
    world: World, make: Make, lib: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        error = error_of(lib, "RemoteProtocolError")
        caller, service, transport = make((200, {}, b"a", error))
        with pytest.raises(lib.RemoteProtocolError) as raised:
            await caller()
        assert raised.value is error
        assert len(service.asked) == 1
        stats = transport.policy.policies[1].stats()
        assert (stats.failures, stats.in_flight) == (1, 0)
        assert transport.policy.policies[2].stats().in_flight == 0
        assert service.bodies[0].closed == 1

    world.run(scenario)


@pytest.mark.rule("W10", "F3")
def test_an_answer_that_is_lost_gives_its_place_back(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        places = bulkhead(1)
        caller, _service, _ = make((200, {}, b"a"), policy=places)
        answer = await caller.open()
        assert places.stats().in_flight == 1
        del answer
        await world.sleep(UNIT)  # the loop lets go of it, too
        gc.collect()
        assert places.stats().in_flight == 0

    world.run(scenario)


@pytest.mark.rule("W10")
def test_what_is_around_the_retry_stays_open_as_well(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        outer, inner = bulkhead(9), bulkhead(9)
        policy = pipeline(outer, retry(on=BadStatus, wait=1), inner)
        caller, _service, _ = make((503, {}, b"x"), (200, {}, b"y"), policy=policy)
        answer = await caller.open()
        assert (outer.stats().in_flight, inner.stats().in_flight) == (1, 1)
        await caller.read(answer)
        assert (outer.stats().in_flight, inner.stats().in_flight) == (0, 0)
        assert (outer.stats().calls, inner.stats().calls) == (1, 2)

    world.run(scenario)


@pytest.mark.rule("W10", "F16")
def test_an_unwanted_answer_is_a_failure_when_it_ends(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        def unwanted(answer: Any) -> bool:
            return bool(answer.headers.get("x-degraded"))

        guard, shed = breaker(on_result=unwanted), throttle(on_result=unwanted)
        caller, _service, _ = make((200, {"x-degraded": "1"}, b"a"), policy=pipeline(guard, shed))
        assert (await caller()).content == b"a"
        assert (guard.stats().failures, shed.stats().accepts) == (1, 0)

    world.run(scenario)


@pytest.mark.rule("W10", "B9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_body_that_a_deadline_cuts_is_a_failure(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        class Hangs(lib.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"a"
                await anyio.sleep(60)

        guard, places = breaker(on=ours.TRANSIENT), bulkhead(1)
        inner = lib.MockTransport(lambda _: lib.Response(200, stream=Hangs()))
        transport = ours.ResilientTransport(inner, policy=pipeline(guard, places))
        async with lib.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            with pytest.raises(DeadlineExceeded):
                async with deadline(1):
                    await client.get("/")
            assert (guard.stats().failures, places.stats().in_flight) == (1, 0)
            with anyio.move_on_after(1):
                await client.get("/")
            assert (guard.stats().ignored, places.stats().in_flight) == (1, 0)

    world.run(scenario)


@pytest.mark.rule("B9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_deadline_that_cuts_a_transport_in_another_is_a_failure_to_both(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        async def hangs(_request: Any) -> Any:
            await anyio.sleep(60)

        guards = outer, inner = breaker(on=ours.TRANSIENT), breaker(on=ours.TRANSIENT)
        transport = ours.ResilientTransport(lib.MockTransport(hangs), policy=inner)
        caller = Caller(world, lib, ours.ResilientTransport(transport, policy=outer))
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await caller()
        assert [guard.stats().failures for guard in guards] == [1, 1]
        with anyio.move_on_after(1):
            await caller()
        assert [guard.stats().ignored for guard in guards] == [1, 1]

    world.run(scenario)


# W11, W12: what goes on the wire.


@pytest.mark.rule("W11", "W12")
def test_each_attempt_carries_its_number_and_what_is_left(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, service, _ = make((503, {"retry-after": "1"}), 200)
        mine = {"x-request-timeout": "99", "x-request-attempt": "9", "x-mine": "1"}
        async with deadline(3) if world.is_async else Both(deadline(3)):
            answer = await caller(headers=mine)
        told = [float(request.headers["x-request-timeout"]) for request in service.asked]
        assert service.attempts() == ["1", "2"]
        assert 2.99 < told[0] <= 3
        assert 1 < told[1] <= 2
        assert all(len(request.headers["x-request-timeout"]) == 5 for request in service.asked)
        assert answer.request.headers["x-request-timeout"] == "99"  # the caller's, as it was
        assert answer.request.headers["x-request-attempt"] == "9"
        await caller(headers=mine)
        assert service.asked[-1].headers["x-request-timeout"] == "99"  # without a deadline

    world.run(scenario)


class Both:
    """A sync context manager as an async one, for plain threads."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> Any:
        return self._inner.__enter__()

    async def __aexit__(self, *error: object) -> Any:
        return self._inner.__exit__(*error)


def limit(world: World, seconds: float) -> Any:
    return deadline(seconds) if world.is_async else Both(deadline(seconds))


@pytest.mark.rule("W12")
def test_the_names_can_be_said(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, service, _ = make(200, wire=Wire(timeout="X-Left", unit="ms", attempt=None))
        async with limit(world, 2):
            await caller()
        sent = service.asked[0].headers
        assert 1990 < int(sent["x-left"]) <= 2000
        assert "x-request-attempt" not in sent
        caller, service, _ = make((503, {"x-should-retry": "false", **NOW}), 200, wire=None)
        async with limit(world, 2):
            assert (await caller()).status_code == 200  # nothing is read, either
        assert not [name for name in service.asked[0].headers if name.startswith("x-")]

    world.run(scenario)


@pytest.mark.rule("W11")
def test_without_time_nothing_is_sent(world: World, make: Make, lib: ModuleType) -> None:
    async def scenario(_: World) -> None:
        caller, service, transport = make(200)
        async with limit(world, 8):
            await world.sleep(8 - UNIT / 4)
            with pytest.raises(DeadlineExceeded) as raised:
                await caller()
        assert isinstance(raised.value, lib.TimeoutException)  # W13
        assert not raised.value.started
        assert service.asked == []
        assert transport.policy.policies[1].stats().calls == 0

    world.run(scenario)


@pytest.mark.rule("W11")
def test_the_librarys_own_limits_are_no_longer_than_what_is_left(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        more = 0.1 if world.is_async else 0.0
        caller, service, _ = make(200)
        async with limit(world, 2):
            await caller(timeout=None)
            await caller(timeout=(1, None, 30, 2))
        for request, told in zip(service.asked, ((2, 2, 2, 2), (1, 2, 2, 2)), strict=True):
            found = request.extensions["timeout"]
            for what, seconds in zip(("connect", "read", "write", "pool"), told, strict=True):
                most = min(seconds + more, 1) if seconds == 1 else seconds + more
                most = 2 if what == "pool" and request is service.asked[1] else most
                assert most - 0.05 < found[what] <= most
        await caller(timeout=7)
        assert service.asked[2].extensions["timeout"]["read"] == 7
        async with limit(world, 2):
            await caller(extensions={"timeout": {"connect": 1}})  # which says nothing of the rest
        assert service.asked[3].extensions["timeout"]["connect"] == 1
        assert service.asked[3].extensions["timeout"]["read"] <= 2 + more

    world.run(scenario)


@pytest.mark.rule("W11", "W3")
def test_a_wait_for_which_there_is_no_time(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, service, _ = make((503, {"retry-after": "5"}, b"x"))
        async with limit(world, 4):
            assert (await caller()).status_code == 503  # there is no time for it: at once
        assert service.bodies[0].closed == 1
        began, policy = world.now(), pipeline(timeout(4), retry(on=BadStatus, wait=3))
        caller, service, _ = make((503, {}, b"x"), policy=policy)
        assert (await caller()).content == b"x"
        assert (len(service.asked), world.now() - began) == (2, 3)

    world.run(scenario)


@pytest.mark.rule("W3", "W11")
def test_a_deadline_that_ends_in_the_wait(world: World, make: Make, lib: ModuleType) -> None:
    async def scenario(_: World) -> None:
        def wait(_attempt: int, _error: Any) -> float:
            here.reschedule(1)  # somebody has less time now
            return 2.0

        policy = retry(on=BadStatus, wait=wait)
        caller, service, _ = make((503, {}, b"x"), policy=policy)
        here = deadline(9)
        async with here if world.is_async else Both(here):
            with pytest.raises(DeadlineExceeded) as raised:
                await caller()
        assert isinstance(raised.value, lib.TimeoutException)
        assert not raised.value.started
        assert service.bodies[0].closed == 1

    world.run(scenario)


@pytest.mark.rule("W3", "W11")
@pytest.mark.parametrize("world", ["threads"], indirect=True)
def test_the_limit_of_the_retry_that_ends_in_the_wait_is_named(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        kind = type("Body", (Closing, lib.SyncByteStream), {})
        slow = kind(lambda: world.time.advance(3))  # type: ignore[attr-defined]
        inner = lib.MockTransport(lambda _request: lib.Response(503, stream=slow))
        policy = retry(on=BadStatus, wait=1, within=2)
        caller = Caller(world, lib, ours.ResilientTransport(inner, policy=policy))
        async with limit(world, 60):
            with pytest.raises(DeadlineExceeded) as raised:
                await caller()
        assert raised.value.seconds == pytest.approx(4)  # not the 60, of which there are enough

    world.run(scenario)


@pytest.mark.rule("W11")
@pytest.mark.parametrize("world", ["threads"], indirect=True)
@pytest.mark.parametrize("guarded", [True, False])
def test_a_part_that_comes_too_late_is_not_read(
    world: World, make: Make, lib: ModuleType, guarded: bool
) -> None:
    async def scenario(_: World) -> None:
        guard = breaker(on=lib.TimeoutException) if guarded else None
        caller, service, _ = make((200, {}, b"a", b"b", b"c"), policy=guard)
        async with limit(world, 4):
            answer = await caller.open()
            with pytest.raises(DeadlineExceeded) as raised:
                for _part in answer.iter_bytes():
                    await world.sleep(3)
        assert isinstance(raised.value, lib.TimeoutException)
        assert raised.value.started
        assert guard is None or guard.stats().failures == 1
        answer.close()
        assert service.bodies[0].closed == 1

    world.run(scenario)


class Late(Streamed):
    """A body that takes four seconds, which is too long for the library."""

    def __init__(self, world: Any, error: Exception) -> None:
        super().__init__(error)
        self._world = world

    def __iter__(self) -> Iterator[bytes]:
        self._world.time.advance(4)
        yield from super().__iter__()


@pytest.mark.rule("W11")
@pytest.mark.parametrize("world", ["threads"], indirect=True)
@pytest.mark.parametrize("when", ["sending", "reading"])
def test_a_time_out_of_the_library_says_whose_limit_it_was(
    world: World, lib: ModuleType, ours: ModuleType, when: str
) -> None:
    async def scenario(_: World) -> None:
        error = error_of(lib, "ReadTimeout")

        def late(_request: Any) -> Any:
            if when == "reading":
                body = type("Body", (Late, lib.SyncByteStream), {})
                return lib.Response(200, stream=body(world, error))
            world.time.advance(4)  # type: ignore[attr-defined]
            raise error

        caller = Caller(world, lib, ours.ResilientTransport(lib.MockTransport(late)))
        async with limit(world, 4):
            with pytest.raises(lib.ReadTimeout) as raised:
                await caller()
        assert any("limit of 4 s exceeded" in note for note in raised.value.__notes__)

    world.run(scenario)


# W13: errors of two families.


@pytest.mark.rule("W13", "E1", "E2")
def test_what_the_policies_refuse_is_of_both_families(
    world: World, make: Make, lib: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        guard = breaker("shop", consecutive_failures=1, cooldown=4)
        caller, service, _ = make(503, policy=guard)
        await caller()
        with pytest.raises(CircuitOpen) as raised:
            await caller()
        error = raised.value
        assert isinstance(error, lib.TransportError)
        assert isinstance(error, Rejected)
        assert error.request.url.path == "/"  # type: ignore[attr-defined]  # the library's
        assert (error.policy, error.reason) == ("shop", "open")
        assert error.retry_after is not None
        plain = CircuitOpen(*error.args)
        assert (str(error), repr(error), type(error).__name__) == (
            str(plain),
            repr(plain),
            "CircuitOpen",
        )
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is type(error)
            assert (twin.args, str(twin)) == (error.args, str(error))
        assert error.__cause__ is None
        assert len(service.asked) == 1

    world.run(scenario)


@pytest.mark.rule("W13", "E1")
def test_what_goes_through_clients_of_two_libraries_is_of_both(world: World) -> None:
    names = ("httpx2", "httpx")
    libs = [importlib.import_module(name) for name in names]
    ours = [importlib.import_module(f"resilient.integrations.{name}") for name in names]

    async def scenario(_: World) -> None:
        guard = breaker("spare")
        guard.force_open()
        spare = ours[0].ResilientTransport(Service(libs[0], 200).transport, policy=guard)
        other = Caller(world, libs[0], spare)
        if world.is_async:
            instead: Any = lambda _request: other()  # noqa: E731
        else:
            instead = lambda _request: drive(other())  # noqa: E731
        policy = fallback(instead=instead, on=BadStatus)
        transport = ours[1].ResilientTransport(Service(libs[1], 503).transport, policy=policy)
        with pytest.raises(CircuitOpen) as raised:
            await Caller(world, libs[1], transport)()
        error = raised.value
        assert all(isinstance(error, lib.TransportError) for lib in libs)
        twin = pickle.loads(pickle.dumps(error))
        assert type(twin) is type(error)
        assert (twin.args, str(twin)) == (error.args, str(error))

    world.run(scenario)


@pytest.mark.rule("W13")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_limit_inside_is_the_librarys_time_out_too(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        async def hangs(_request: Any) -> Any:
            await anyio.sleep(60)

        policy = pipeline(retry(on=ours.TRANSIENT, wait=1), timeout(2, name="each"))
        transport = ours.ResilientTransport(lib.MockTransport(hangs), policy=policy)
        async with lib.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            with pytest.raises(lib.TimeoutException) as raised:
                await client.get("/")
            error = raised.value
            assert isinstance(error, DeadlineExceeded)
            assert (error.started, error.policy, error.seconds) == (True, "each", 2)
            assert pickle.loads(pickle.dumps(error)).started is True
            assert world.now() == pytest.approx(8)
            with pytest.raises(lib.TimeoutException):
                await client.post("/")  # perhaps it was carried out
            assert world.now() == pytest.approx(10)

    world.run(scenario)


# W15: what a block says.


@pytest.mark.rule("W15")
def test_a_block_may_say_the_policy(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, service, transport = make((503, NOW))
        other = retry(on=BadStatus, attempts=5, wait=0, budget=None)
        with options(policy=other):
            await caller()
            with options(policy=None):
                await caller()
            with options(idempotent=False):  # and the policy of the block around
                await caller()
        await caller()
        assert [len(list(group)) for group in runs(service.attempts())] == [5, 1, 1, 3]
        assert transport.policy.policies[0].stats().calls == 1

    world.run(scenario)


@pytest.mark.rule("W15", "F7")
def test_bad_options() -> None:
    with pytest.raises(TypeError, match="idempotent must be True, False or None"):
        options(idempotent="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy must be a policy, or None for none"):
        options(policy=retry)  # type: ignore[arg-type]


@pytest.mark.rule("W15")
def test_options_are_for_one_block() -> None:
    twice: Any = options(idempotent=True)
    with twice:
        pass
    with pytest.raises(RuntimeError, match="write it in each `with`"), twice:
        pass
    with pytest.raises(TypeError, match="not callable"):  # an async function would begin after it
        twice(print)


@pytest.mark.rule("W15")
def test_a_generator_with_options_may_end_in_another_context() -> None:
    def parts() -> Iterator[int]:
        with options(idempotent=True):
            yield 1

    found = parts()
    contextvars.copy_context().run(next, found)
    assert list(found) == []


# Hedges.


@pytest.mark.rule("W5", "W9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hedge_runs_beside_what_is_idempotent(
    world: World, lib: ModuleType, ours: ModuleType, method: str
) -> None:
    async def scenario(_: World) -> None:
        running, asked = 0, []

        async def slow_at_first(request: Any) -> Any:
            nonlocal running
            asked.append(request.headers["x-request-attempt"])
            running += 1
            try:
                await anyio.sleep(9 if len(asked) == 1 else 1)
            finally:
                running -= 1
            return lib.Response(200, text=asked[-1])

        places = bulkhead(9)
        policy = pipeline(hedge(2, budget=None), places)
        transport = ours.ResilientTransport(lib.MockTransport(slow_at_first), policy=policy)
        async with lib.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            answer = await client.request(method, "/")
        assert answer.status_code == 200
        assert world.now() == pytest.approx(3 if method == "GET" else 9)
        assert asked == (["1", "2"] if method == "GET" else ["1"])
        assert (running, places.stats().in_flight) == (0, 0)

    world.run(scenario)


@pytest.mark.rule("W8", "W9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_hedge_asks_what_may_be_repeated_and_leaves_no_answer_open(
    world: World, make: Make
) -> None:
    async def scenario(_: World) -> None:
        policy = hedge(5, on=BadStatus, max=2, budget=None)
        caller, service, _ = make((503, {"x-should-retry": "false"}), 200, policy=policy)
        assert (await caller()).status_code == 503
        assert len(service.asked) == 1
        caller, service, _ = make((503, {}, b"a"), (503, {}, b"b"), (200, {}, b"c"), policy=policy)
        assert (await caller()).content == b"c"
        assert [body.closed for body in service.bodies] == [1, 1, 1]

    world.run(scenario)


@pytest.mark.rule("W9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_retry_around_a_hedge_waits_with_no_answer_open(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        closed: list[int] = []

        def look(_request: Any) -> Any:
            closed.extend(body.closed for body in service.bodies)
            return (200, {}, b"c")

        again, beside = retry(on=BadStatus, wait=1), hedge(5, on=BadStatus, budget=None)
        script = [(503, {}, b"a"), (503, {}, b"b"), look]
        caller, service, _ = make(*script, policy=pipeline(again, beside))
        assert (await caller()).content == b"c"
        assert closed == [1, 1]

    world.run(scenario)


@pytest.mark.rule("W9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_retry_in_a_hedge_leaves_other_attempts_their_answers(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        closed: list[int] = []

        def look(_request: Any) -> Any:
            closed.extend(body.closed for body in service.bodies)
            return (503, {}, b"c")

        again = retry(on=lambda error: error.status == 502, wait=1)
        beside = hedge(9, on=BadStatus, budget=None)
        script = [(503, {}, b"a"), (502, {}, b"b"), look]
        caller, service, _ = make(*script, policy=pipeline(beside, again))
        assert (await caller()).status_code == 503
        assert closed == [0, 1]  # the first may yet be the caller's
        assert [body.closed for body in service.bodies] == [1, 1, 1]

    world.run(scenario)


class Closing(Streamed):
    """A body whose end is what *close* does."""

    def __init__(self, close: Callable[[], Any]) -> None:
        super().__init__(b"x")
        self._close = close

    def close(self) -> None:
        super().close()
        self._close()

    async def aclose(self) -> None:
        await super().aclose()
        await self._close()


@pytest.mark.rule("W9")
def test_an_answer_that_breaks_as_it_is_closed_is_no_matter_of_the_call(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        def breaks() -> Any:
            raise error_of(lib, "ReadError")

        kind = type("Body", (Closing, lib.SyncByteStream, lib.AsyncByteStream), {})
        policies = [retry(on=BadStatus, wait=0)]
        if world.is_async:
            policies.append(hedge(1, on=BadStatus, budget=None))  # type: ignore[arg-type]
        for policy in policies:
            script = [lib.Response(200), lib.Response(503, stream=kind(breaks))]
            inner = lib.MockTransport(lambda _request, script=script: script.pop())
            caller = Caller(world, lib, ours.ResilientTransport(inner, policy=policy))
            assert (await caller()).status_code == 200

    world.run(scenario)


@pytest.mark.rule("W14")
@pytest.mark.parametrize("world", ["asyncio"], indirect=True)
def test_who_is_cancelled_while_a_loser_is_closed_leaves_no_answer_open(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        closing, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            closing.set()
            await go_on.wait()

        kind = type("Body", (Closing, lib.AsyncByteStream), {})
        bodies = [kind(slow) for _ in range(3)]
        script = [lib.Response(200 if body is bodies[0] else 503, stream=body) for body in bodies]
        places = bulkhead(9)
        policy = pipeline(places, hedge(1, on=BadStatus, max=2, budget=None))
        inner = lib.MockTransport(lambda _request: script.pop())
        caller = Caller(world, lib, ours.ResilientTransport(inner, policy=policy))
        task = asyncio.ensure_future(caller.open())
        await closing.wait()
        for _again in range(2):
            task.cancel()
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [body.closed for body in bodies] == [1, 1, 1]
        assert places.stats().in_flight == 0
        assert len(asyncio.all_tasks()) == 1

    world.run(scenario)


@pytest.mark.rule("W1")
@pytest.mark.parametrize("world", ["threads"], indirect=True)
def test_a_hedge_needs_an_async_client(world: World, make: Make) -> None:
    async def scenario(_: World) -> None:
        caller, _service, _ = make(200, policy=hedge(1))
        with pytest.raises(TypeError, match=r"policy must not have .* for a sync client"):
            await caller()

    world.run(scenario)


# One object for many, and its end.


@pytest.mark.rule("W1", "F4")
def test_a_closed_transport_says_so(world: World, lib: ModuleType, ours: ModuleType) -> None:
    async def scenario(_: World) -> None:
        service = Service(lib, 200)
        transport = ours.ResilientTransport(service.transport)
        for _client in range(2):  # one client after the other
            caller = Caller(world, lib, transport)
            async with caller.client if world.is_async else Both(caller.client):
                await caller()
        request = lib.Request("GET", "http://shop.test/")
        with pytest.raises(RuntimeError, match="is closed: make another one"):
            if world.is_async:
                await transport.handle_async_request(request)
            else:
                transport.handle_request(request)

    world.run(scenario)


@pytest.mark.rule("W1")
def test_a_transport_of_the_other_world_is_refused(
    world: World, lib: ModuleType, ours: ModuleType
) -> None:
    async def scenario(_: World) -> None:
        inner = lib.HTTPTransport() if world.is_async else lib.AsyncHTTPTransport()
        caller = Caller(world, lib, ours.ResilientTransport(inner))
        with pytest.raises(TypeError, match="transport must be one with handle_"):
            await caller()

    world.run(scenario)


@pytest.mark.rule("W1")
def test_protect_is_a_policy_as_any(world: World, make: Make, ours: ModuleType) -> None:
    async def scenario(_: World) -> None:
        policy = protect(on=ours.TRANSIENT, timeout=2, key=ours.origin)
        caller, service, _ = make((503, NOW), 200, policy=policy)
        assert (await caller()).status_code == 200
        assert service.attempts() == ["1", "2"]

    world.run(scenario)


@pytest.mark.rule("W14", "F9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_a_cancelled_call_leaves_nothing(world: World, lib: ModuleType, ours: ModuleType) -> None:
    async def scenario(_: World) -> None:
        async def slow(_request: Any) -> Any:
            await anyio.sleep(5)
            return lib.Response(503)

        guard, places = breaker(), bulkhead(1, queue=5)
        policy = pipeline(retry(on=BadStatus, wait=5), guard, places)
        transport = ours.ResilientTransport(lib.MockTransport(slow), policy=policy)
        async with lib.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            for seconds in (1, 6, 12, 17):
                with anyio.move_on_after(seconds):
                    await client.get("/")
                assert places.stats().in_flight == 0
        assert (guard.stats().in_flight, guard.stats().successes) == (0, 0)
        if world.name == "asyncio":
            assert len(asyncio.all_tasks()) == 1

    world.run(scenario)


@pytest.mark.rule("W14")
@pytest.mark.parametrize("world", ["asyncio"], indirect=True)
@pytest.mark.parametrize("steps", range(5))
def test_a_call_cancelled_as_a_part_comes_ends_the_body_itself(
    world: World, lib: ModuleType, ours: ModuleType, steps: int
) -> None:
    async def scenario(_: World) -> None:
        waiting, go_on = asyncio.Event(), asyncio.Event()
        ended: list[bool] = []

        class Parts(lib.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                waiting.set()
                try:
                    await go_on.wait()
                    yield b"a"
                    await asyncio.sleep(60)
                finally:
                    ended.append(True)

        inner = lib.MockTransport(lambda _request: lib.Response(200, stream=Parts()))
        call = asyncio.ensure_future(Caller(world, lib, ours.ResilientTransport(inner))())
        await waiting.wait()
        go_on.set()
        for _step in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended == [True]  # and the loop needs no task for it

    world.run(scenario)

"""The middleware of aiohttp over connections in memory, in virtual time.

What needs a network is in `test_aiohttp_real.py`; what all clients share is tried with httpx.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import pickle
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from unittest.mock import Mock

import aiohttp
import anyio
import pytest
from yarl import URL

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
    timeout,
)
from resilient.integrations import aiohttp as ours
from resilient.integrations.aiohttp import TRANSIENT, BadStatus, ResilientMiddleware, Wire
from resilient.integrations.asgi import ResilientMiddleware as ServerMiddleware
from resilient.integrations.http import options
from tests.integrations.lines import HELD_BACK, Service
from tests.integrations.tables import BAD_SETTINGS, IDEMPOTENT, NOW, ORIGINS, runs
from tests.integrations.test_asgi import Peer
from tests.worlds import World, world_named


class Set(NamedTuple):
    """A session, the service that it asks, and the middleware between them."""

    session: aiohttp.ClientSession
    service: Service
    middleware: ResilientMiddleware

    async def fetch(self, method: str = "GET", path: str = "/", **kwargs: Any) -> Any:
        """The answer, all of which has come."""
        async with self.session.request(method, path, **kwargs) as answer:
            await answer.read()
        return answer

    def stats(self) -> Any:
        """Of the retry, the breaker and the bulkhead, in this order."""
        return self.middleware.policy.stats()  # type: ignore[union-attr]  # there is one

    def stats_of(self, place: int) -> Any:
        return self.stats()[place]


@asynccontextmanager
async def shop(
    *script: Any,
    around: tuple[Any, ...] = (),
    connector: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Set]:
    """A session whose service answers by *script*; *around* are middlewares outside of ours."""
    service, middleware = Service(*script), ResilientMiddleware(**settings)
    async with aiohttp.ClientSession(
        "http://Shop.test/",
        connector=service.connector(**connector or {}),
        middlewares=(*around, middleware, service),
    ) as session:
        yield Set(session, service, middleware)


@pytest.fixture(params=["asyncio"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_named(request.param) as one:
        yield one


def play(world: World, scenario: Callable[[], Awaitable[None]]) -> None:
    async def run(_: World) -> None:
        await scenario()
        await asyncio.sleep(0)  # what is closed ends
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    world.run(run)


# W1, W2: the policy, and what it is asked with.


@pytest.mark.rule("W1")
def test_what_stands_around_a_request_by_itself() -> None:
    middleware: Any = ResilientMiddleware()
    again, guard, places = middleware.policy.policies
    assert [one.kind for one in middleware.policy.policies] == ["retry", "breaker", "bulkhead"]
    assert {one.name for one in (again, guard, places)} == {"aiohttp"}
    assert places.stats().limit == 50
    assert repr(ResilientMiddleware(policy=None)) == "ResilientMiddleware(policy=None)"


@pytest.mark.rule("W1", "F7")
@pytest.mark.parametrize(("settings", "error", "says"), BAD_SETTINGS)
def test_bad_settings(settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ResilientMiddleware(**settings)


@pytest.mark.rule("W1")
def test_a_policy_is_asked_with_the_request(world: World) -> None:
    asked: list[str] = []

    def rank(request: aiohttp.ClientRequest) -> float:
        asked.append(request.url.path)
        return 1.0

    def weight(request: aiohttp.ClientRequest) -> int:
        return 2 if request.method == "PUT" else 1

    async def scenario() -> None:
        limits = pipeline(adaptive_limit(priority=rank), rate_limit(3, burst=3, cost=weight))
        async with shop(200, policy=limits) as one:
            await one.fetch("PUT", "/a")
            await one.fetch("GET", "/b")
            with pytest.raises(RateLimited):
                await one.fetch("GET", "/c")
        assert asked == ["/a", "/b", "/c"]

    play(world, scenario)


@pytest.mark.rule("W1", "W2")
def test_each_origin_has_a_state_of_its_own(world: World) -> None:
    async def scenario() -> None:
        async with shop((302, {"location": "http://other.test/"}), 200) as one:
            assert (await one.fetch()).status == 200
            await one.fetch("GET", "https://A.test/y")
            guard: Any = one.middleware.policy.policies[1]  # type: ignore[union-attr]
            assert guard.keys() == [
                "http://shop.test:80", "http://other.test:80", "https://a.test:443"
            ]  # fmt: skip
            assert one.service.attempts() == ["1", "1", "1"]  # each hop is a request of its own

    play(world, scenario)


@pytest.mark.rule("W2")
@pytest.mark.parametrize(("url", "where"), [*ORIGINS, ("ws://shop.test/", "ws://shop.test:80")])
def test_the_origin_of_a_request(url: str, where: str) -> None:
    assert ours.origin(Mock(url=URL(url))) == where


@pytest.mark.rule("W1")
def test_protect_is_a_policy_as_any(world: World) -> None:
    async def scenario() -> None:
        policy = protect(on=TRANSIENT, timeout=2, key=ours.origin)
        async with shop((503, NOW), 200, policy=policy) as one:
            assert (await one.fetch()).status == 200
            assert one.service.attempts() == ["1", "2"]

    play(world, scenario)


# W3: the caller gets the answer.


@pytest.mark.rule("W3", "W9")
def test_the_last_answer_is_the_callers_unread(world: World) -> None:
    async def scenario() -> None:
        last: Any = (500, {}, b"c", HELD_BACK, b"d")
        async with shop((503, NOW, b"a"), (502, NOW, b"b"), last) as one:
            answer = await one.session.get("/")
            assert (answer.status, answer.closed) == (500, False)
            one.service.go_on.set()
            assert await answer.read() == b"cd"
            with pytest.raises(aiohttp.ClientResponseError):
                answer.raise_for_status()
            assert one.stats_of(1).failures == 3

    play(world, scenario)


@pytest.mark.rule("W3")
def test_what_is_a_failure_can_be_said(world: World) -> None:
    async def scenario() -> None:
        async with shop((404, NOW), 503, failures={404}) as one:
            assert (await one.fetch()).status == 503
            assert one.service.attempts() == ["1", "2"]
            assert one.stats_of(1).successes == 1

    play(world, scenario)


@pytest.mark.rule("W3")
def test_a_fallback_gives_an_answer_or_is_refused(world: World) -> None:
    async def scenario() -> None:
        async def another(request: aiohttp.ClientRequest) -> Any:
            return await one.session.get("/spare", middlewares=(one.service,))

        policy = fallback(instead=another, on=BadStatus)
        async with shop(503, (203, {}, b"spare"), policy=policy) as one:
            async with one.session.get("/") as answer:
                assert (answer.status, await answer.text()) == (203, "spare")
        async with shop(503, policy=fallback(default=None, on=BadStatus)) as one:
            with pytest.raises(TypeError, match=r"must give a .*ClientResponse, not None"):
                await one.fetch()

    play(world, scenario)


# W4 to W6: what is repeated.

KEY = aiohttp.client_reqrep.ConnectionKey("shop.test", 80, False, True, None, None, None)
ERRORS: dict[str, Callable[[], Exception]] = {
    "ClientConnectorError": lambda: aiohttp.ClientConnectorError(KEY, OSError(111, "refused")),
    "ClientConnectorDNSError": lambda: aiohttp.ClientConnectorDNSError(KEY, OSError(2, "who?")),
    "ClientConnectorSSLError": lambda: aiohttp.ClientConnectorSSLError(KEY, OSError(1, "TLS")),
    "ClientConnectorCertificateError": lambda: aiohttp.ClientConnectorCertificateError(
        KEY, ValueError("whose is it?")
    ),
    "ClientProxyConnectionError": lambda: aiohttp.ClientProxyConnectionError(KEY, OSError(111, "")),
    "ClientHttpProxyError": lambda: aiohttp.ClientHttpProxyError(Mock(), (), status=502),
    "ServerFingerprintMismatch": lambda: aiohttp.ServerFingerprintMismatch(b"a", b"b", "shop", 80),
    "ConnectionTimeoutError": aiohttp.ConnectionTimeoutError,
    "ClientOSError": lambda: aiohttp.ClientOSError(104, "reset"),
    "ClientConnectionResetError": lambda: aiohttp.ClientConnectionResetError("closing"),
    "ServerDisconnectedError": aiohttp.ServerDisconnectedError,
    "SocketTimeoutError": aiohttp.SocketTimeoutError,
    "ClientPayloadError": aiohttp.ClientPayloadError,
    "TimeoutError": TimeoutError,
    "InvalidURL": lambda: aiohttp.InvalidURL("http://"),
    "ValueError": lambda: ValueError("a header with a line break"),
}
NEVER_SENT = list(ERRORS)[:8]
OWN = {"InvalidURL", "ValueError"}


@pytest.mark.rule("W4")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_way(world: World, method: str, name: str) -> None:
    async def scenario() -> None:
        error = ERRORS[name]()
        assert isinstance(error, TRANSIENT) is (name not in OWN)
        async with shop(error, 200) as one:
            again = name in NEVER_SENT or (name not in OWN and method == "GET")
            if again:
                assert (await one.fetch(method)).status == 200
            else:
                with pytest.raises(type(error)) as raised:
                    await one.fetch(method)
                assert raised.value is error
            assert one.service.attempts() == (["1", "2"] if again else ["1"])
            guard, places = one.stats()[1:]
            assert (guard.failures, guard.ignored) == ((0, 1) if name in OWN else (1, 0))
            assert places.in_flight == 0

    play(world, scenario)


@pytest.mark.rule("W4")
def test_an_answer_that_is_none_is_broken(world: World) -> None:
    async def scenario() -> None:
        async with shop(("nonsense", {}), 200) as one:
            assert (await one.fetch()).status == 200
            assert (one.service.attempts(), one.stats_of(1).failures) == (["1", "2"], 1)
        async with shop(("nonsense", {})) as one:
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                await one.fetch("POST")
            assert isinstance(raised.value, aiohttp.ClientPayloadError)  # which TRANSIENT names
            assert (type(raised.value).__name__, raised.value.status) == (
                "ClientResponseError",
                400,
            )

    play(world, scenario)


@pytest.mark.rule("W4")
def test_a_header_that_can_not_be_sent_says_nothing_of_the_service(world: World) -> None:
    async def scenario() -> None:
        async with shop(200) as one:
            with pytest.raises(ValueError, match="header"):
                await one.fetch(headers={"x-mine": "a\r\nb"})
            assert (len(one.service.asked), one.stats_of(1).ignored) == (1, 1)

    play(world, scenario)


@pytest.mark.rule("W4")
@pytest.mark.parametrize("limits", [{"connect": 1}, {"total": 1}])
def test_a_pool_that_is_full_says_nothing_of_the_service(world: World, limits: Any) -> None:
    async def scenario() -> None:
        async with shop((200, {}, HELD_BACK, b"a"), connector={"limit": 1}) as one:
            async with one.session.get("/"):
                with pytest.raises(TimeoutError):
                    await one.fetch(timeout=aiohttp.ClientTimeout(**limits))
            guard, places = one.stats()[1:]
            assert (guard.ignored, guard.failures, places.in_flight) == (1, 0, 0)
            assert (len(one.service.asked), world.now()) == (2, 1)

    play(world, scenario)


@pytest.mark.rule("W4", "W11")
@pytest.mark.parametrize(
    ("limits", "error", "asked"),
    [
        ({"connect": 1}, aiohttp.ConnectionTimeoutError, 3),
        ({"total": 1}, TimeoutError, 1),  # which covers all attempts
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_can_not_connect_is_a_failure(
    world: World, limits: Any, error: type[Exception], asked: int, method: str
) -> None:
    async def scenario() -> None:
        policy = pipeline(retry(on=TRANSIENT, wait=1, budget=None), breaker(), bulkhead(9))
        async with shop(200, policy=policy) as one:
            one.service.reachable.clear()
            with pytest.raises(error) as raised:
                await one.fetch(method, timeout=aiohttp.ClientTimeout(**limits))
            assert type(raised.value) is error
            assert (len(one.service.asked), one.stats_of(1).failures) == (asked, asked)
            assert world.now() == 2 * asked - 1

    play(world, scenario)


@pytest.mark.rule("W4", "W11")
def test_after_the_limit_of_the_whole_call_nothing_is_repeated(world: World) -> None:
    async def scenario() -> None:
        async def late(_request: Any) -> Any:
            await asyncio.sleep(60)

        silent: Any = (200, {}, HELD_BACK)
        for script, limits in (((late,), {"total": 4}), ((503, silent), {"total": 4})):
            policy = pipeline(retry(on=TRANSIENT, wait=1, budget=None), breaker(on=TRANSIENT))
            async with shop(*script, policy=policy) as one:
                began = world.now()
                with pytest.raises(TimeoutError):
                    await one.fetch(timeout=aiohttp.ClientTimeout(**limits))
                assert world.now() - began == 4
                assert len(one.service.asked) == len(script)
                assert one.stats_of(1).failures == len(script)

    play(world, scenario)


@pytest.mark.rule("W5")
@pytest.mark.parametrize(("method", "kwargs", "settings", "said", "repeated"), IDEMPOTENT)
def test_what_is_idempotent(  # noqa: PLR0917
    world: World, method: str, kwargs: Any, settings: Any, said: Any, repeated: bool
) -> None:
    async def scenario() -> None:
        asked = {"data" if name == "content" else name: value for name, value in kwargs.items()}
        async with shop((503, NOW), 200, **settings) as one:
            with options(idempotent=said):
                answer = await one.fetch(method, **asked)
            assert answer.status == (200 if repeated else 503)
            assert len(one.service.asked) == 1 + repeated

    play(world, scenario)


async def halves(error: Exception | None = None) -> AsyncIterator[bytes]:
    yield b"half "
    if error is not None:
        raise error
    yield b"and half"


def multipart() -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("f", io.BytesIO(b"half and half"), filename="f.txt")
    return form


BODIES: dict[str, tuple[bool, Callable[[], dict[str, Any]]]] = {
    "bytes": (True, lambda: {"data": b"half and half"}),
    "text": (True, lambda: {"data": "half and half"}),
    "json": (True, lambda: {"json": "half and half"}),
    "form": (True, lambda: {"data": {"f": "half and half"}}),
    "compressed": (True, lambda: {"data": b"half and half", "compress": "deflate"}),
    "expects": (True, lambda: {"data": b"half and half", "expect100": True}),
    "none": (True, dict),
    "parts": (False, lambda: {"data": halves()}),
    "file": (False, lambda: {"data": io.BytesIO(b"half and half")}),
    "multipart": (False, lambda: {"data": multipart()}),
}


@pytest.mark.rule("W6")
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_gone_is_not_sent_again(world: World, body: str) -> None:
    async def scenario() -> None:
        whole, kwargs = BODIES[body]
        async with shop((503, NOW), aiohttp.ServerDisconnectedError(), 200) as one:
            answer = await one.fetch("PUT", **kwargs())
            assert answer.status == (200 if whole else 503)
            sent = list(one.service.bodies.values())
            assert sent == sent[:1] * (2 if whole else 1)
            assert one.service.continued == (2 if body == "expects" else 0)
            if body not in {"none", "compressed"}:
                assert b"half" in sent[0]
                assert b"and" in sent[0]

    play(world, scenario)


@pytest.mark.rule("W6")
def test_a_body_of_the_callers_own_kind_is_what_it_was(world: World) -> None:
    class Drained(aiohttp.Payload):
        def decode(self, *_: Any) -> str:
            raise NotImplementedError

        async def write(self, writer: Any) -> None:
            await writer.write(b"half ")
            await writer.drain()
            await writer.write(b"and half")

    async def scenario() -> None:
        async with shop(200) as one:
            await one.fetch("PUT", data=Drained(7, content_type="text/plain"))
            assert b"and half" in one.service.bodies[0]
            body: Any = one.service.asked[0].body
            assert (body.content_type, body.consumed) == ("text/plain", False)

    play(world, scenario)


class OfMine(Exception):
    """It can be watched, unlike those of Python."""


@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    ("mine", "error"),
    [
        (KeyError("mine"), aiohttp.ClientConnectionError),
        (FileNotFoundError(2, "mine"), aiohttp.ClientOSError),
        (ConnectionResetError(104, "that of the service where it comes from"), OSError),
        (aiohttp.ClientPayloadError("the same"), aiohttp.ClientConnectionError),
        (TimeoutError(), TimeoutError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_what_the_callers_body_raises_says_nothing_of_the_service(
    world: World, mine: Exception, error: type[Exception]
) -> None:
    async def scenario() -> None:
        guard = breaker(on=Exception)
        async with shop(200, policy=pipeline(retry(on=Exception, wait=0), guard)) as one:
            with pytest.raises(error) as raised:
                await one.fetch("PUT", data=halves(mine))
            assert mine in {raised.value, raised.value.__cause__}
            assert (guard.stats().ignored, guard.stats().failures) == (1, 0)
            assert len(one.service.asked) == 1

    play(world, scenario)


@pytest.mark.rule("W4")
def test_what_breaks_under_the_callers_body_is_a_failure(world: World) -> None:
    async def scenario() -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            for line in list(one.service.lines):
                line.close()
            yield b"and half"

        guard = breaker(on=Exception)
        async with shop(200, policy=guard) as one:
            with pytest.raises(aiohttp.ClientConnectionError):
                await one.fetch("POST", data=parts())
            assert (guard.stats().ignored, guard.stats().failures) == (0, 1)

    play(world, scenario)


@pytest.mark.rule("W4")
def test_what_a_body_raises_is_gone_with_its_call(world: World) -> None:
    async def scenario() -> None:
        raised: list[weakref.ref[Exception]] = []

        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            raised.append(weakref.ref(error := OfMine()))
            try:
                raise error
            finally:
                del error

        async with shop(200) as one:
            with suppress(aiohttp.ClientConnectionError):
                await one.fetch("PUT", data=parts())
        await asyncio.sleep(0)
        gc.collect()  # aiohttp's own errors know themselves
        assert raised[0]() is None

    play(world, scenario)


@pytest.mark.rule("W4", "B9")
def test_a_deadline_may_come_while_the_callers_body_is_made(world: World) -> None:
    async def scenario() -> None:
        async def hangs() -> AsyncIterator[bytes]:
            yield b"half"
            await asyncio.sleep(60)

        guard = breaker(on=TRANSIENT)
        async with shop(200, policy=guard) as one:
            with pytest.raises(DeadlineExceeded):
                async with deadline(1):
                    await one.fetch("PUT", data=hangs())
            assert guard.stats().failures == 1
            with anyio.move_on_after(1):
                await one.fetch("PUT", data=hangs())
            assert (guard.stats().failures, guard.stats().ignored) == (1, 1)

    play(world, scenario)


# W7, W8: what the server asks.


@pytest.mark.rule("W7")
def test_the_wait_is_at_least_what_the_server_asks(world: World) -> None:
    async def scenario() -> None:
        async with shop((503, {"retry-after": "20"}), 200) as one:
            assert (await one.fetch()).status == 200
            assert 20 <= world.now() < 21
        twice = (503, {"retry-after": "20", "Retry-After": "20"})
        async with shop(twice, 200) as one:
            began = world.now()
            assert (await one.fetch()).status == 200
            assert world.now() - began < 2  # as if absent

    play(world, scenario)


@pytest.mark.rule("W7", "W8")
def test_one_that_must_not_be_repeated_is_returned_at_once(world: World) -> None:
    async def scenario() -> None:
        for asks in ({"retry-after": "31"}, {"x-should-retry": "False", **NOW}):
            async with shop((503, asks), 200) as one:
                assert (await one.fetch()).status == 503
                assert (len(one.service.asked), world.now()) == (1, 0)

    play(world, scenario)


# W9, W10: answers, and what stays open with them.


@pytest.mark.rule("W9")
def test_an_answer_is_closed_before_the_wait(world: World) -> None:
    async def scenario() -> None:
        async def look(_request: Any) -> Any:
            was_open.append((one.service.open, len(one.session.connector._acquired)))  # type: ignore[union-attr]
            return 200

        was_open: list[tuple[int, int]] = []
        policy = retry(on=BadStatus, wait=1)
        async with shop((503, {}, HELD_BACK), look, policy=policy) as one:
            assert (await one.fetch()).status == 200
        async with shop((503, {}), look, policy=policy) as one:
            assert (await one.fetch()).status == 200
        assert was_open == [(0, 0), (1, 0)]  # one that has come whole leaves its connection

    play(world, scenario)


@pytest.mark.rule("W10")
def test_the_place_is_held_until_the_body_has_ended(world: World) -> None:
    async def scenario() -> None:
        places, guard = bulkhead(1), breaker(on=Exception)
        body: Any = (200, {}, b"a", HELD_BACK, b"b")
        async with shop(body, policy=pipeline(places, guard)) as one:
            answer = await one.session.get("/")
            with pytest.raises(BulkheadFull):
                await one.session.get("/")
            one.service.go_on.set()
            assert await answer.read() == b"ab"
            assert places.stats().in_flight == 0
            one.service.go_on.clear()
            for close in (aiohttp.ClientResponse.release, aiohttp.ClientResponse.close):
                close(await one.session.get("/"))  # early: it was an answer all the same
                assert places.stats().in_flight == 0
            with suppress(KeyError):
                async with one.session.get("/"):
                    raise KeyError("of the caller's own code")
            assert places.stats().in_flight == 0
            assert (guard.stats().successes, guard.stats().ignored) == (4, 0)

    play(world, scenario)


@pytest.mark.rule("W10")
def test_a_body_that_came_with_the_head_has_ended(world: World) -> None:
    async def scenario() -> None:
        places = bulkhead(1)
        async with shop(200, policy=places) as one:
            answers = [await one.session.get("/") for _ in range(3)]
            assert places.stats().in_flight == 0
            assert [await answer.read() for answer in answers] == [b""] * 3
        async with shop((200, {}, b"a"), policy=places) as one:
            answer = await one.session.get("/")
            await asyncio.sleep(1)
            assert places.stats().in_flight == 0  # it has come, though it is not read
            assert await answer.read() == b"a"

    play(world, scenario)


@pytest.mark.rule("W10")
@pytest.mark.parametrize("reads", ["whole", "parts", "late"])
def test_a_body_that_breaks_is_a_failure_and_not_repeated(world: World, reads: str) -> None:
    async def scenario() -> None:
        async with shop((200, {}, b"a", HELD_BACK, ConnectionResetError(104, "reset"))) as one:
            with pytest.raises(aiohttp.ClientPayloadError):
                async with one.session.get("/") as answer:
                    if reads == "late":
                        one.service.go_on.set()
                        await asyncio.sleep(1)
                    asyncio.get_running_loop().call_later(1, one.service.go_on.set)
                    if reads == "parts":
                        async for _part in answer.content.iter_any():
                            pass
                    await answer.read()
            guard, places = one.stats()[1:]
            assert (guard.failures, guard.in_flight, places.in_flight) == (1, 0, 0)
            assert len(one.service.asked) == 1

    play(world, scenario)


@pytest.mark.rule("W10", "B9")
@pytest.mark.parametrize("reads", ["whole", "parts"])
def test_a_body_that_a_limit_cuts(world: World, reads: str) -> None:
    async def scenario() -> None:
        async def read(**kwargs: Any) -> None:
            async with one.session.get("/", **kwargs) as answer:
                if reads == "parts":
                    async for _part in answer.content.iter_any():
                        pass
                await answer.read()

        guard, places = breaker(on=TRANSIENT), bulkhead(1)
        async with shop((200, {}, b"a", HELD_BACK), policy=pipeline(guard, places)) as one:
            with pytest.raises(DeadlineExceeded):
                async with deadline(1):
                    await read()
            assert (guard.stats().failures, places.stats().in_flight) == (1, 0)
            with anyio.move_on_after(1):
                await read()
            assert (guard.stats().ignored, places.stats().in_flight) == (1, 0)
            with pytest.raises(TimeoutError):
                await read(timeout=aiohttp.ClientTimeout(total=1))
            with pytest.raises(aiohttp.SocketTimeoutError):
                await read(timeout=aiohttp.ClientTimeout(sock_read=1))
            assert (guard.stats().failures, places.stats().in_flight) == (3, 0)
            assert guard.stats().ignored == 1

    play(world, scenario)


@pytest.mark.rule("W10")
def test_a_limit_that_passes_between_two_parts_is_a_failure(world: World) -> None:
    async def scenario() -> None:
        guard = breaker(on=TRANSIENT)
        async with shop((200, {}, b"a", HELD_BACK), policy=guard) as one:
            with pytest.raises(TimeoutError):
                async with one.session.get("/", timeout=aiohttp.ClientTimeout(total=1)) as answer:
                    await answer.content.readany()
                    await asyncio.sleep(2)
                    await answer.content.readany()
        assert guard.stats().failures == 1

    play(world, scenario)


@pytest.mark.filterwarnings(  # aiohttp's own
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.rule("W10", "F3")
def test_an_answer_that_is_lost_gives_its_place_back_with_its_connection(world: World) -> None:
    async def scenario() -> None:
        places, guard = bulkhead(1), breaker(on=Exception)
        body: Any = (200, {}, b"a", HELD_BACK)
        async with shop(body, policy=pipeline(guard, places)) as one:
            answer = await one.session.get("/")
            lost = weakref.ref(answer)
            one.service.asked.clear()  # a request knows its answer
            del answer
            gc.collect()
            assert places.stats().in_flight == 1  # aiohttp keeps it as long as its connection
            one.service.go_on.set()
            await asyncio.sleep(1)
            gc.collect()
            assert (places.stats().in_flight, lost()) == (0, None)
            assert guard.stats().successes == 1  # all of it has come
            one.service.go_on.clear()
            answer = await one.session.get("/")
            lost = weakref.ref(answer)
            one.service.asked.clear()
            del answer
        await asyncio.sleep(1)
        gc.collect()
        assert (places.stats().in_flight, lost()) == (0, None)

    play(world, scenario)


# W11, W12: what goes on the wire.


@pytest.mark.rule("W11", "W12")
def test_each_attempt_carries_its_number_and_what_is_left(world: World) -> None:
    async def scenario() -> None:
        seen: list[aiohttp.ClientRequest] = []

        async def outer(request: aiohttp.ClientRequest, handler: Any) -> Any:
            seen.append(request)
            return await handler(request)

        mine = {"x-request-timeout": "99", "x-request-attempt": "9", "x-mine": "1"}
        async with shop((503, {"retry-after": "1"}), 200, around=(outer,)) as one:
            async with deadline(3):
                answer = await one.fetch(headers=mine)
            assert answer.request_info.headers["x-request-attempt"] == "2"  # as it was sent
            asked = one.service.asked
            told = [float(request.headers["x-request-timeout"]) for request in asked]
            assert one.service.attempts() == ["1", "2"]
            assert 2.99 < told[0] <= 3
            assert 1 < told[1] <= 2
            assert all(request.headers.getall("x-mine") == ["1"] for request in asked)
            assert all(len(request.headers.getall("x-request-timeout")) == 1 for request in asked)
            assert {name: seen[0].headers[name] for name in mine} == mine  # as it was
            await one.fetch(headers=mine)
            assert asked[-1].headers["x-request-timeout"] == "99"  # without a deadline

    play(world, scenario)


@pytest.mark.rule("W12")
def test_the_names_can_be_said(world: World) -> None:
    async def scenario() -> None:
        wire = Wire(timeout="X-Left", unit="ms", attempt=None)
        async with shop(200, wire=wire) as one:
            async with deadline(2):
                await one.fetch()
            sent = one.service.asked[0].headers
            assert 1990 < int(sent["x-left"]) <= 2000
            assert "x-request-attempt" not in sent
        async with shop((503, {"x-should-retry": "false", **NOW}), 200, wire=None) as one:
            assert (await one.fetch()).status == 200  # nothing is read, either
            sent = one.service.asked[0].headers
            assert not [name for name in sent if name.lower().startswith("x-r")]

    play(world, scenario)


@pytest.mark.rule("W11", "W13")
def test_without_time_nothing_is_sent(world: World) -> None:
    async def scenario() -> None:
        async with shop(200) as one:
            async with deadline(8):
                await asyncio.sleep(8 - 2.0**-11)
                with pytest.raises(DeadlineExceeded) as raised:
                    await one.fetch()
            assert isinstance(raised.value, aiohttp.ServerTimeoutError)
            assert not raised.value.started
            assert one.service.asked == []

    play(world, scenario)


@pytest.mark.rule("W3", "W11")
def test_a_wait_for_which_there_is_no_time(world: World) -> None:
    async def scenario() -> None:
        async with shop((503, {"retry-after": "5"}, b"x")) as one:
            async with deadline(4):
                answer = await one.session.get("/")
                assert (answer.status, await answer.read()) == (503, b"x")
            assert (len(one.service.asked), world.now()) == (1, 0)

    play(world, scenario)


# W13: errors of two families.


@pytest.mark.rule("W13", "E1", "E2")
def test_what_the_policies_refuse_is_of_both_families(world: World) -> None:
    async def scenario() -> None:
        guard = breaker("shop", consecutive_failures=1, cooldown=4)
        async with shop(503, policy=guard) as one:
            await one.fetch()
            with pytest.raises(CircuitOpen) as raised:
                await one.fetch()
            error = raised.value
            assert isinstance(error, aiohttp.ClientConnectionError)
            assert isinstance(error, Rejected)
            assert (error.policy, error.reason) == ("shop", "open")
            plain = CircuitOpen(*error.args)
            assert (str(error), repr(error)) == (str(plain), repr(plain))
            for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
                assert type(twin) is type(error)
                assert (twin.args, str(twin)) == (error.args, str(error))
            assert len(one.service.asked) == 1

    play(world, scenario)


@pytest.mark.rule("W13")
def test_a_limit_inside_is_the_librarys_time_out_too(world: World) -> None:
    async def scenario() -> None:
        async def hangs(_request: Any) -> Any:
            await asyncio.sleep(60)

        policy = pipeline(retry(on=TRANSIENT, wait=1), timeout(2, name="each"))
        async with shop(hangs, policy=policy) as one:
            with pytest.raises(aiohttp.ServerTimeoutError) as raised:
                await one.fetch()
            error = raised.value
            assert isinstance(error, DeadlineExceeded)
            assert (error.started, error.policy, error.seconds) == (True, "each", 2)
            assert pickle.loads(pickle.dumps(error)).started is True
            assert world.now() == pytest.approx(8)

    play(world, scenario)


# W14, W15.


@pytest.mark.rule("W14", "F9")
def test_a_cancelled_call_leaves_nothing(world: World) -> None:
    async def scenario() -> None:
        async def slow(_request: Any) -> Any:
            await asyncio.sleep(5)
            return 503

        guard, places = breaker(), bulkhead(1, queue=5)
        policy = pipeline(retry(on=BadStatus, wait=5), guard, places)
        async with shop(slow, policy=policy) as one:
            for seconds in (1, 6, 12, 17):
                with anyio.move_on_after(seconds):
                    await one.fetch()
                assert places.stats().in_flight == 0
                assert not one.session.connector._acquired  # type: ignore[union-attr]
            assert (guard.stats().in_flight, guard.stats().successes) == (0, 0)

    play(world, scenario)


@pytest.mark.rule("W15")
def test_a_block_may_say_the_policy(world: World) -> None:
    async def scenario() -> None:
        other = retry(on=BadStatus, attempts=5, wait=0, budget=None)
        async with shop((503, NOW)) as one:
            with options(policy=other):
                await one.fetch()
                with options(policy=None):
                    await one.fetch()
            await one.fetch()
            assert [len(group) for group in runs(one.service.attempts())] == [5, 1, 3]

    play(world, scenario)


# Hedges.


@pytest.mark.rule("W5", "W9", "W12")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hedge_runs_beside_what_is_idempotent(world: World, method: str) -> None:
    async def scenario() -> None:
        async def slow_at_first(request: aiohttp.ClientRequest) -> Any:
            number = request.headers["x-request-attempt"]
            await asyncio.sleep(9 if number == "1" else 1)
            return (200, {}, number.encode())

        places = bulkhead(9)
        policy = pipeline(hedge(2, budget=None), places)
        async with shop(slow_at_first, policy=policy) as one:
            answer = await one.session.request(method, "/", data=b"x", expect100=True)
            assert await answer.read() == (b"2" if method == "GET" else b"1")
            assert world.now() == (3 if method == "GET" else 9)
            assert one.service.attempts() == (["1", "2"] if method == "GET" else ["1"])
            assert (places.stats().in_flight, one.service.open) == (0, 1)

    play(world, scenario)


@pytest.mark.rule("W9")
def test_a_hedge_leaves_no_answer_open(world: World) -> None:
    async def scenario() -> None:
        policy = hedge(5, on=BadStatus, max=2, budget=None)
        body = (HELD_BACK, b"x")
        script: list[Any] = [(503, {}, *body), (503, {}, *body), (200, {}, b"c", HELD_BACK)]
        async with shop(*script, policy=policy) as one:
            answer = await one.session.get("/")
            assert (answer.status, one.service.open) == (200, 1)
            answer.close()

    play(world, scenario)


@pytest.mark.rule("W4", "W11", "W14")
def test_the_limit_of_the_whole_call_ends_a_hedge(world: World) -> None:
    async def scenario() -> None:
        places = bulkhead(9)
        policy = pipeline(hedge(1, max=2, budget=None), places)
        async with shop((200, {}), policy=policy) as one:
            one.service.reachable.clear()
            with pytest.raises(TimeoutError):
                await one.fetch(timeout=aiohttp.ClientTimeout(total=4))
            assert (len(one.service.asked), world.now()) == (3, 4)
            assert places.stats().in_flight == 0

    play(world, scenario)


# What aiohttp repeats by itself.


@pytest.mark.rule("W4", "W5")
@pytest.mark.parametrize(
    ("policy", "method", "asked"),
    [
        (retry(on=TRANSIENT, wait=0, budget=None), "GET", 3),
        (retry(on=TRANSIENT, wait=0, budget=None), "POST", 1),
        (retry(on=BadStatus, wait=0, budget=None), "GET", 1),  # it has decided, too
        (breaker(), "GET", 2),
        (None, "GET", 2),
        (None, "POST", 1),
    ],
)
def test_where_a_retry_decides_the_library_repeats_nothing(
    world: World, policy: Any, method: str, asked: int
) -> None:
    async def scenario() -> None:
        async with shop(aiohttp.ServerDisconnectedError("gone"), policy=policy) as one:
            for calls in (1, 2):  # one is no repetition of another
                with pytest.raises(aiohttp.ServerDisconnectedError, match="gone"):
                    await one.fetch(method)
                assert len(one.service.asked) == asked * calls
            one.service.script = [200]
            assert (await one.fetch(method)).status == 200

    play(world, scenario)


@pytest.mark.rule("W4")
def test_a_middleware_outside_of_ours_may_repeat(world: World) -> None:
    async def scenario() -> None:
        calls = 0

        async def twice(request: aiohttp.ClientRequest, handler: Any) -> Any:
            nonlocal calls
            calls += 1
            try:
                return await handler(request)
            except aiohttp.ServerDisconnectedError:
                return await handler(request)

        again = retry(on=TRANSIENT, attempts=2, wait=0, budget=None)
        for around in (twice, ResilientMiddleware(policy=again)):
            gone = aiohttp.ServerDisconnectedError("gone")
            async with shop(gone, gone, gone, 200, policy=again, around=(around,)) as one:
                assert (await one.fetch()).status == 200
                assert len(one.service.asked) == 4
        assert calls == 1

    play(world, scenario)


@pytest.mark.rule("W4")
def test_a_call_after_one_that_the_library_does_not_repeat_is_sent(world: World) -> None:
    async def scenario() -> None:
        policy = retry(on=TRANSIENT, wait=0, budget=None)
        async with shop(aiohttp.ServerDisconnectedError("gone"), policy=policy) as one:
            one.session._retry_connection = False  # as aiohttp's client for tests has it
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await one.fetch()
            one.service.script = [200]
            assert (await one.fetch()).status == 200

    play(world, scenario)


@pytest.mark.rule("W4")
def test_what_was_raised_is_kept_no_longer_than_until_the_next_call(world: World) -> None:
    async def scenario() -> None:
        async with shop(
            lambda _request: aiohttp.ServerDisconnectedError("gone"), policy=None
        ) as one:
            with options(policy=retry(on=TRANSIENT, wait=0)):
                with pytest.raises(aiohttp.ServerDisconnectedError) as raised:
                    await one.fetch()
            gone = weakref.ref(raised.value)
            del raised
            one.service.script = [200]
            await one.fetch()
            gc.collect()
            assert gone() is None

    play(world, scenario)


# W23: what a client of ours met.


@pytest.mark.rule("W23")
def test_what_was_met_is_known_to_a_server_of_ours(world: World) -> None:
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            async with one.session.get("/", raise_for_status=True, **kwargs):
                raise AssertionError("the service is busy")

        kwargs: dict[str, Any] = {}
        guarded = ServerMiddleware(app)
        async with shop((503, {"retry-after": "7"}), policy=None) as one:
            peer = await Peer().ask(guarded)
            assert (peer.status, peer.headers["retry-after"]) == (503, "7")
            kwargs["middlewares"] = (one.service,)  # without ours
            with pytest.raises(aiohttp.ClientResponseError):
                await Peer().ask(guarded)

    play(world, scenario)

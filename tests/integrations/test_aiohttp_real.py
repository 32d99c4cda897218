"""The middleware of aiohttp over real connections, in real time."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    breaker,
    bulkhead,
    deadline,
    hedge,
    pipeline,
    retry,
)
from resilient.integrations.aiohttp import TRANSIENT, ResilientMiddleware
from tests.integrations.servers import ANSWERS, Server
from tests.integrations.test_httpx_real import FORGETFUL, STEPS, cancelled_at_random, go_on

pytestmark = pytest.mark.real_clock
Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


@pytest.fixture(params=["asyncio", "uvloop"])
def world(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario on that loop, in which no task may be left."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await scenario()
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


def session_of(url: str, policy: Any, limit: int = 20) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=limit),
        middlewares=(ResilientMiddleware(policy=policy),),
    )


@pytest.mark.loop
@pytest.mark.rule("W1", "W3", "W9", "W12")
def test_the_usual_policy(world: Run, server: Server) -> None:
    async def scenario() -> None:
        server.asked.clear()
        server.heads.clear()
        middlewares = (ResilientMiddleware(),)
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(
            server.url, connector=connector, middlewares=middlewares
        ) as session:
            async with session.get("/busy-once") as answer:
                assert (answer.status, await answer.text()) == (200, "hello")
            assert [head["x-request-attempt"] for head in server.heads] == ["1", "2"]
            async with session.get("/busy") as answer:
                assert (answer.status, await answer.text()) == (503, "later")
            assert server.asked["/busy"] == 3  # each on the one connection that there may be
            async with session.post("/busy", data=b"x") as answer:
                assert (answer.status, server.asked["/busy"]) == (503, 4)

    world(scenario)


@pytest.mark.loop
@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    ("path", "error", "method", "asked"),
    [
        ("/silent", aiohttp.ServerDisconnectedError, "GET", 3),
        ("/silent", aiohttp.ServerDisconnectedError, "POST", 1),
        ("/half", aiohttp.ClientPayloadError, "GET", 1),  # W10: it is the answer that breaks
    ],
)
def test_what_breaks(  # noqa: PLR0917
    world: Run, server: Server, path: str, error: type[Exception], method: str, asked: int
) -> None:
    async def scenario() -> None:
        server.asked.clear()
        again = retry(on=TRANSIENT, wait=0, budget=None)
        policy = pipeline(again, breaker(on=TRANSIENT), bulkhead(9))
        async with session_of(server.url, policy) as session:
            with pytest.raises(error):
                async with session.request(method, path) as answer:
                    await answer.read()
        assert server.asked[path] == asked
        _, guard, places = policy.stats()
        assert (guard.failures, guard.in_flight, places.in_flight) == (asked, 0, 0)  # type: ignore[attr-defined]

    world(scenario)


@pytest.mark.loop
@pytest.mark.rule("W4", "W13")
def test_where_nobody_listens_anything_is_sent_again(world: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"

        async def scenario() -> None:
            guard = breaker(consecutive_failures=3)
            policy = pipeline(retry(on=TRANSIENT, wait=0, budget=None), guard)
            async with session_of(url, policy) as session:
                with pytest.raises(aiohttp.ClientConnectorError) as raised:
                    await session.post("/", data=b"x")
                assert guard.stats().failures == 3
                assert type(raised.value) is aiohttp.ClientConnectorError
                with pytest.raises(CircuitOpen) as refused:
                    await session.post("/", data=b"x")
                assert isinstance(refused.value, aiohttp.ClientConnectionError)

        world(scenario)


@pytest.mark.loop
@pytest.mark.rule("W11")
@pytest.mark.parametrize("path", ["/hangs", "/stalls"])
def test_the_deadline_ends_what_hangs(world: Run, server: Server, path: str) -> None:
    async def scenario() -> None:
        policy = pipeline(retry(on=TRANSIENT), breaker(on=TRANSIENT), bulkhead(1))
        async with session_of(server.url, policy) as session:
            with pytest.raises(DeadlineExceeded) as ended:
                async with deadline(0.25):
                    async with session.get(path) as answer:
                        await answer.read()
            assert ended.value.started
        _, guard, places = policy.stats()
        assert (guard.failures, guard.in_flight, places.in_flight) == (1, 0, 0)  # type: ignore[attr-defined]

    world(scenario)


@pytest.mark.loop
@pytest.mark.rule("W10")
def test_a_stream_holds_its_place_until_it_has_ended(world: Run, server: Server) -> None:
    async def scenario() -> None:
        places = bulkhead(1)
        async with session_of(server.url, places) as session:
            async with session.get("/drips") as answer:
                with pytest.raises(BulkheadFull):
                    await session.get("/ok")
                assert await answer.read() == b"ab" * 5
                assert places.stats().in_flight == 0
            async with session.get("/stalls"):
                assert places.stats().in_flight == 1
            assert places.stats().in_flight == 0

    world(scenario)


@pytest.mark.loop
@pytest.mark.rule("W10")
def test_a_websocket_holds_no_place(world: Run) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        places = bulkhead(1)
        async with session_of("http://{}:{}".format(*runner.addresses[0]), places) as session:
            for _ in range(2):
                one = await session.ws_connect("/")
                assert (places.stats().calls, places.stats().in_flight) == (1 + _, 0)
                await one.send_str("hello")
                assert await one.receive_str() == "hello"
                await one.close()
        await runner.cleanup()

    world(scenario)


@FORGETFUL
@pytest.mark.loop
@pytest.mark.rule("W14", "F9")
@pytest.mark.parametrize("beside", [False, True])
def test_calls_cancelled_at_random_leave_nothing(
    world: Run, server: Server, request: pytest.FixtureRequest, beside: bool
) -> None:
    rounds = 200 if request.config.getoption("attacks") > 1 else 10

    async def scenario() -> None:
        rng = random.Random(14)
        policy = pipeline(
            retry(on=TRANSIENT, wait=0.001, budget=None),
            breaker(consecutive_failures=None, failure_rate=None, slow=9),
            bulkhead(30, queue=100),
            *[hedge(0.002, budget=None)] * beside,
        )
        paths = ["/ok", "/busy", "/slow", "/silent", "/half", "/drips"]
        assert set(paths) < set(ANSWERS)
        async with session_of(server.url, policy) as session:

            async def call() -> None:
                with suppress(aiohttp.ClientError):
                    data = parts() if rng.random() < 0.2 else None
                    async with session.request("PUT", rng.choice(paths), data=data) as answer:
                        await answer.read()

            for _ in range(rounds):
                await cancelled_at_random("asyncio", call, rng)
            await asyncio.sleep(0)
            _, guard, places, *_ = policy.stats()
            assert (guard.in_flight, places.in_flight, places.queued) == (0, 0, 0)  # type: ignore[attr-defined]
            connector: Any = session.connector
            assert (set(connector._acquired), connector._waiters) == (set(), {})
            async with session.get("/ok") as answer:
                assert await answer.text() == "hello"
        assert len(asyncio.all_tasks()) == 1

    world(scenario)
    gc.collect()  # what is forgotten, while nobody minds


async def parts() -> Any:
    yield b"a"
    await asyncio.sleep(0.001)
    yield b"b"


@FORGETFUL
@pytest.mark.loop
@pytest.mark.rule("W14", "F9")
@pytest.mark.parametrize("again", [0, 1, 2])
def test_a_call_cancelled_at_any_step_leaves_nothing(
    world: Run, server: Server, again: int
) -> None:
    async def scenario() -> None:
        places = bulkhead(5)
        policy = pipeline(retry(on=TRANSIENT, wait=0, budget=None), places)
        async with session_of(server.url, policy, limit=2) as session:

            async def ask() -> None:
                async with session.get("/drips") as answer:
                    await answer.read()

            done, steps = False, 0
            while not done and steps < STEPS:
                call = asyncio.ensure_future(ask())
                done = await go_on(call, steps)
                call.cancel()
                if again:  # a second time, so many steps later
                    await go_on(call, again - 1)
                    call.cancel()
                with suppress(asyncio.CancelledError):
                    await call
                assert not session.connector._acquired  # type: ignore[union-attr]
                assert places.stats().in_flight == 0
                assert len(asyncio.all_tasks()) == 1
                steps += 1

    world(scenario)
    gc.collect()  # what is forgotten, while nobody minds

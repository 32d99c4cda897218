"""The transport of httpx and httpx2 over real connections, in real time."""

from __future__ import annotations

import asyncio
import gc
import importlib
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import anyio
import pytest

from resilient import CircuitOpen, DeadlineExceeded, breaker, bulkhead, deadline, pipeline, retry
from tests.integrations.servers import ANSWERS, Server
from tests.integrations.test_httpx import Caller
from tests.worlds import drive

pytestmark = pytest.mark.real_clock
FORGETFUL = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""Before 3.12 asyncio forgets the socket of a connection that is cancelled as it comes to be."""
LONGEST = 0.06
"""Seconds until a call is cancelled: most are on their way by then, and some have ended."""

STEPS = 60
"""Of the loop, until which a call is cancelled at each one: many have ended by then."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


@pytest.fixture(params=["httpx2", "httpx"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def ours(lib: ModuleType) -> ModuleType:
    return importlib.import_module(f"resilient.integrations.{lib.__name__}")


class Real:
    """A world in real time: as much of `World` as a `Caller` needs."""

    def __init__(self, name: str) -> None:
        self.name, self.is_async = name, name != "threads"

    def run(self, scenario: Any) -> None:
        if self.is_async:
            anyio.run(scenario, backend=self.name)
        else:
            drive(scenario())


@pytest.fixture(params=["asyncio", "trio", "threads"])
def world(request: pytest.FixtureRequest) -> Real:
    return Real(request.param)


def one_connection(world: Real, lib: ModuleType) -> Any:
    kind = lib.AsyncHTTPTransport if world.is_async else lib.HTTPTransport
    return kind(limits=lib.Limits(max_connections=1))


@pytest.mark.rule("W1", "W3", "W9", "W12")
def test_the_usual_policy(world: Real, lib: ModuleType, ours: ModuleType, server: Server) -> None:
    async def scenario() -> None:
        server.asked.clear()
        server.heads.clear()
        caller = Caller(world, lib, ours.ResilientTransport(one_connection(world, lib)))
        answer = await caller("GET", f"{server.url}/busy-once")
        assert (answer.status_code, answer.text) == (200, "hello")
        assert [head["x-request-attempt"] for head in server.heads] == ["1", "2"]
        answer = await caller("GET", f"{server.url}/busy")
        assert (answer.status_code, answer.text) == (503, "later")
        assert server.asked["/busy"] == 3  # each on the one connection that there may be
        answer = await caller("POST", f"{server.url}/busy", content=b"x")
        assert (answer.status_code, server.asked["/busy"]) == (503, 4)
        await close(caller)

    world.run(scenario)


async def close(caller: Caller) -> None:
    await caller.client.aclose() if caller.is_async else caller.client.close()


@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    ("path", "error", "method", "asked"),
    [
        ("/silent", "RemoteProtocolError", "GET", 3),
        ("/silent", "RemoteProtocolError", "POST", 1),
        ("/half", "RemoteProtocolError", "GET", 1),  # W10: it is the answer that breaks
    ],
)
def test_what_breaks(  # noqa: PLR0917
    world: Real, lib: ModuleType, ours: ModuleType, server: Server,
    path: str, error: str, method: str, asked: int,
) -> None:  # fmt: skip
    async def scenario() -> None:
        server.asked.clear()
        policy = pipeline(retry(on=ours.TRANSIENT, wait=0, budget=None), breaker(), bulkhead(9))
        caller = Caller(world, lib, ours.ResilientTransport(policy=policy))
        with pytest.raises(getattr(lib, error)):
            await caller(method, server.url + path)
        assert server.asked[path] == asked
        _, guard, places = policy.stats()
        assert (guard.failures, guard.in_flight, places.in_flight) == (asked, 0, 0)  # type: ignore[attr-defined]
        await close(caller)

    world.run(scenario)


@pytest.mark.rule("W4")
def test_where_nobody_listens_anything_is_sent_again(
    world: Real, lib: ModuleType, ours: ModuleType
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"

        async def scenario() -> None:
            guard = breaker(consecutive_failures=3)
            policy = pipeline(retry(on=ours.TRANSIENT, wait=0, budget=None), guard)
            caller = Caller(world, lib, ours.ResilientTransport(policy=policy))
            with pytest.raises(lib.ConnectError) as raised:
                await caller("POST", url)
            assert guard.stats().failures == 3
            assert type(raised.value) is lib.ConnectError
            with pytest.raises(CircuitOpen):
                await caller("POST", url)
            await close(caller)

        world.run(scenario)


@pytest.mark.rule("W11")
@pytest.mark.parametrize("path", ["/hangs", "/stalls"])
def test_the_deadline_ends_what_hangs(
    world: Real, lib: ModuleType, ours: ModuleType, server: Server, path: str
) -> None:
    async def scenario() -> None:
        policy = pipeline(retry(on=ours.TRANSIENT), breaker(on=ours.TRANSIENT), bulkhead(1))
        caller = Caller(world, lib, ours.ResilientTransport(policy=policy))
        await caller("GET", server.url + "/ok")  # it takes its time to make its first connection
        if world.is_async:
            with pytest.raises(DeadlineExceeded) as ended:
                async with deadline(0.25):
                    await caller("GET", server.url + path)
            assert ended.value.started
        else:
            with pytest.raises(lib.TimeoutException), deadline(0.25):
                await caller("GET", server.url + path)
        _, guard, places = policy.stats()
        assert (guard.failures, guard.in_flight, places.in_flight) == (1, 0, 0)  # type: ignore[attr-defined]
        await close(caller)

    world.run(scenario)


@pytest.mark.rule("W10")
def test_a_stream_holds_its_place_until_it_has_ended(
    world: Real, lib: ModuleType, ours: ModuleType, server: Server
) -> None:
    async def scenario() -> None:
        places = bulkhead(1)
        caller = Caller(world, lib, ours.ResilientTransport(policy=places))
        answer = await caller.open("GET", f"{server.url}/drips")
        assert places.stats().in_flight == 1
        if world.is_async:
            parts = [part async for part in answer.aiter_bytes()]
        else:
            parts = list(answer.iter_bytes())
        assert b"".join(parts) == b"ab" * 5
        assert places.stats().in_flight == 0
        answer = await caller.open("GET", f"{server.url}/stalls")
        await caller.close(answer)
        assert places.stats().in_flight == 0
        await close(caller)

    world.run(scenario)


@FORGETFUL
@pytest.mark.rule("W14", "F9")
@pytest.mark.parametrize("world", ["asyncio", "trio"], indirect=True)
def test_calls_cancelled_at_random_leave_nothing(
    world: Real, lib: ModuleType, ours: ModuleType, server: Server, request: pytest.FixtureRequest
) -> None:
    rounds = 200 if request.config.getoption("attacks") > 1 else 10

    async def scenario() -> None:
        rng = random.Random(14)
        pool = lib.AsyncHTTPTransport(limits=lib.Limits(max_connections=20))
        policy = pipeline(
            retry(on=ours.TRANSIENT, wait=0.001, budget=None),
            breaker(consecutive_failures=None, failure_rate=None, slow=9),
            bulkhead(30, queue=100),
        )
        transport = ours.ResilientTransport(pool, policy=policy)
        client = lib.AsyncClient(transport=transport, base_url=server.url)
        paths = ["/ok", "/busy", "/slow", "/silent", "/half", "/drips"]
        assert set(paths) < set(ANSWERS)

        async def call() -> None:
            with suppress(lib.TransportError):
                await client.get(rng.choice(paths))

        for _ in range(rounds):
            await cancelled_at_random(world.name, call, rng)
        _, guard, places = policy.stats()
        assert (guard.in_flight, places.in_flight, places.queued) == (0, 0, 0)  # type: ignore[attr-defined]
        assert not pool._pool._requests
        assert all(one.is_idle() for one in pool._pool.connections)
        assert (await client.get("/ok")).text == "hello"
        await client.aclose()
        if world.name == "asyncio":
            assert len(asyncio.all_tasks()) == 1

    world.run(scenario)
    gc.collect()  # what is forgotten, while nobody minds


@FORGETFUL
@pytest.mark.rule("W14", "F9")
@pytest.mark.parametrize("world", ["asyncio"], indirect=True)
@pytest.mark.parametrize("again", [0, 1, 2])
def test_a_call_cancelled_at_any_step_leaves_nothing(
    world: Real, lib: ModuleType, ours: ModuleType, server: Server, again: int
) -> None:
    async def scenario() -> None:
        pool = lib.AsyncHTTPTransport(limits=lib.Limits(max_connections=2))
        policy = pipeline(retry(on=ours.TRANSIENT, wait=0, budget=None), bulkhead(5))
        transport = ours.ResilientTransport(pool, policy=policy)
        async with lib.AsyncClient(transport=transport, base_url=server.url) as client:
            done, steps = False, 0
            while not done and steps < STEPS:
                call = asyncio.ensure_future(client.get("/ok"))
                done = await go_on(call, steps)
                call.cancel()
                if again:  # a second time, so many steps later
                    await go_on(call, again - 1)
                    call.cancel()
                with suppress(asyncio.CancelledError):
                    await call
                assert not pool._pool._requests
                assert all(one.is_idle() or one.is_closed() for one in pool._pool.connections)
                assert policy.policies[1].stats().in_flight == 0  # type: ignore[attr-defined]
                assert len(asyncio.all_tasks()) == 1
                steps += 1

    world.run(scenario)
    gc.collect()  # what is forgotten, while nobody minds


async def go_on(call: asyncio.Future[Any], steps: int) -> bool:
    """Let *call* take some steps of the loop; whether it has ended."""
    for _ in range(steps):
        if call.done():
            break
        await asyncio.sleep(0)
    return call.done()


async def cancelled_at_random(backend: str, call: Any, rng: random.Random) -> None:
    """Fifty calls, each cancelled before `LONGEST` is over, as its loop does it."""
    if backend == "asyncio":
        tasks = [asyncio.ensure_future(call()) for _ in range(50)]
        loop = asyncio.get_running_loop()
        for task in tasks:
            loop.call_later(rng.random() * LONGEST, task.cancel)
        await asyncio.wait(tasks)
        return

    async def limited() -> None:
        with anyio.move_on_after(rng.random() * LONGEST):
            await call()

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(limited)

"""The ASGI middleware in FastAPI, Starlette and Litestar, on uvicorn, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resilient import Rejected, breaker, remaining, retry
from resilient.integrations.asgi import HealthApp, ResilientMiddleware
from resilient.integrations.http import current_attempt
from resilient.integrations.httpx2 import ResilientTransport
from resilient.integrations.litestar import exception_handlers
from tests.integrations.servers import Server

pytestmark = pytest.mark.real_clock
TIMEOUT = 0.5
CLOSE = {"connection": "close"}
"""uvicorn closes a connection on which an error has passed, perhaps after another request came."""
shut = breaker("shut", cooldown=7)


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """*app* on uvicorn, on a free port of loopback, until the end."""
    with socket.socket() as listens:
        listens.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, lifespan="off", loop="asyncio", log_level="critical", timeout_keep_alive=60
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listens]}, daemon=True)
        thread.start()
        try:
            until = time.monotonic() + 10
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            assert server.started, "uvicorn does not start"
            yield f"http://127.0.0.1:{listens.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
        assert not thread.is_alive(), "uvicorn does not end"


class Handlers:
    """What the paths do, in all frameworks alike."""

    def __init__(self, below: str) -> None:
        self.below = below
        self.cancelled = threading.Event()
        self.done = threading.Event()

    async def left(self) -> Any:
        return {"left": remaining(99), "attempt": current_attempt()}

    def thread(self) -> Any:
        return {"left": remaining(99)}

    async def hangs(self) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def refused(self) -> Any:
        raise Rejected("inside", 2.5)

    async def broken(self) -> Any:
        raise KeyError("mine")

    async def gives_up(self) -> Any:
        @retry(on=ConnectionError, attempts=2, wait=0)
        async def fails() -> None:
            raise ConnectionError

        await fails()

    async def below_is_busy(self) -> Any:
        transport = ResilientTransport(policy=None)
        async with httpx2.AsyncClient(transport=transport) as client:
            answer = await client.get(f"{self.below}/busy")
            answer.raise_for_status()

    def all(self) -> dict[str, Any]:
        return {
            "/left": self.left, "/thread": self.thread, "/hangs": self.hangs,
            "/refused": self.refused, "/broken": self.broken, "/gives-up": self.gives_up,
            "/below": self.below_is_busy,
        }  # fmt: skip


def starlette_of(handlers: Handlers) -> Starlette:
    def endpoint(handler: Any) -> Any:
        if asyncio.iscoroutinefunction(handler):

            async def run(_request: Request) -> Response:
                return JSONResponse(await handler())
        else:

            def run(_request: Request) -> Response:  # type: ignore[misc]  # as Starlette takes both
                return JSONResponse(handler())

        return run

    async def background(_request: Request) -> Response:
        async def work() -> None:
            await asyncio.sleep(2 * TIMEOUT)
            handlers.done.set()

        return JSONResponse({}, background=BackgroundTask(work))

    routes = [Route(path, endpoint(handler)) for path, handler in handlers.all().items()]
    return Starlette(routes=[*routes, Route("/background", background)])


def fastapi_of(handlers: Handlers) -> FastAPI:
    app = FastAPI()
    for path, handler in handlers.all().items():
        app.add_api_route(path, handler)
    return app


def litestar_of(handlers: Handlers, **settings: Any) -> Litestar:
    def handler_of(path: str, handler: Any) -> Any:
        if asyncio.iscoroutinefunction(handler):

            @get(path)
            async def run() -> Any:
                return await handler()
        else:

            @get(path, sync_to_thread=True)
            def run() -> Any:
                return handler()

        return run

    routes = [handler_of(path, handler) for path, handler in handlers.all().items()]
    return Litestar(routes, logging_config=None, **settings)


def in_starlette(handlers: Handlers) -> Any:
    app = starlette_of(handlers)
    app.add_middleware(ResilientMiddleware, timeout=TIMEOUT)
    return app


def in_fastapi(handlers: Handlers) -> Any:
    app = fastapi_of(handlers)
    app.add_middleware(ResilientMiddleware, timeout=TIMEOUT)
    return app


def around_starlette(handlers: Handlers) -> Any:
    return ResilientMiddleware(starlette_of(handlers), timeout=TIMEOUT)


def around_litestar(handlers: Handlers) -> Any:
    return ResilientMiddleware(litestar_of(handlers), timeout=TIMEOUT)


def litestar_with_handlers(handlers: Handlers) -> Any:
    app = litestar_of(handlers, exception_handlers=exception_handlers)
    return ResilientMiddleware(app, timeout=TIMEOUT)


FRAMEWORKS = [
    in_starlette, in_fastapi, around_starlette, around_litestar, litestar_with_handlers
]  # fmt: skip


@pytest.fixture(scope="module")
def below() -> Iterator[Server]:
    with Server() as one:
        yield one


@pytest.mark.rule("W20", "W22", "W23", "W25", "W29", "W31")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_in_a_framework(framework: Any, below: Server) -> None:
    handlers = Handlers(below.url)
    with running(framework(handlers)) as url, httpx2.Client(base_url=url) as client:
        told = {"X-Request-Timeout": "0.3", "X-Request-Attempt": "2"}
        found = client.get("/left", headers=told).json()
        assert found["left"] <= 0.295
        assert found["attempt"] == 2
        assert client.get("/thread", headers=told).json()["left"] <= 0.295
        answer = client.get("/hangs", headers=told)
        assert answer.status_code == 504
        assert handlers.cancelled.wait(5)
        answer = client.get("/refused")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert answer.json() == {"title": "Service Unavailable", "status": 503}
        answer = client.get("/below")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        answer = client.get("/broken", headers=CLOSE)
        assert (answer.status_code, "mine" in answer.text) == (500, False)
        assert "x-should-retry" not in answer.headers
        answer = client.get("/gives-up")
        assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")


@pytest.mark.rule("W31")
def test_litestar_by_its_handlers_alone(below: Server) -> None:
    app = litestar_of(Handlers(below.url), exception_handlers=exception_handlers)
    with running(app) as url, httpx2.Client(base_url=url) as client:
        answer = client.get("/refused")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert answer.json() == {"title": "Service Unavailable", "status": 503}
        assert client.get("/broken", headers=CLOSE).status_code == 500
        assert client.get("/nowhere").status_code == 404


@pytest.mark.rule("W26")
@pytest.mark.parametrize("framework", [around_starlette, around_litestar])
def test_a_connection_that_closes_cancels_the_handler(framework: Any, below: Server) -> None:
    handlers = Handlers(below.url)
    app = framework(handlers)
    with running(app) as url:
        address = httpx2.URL(url)
        with socket.create_connection((address.host, address.port)) as caller:
            caller.sendall(b"GET /hangs HTTP/1.1\r\nhost: x\r\n\r\n")
            until = time.monotonic() + 5
            while not app.stats().in_flight and time.monotonic() < until:
                time.sleep(0.01)
        assert handlers.cancelled.wait(5)
        while app.stats().in_flight and time.monotonic() < until:
            time.sleep(0.01)
        assert (app.stats().in_flight, app.stats().disconnected) == (0, 1)


@pytest.mark.rule("W27")
@pytest.mark.parametrize("framework", [in_starlette, around_starlette])
def test_a_background_task_outlives_the_limit(framework: Any, below: Server) -> None:
    handlers = Handlers(below.url)
    with running(framework(handlers)) as url:
        with httpx2.Client(base_url=url) as client:
            assert client.get("/background").status_code == 200
        assert handlers.done.wait(5)


@pytest.mark.rule("W51")
def test_health_on_a_server() -> None:
    with running(HealthApp(critical={"shut"})) as url, httpx2.Client(base_url=url) as client:
        assert client.get("/").status_code == 200
        shut.force_open()
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "down")
        shut.reset()
        assert client.post("/").status_code == 405

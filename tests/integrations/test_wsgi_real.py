"""The WSGI middleware in Flask and Django, on threaded servers, over real connections."""

from __future__ import annotations

import contextlib
import importlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
import requests

from resilient import DeadlineExceeded, Rejected, deadline, remaining, retry
from resilient.integrations.http import current_attempt
from resilient.integrations.requests import ResilientAdapter
from resilient.integrations.wsgi import HealthApp, ResilientMiddleware
from tests.integrations.servers import Server
from tests.worlds import in_threads

pytestmark = pytest.mark.real_clock
TIMEOUT = 0.5


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def get_stderr(self) -> Any:
        return io.StringIO()


@contextlib.contextmanager
def on_wsgiref(app: Any) -> Iterator[str]:
    with make_server("127.0.0.1", 0, app, Threaded, Quiet) as server:
        yield from serving(server)


@contextlib.contextmanager
def on_werkzeug(app: Any) -> Iterator[str]:
    serve = pytest.importorskip("werkzeug.serving")
    server = serve.make_server("127.0.0.1", 0, app, threaded=True)
    yield from serving(server)
    server.server_close()


def serving(server: Any) -> Iterator[str]:
    """It serves until the end."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
    assert not thread.is_alive(), "the server does not end"


class Handlers:
    """What the paths do, in both frameworks alike."""

    def __init__(self, below: str) -> None:
        self.session = requests.Session()
        self.session.mount("http://", ResilientAdapter(policy=None))
        self.below = below

    def left(self) -> Any:
        return {"left": remaining(99), "attempt": current_attempt()}

    def late(self) -> Any:
        self.session.get(f"{self.below}/hangs")

    def refused(self) -> Any:
        raise Rejected("inside", 2.5)

    def broken(self) -> Any:
        raise KeyError("mine")

    def gives_up(self) -> Any:
        @retry(on=ConnectionError, attempts=2, wait=0)
        def fails() -> None:
            raise ConnectionError

        fails()

    def below_is_busy(self) -> Any:
        self.session.get(f"{self.below}/busy").raise_for_status()

    def all(self) -> dict[str, Callable[[], Any]]:
        return {
            "left": self.left, "late": self.late, "refused": self.refused, "broken": self.broken,
            "gives-up": self.gives_up, "below": self.below_is_busy,
        }  # fmt: skip


def parts() -> Iterator[str]:
    for _ in range(2):
        yield f"{remaining(99)} "


def flask_of(handlers: Handlers, *, propagates: bool, timeout: float = TIMEOUT) -> Any:
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = propagates
    app.logger.disabled = True
    for name, handler in handlers.all().items():
        app.add_url_rule(f"/{name}", name, handler)
    app.add_url_rule("/parts", "parts", lambda: flask.Response(parts()))
    app.wsgi_app = ResilientMiddleware(app.wsgi_app, timeout=timeout)
    return app


class Urls:
    """Where Django looks for its views; each test has its own."""

    urlpatterns: list[Any]


def django_of(handlers: Handlers, *, propagates: bool) -> Any:
    django = pytest.importorskip("django")
    settings = importlib.import_module("django.conf").settings
    wsgi, http, urls = map(
        importlib.import_module, ("django.core.wsgi", "django.http", "django.urls")
    )

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None, USE_TZ=True
        )
        django.setup()
    settings.DEBUG_PROPAGATE_EXCEPTIONS = propagates

    def view(handler: Any) -> Any:
        return lambda _request: http.JsonResponse(handler() or {})

    Urls.urlpatterns = [urls.path(name, view(handler)) for name, handler in handlers.all().items()]
    Urls.urlpatterns.append(
        urls.path("parts", lambda _request: http.StreamingHttpResponse(parts()))
    )
    urls.clear_url_caches()
    return ResilientMiddleware(wsgi.get_wsgi_application(), timeout=TIMEOUT)


@pytest.fixture(scope="module")
def below() -> Iterator[Server]:
    with Server() as one:
        yield one


FRAMEWORKS = pytest.mark.parametrize("framework", [flask_of, django_of])
SERVERS = pytest.mark.parametrize("on_server", [on_wsgiref, on_werkzeug])


@pytest.mark.rule("W20", "W22", "W23", "W25", "W29", "W30")
@FRAMEWORKS
@SERVERS
def test_in_a_framework(framework: Any, on_server: Any, below: Server) -> None:
    app = framework(Handlers(below.url), propagates=True)
    told = {"X-Request-Timeout": "0.3", "X-Request-Attempt": "2"}
    with on_server(app) as url, requests.Session() as client:
        found = client.get(f"{url}/left", headers=told).json()
        assert found["left"] <= 0.295
        assert found["attempt"] == 2
        assert all(float(part) <= 0.295 for part in client.get(
            f"{url}/parts", headers=told).text.split())  # fmt: skip
        answer = client.get(f"{url}/late", headers=told)
        assert (answer.status_code, answer.json()["title"]) == (504, "Gateway Timeout")
        answer = client.get(f"{url}/refused")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert answer.json() == {"title": "Service Unavailable", "status": 503}
        answer = client.get(f"{url}/below")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        answer = client.get(f"{url}/broken")
        assert (answer.status_code, "mine" in answer.text) == (500, False)
        assert "x-should-retry" not in answer.headers
        answer = client.get(f"{url}/gives-up")
        assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")


@pytest.mark.rule("W25", "W30")
@FRAMEWORKS
def test_in_a_framework_that_answers_errors_itself(framework: Any, below: Server) -> None:
    app = framework(Handlers(below.url), propagates=False)
    with on_wsgiref(app) as url, requests.Session() as client:
        assert client.get(f"{url}/refused").status_code == 500  # as it was before us
        assert client.get(f"{url}/late").status_code == 504  # after the limit we know better
        answer = client.get(f"{url}/gives-up")
        assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")


@pytest.mark.rule("W11", "W20", "W30")
def test_threads_have_a_limit_each(below: Server) -> None:
    app = flask_of(Handlers(below.url), propagates=True, timeout=20)
    with on_wsgiref(app) as url:

        def ask(seconds: float) -> float:
            session = requests.Session()
            session.mount("http://", ResilientAdapter())
            with session, deadline(seconds):
                return float(session.get(f"{url}/left").json()["left"])

        limits = [5.0, 10.0, 15.0, 60.0]
        found = in_threads(*(partial(ask, seconds) for seconds in limits))
    for left, limit in zip(found, [5.0, 10.0, 15.0, 20.0], strict=True):
        assert limit - 5 < left < limit


@pytest.mark.rule("W20", "W30")
def test_the_caller_meets_its_deadline_as_the_server_does(below: Server) -> None:
    app = flask_of(Handlers(below.url), propagates=True)
    session = requests.Session()
    session.mount("http://", ResilientAdapter(policy=None))
    with on_wsgiref(app) as url, session:
        with deadline(0.3), contextlib.suppress(requests.Timeout, DeadlineExceeded):
            assert session.get(f"{url}/late").status_code == 504
        until = time.monotonic() + 5
        while app.wsgi_app.stats().in_flight and time.monotonic() < until:
            time.sleep(0.01)
        stats = app.wsgi_app.stats()
        assert (stats.in_flight, stats.deadline_exceeded) == (0, 1)


@pytest.mark.rule("W51")
def test_health_on_a_server() -> None:
    with on_wsgiref(HealthApp(details=False)) as url, requests.Session() as client:
        assert client.get(url).json()["status"] in {"ok", "degraded"}
        assert client.head(url).text == ""
        assert client.post(url).status_code == 405

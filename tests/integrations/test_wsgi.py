"""The WSGI middleware around applications of a few lines, in virtual time.

The validator of wsgiref stands on both sides of it. What needs a server is in `test_wsgi_real.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import json
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from resilient import DeadlineExceeded, Rejected, breaker, carry, current_deadline, remaining, retry
from resilient.integrations.http import Wire, current_attempt
from resilient.integrations.wsgi import HealthApp, ResilientMiddleware
from resilient.testing import VirtualTime, fresh, virtual_time
from tests.integrations.test_requests import Service, over

App = Callable[..., Iterable[bytes]]
IN_MS = Wire("X-Left", "ms")
PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture(autouse=True)
def time() -> Iterator[VirtualTime]:
    with virtual_time() as one:
        yield one


class Peer:
    """A server with one request: what it asks, and what it sends.

    As every server it takes another head while it has sent nothing, and raises what is told with it
    when it has.
    """

    def __init__(self, *headers: tuple[str, str], method: str = "GET", **environ: Any) -> None:
        usual = {"REMOTE_ADDR": "127.0.0.1", "QUERY_STRING": "", "SCRIPT_NAME": ""}
        self.environ: dict[str, Any] = usual | environ
        setup_testing_defaults(self.environ)
        self.environ["REQUEST_METHOD"] = method
        self.environ.setdefault("PATH_INFO", "/")
        for name, value in headers:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            joined = [self.environ[key]] if key in self.environ else []
            self.environ[key] = ", ".join([*joined, value])
        self.told: list[str] = []
        self.parts: list[bytes] = []
        self.between: list[Any] = []

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info is not None and self.parts:
            raise exc_info[1]
        self.told.append(status)
        self.headers = {name.lower(): value for name, value in headers}
        assert len(self.headers) == len(headers)
        return self.parts.append

    def ask(self, app: App, *, most: int | None = None) -> Peer:
        """Let *app* answer, and read *most* parts."""
        body: Any = validator(app)(self.environ, self.start_response)
        try:
            for part in body:
                self.between.append((current_deadline(), current_attempt()))
                self.parts.append(part)
                if len(self.parts) == most:
                    break
        finally:
            body.close()
        return self

    @property
    def status(self) -> int:
        return int(self.told[-1][:3])

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


class Body:
    """A body in parts: an exception is raised, a function asked. It counts how often it ends."""

    def __init__(self, *parts: Any) -> None:
        self._parts = iter(parts)
        self.ended: list[Any] = []

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, BaseException):
                raise part
            yield part() if callable(part) else part

    def close(self) -> None:
        self.ended.append(current_deadline())


def app_of(*parts: Any, status: str = "200 OK", headers: Any = ()) -> App:
    """An application that answers with a body of these parts."""

    def app(_environ: Any, start_response: Any) -> Any:
        start_response(status, [*PLAIN, *headers])
        return Body(*parts)

    return app


def raising(error: BaseException) -> App:
    def app(_environ: Any, _start_response: Any) -> Any:
        raise error

    return app


def guarded(app: App, **settings: Any) -> ResilientMiddleware:
    """*app* under the middleware; the validator between them."""
    return ResilientMiddleware(validator(app), **settings)


def left() -> bytes:
    return b"%r" % round(remaining(99), 3)


def attempt() -> bytes:
    return b"%d" % current_attempt()


@pytest.mark.rule("W20", "F7")
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"app": None}, TypeError, "app must be a WSGI application, not None"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"trust": "all"}, TypeError, "trust must be True, False, or a predicate"),
        ({"wire": "X-Left"}, TypeError, r"wire must be a Wire\(...\)"),
        ({"limit": None}, TypeError, "unexpected keyword argument 'limit'"),  # threads are a limit
    ],
)
def test_bad_settings(settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ResilientMiddleware(**{"app": app_of(), **settings})


# W20 to W22: the limit.


@pytest.mark.rule("W20", "W22", "W30")
@pytest.mark.parametrize(
    ("headers", "settings", "seconds", "ignored"),
    [
        ([], {}, 99, 0),
        ([], {"timeout": 2}, 2, 0),
        ([("X-Request-Timeout", "4")], {}, 3.995, 0),
        ([("X-Request-Timeout", "0.010")], {}, 0.009, 0),  # a tenth, if that is less
        ([("X-Request-Timeout", "4")], {"margin": 1}, 3.6, 0),
        ([("X-Request-Timeout", "4")], {"timeout": 2}, 2, 0),
        ([], {"timeout": lambda environ: len(environ["PATH_INFO"])}, 1, 0),
        ([("X-Request-Timeout", "60")], {"max_deadline": 8}, 7.995, 0),
        ([("Request-Timeout", "3")], {}, 2.995, 0),
        ([("x-envoy-expected-rq-timeout-ms", "2000")], {}, 1.995, 0),
        ([("X-Left", "2000"), ("X-Request-Timeout", "1")], {"wire": IN_MS}, 1.995, 0),
        ([("X-Request-Timeout", "4")], {"wire": None}, 99, 0),
        ([("X-Request-Timeout", "4"), ("X-Request-Timeout", "4")], {}, 99, 1),  # servers join them
        ([("X-Request-Timeout", "soon"), ("Request-Timeout", "3")], {}, 2.995, 1),
    ],
)
def test_how_long_a_request_may_take(
    headers: Any, settings: Any, seconds: float, ignored: int
) -> None:
    app = guarded(app_of(left), **settings)
    assert float(Peer(*headers).ask(app).body) == pytest.approx(seconds, abs=0.0011)
    assert app.stats().ignored_headers == ignored


@pytest.mark.rule("W20", "W30")
def test_a_caller_that_has_given_up_is_not_served() -> None:
    asked: list[Any] = []
    app = ResilientMiddleware(lambda *args: asked.append(args) or [])  # type: ignore[func-returns-value]
    peer = Peer(("X-Request-Timeout", "0")).ask(app)
    assert (peer.status, asked) == (504, [])
    stats = app.stats()
    assert (stats.not_started, stats.deadline_exceeded, stats.in_flight) == (1, 0, 0)


@pytest.mark.rule("W21", "W29", "W30")
@pytest.mark.parametrize(
    ("address", "settings", "counts"),
    [
        ("127.0.0.1", {}, True),
        ("10.1.2.3", {}, True),
        ("", {}, True),  # a Unix socket
        (None, {}, True),
        ("8.8.8.8", {}, False),
        ("8.8.8.8", {"trust": True}, True),
        ("10.1.2.3", {"trust": False}, False),
        ("8.8.8.8", {"trust": lambda environ: environ["REMOTE_ADDR"] == "8.8.8.8"}, True),
        ("10.1.2.3", {"trust": lambda _: 1 / 0}, False),
    ],
)
def test_whose_headers_count(address: Any, settings: Any, counts: bool) -> None:
    app = guarded(app_of(left, attempt), **settings)
    peer = Peer(("X-Request-Timeout", "2"), ("X-Request-Attempt", "3"), REMOTE_ADDR=address or "")
    if address is None:
        del peer.environ["REMOTE_ADDR"]
    assert peer.ask(app).parts == ([b"1.995", b"3"] if counts else [b"99.0", b"1"])
    assert app.stats().ignored_headers == 1 - counts


@pytest.mark.rule("W22", "W30", "D6")
def test_each_part_is_made_under_the_limit_and_the_server_is_not() -> None:
    def in_a_thread(fn: Callable[[], bytes]) -> bytes:
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(fn()))
        thread.start()
        thread.join()
        return found[0]

    mine: contextvars.ContextVar[bytes] = contextvars.ContextVar("mine")

    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        mine.set(b"mine")
        start_response("200 OK", PLAIN)
        yield left()
        yield in_a_thread(carry(left))
        yield in_a_thread(partial(contextvars.copy_context().run, attempt))
        yield mine.get()

    peer = Peer(("X-Request-Timeout", "4"), ("X-Request-Attempt", "2"))
    peer.ask(guarded(app))
    assert peer.parts == [b"3.995", b"3.995", b"2", b"mine"]
    assert peer.between == [(None, 1)] * 4
    assert (current_deadline(), mine.get(None)) == (None, None)


@pytest.mark.rule("W22", "W30")
def test_a_limit_around_the_server_and_one_in_another_count_too(time: VirtualTime) -> None:
    app = guarded(guarded(app_of(left), timeout=3), timeout=2)
    assert Peer().ask(app).body == b"2.0"
    app = guarded(guarded(app_of(left), timeout=2), timeout=3)
    assert Peer().ask(app).body == b"2.0"


@pytest.mark.rule("W22", "W30", "D4")
def test_a_loop_that_runs_in_the_thread_is_left_alone(time: VirtualTime) -> None:
    """As in an async test that calls the application: nothing of the request is its task's."""

    async def main() -> str:
        answer: Any = ResilientMiddleware(app_of(b"a", b"b"), timeout=2)(
            Peer().environ, Peer().start_response
        )
        next(answer)
        await asyncio.sleep(3)
        return b"".join(answer).decode()

    assert time.run(main) == "b"


# W23: errors as answers.

REFUSED = Rejected("inside", 2.5)
LATE = DeadlineExceeded("inside", 1, 1, started=True)


@pytest.mark.rule("W23", "W30")
@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (LATE, 504, None),
        (Rejected("inside", None), 503, "1"),
        (REFUSED, 503, "3"),
        (ExceptionGroup("", [REFUSED, LATE]), 503, "3"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("make", [raising, app_of, lambda error: app_of(b"", b"", error)])
def test_what_leaves_the_application_is_answered(
    error: Exception, status: int, after: str | None, method: str, make: Any
) -> None:
    app = guarded(make(error))
    peer = Peer(method=method).ask(app)
    assert peer.status == status
    assert peer.headers.get("retry-after") == after
    assert peer.headers["cache-control"] == "no-store"
    assert peer.headers["content-type"] == "application/problem+json"
    if method == "HEAD":
        assert peer.body == b""
    else:
        assert json.loads(peer.body)["status"] == status
        assert int(peer.headers["content-length"]) == len(peer.body)
    assert "inside" not in repr((peer.told, peer.headers, peer.body))
    stats = app.stats()
    assert (stats.deadline_exceeded, stats.rejected) == ((1, 0) if status == 504 else (0, 1))
    assert (stats.requests, stats.in_flight) == (1, 0)


@pytest.mark.rule("W23", "W30")
@pytest.mark.parametrize(
    ("answer", "status"), [((503, {"retry-after": "60"}), 503), (504, 504), (502, None)]
)
def test_what_a_client_of_ours_met_is_passed_on(answer: Any, status: int | None) -> None:
    session, _ = over(Service(answer), policy=None)

    def app(_environ: Any, _start_response: Any) -> Any:
        session.get("http://below.test/").raise_for_status()

    if status is None:
        with pytest.raises(OSError, match="502"):
            Peer().ask(guarded(app))
    else:
        peer = Peer().ask(guarded(app))
        assert (peer.status, peer.headers.get("retry-after")) == (
            (503, "60") if status == 503 else (504, None)
        )


@pytest.mark.rule("W23", "W30")
@pytest.mark.parametrize("make", [raising, lambda error: app_of(b"", error)])
def test_other_errors_pass(make: Any) -> None:
    app = guarded(make(KeyError("mine")))
    with pytest.raises(KeyError, match="mine"):
        Peer().ask(app)
    assert (app.stats().in_flight, app.stats().rejected) == (0, 0)


@pytest.mark.rule("W23", "W30")
@pytest.mark.parametrize("how", ["parts", "write"])
def test_an_answer_that_has_begun_is_broken_off(how: str) -> None:
    def writes(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)(b"half")
        raise REFUSED

    app = guarded(writes if how == "write" else app_of(b"half", REFUSED))
    peer = Peer()
    with pytest.raises(Rejected):
        peer.ask(app)
    assert (peer.status, peer.parts) == (200, [b"half"])
    assert (app.stats().rejected, app.stats().in_flight) == (1, 0)


def framework(how: str, error: Exception, status: str = "500 Oops") -> App:
    """It makes an answer of *error*, and tells the server of it in one way or another."""

    def app(_environ: Any, start_response: Any) -> Any:
        try:
            raise error
        except Exception:
            if how == "exc_info":
                start_response(status, PLAIN, sys.exc_info())
            else:
                write = start_response(status, PLAIN)
                if how == "write":
                    write(b"oops")
        return Body(b"oops")

    return app


@pytest.mark.rule("W23", "W30")
@pytest.mark.parametrize("how", ["exc_info", "in the handler", "write"])
def test_a_frameworks_500_made_of_such_an_error_is_replaced(how: str) -> None:
    app = guarded(framework(how, REFUSED))
    peer = Peer().ask(app)
    assert (peer.status, peer.headers["retry-after"], b"oops" in peer.body) == (503, "3", False)
    assert peer.told == ["503 Service Unavailable"]
    assert app.stats().rejected == 1
    assert Peer().ask(guarded(framework(how, KeyError()))).body.startswith(b"oops")
    assert Peer().ask(guarded(framework(how, REFUSED, "502 Mine"))).status == 502


@pytest.mark.rule("W23", "W30")
def test_what_the_server_handles_meanwhile_is_no_matter_of_ours() -> None:
    try:
        raise REFUSED
    except Rejected:
        peer = Peer().ask(guarded(app_of(b"oops", status="500 Oops")))
    assert (peer.status, peer.body) == (500, b"oops")


@pytest.mark.rule("W30")
def test_a_head_may_be_replaced_until_it_is_sent() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        if environ["PATH_INFO"] == "/late":
            yield b"half"
        try:
            raise KeyError("mine")
        except KeyError:
            start_response("418 Teapot", PLAIN, sys.exc_info())
        yield b"teapot"

    peer = Peer().ask(guarded(app))
    assert (peer.told, peer.body) == (["418 Teapot"], b"teapot")
    peer = Peer(PATH_INFO="/late")
    with pytest.raises(KeyError, match="mine"):
        peer.ask(guarded(app))
    assert (peer.told, peer.body) == (["200 OK"], b"half")


@pytest.mark.rule("W30")
@pytest.mark.parametrize(
    ("app", "says"),
    [
        (lambda _environ, _start: [b"x"], r"has not called start_response\(\)"),
        (lambda _environ, start: [start("200 OK", PLAIN), start("200 OK", PLAIN)], "called before"),
    ],
)
def test_an_application_that_is_none_is_told_so(app: Any, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        ResilientMiddleware(app)({}, Peer().start_response)


# W30: what is late, parts, and the end.


@pytest.mark.rule("W30")
@pytest.mark.parametrize("how", ["raises", "part", "exc_info", "answers 500"])
@pytest.mark.parametrize("late", [True, False])
def test_an_error_after_the_limit_is_504(
    time: VirtualTime, caplog: pytest.LogCaptureFixture, how: str, late: bool
) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        time.advance(3 if late else 1)
        if how == "raises":
            raise KeyError("mine")
        if how == "exc_info":
            return framework(how, KeyError("mine"))({}, start_response)
        start_response("500 Oops" if how == "answers 500" else "200 OK", PLAIN)
        return Body(KeyError("mine") if how == "part" else b"oops")

    around, peer = guarded(app, timeout=2), Peer()
    if late:
        with caplog.at_level(logging.ERROR, "resilient"):
            peer.ask(around)
        assert (peer.status, json.loads(peer.body)["status"]) == (504, 504)
        assert around.stats().deadline_exceeded == 1
        assert ("the limit of 2 s had passed" in caplog.text) == (how in {"raises", "part"})
    elif how in {"raises", "part"}:
        with pytest.raises(KeyError):
            peer.ask(around)
    else:
        assert (peer.ask(around).status, peer.body) == (500, b"oops")


@pytest.mark.rule("W30", "D4")
def test_an_answer_after_the_limit_is_one_all_the_same(time: VirtualTime) -> None:
    def late() -> bytes:
        time.advance(3)
        return b"late"

    assert Peer().ask(guarded(app_of(late, b"r"), timeout=2)).body == b"later"
    app = guarded(app_of(b"half", late, KeyError("mine")), timeout=2)
    peer = Peer()
    with pytest.raises(KeyError):
        peer.ask(app)
    assert (peer.body, app.stats().deadline_exceeded) == (b"halflate", 1)


@pytest.mark.rule("W30")
@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        ([], []),
        ([b""], []),
        ([b"", b"", b"a", b"", b"b"], [b"a", b"", b"b"]),
        ([b"a"], [b"a"]),
    ],
)
@pytest.mark.parametrize("make", [list, Body, lambda *parts: iter(parts)])
def test_what_is_empty_begins_no_answer(parts: Any, sent: Any, make: Any) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return make(parts) if make is list else make(*parts)

    peer = Peer().ask(guarded(app))
    assert (peer.status, peer.parts) == (200, sent)


@pytest.mark.rule("W30")
def test_files_and_what_is_written_are_sent() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", PLAIN)
        write(b"first ")
        return environ["wsgi.file_wrapper"](io.BytesIO(b"the file"), 3)

    peer = Peer()
    peer.environ["wsgi.file_wrapper"] = FileWrapper
    peer.ask(guarded(app))
    assert peer.parts == [b"first ", b"the", b" fi", b"le"]


@pytest.mark.rule("W30")
@pytest.mark.parametrize(
    ("parts", "most", "error"),
    [
        ([b"a", b"b"], None, None),
        ([b"a", b"b"], 1, None),  # the caller has left
        ([], None, None),
        ([REFUSED], None, None),
        ([KeyError()], None, KeyError),
        ([b"a", REFUSED], None, Rejected),
        ([KeyboardInterrupt()], None, KeyboardInterrupt),
        ([b"a", SystemExit()], None, SystemExit),
    ],
    ids=repr,
)
def test_the_body_is_closed_once(parts: Any, most: Any, error: Any) -> None:
    body = Body(*parts)

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return body

    around = ResilientMiddleware(app, timeout=2)
    with nullcontext() if error is None else pytest.raises(error):
        Peer().ask(around, most=most)
    assert len(body.ended) == 1
    assert around.stats().in_flight == 0
    answer: Any = around(Peer().environ, Peer().start_response)
    answer.close()
    answer.close()
    assert len(body.ended) == 2


@pytest.mark.rule("W30")
def test_what_an_answer_does_at_its_end_has_no_limit(time: VirtualTime) -> None:
    body = Body(b"a")

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return body

    Peer().ask(guarded(app, timeout=2))
    assert body.ended == [None]


@pytest.mark.rule("W30")
def test_an_error_at_the_end_goes_to_the_server() -> None:
    class Broken(Body):
        def close(self) -> None:
            raise KeyError("mine")

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return Broken(b"a")

    around = ResilientMiddleware(app)
    with pytest.raises(KeyError, match="mine"):
        Peer().ask(around)
    assert around.stats().in_flight == 0


class Mine(Exception):
    """It can be watched, unlike those of Python."""


@pytest.mark.rule("W30")
@pytest.mark.parametrize("how", ["raises", "exc_info"])
def test_an_error_that_is_answered_is_gone(time: VirtualTime, how: str) -> None:
    seen: list[weakref.ref[Exception]] = []

    def app(_environ: Any, start_response: Any) -> Any:
        time.advance(3)
        try:
            raise Mine
        except Mine as error:
            seen.append(weakref.ref(error))
            if how == "raises":
                raise
            start_response("500 Oops", PLAIN, sys.exc_info())
        return []

    logging.getLogger("resilient").disabled = True
    gc.disable()
    try:
        assert Peer().ask(ResilientMiddleware(app, timeout=2)).status == 504
        assert seen[0]() is None
    finally:
        gc.enable()
        logging.getLogger("resilient").disabled = False


@pytest.mark.rule("W30")
@pytest.mark.parametrize("how", ["answers", "refuses"])
def test_a_request_that_is_over_is_gone(how: str) -> None:
    def refuses() -> bytes:
        raise Rejected("inside")

    class Knows(Body):
        def __init__(self, start_response: Any) -> None:
            super().__init__(b"" if how == "answers" else refuses, b"a", b"b")
            self._knows = start_response

        def __next__(self) -> bytes:
            return next(iter(self))

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return Knows(start_response)

    gc.disable()
    try:
        answer: Any = ResilientMiddleware(app, timeout=2)(Peer().environ, Peer().start_response)
        gone = weakref.ref(answer)
        list(answer)
        answer.close()
        del answer
        assert gone() is None
    finally:
        gc.enable()


# W25: another attempt is of no use.


@retry(on=ConnectionError, attempts=2, wait=0)
def gives_up() -> None:
    raise ConnectionError("below")


def tries(environ: Any, start_response: Any) -> Any:
    try:
        gives_up()
    except ConnectionError:
        if status := environ.get("STATUS"):
            start_response(status, [*PLAIN, ("x-should-retry", "true")])
            return [b"mine"]
        if "TEST" in environ:
            raise REFUSED from None
        raise


@pytest.mark.rule("W25", "W30")
@pytest.mark.parametrize(
    ("status", "marked"),
    [("500 Oops", True), ("503 Busy", True), ("429 Often", True), ("404 None", False)],
)
def test_a_request_whose_retries_are_used_up_says_so(status: str, marked: bool) -> None:
    peer = Peer(STATUS=status).ask(guarded(tries))
    assert peer.headers["x-should-retry"] == ("false" if marked else "true")
    peer = Peer(STATUS=status).ask(guarded(tries, wire=Wire(should_retry=None)))
    assert peer.headers["x-should-retry"] == "true"


@pytest.mark.rule("W25", "W30")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_exception_that_passes_is_answered_first(method: str) -> None:
    peer, app = Peer(method=method), guarded(tries)
    with pytest.raises(ConnectionError, match="below"):
        peer.ask(app)
    assert (peer.status, peer.headers["x-should-retry"]) == (500, "false")
    assert peer.body == (
        b"" if method == "HEAD" else b'{"title":"Internal Server Error","status":500}'
    )
    assert app.stats().in_flight == 0
    peer = Peer(TEST="refused").ask(guarded(tries))
    assert (peer.status, "x-should-retry" in peer.headers) == (503, False)


# W29: totals; W51: health.


@pytest.mark.rule("W29", "W30")
def test_what_is_counted() -> None:
    app = guarded(app_of(b"a"), name="shop")
    answer: Any = app(Peer().environ, Peer().start_response)
    assert (app.stats().name, app.stats().requests, app.stats().in_flight) == ("shop", 1, 1)
    answer.close()
    assert app.stats().in_flight == 0
    with pytest.raises(DeadlineExceeded):
        Peer().ask(guarded(app_of(b"a", LATE)))


@pytest.mark.rule("W51")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_application_for_health_checks(method: str) -> None:
    with fresh():
        guard = breaker("health-wsgi")
        for shut, status in ((False, 200), (True, 503)):
            if shut:
                guard.force_open()
            peer = Peer(method=method).ask(HealthApp(critical={"health-wsgi"}))
            if method == "POST":
                assert (peer.status, peer.headers["allow"]) == (405, "GET, HEAD")
                continue
            assert (peer.status, peer.headers["content-type"]) == (status, "application/json")
            if method == "HEAD":
                assert peer.body == b""
            else:
                assert json.loads(peer.body)["status"] == ("down" if shut else "ok")
        with pytest.raises(TypeError, match="details must be True or False"):
            HealthApp(details=1)  # type: ignore[arg-type]

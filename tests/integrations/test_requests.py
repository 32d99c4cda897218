"""The adapter of requests: over one that makes its answers, in virtual time, and over loopback.

What holds for all clients alike, as they share it, is held by `test_httpx.py`. Here is what an
adapter translates: requests, answers, bodies, errors and time limits.
"""

from __future__ import annotations

import copy
import gc
import io
import pickle
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from requests import exceptions as rq
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3 import exceptions as u3
from urllib3.response import HTTPResponse
from urllib3.util import Retry, Timeout

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Rejected,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    pipeline,
    retry,
    throttle,
)
from resilient.integrations._client.met import Met, met_by
from resilient.integrations._requests.bodies import HeldBody
from resilient.integrations.http import BadStatus, Wire, options
from resilient.integrations.requests import TRANSIENT, ResilientAdapter, origin
from resilient.testing import VirtualTime, virtual_time
from tests.integrations.servers import Server
from tests.integrations.tables import NOW, runs
from tests.worlds import in_threads

UNIT = 2.0**-9
"""Seconds, exact in binary."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with virtual_time() as one:
        yield one


class Parts(io.RawIOBase):
    """A body in parts, of which one may be an error."""

    def __init__(self, *parts: bytes | BaseException) -> None:
        self._parts = list(parts)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read1(2**16), b""))
        return self.read1(size)

    def read1(self, size: int = -1) -> bytes:
        part = self._parts.pop(0) if self._parts else b""
        if isinstance(part, BaseException):
            raise part
        return part


class Service(BaseAdapter):
    """A stand-in for a service: it answers by its *script*, the last entry again and again, and
    keeps what it was asked, and how.
    """

    def __init__(self, *script: Any) -> None:
        super().__init__()
        self.script = list(script)
        self.asked: list[Any] = []
        self.how: list[Any] = []
        self.bodies: list[Parts] = []

    def send(self, request: Any, **how: Any) -> Any:  # type: ignore[override]
        self.asked.append(request)
        self.how.append(how)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        status, headers, *parts = answer if isinstance(answer, tuple) else (answer, {})
        self.bodies.append(Parts(*parts))
        raw = HTTPResponse(
            self.bodies[-1], headers, status, preload_content=False, decode_content=False
        )
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        pass

    def attempts(self) -> list[str | None]:
        return [request.headers.get("x-request-attempt") for request in self.asked]

    def closed(self) -> list[bool]:
        return [body.closed for body in self.bodies]


def over(inner: BaseAdapter, **settings: Any) -> tuple[requests.Session, Any]:
    """A session with our adapter around *inner* for both schemes."""
    session, adapter = requests.Session(), ResilientAdapter(inner, **settings)
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session, adapter


def over_service(*script: Any, **settings: Any) -> tuple[requests.Session, Service, Any]:
    service = Service(*script)
    session, adapter = over(service, **settings)
    return session, service, adapter


URL = "http://shop.test/"


# W1, W2: the policy, and what it is asked with.


@pytest.mark.rule("W1")
def test_what_stands_around_a_request_by_itself() -> None:
    adapter: Any = ResilientAdapter()
    assert [one.kind for one in adapter.policy.policies] == ["retry", "breaker", "bulkhead"]
    assert {one.name for one in adapter.policy.policies} == {"requests"}
    assert repr(ResilientAdapter(policy=None)) == "ResilientAdapter(policy=None)"


@pytest.mark.rule("W1", "F7")
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"policy": cache(ttl=1)}, TypeError, "policy must not have.*its answer is used once"),
        ({"policy": hedge(1)}, TypeError, "for a sync client"),
        ({"failures": {99}}, ValueError, "failures must be statuses from 100 to 599"),
        ({"adapter": "http"}, TypeError, "adapter must be an adapter of requests, or None"),
        ({"adapter": HTTPAdapter}, TypeError, r"write HTTPAdapter\(...\)"),
        ({"adapter": HTTPAdapter(max_retries=1)}, ValueError, "one with max_retries=0"),
        ({"adapter": HTTPAdapter(max_retries=Retry(None, read=2))}, ValueError, "max_retries=0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ResilientAdapter(**settings)


@pytest.mark.rule("W2")
@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://Shop.test/a?b", "http://shop.test:80"),
        ("https://shop.test", "https://shop.test:443"),
        ("https://me:secret@shop.test:8443/", "https://shop.test:8443"),
        ("http://[::1]/", "http://[::1]:80"),
        ("s3://Bucket/key", "s3://bucket:0"),
    ],
)
def test_the_origin_of_a_request(url: str, where: str) -> None:
    assert origin(requests.Request("GET", url).prepare()) == where


@pytest.mark.rule("W2", "W4")
def test_the_library_says_what_is_wrong_with_a_url() -> None:
    request = requests.Request("GET", URL).prepare()
    request.url = "http://shop.test:port/"
    assert origin(request) == request.url
    adapter: Any = ResilientAdapter()
    with pytest.raises(rq.InvalidURL):
        adapter.send(request)
    assert adapter.policy.policies[1].stats().ignored == 1


@pytest.mark.rule("W2", "W12")
def test_what_the_session_sends_of_itself_is_a_request_of_its_own(time: VirtualTime) -> None:
    challenge = {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    session, service, adapter = over_service((302, {"location": "http://other.test/"}), 200)
    assert session.get(URL).status_code == 200
    assert adapter.policy.policies[1].keys() == ["http://shop.test:80", "http://other.test:80"]
    assert service.attempts() == ["1", "1"]
    session, service, adapter = over_service((401, challenge, b"who?"), (503, NOW), 200)
    answer = session.get(URL, auth=HTTPDigestAuth("me", "secret"))
    assert answer.status_code == 200
    assert service.attempts() == ["1", "1", "2"]
    assert answer.connection is adapter


# W3: the caller gets the answer.


@pytest.mark.rule("W3", "W9")
def test_the_last_answer_is_the_callers_unread(time: VirtualTime) -> None:
    session, service, adapter = over_service((503, NOW, b"a"), (502, NOW, b"b"), (500, {}, b"c"))
    answer = session.get(URL, stream=True)
    assert answer.status_code == 500
    assert service.closed() == [True, True, False]
    assert answer.content == b"c"
    assert service.closed() == [True, True, True]
    assert adapter.policy.policies[1].stats().failures == 3


@pytest.mark.rule("W3")
def test_a_fallback_gives_an_answer_or_is_refused(time: VirtualTime) -> None:
    spare = requests.Response()
    spare.status_code = 203
    session, _service, _ = over_service(503, policy=fallback(default=spare, on=BadStatus))
    assert session.get(URL).status_code == 203
    session, *_rest = over_service(503, policy=fallback(default=b"", on=BadStatus))
    with pytest.raises(TypeError, match=r"must give a requests\.models\.Response, not b''"):
        session.get(URL)


# W4 to W6: what is repeated.


def exhausted(reason: Exception) -> u3.MaxRetryError:
    return u3.MaxRetryError(None, "/", reason)  # type: ignore[arg-type]


def tls(cause: Exception) -> rq.SSLError:
    return rq.SSLError(exhausted(u3.SSLError(cause)))


NOBODY = u3.NewConnectionError(None, "refused")  # type: ignore[arg-type]
LATE = u3.ReadTimeoutError(None, "/", "read timed out")  # type: ignore[arg-type]
GONE = u3.ProtocolError("Connection aborted.", ConnectionResetError())
FULL = u3.EmptyPoolError(None, "no place")  # type: ignore[arg-type]
CLOSED = u3.ClosedPoolError(None, "closed")  # type: ignore[arg-type]


@pytest.mark.rule("W4")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("error", "repeated", "failures"),
    [
        (rq.ConnectionError(exhausted(NOBODY)), "always", 1),
        (rq.ConnectTimeout(exhausted(u3.ConnectTimeoutError("slow"))), "always", 1),
        (rq.ConnectTimeout("slow"), "always", 1),
        (rq.ProxyError(exhausted(u3.ProxyError("no way", OSError()))), "always", 1),
        (NOBODY, "always", 1),  # of an adapter with max_retries=False
        (tls(ssl.SSLCertVerificationError("a stranger")), "always", 1),
        (tls(ssl.SSLError("bad record mac")), "idempotent", 1),  # perhaps all was sent
        (rq.ReadTimeout(LATE), "idempotent", 1),
        (rq.ConnectionError(exhausted(LATE)), "idempotent", 1),  # of an adapter with Retry(0)
        (rq.ConnectionError(GONE), "idempotent", 1),
        (rq.ConnectionError("gone"), "idempotent", 1),
        (GONE, "idempotent", 1),
        (FULL, "never", 0),
        (rq.ConnectionError(CLOSED), "never", 0),
        (u3.UnrewindableBodyError("at its end"), "never", 0),
        (rq.InvalidURL(u3.LocationParseError("shop:port")), "never", 0),
        (rq.MissingSchema("no scheme"), "never", 0),
        (rq.InvalidHeader("a line break"), "never", 0),
        (ValueError("timeout"), "never", 0),
        (OSError("no file of certificates"), "never", 0),
    ],
    ids=repr,
)
def test_an_error_of_the_way(
    time: VirtualTime, method: str, error: Exception, repeated: str, failures: int
) -> None:
    session, service, adapter = over_service(error, 200)
    if repeated == "always" or (repeated == "idempotent" and method == "GET"):
        assert session.request(method, URL).status_code == 200
        assert service.attempts() == ["1", "2"]
    else:
        with pytest.raises(type(error)) as raised:
            session.request(method, URL)
        assert raised.value is error
        assert service.attempts() == ["1"]
    stats = adapter.policy.policies[1].stats()
    assert (stats.failures, stats.ignored) == (failures, 1 - failures)
    assert adapter.policy.policies[2].stats().in_flight == 0


class SpeaksNoTls(socketserver.BaseRequestHandler):
    """Whoever begins to shake hands here is sent away."""

    def handle(self) -> None:
        self.request.recv(1)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.rule("W4")
@pytest.mark.real_clock
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_no_connection_is_made_anything_is_sent_again(scheme: str) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), SpeaksNoTls) as there:
        url = f"{scheme}://127.0.0.1:{there.server_address[1]}/"
        if scheme == "http":
            there.server_close()  # nobody listens any more
        else:
            threading.Thread(target=there.serve_forever, daemon=True).start()
        guard = breaker(consecutive_failures=3)
        policy = pipeline(retry(on=TRANSIENT, wait=0, budget=None), guard)
        session, _ = over(HTTPAdapter(), policy=policy)
        with pytest.raises(rq.SSLError if scheme == "https" else rq.ConnectionError):
            session.post(url)
        assert guard.stats().failures == 3
        with pytest.raises(CircuitOpen):
            session.post(url)
        if scheme == "https":
            there.shutdown()


@pytest.mark.rule("W5")
@pytest.mark.parametrize(
    ("method", "kwargs", "settings", "said", "repeated"),
    [
        ("GET", {}, {}, None, True),
        ("POST", {}, {}, None, False),
        ("POST", {"headers": {"Idempotency-Key": "7"}}, {}, None, True),
        ("POST", {}, {"idempotent": ["post"]}, None, True),
        ("POST", {}, {"idempotent": lambda request: request.path_url == "/"}, None, True),
        ("POST", {}, {}, True, True),  # W15
    ],
)
def test_what_is_idempotent(  # noqa: PLR0917
    time: VirtualTime, method: str, kwargs: Any, settings: Any, said: Any, repeated: bool
) -> None:
    session, service, _ = over_service((503, NOW), 200, **settings)
    with options(idempotent=said):
        answer = session.request(method, URL, **kwargs)
    assert answer.status_code == (200 if repeated else 503)
    assert len(service.asked) == 1 + repeated


class Mine(Exception):
    """What a caller's own body raises."""


def halves(*, last: bytes | None = b"and half") -> Iterator[bytes]:
    yield b"half "
    if last is None:
        raise Mine
    yield last


class File(io.BytesIO):
    """A file that breaks as it is read."""

    def read(self, *_size: int | None) -> bytes:
        raise Mine


BODIES: dict[str, tuple[Callable[[], Any], bool]] = {
    "bytes": (lambda: {"data": b"half and half"}, True),
    "text": (lambda: {"data": "half and half"}, True),
    "bytearray": (lambda: {"data": bytearray(b"half and half")}, True),
    "json": (lambda: {"json": "half and half"}, True),
    "multipart": (lambda: {"files": {"f": io.BytesIO(b"half and half")}}, True),  # encoded at once
    "parts": (lambda: {"data": halves()}, False),
    "file": (lambda: {"data": io.BytesIO(b"half and half")}, False),
    "text file": (lambda: {"data": io.StringIO("half and half")}, False),
}


@pytest.mark.rule("W6")
@pytest.mark.real_clock
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_gone_is_not_sent_again(server: Server, body: str) -> None:
    server.asked.clear()
    make, again = BODIES[body]
    session, _ = over(HTTPAdapter())
    answer = session.put(f"{server.url}/echo-once-busy", **make())
    assert answer.status_code == (200 if again else 503)
    assert server.asked["/echo-once-busy"] == 1 + again
    assert "half and half" in answer.text


@pytest.mark.rule("W4", "W6")
@pytest.mark.real_clock
@pytest.mark.parametrize("make", [lambda: halves(last=None), lambda: File(b"half")])
def test_what_a_body_raises_is_no_fault_of_the_service(server: Server, make: Any) -> None:
    session, adapter = over(HTTPAdapter())
    with pytest.raises(Mine):
        session.put(f"{server.url}/ok", data=make())
    assert adapter.policy.policies[1].stats().ignored == 1
    assert adapter.policy.policies[2].stats().in_flight == 0


@pytest.mark.rule("W4")
@pytest.mark.real_clock
def test_what_requests_makes_of_the_error_of_a_body_is_no_fault_of_the_service(
    server: Server,
) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk")

    session, adapter = over(HTTPAdapter())
    with pytest.raises(rq.ConnectionError):
        session.put(f"{server.url}/ok", data=breaks())
    assert adapter.policy.policies[1].stats().ignored == 1


# W7, W8: what the server asks.


@pytest.mark.rule("W7", "W8")
@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"retry-after": "20"}, (20, 21)),
        ({"Retry-After-Ms": "1500"}, (1.5, 2.5)),
        (
            {
                "retry-after": "Thu, 15 Oct 2026 08:26:47 GMT",
                "date": "Thu, 15 Oct 2026 08:26:40 GMT",
            },
            (7, 8),
        ),
        ([("retry-after", "20"), ("retry-after", "21")], (0, 1)),  # as if absent
        ([("retry-after", "Thu, 15 Oct 2099 08:26:47 GMT")] * 2, (0, 1)),
        ({"retry-after": "31"}, None),  # too much
        ({"x-should-retry": "False"}, None),
    ],
    ids=repr,
)
def test_the_wait_is_at_least_what_the_server_asks(
    time: VirtualTime, headers: Any, waits: Any
) -> None:
    session, service, _ = over_service((503, headers), 200)
    began = time.now()
    answer = session.get(URL)
    if waits is None:
        assert (answer.status_code, len(service.asked)) == (503, 1)
    else:
        assert answer.status_code == 200
        assert waits[0] <= time.now() - began < waits[1]


@pytest.mark.rule("W7")
def test_an_answer_that_is_none_of_urllib3_is_read_too(time: VirtualTime) -> None:
    class Odd(BaseAdapter):
        def send(self, request: Any, **_how: Any) -> Any:  # type: ignore[override]
            answer = requests.Response()
            answer.status_code, answer.raw = 503, io.BytesIO(b"later")
            answer.headers["Retry-After"] = "20"
            return answer

        def close(self) -> None:
            pass

    session, adapter = over(Odd())
    began = time.now()
    answer = session.get(URL)
    assert (answer.text, time.now() - began >= 40) == ("later", True)
    assert adapter.policy.policies[2].stats().in_flight == 0


# W9, W10: answers, and what stays open with them.


@pytest.mark.rule("W9")
@pytest.mark.real_clock
def test_each_attempt_may_have_the_one_connection(server: Server) -> None:
    server.asked.clear()
    session, _ = over(HTTPAdapter(pool_maxsize=1, pool_block=True))
    assert session.get(f"{server.url}/busy-once").text == "hello"
    assert session.get(f"{server.url}/busy").text == "later"
    assert server.asked == {"/busy-once": 2, "/busy": 3}


READ: dict[str, Callable[[requests.Response], Any]] = {
    "content": lambda answer: answer.content,
    "iter_content": lambda answer: b"".join(answer.iter_content(3)),
    "iter_content in pieces as they come": lambda answer: b"".join(answer.iter_content(None)),
    "iter_lines": lambda answer: b"".join(answer.iter_lines()),
    "read": lambda answer: answer.raw.read(),
    "read(2)": lambda answer: b"".join(iter(lambda: answer.raw.read(2), b"")),
    "read1": lambda answer: b"".join(iter(lambda: answer.raw.read1(2), b"")),
    "readinto": lambda answer: io.BufferedReader(answer.raw).read(),
    "data": lambda answer: answer.raw.data,
    "stream": lambda answer: b"".join(answer.raw.stream()),
    "lines": lambda answer: b"".join(answer.raw),
}
LEFT: dict[str, Callable[[requests.Response], Any]] = {
    "drain_conn": lambda answer: answer.raw.drain_conn(),
    "close": lambda answer: answer.close(),
    "close of raw": lambda answer: answer.raw.close(),
    "with": lambda answer: answer.__exit__(None, None, None),
    "close after a part": lambda answer: close_after_a_part(answer),
}


def close_after_a_part(answer: requests.Response) -> None:
    with answer:
        next(answer.iter_content(2))


@pytest.mark.rule("W10")
@pytest.mark.real_clock
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize(
    ("how", "path"),
    [
        *((how, path) for how in (*READ, *LEFT) for path in ("/ok", "/drips")),
        *((how, "/zipped") for how in ("content", "iter_content", "iter_lines", *LEFT)),
    ],
)
def test_the_place_is_held_until_the_body_has_ended(
    server: Server, how: str, path: str, limited: bool
) -> None:
    places, guard = bulkhead(1), breaker(on=Exception)
    session, _ = over(HTTPAdapter(), policy=pipeline(guard, places))
    with deadline(60 if limited else None):
        answer = session.get(server.url + path, stream=True)
        with pytest.raises(BulkheadFull):
            session.get(server.url + path)
        if how in READ:
            assert READ[how](answer) == {"/ok": b"hello", "/drips": b"ab" * 5}.get(path, b"z" * 999)
        else:
            LEFT[how](answer)
        assert places.stats().in_flight == 0
        answer.close()
    assert (guard.stats().successes, guard.stats().in_flight) == (1, 0)
    assert isinstance(answer.raw, HTTPResponse)
    assert type(answer.raw).__name__ == "HTTPResponse"
    session.close()


@pytest.mark.rule("W10")
@pytest.mark.real_clock
def test_chunks_may_be_read_as_such(server: Server) -> None:
    places = bulkhead(1)
    session, _ = over(HTTPAdapter(), policy=places)
    answer = session.get(f"{server.url}/drips", stream=True)
    assert list(answer.raw.read_chunked()) == [b"ab"] * 5
    assert places.stats().in_flight == 0


@pytest.mark.rule("W4", "W10")
@pytest.mark.real_clock
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize(
    ("path", "error", "below"),
    [
        ("/half", rq.ChunkedEncodingError, u3.ProtocolError),
        ("/half-a-chunk", rq.ChunkedEncodingError, u3.ProtocolError),
        ("/not-zipped", rq.ContentDecodingError, None),
    ],
)
def test_a_body_that_breaks_is_a_failure_and_not_repeated(
    server: Server, path: str, error: type[Exception], below: Any, limited: bool
) -> None:
    server.asked.clear()
    guard, places = breaker(on=error), bulkhead(1)
    policy = pipeline(retry(on=Exception, wait=0), guard, places)
    session, _ = over(HTTPAdapter(pool_maxsize=1, pool_block=True), policy=policy)
    with deadline(60 if limited else None):
        with pytest.raises(error):
            session.get(server.url + path)
        if below is not None:
            answer = session.get(server.url + path, stream=True)
            with pytest.raises(below):
                answer.raw.read()
    assert server.asked[path] == guard.stats().failures == (1 if below is None else 2)
    assert (guard.stats().in_flight, places.stats().in_flight) == (0, 0)
    session.close()


@pytest.mark.rule("W10", "F3")
def test_an_answer_that_is_lost_gives_its_place_back(time: VirtualTime) -> None:
    places, guard = bulkhead(1), breaker()
    session, service, _ = over_service((200, {}, b"a"), policy=pipeline(guard, places))
    answer = session.get(URL, stream=True)
    assert places.stats().in_flight == 1
    del answer
    service.asked.clear()
    gc.collect()
    assert (places.stats().in_flight, guard.stats().in_flight) == (0, 0)
    assert guard.stats().successes == 0  # it was not ended, which would need a lock


@pytest.mark.rule("W10")
def test_one_adapter_may_stand_in_another(time: VirtualTime) -> None:
    outer, inner = bulkhead(1), bulkhead(1)
    service = Service((200, {}, b"a"))
    session, _ = over(ResilientAdapter(service, policy=inner), policy=outer)
    answer = session.get(URL, stream=True)
    assert (outer.stats().in_flight, inner.stats().in_flight) == (1, 1)
    assert answer.content == b"a"
    assert (outer.stats().in_flight, inner.stats().in_flight) == (0, 0)
    assert type(answer.raw).__mro__.count(HeldBody) == 1


@pytest.mark.rule("W10", "F16")
def test_an_unwanted_answer_is_a_failure_when_it_ends(time: VirtualTime) -> None:
    def unwanted(answer: Any) -> bool:
        return bool(answer.status_code == 202)

    guard, shed = breaker(on_result=unwanted), throttle(on_result=unwanted)
    session, *_rest = over_service((202, {}, b"a"), policy=pipeline(guard, shed))
    assert session.get(URL).content == b"a"
    assert (guard.stats().failures, shed.stats().accepts) == (1, 0)


# W11, W12: what goes on the wire.


@pytest.mark.rule("W11", "W12")
def test_each_attempt_carries_its_number_and_what_is_left(time: VirtualTime) -> None:
    session, service, _ = over_service((503, {"retry-after": "1"}), 200)
    mine = {"X-Request-Timeout": "99", "x-request-attempt": "9", "x-mine": "1"}
    request = session.prepare_request(requests.Request("GET", URL, headers=mine))
    with deadline(3):
        answer = session.send(request)
    assert [one.headers["x-request-timeout"] for one in service.asked] == ["3.000", "2.000"] or (
        1 < float(service.asked[1].headers["x-request-timeout"]) <= 2
    )
    assert service.attempts() == ["1", "2"]
    assert answer.request is request
    assert {name: request.headers[name] for name in mine} == mine
    session.send(request)
    assert service.asked[-1].headers["x-request-timeout"] == "99"  # without a deadline


@pytest.mark.rule("W12")
def test_the_names_can_be_said(time: VirtualTime) -> None:
    session, service, _ = over_service(200, wire=Wire(timeout="X-Left", unit="ms", attempt=None))
    with deadline(2):
        session.get(URL)
    assert service.asked[0].headers["x-left"] == "2000"
    assert "x-request-attempt" not in service.asked[0].headers
    session, service, _ = over_service((503, {"x-should-retry": "false", **NOW}), 200, wire=None)
    with deadline(2):
        assert session.get(URL).status_code == 200
    assert not [name for name in service.asked[0].headers if name.lower().startswith("x-")]


@pytest.mark.rule("W11", "W13")
def test_without_time_nothing_is_sent(time: VirtualTime) -> None:
    session, service, adapter = over_service(200)
    with deadline(8):
        time.advance(8 - UNIT / 4)
        with pytest.raises(DeadlineExceeded) as raised:
            session.get(URL)
    assert isinstance(raised.value, requests.Timeout)
    assert raised.value.request.url == URL
    assert not raised.value.started
    assert (service.asked, adapter.policy.policies[1].stats().calls) == ([], 0)


@pytest.mark.rule("W11")
@pytest.mark.parametrize(
    ("told", "connect", "read"),
    [
        (None, 2, 2),
        (7, 2, 2),
        (1, 1, 1),
        ((1, None), 1, 2),
        ((None, 1.5), 2, 1.5),
        ((9, 1), 2, 1),
        (Timeout(connect=1, read=9), 1, 2),
        (Timeout(1), 1, 2),  # no longer than the total, but urllib3 sees to that later
        (Timeout(), 2, 2),
    ],
    ids=repr,
)
def test_the_librarys_own_limits_are_no_longer_than_what_is_left(
    time: VirtualTime, told: Any, connect: float, read: float
) -> None:
    class Told(HTTPAdapter):
        def send(self, request: Any, **how: Any) -> Any:  # type: ignore[override]
            return service.send(request, **how)

    service = Service(200)
    session, _ = over(Told())
    session.get(URL, timeout=told)
    assert service.how[0]["timeout"] is told
    with deadline(2):
        session.get(URL, timeout=told)
        over(service)[0].get(URL, timeout=told)
    found = service.how[1]["timeout"]
    assert (found.connect_timeout, found.read_timeout) == (connect, read)
    assert found.total == min(getattr(told, "total", None) or 2, 2)  # both together
    assert service.how[2]["timeout"] in {(connect, read), (2, 2)}  # others know no more than that


@pytest.mark.rule("W11")
@pytest.mark.parametrize("wrong", [(1, 2, 3), -1, "soon"])
def test_a_time_limit_that_is_none_is_refused_as_ever(wrong: Any) -> None:
    said = []
    for limit in (None, 2):
        adapter: Any = ResilientAdapter(policy=None)
        with deadline(limit), pytest.raises(ValueError, match=r"(?i)timeout") as raised:
            adapter.send(requests.Request("GET", URL).prepare(), timeout=wrong)
        said.append(str(raised.value))
    assert said[0] == said[1]


@pytest.mark.rule("W11")
@pytest.mark.real_clock
@pytest.mark.parametrize("path", ["/trickles", "/trickles-in-a-chunk"])
@pytest.mark.parametrize("how", ["at once", "content", "read"])
def test_a_part_that_comes_too_late_is_not_read(server: Server, path: str, how: str) -> None:
    guard, places = breaker(on=requests.Timeout), bulkhead(1)
    inner = HTTPAdapter(pool_maxsize=1, pool_block=True)
    session, _ = over(inner, policy=pipeline(guard, places))
    with deadline(0.3), pytest.raises(DeadlineExceeded) as raised:
        answer = session.get(server.url + path, stream=how != "at once")
        if how == "content":
            assert answer.content
        assert answer.raw.read()
    assert isinstance(raised.value, requests.Timeout)
    assert raised.value.started
    assert (guard.stats().failures, places.stats().in_flight) == (1, 0)
    assert session.get(f"{server.url}/ok").text == "hello"  # the one connection is free


@pytest.mark.rule("W10", "W11")
@pytest.mark.real_clock
@pytest.mark.parametrize("size", [1, 2, None])
def test_a_body_that_is_read_in_a_block_and_after_it_is_whole(server: Server, size: Any) -> None:
    session, _ = over(HTTPAdapter())
    answer = session.get(f"{server.url}/drips", stream=True)
    with deadline(60):
        parts = answer.iter_content(size)
        first = next(parts)
    assert first + answer.content == b"ab" * 5


@pytest.mark.rule("W12")
@pytest.mark.real_clock
def test_an_error_of_requests_has_the_callers_request(server: Server) -> None:
    session, _ = over(HTTPAdapter(), policy=None)
    request = session.prepare_request(requests.Request("GET", f"{server.url}/silent"))
    with pytest.raises(requests.ConnectionError) as raised:
        session.send(request)
    assert raised.value.request is request


@pytest.mark.rule("W11")
@pytest.mark.real_clock
@pytest.mark.parametrize("path", ["/hangs", "/stalls"])
def test_a_time_out_of_the_library_says_whose_limit_it_was(server: Server, path: str) -> None:
    policies = retry(on=TRANSIENT), breaker(on=TRANSIENT), bulkhead(1)
    session, _ = over(HTTPAdapter(), policy=pipeline(*policies))
    kind = rq.ReadTimeout if path == "/hangs" else rq.ConnectionError  # as requests has it
    with pytest.raises(kind) as raised, deadline(0.25):
        session.get(server.url + path)
    noted = raised.value if path == "/hangs" else raised.value.args[0]
    assert any("limit of 0.25 s exceeded" in note for note in noted.__notes__)
    guard, places = policies[1].stats(), policies[2].stats()
    assert (guard.failures, guard.in_flight, places.in_flight) == (1, 0, 0)


# W13: errors of two families; and W23, what a server makes of them.


@pytest.mark.rule("W13", "E1", "E2")
def test_what_the_policies_refuse_is_of_both_families(time: VirtualTime) -> None:
    guard = breaker("shop", consecutive_failures=1, cooldown=4)
    session, service, _ = over_service(503, policy=guard)
    session.get(URL)
    with pytest.raises(CircuitOpen) as raised:
        session.get(URL)
    error = raised.value
    assert isinstance(error, requests.ConnectionError)
    assert isinstance(error, Rejected)
    assert error.request.url == URL
    assert (error.policy, error.reason, len(service.asked)) == ("shop", "open", 1)
    plain = CircuitOpen(*error.args)
    assert (str(error), repr(error)) == (str(plain), repr(plain))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (twin.args, str(twin)) == (error.args, str(error))


@pytest.mark.rule("W23")
def test_a_server_knows_what_its_client_met(time: VirtualTime) -> None:
    session, *_rest = over_service((503, {"retry-after": "60"}))
    answer = session.get(URL)
    with pytest.raises(requests.HTTPError) as raised:
        answer.raise_for_status()
    assert met_by(raised.value) == Met(503, 60.0)


# W14, F4: threads, and interrupts.


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.rule("W14", "F9")
@pytest.mark.parametrize(
    "script",
    [
        [interrupted],
        [(503, NOW, b"a"), interrupted],
        [(200, {}, b"a", KeyboardInterrupt())],
    ],
    ids=["sending", "sending again", "reading"],
)
@pytest.mark.parametrize("limited", [False, True])
def test_an_interrupt_leaves_no_place(time: VirtualTime, script: Any, limited: bool) -> None:
    again, guard, places = policies = retry(on=BadStatus, wait=0), breaker(), bulkhead(1)
    session, *_rest = over_service(*script, policy=pipeline(*policies))
    with deadline(60 if limited else None), pytest.raises(KeyboardInterrupt):
        session.get(URL)
    assert (places.stats().in_flight, guard.stats().in_flight) == (0, 0)
    assert (guard.stats().ignored, again.stats().calls) == (1, 1)


@pytest.mark.rule("W1", "F4")
@pytest.mark.real_clock
def test_threads_share_one_adapter(server: Server) -> None:
    inner = HTTPAdapter(pool_maxsize=9)
    session, adapter = over(inner, policy=pipeline(retry(on=TRANSIENT, wait=0), bulkhead(9)))
    paths = ["/ok", "/slow", "/drips", "/busy"] * 2

    def ask(path: str) -> Callable[[], int]:
        return lambda: [session.get(server.url + path).status_code for _ in range(9)][-1]

    assert in_threads(*map(ask, paths)) == [200, 200, 200, 503] * 2
    _, places = adapter.policy.stats()
    assert (places.calls >= 72, places.in_flight) == (True, 0)


@pytest.mark.rule("W15")
def test_a_block_may_say_the_policy(time: VirtualTime) -> None:
    session, service, _ = over_service((503, NOW))
    with options(policy=retry(on=BadStatus, attempts=5, wait=0, budget=None)):
        session.get(URL)
        with options(policy=None):
            session.get(URL)
    session.get(URL)
    assert [len(group) for group in runs(service.attempts())] == [5, 1, 3]


# Its end, and its copies.


@pytest.mark.rule("W1")
def test_a_closed_adapter_says_so() -> None:
    session, _service, _ = over_service(200)
    with session:
        session.get(URL)
    with pytest.raises(RuntimeError, match="is closed, as its session is: mount another one"):
        session.get(URL)


@pytest.mark.rule("W1", "F15")
def test_a_pickled_session_has_the_same_settings() -> None:
    session, adapter = over(HTTPAdapter(pool_maxsize=7), name="shop", failures={503})
    for other in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
        twin: Any = other.get_adapter(URL)
        assert twin._adapter._pool_maxsize == 7
        assert twin._adapter is not adapter._adapter
        assert twin.policy.policies[1].name == "shop"
        assert twin.policy is not adapter.policy
    guard = breaker("mine")
    session, _ = over(HTTPAdapter(), policy=guard)
    twin = copy.deepcopy(session).get_adapter(URL)
    assert twin.policy is guard
    with pytest.raises(TypeError, match="in each process"):
        pickle.dumps(session)

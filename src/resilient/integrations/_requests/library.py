"""What a client asks of requests; see `Library`."""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.exceptions import ChunkedEncodingError
from urllib3.exceptions import ProtocolError
from urllib3.exceptions import TimeoutError as Urllib3Timeout
from urllib3.response import HTTPResponse
from urllib3.util import Timeout

from resilient._core.http import Fault
from resilient.integrations._client.exchange import Held, current
from resilient.integrations._client.http import HttpLibrary
from resilient.integrations._client.library import Library, Outgoing
from resilient.integrations._requests.bodies import HeldBody, WatchedBody, is_held
from resilient.integrations._requests.faults import fault_of
from resilient.integrations.http import BadStatus

PORTS: Final = {"http": 80, "https": 443}


class RequestsLibrary(HttpLibrary, Library):
    """What a client asks of requests; see `Library`."""

    name = "requests"
    transient = (
        requests.ConnectionError, requests.Timeout, ChunkedEncodingError,
        ProtocolError, Urllib3Timeout,  # which come from the `raw` of an answer
        BadStatus, TimeoutError,
    )  # fmt: skip
    rejected, timed_out = requests.ConnectionError, requests.Timeout
    answer = requests.Response

    def origin(self, request: Any) -> str:
        try:
            url = urlsplit(request.url)
            port = url.port or PORTS.get(url.scheme, 0)
        except ValueError:  # which requests, too, will complain of
            return str(request.url)
        host = url.hostname or ""
        return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}".lower()

    def method(self, request: Any) -> str:
        return request.method or ""

    def has_header(self, request: Any, name: str) -> bool:
        return name in request.headers

    def is_replayable(self, request: Any) -> bool:
        return is_held(request.body)

    def fault(self, error: BaseException) -> Fault:
        return fault_of(error)

    def status(self, answer: Any) -> int:
        return answer.status_code  # type: ignore[no-any-return]  # an int

    def values(self, answer: Any, name: str) -> list[str]:
        raw = answer.raw
        if isinstance(raw, HTTPResponse):  # requests itself makes one of two
            return list(raw.headers.getlist(name))
        return [answer.headers[name]] if name in answer.headers else []

    def hold(self, answer: Any, held: Held) -> None:
        raw = answer.raw
        if not isinstance(raw, HTTPResponse) or raw.closed:  # it came whole
            held.end()
        else:
            HeldBody.hold(raw, held, self.name)

    def close(self, answer: Any) -> None:
        answer.close()


def attempt_of(request: Any, outgoing: Outgoing) -> Any:
    """*request* as one attempt sends it (W12). The caller's stays as it is."""
    kind: Any = type(request)
    made = kind.__new__(kind)  # `copy` would copy the jar of cookies, too
    made.__dict__.update(request.__dict__)
    made.headers = request.headers.copy()
    made.headers.update(outgoing.headers)
    exchange = current.get()
    if not exchange.is_replayable:
        made.body = WatchedBody(request.body, exchange)
    return made


def limits_of(timeout: Any, longest: float, *, together: bool) -> Any:
    """*timeout*, as it is given to requests, and none of it more than *longest* seconds (W11), nor
    all *together*, which is more than every adapter understands.
    """
    if longest == math.inf or (isinstance(timeout, tuple) and len(timeout) != len("cr")):
        return timeout
    total = None
    if isinstance(timeout, Timeout):
        connect, read, total = timeout._connect, timeout._read, timeout.total
    else:
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    connect, read, total = (_least(part, longest) for part in (connect, read, total))
    return Timeout(connect=connect, read=read, total=total) if together else (connect, read)


def _least(seconds: Any, longest: float) -> Any:
    if seconds is None or seconds is Timeout.DEFAULT_TIMEOUT:
        return longest
    return min(seconds, longest) if isinstance(seconds, (int, float)) else seconds

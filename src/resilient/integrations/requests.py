"""requests: an adapter with policies around each request, and the deadline on the wire.

::

    session.mount("https://", adapter := ResilientAdapter())
    session.mount("http://", adapter)

Needs the extra ``requests``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal, cast, final

try:
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter
except ImportError as error:  # pragma: no cover  # told in a process of its own
    raise ImportError(
        "resilient.integrations.requests needs requests: pip install resilient-py[requests]"
    ) from error

from typing_extensions import override
from urllib3.util import Retry

from resilient._core.checks import refuse, refuse_type
from resilient._policies.common.policy import Policy
from resilient._typing import DEFAULT, Default
from resilient.integrations._client.engine import Client
from resilient.integrations._client.exchange import current
from resilient.integrations._client.library import Outgoing
from resilient.integrations._client.settings import Methods, Statuses, check_settings
from resilient.integrations._client.stack import stack_sync
from resilient.integrations._requests.library import RequestsLibrary, attempt_of, limits_of
from resilient.integrations.http import FAILURES, IDEMPOTENT, BadStatus, Wire

__all__ = [  # noqa: RUF022  # by their code points
    "BadStatus",
    "FAILURES",
    "IDEMPOTENT",
    "ResilientAdapter",
    "TRANSIENT",
    "Wire",
    "origin",
]

_LIBRARY: Final = RequestsLibrary()
TRANSIENT: Final = _LIBRARY.transient
"""Errors after which another attempt may succeed. Give it to ``on=`` of a retry or breaker."""


def origin(request: requests.PreparedRequest) -> str:
    """Where a request goes, ``scheme://host:port``: give it to ``key=`` of a policy.

    In lower case, and with the port, also where it is the scheme's own.
    """
    return _LIBRARY.origin(request)


@final
class ResilientAdapter(BaseAdapter):
    """An adapter that puts policies around each request, and its deadline on the wire.

    Mount it for both schemes. One adapter serves many sessions and threads. It stands below
    redirects, authentication and cookies: each hop of a redirect is a request of its own. Without a
    word of yours it repeats what may be repeated (three attempts in all, with a budget), and has a
    breaker and at most 50 requests at once for each origin, which is the scheme, the host and the
    port. You get the answer itself, and the errors of requests; what the policies refuse is an
    error of both families, `CircuitOpen` and ``requests.ConnectionError`` in one.

    A breaker or limit counts a request until its body has ended. Without ``stream=True`` requests
    reads it at once. With it, read the body to its end, or close the answer.

    A pickled adapter, as in a pickled session, is one with the same settings: where it is loaded it
    makes its connections and its own policies anew. A policy of yours can't be pickled.

    Args:
        adapter: what sends: an adapter with its own settings. Not given, ``HTTPAdapter()``. Leave
            its ``max_retries`` at 0.
        policy: one policy or pipeline of retry, breaker, limits, throttle, timeout and fallback;
            ``None`` for none. Each is asked with the `requests.PreparedRequest`: write
            ``key=origin``. To a retry or breaker name `TRANSIENT`.
        failures: which statuses are failures: a collection, or a predicate on the status.
        idempotent: what may be repeated though perhaps it was done: method names, or a predicate
            on the request. One with an ``Idempotency-Key`` always may. A body that is not held as
            bytes is sent once.
        max_retry_after: seconds, at least 0; an answer that asks to wait longer is not repeated.
        wire: the names of the headers that are sent and read, ``None`` for none.
        name: what errors, events and metrics call the policies that are made here.

    Attributes:
        policy: what is around each request.

    Raises:
        TypeError, ValueError: an argument is not what it should be.
        Rejected: from a request, also a ``requests.ConnectionError``: a policy did not let it out.
        DeadlineExceeded: from a request, also a ``requests.Timeout``: no time was left.

    Source:
        RFC 9110, 9.2.2 (idempotent methods) and 10.2.3 (Retry-After).
    """

    def __init__(
        self,
        adapter: BaseAdapter | None = None,
        *,
        policy: Policy | Literal[Default.DEFAULT] | None = DEFAULT,
        failures: Statuses = FAILURES,
        idempotent: Methods = IDEMPOTENT,
        max_retry_after: float = 30.0,
        wire: Wire | None = Wire(),  # noqa: B008  # frozen
        name: str | None = None,
    ) -> None:
        super().__init__()
        if adapter is not None and not isinstance(adapter, BaseAdapter):
            refuse_type("adapter", adapter, "an adapter of requests, or None")
        if _repeats(adapter):
            refuse("adapter", adapter, "one with max_retries=0, or attempts multiply")
        given: dict[str, Any] = {
            "policy": policy,
            "failures": failures,
            "idempotent": idempotent,
            "max_retry_after": max_retry_after,
            "wire": wire,
            "name": name,
        }
        settings = check_settings(_LIBRARY, **given)
        stack_sync(settings.policy, _LIBRARY.origin)  # or the error that it needs an async client
        self._client = Client(_LIBRARY, settings)
        self._adapter = HTTPAdapter() if adapter is None else adapter
        self._given, self._closed = (adapter, given), False

    @property
    def policy(self) -> Policy | None:
        """What is around each request."""
        return self._client.policy

    @override
    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed, as its session is: mount another one")
        how = {"stream": stream, "verify": verify, "cert": cert, "proxies": proxies}
        transmit = partial(self._transmit, timeout=timeout, how=how)
        try:
            answer = self._client.send(request, transmit)
        except requests.RequestException as error:
            if error.request is None:  # it is one of ours
                error.request = request
            raise
        answer.connection = self  # where authentication asks again
        return cast("requests.Response", answer)

    def _transmit(self, request: Any, outgoing: Outgoing, *, timeout: Any, how: Any) -> Any:
        """One attempt."""
        adapter, made = self._adapter, attempt_of(request, outgoing)
        whole = isinstance(adapter, HTTPAdapter)
        try:
            limits = limits_of(timeout, outgoing.longest, together=whole)
            answer = adapter.send(made, timeout=limits, **how)
        except Exception as error:
            exchange = current.get()
            if exchange.body_error is not None:
                exchange.body_error = error  # what requests makes of it
            if getattr(error, "request", None) is made:
                error.request = request  # type: ignore[attr-defined]  # it is an error of requests
            raise
        answer.request = request
        return answer

    @override
    def close(self) -> None:
        """Close the adapter inside, as a session does that is closed."""
        self._closed = True
        self._adapter.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._given

    def __repr__(self) -> str:
        given = self._given[0]
        inside = "" if given is None else f"{given!r}, "
        return f"ResilientAdapter({inside}policy={self.policy!r})"


def _rebuild(adapter: BaseAdapter | None, settings: dict[str, Any]) -> ResilientAdapter:
    return ResilientAdapter(adapter, **settings)


def _repeats(adapter: object) -> bool:
    """Whether *adapter* makes more than one attempt."""
    retries = getattr(adapter, "max_retries", 0)
    total = retries.total if isinstance(retries, Retry) else retries
    return total is None or total > 0

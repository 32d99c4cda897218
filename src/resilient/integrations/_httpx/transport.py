"""The transport of both."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from resilient._core.checks import refuse_type
from resilient._policies.common.policy import Policy
from resilient._typing import DEFAULT, Default
from resilient.integrations._client.engine import Client
from resilient.integrations._client.library import Outgoing
from resilient.integrations._client.settings import Methods, Statuses, check_settings
from resilient.integrations._httpx.family import HttpxFamily
from resilient.integrations.http import FAILURES, IDEMPOTENT, Wire

if TYPE_CHECKING:
    from typing import Self


class FamilyTransport:
    """A transport that puts policies around each request, and its deadline on the wire.

    It is one for ``Client`` and ``AsyncClient``, and serves many of them, in tasks and threads. It
    stands below redirects, authentication and cookies: each hop of a redirect is a request of its
    own. Without a word of yours it repeats what may be repeated (three attempts in all, with a
    budget), and has a breaker and at most 50 requests at once for each origin, which is the scheme,
    the host and the port. You get the answer itself, and the library's own errors; what the
    policies refuse is an error of both families, `CircuitOpen` and ``TransportError`` in one.

    A breaker or limit counts a request until its body has ended: read it, or close the answer.

    Args:
        transport: what sends: any transport of the library, with its own settings. Not given,
            ``HTTPTransport()`` or ``AsyncHTTPTransport()``. The client's own ``verify``,
            ``limits``, ``http2``, ``proxy`` and the proxies of the environment are not looked at
            where a transport is given: give them to the one inside. Leave its ``retries`` at 0.
        policy: one policy or pipeline of retry, breaker, limits, throttle, timeout, hedge (async
            clients only) and fallback; ``None`` for none. Each is asked with the request: write
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
        Rejected: from a request, also a ``TransportError``: a policy did not let it out.
        DeadlineExceeded: from a request, also a ``TimeoutException``: no time was left.

    Source:
        RFC 9110, 9.2.2 (idempotent methods) and 10.2.3 (Retry-After).
    """

    _family: ClassVar[HttpxFamily]

    def __init__(
        self,
        transport: Any = None,
        *,
        policy: Policy | Literal[Default.DEFAULT] | None = DEFAULT,
        failures: Statuses = FAILURES,
        idempotent: Methods = IDEMPOTENT,
        max_retry_after: float = 30.0,
        wire: Wire | None = Wire(),  # noqa: B008  # frozen
        name: str | None = None,
    ) -> None:
        family = self._family
        if transport is not None and not isinstance(transport, family.transports):
            refuse_type("transport", transport, f"a transport of {family.name}, or None")
        settings = check_settings(
            family,
            policy=policy,
            failures=failures,
            idempotent=idempotent,
            max_retry_after=max_retry_after,
            wire=wire,
            name=name,
        )
        self._client = Client(family, settings)
        self._given = transport
        self._made: dict[str, Any] = {}
        self._closed = False

    @property
    def policy(self) -> Policy | None:
        """What is around each request."""
        return self._client.policy

    def handle_request(self, request: Any) -> Any:
        self._check_open()
        self._inner("handle_request", "HTTPTransport")  # or the error that there is none
        return self._client.send(request, self._transmit)

    async def handle_async_request(self, request: Any) -> Any:
        self._check_open()
        self._inner("handle_async_request", "AsyncHTTPTransport")  # the same
        return await self._client.send_async(request, self._transmit_async)

    # One attempt.

    def _transmit(self, request: Any, outgoing: Outgoing) -> Any:
        made = self._family.outgoing(request, outgoing)
        answer = self._inner("handle_request", "HTTPTransport").handle_request(made)
        answer.request = request  # for what asks a BadStatus; the client does it, but later
        return answer

    async def _transmit_async(self, request: Any, outgoing: Outgoing) -> Any:
        made = self._family.outgoing(request, outgoing)
        inner = self._inner("handle_async_request", "AsyncHTTPTransport")
        answer = await self._family.ask(inner, made)
        answer.request = request  # the same
        return answer

    # The transport inside.

    def _inner(self, handles: str, usual: str) -> Any:
        """The transport that sends, made when it is first needed."""
        inner = self._given
        if inner is None:
            inner = self._made.get(usual)
            if inner is None:
                inner = self._made.setdefault(usual, getattr(self._family.module, usual)())
        elif not hasattr(inner, handles):
            kind = "async" if "async" in handles else "sync"
            refuse_type("transport", inner, f"one with {handles}, for {kind} clients")
        return inner

    def _inners(self) -> list[Any]:
        """Whatever sends, by now."""
        return list(self._made.values()) if self._given is None else [self._given]

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed: make another one, or let its client close it")

    def close(self) -> None:
        """Close the transport inside, as the client does that has it."""
        self._closed = True
        for inner in self._inners():
            if hasattr(inner, "close"):
                inner.close()

    async def aclose(self) -> None:
        """`close` in async code."""
        self._closed = True
        for inner in self._inners():
            if hasattr(inner, "aclose"):
                await inner.aclose()

    def __enter__(self) -> Self:
        self._closed = False
        self._inner("handle_request", "HTTPTransport").__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._closed = True
        self._inner("handle_request", "HTTPTransport").__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        self._closed = False
        await self._inner("handle_async_request", "AsyncHTTPTransport").__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._closed = True
        await self._inner("handle_async_request", "AsyncHTTPTransport").__aexit__(
            kind, error, trace
        )

    def __repr__(self) -> str:
        inside = "" if self._given is None else f"{self._given!r}, "
        return f"ResilientTransport({inside}policy={self.policy!r})"

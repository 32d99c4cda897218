"""ASGI servers and frameworks (FastAPI, Starlette, Litestar, ...): each request under the limit of
its caller, and the errors of policies as answers.

::

    app.add_middleware(ResilientMiddleware, timeout=1.0)
    app = ResilientMiddleware(app, timeout=1.0)  # the same, for any application

Needs no extra: an ASGI application is a function.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final

from resilient._core.checks import Seconds, refuse_type
from resilient._policies.common.served import Served, served
from resilient._policies.deadline import Deadline, deadline
from resilient.integrations._asgi.inbox import Inbox, Receive
from resilient.integrations._asgi.reply import Reply, Send, start_of
from resilient.integrations._asgi.serving import Serving
from resilient.integrations._asgi.socket import Socket
from resilient.integrations._server.arrival import Headers, arrived, limit_here
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.health import HealthCheck
from resilient.integrations._server.place import opener_async_of
from resilient.integrations._server.settings import (
    Limiter,
    Timeout,
    Trust,
    check_limiter,
    check_settings,
)
from resilient.integrations.http import ServerStats, Wire

__all__ = ["HealthApp", "ResilientMiddleware"]

Scope = Mapping[str, Any]
App = Callable[..., Awaitable[None]]


@final
class ResilientMiddleware:
    """Puts a deadline around each request, and answers for a handler that could not.

    The limit is what the caller says in ``X-Request-Timeout`` (or `Wire`'s name),
    ``Request-Timeout`` or ``x-envoy-expected-rq-timeout-ms``, less a margin for the way back; and
    *timeout*, if that is shorter. Every policy, client and ``remaining()`` in the handler sees it,
    in threads as well. If it passes before the answer has begun, the caller gets a 504. What a
    policy in the handler rejects is a 503 with ``Retry-After``. A caller that leaves cancels the
    handler. When the last part of the answer was sent the limit is lifted, so background tasks run
    without one. WebSockets are under it until they are accepted.

    Args:
        app: the application inside.
        timeout: seconds, above 0, or a function of the scope that gives seconds or ``None``; no
            request takes longer, whatever its caller says.
        limit: a bulkhead, rate limit, adaptive limit or throttle around the handler, asked with the
            scope. What it refuses is answered 503, or 429 by a rate limit, and the handler does not
            run. A place is held until the answer has ended.
        trust: whose headers count: ``True``, ``False``, or a predicate on the scope. Not given,
            those of callers on this machine, on a private network or behind a Unix socket: a
            stranger's tiny limits would open your breakers.
        max_deadline: seconds, above 0: a longer limit of the caller's is cut to it.
        margin: seconds, at least 0, or a tenth of the caller's limit if that is less: the answer
            gets out so long before the caller leaves.
        wire: the names of the headers that are read and sent, ``None`` for none.
        name: what `stats`, and the deadline's errors, call it.
        cancel_on_disconnect: whether a caller that leaves cancels the handler.

    Raises:
        TypeError, ValueError: an argument is not what it should be.
    """

    def __init__(
        self,
        app: App,
        *,
        timeout: Timeout | None = None,
        limit: Limiter | None = None,
        trust: Trust | None = None,
        max_deadline: Seconds = 300.0,
        margin: Seconds = 0.005,
        wire: Wire | None = Wire(),  # noqa: B008  # frozen
        name: str | None = None,
        cancel_on_disconnect: bool = True,
    ) -> None:
        if not callable(app):
            refuse_type("app", app, "an ASGI application")
        self.app = app
        self._settings = check_settings(
            "asgi",
            timeout=timeout,
            trust=trust,
            max_deadline=max_deadline,
            margin=margin,
            wire=wire,
            name=name,
            peer=_peer,
        )
        if not isinstance(cancel_on_disconnect, bool):
            refuse_type("cancel_on_disconnect", cancel_on_disconnect, "True or False")
        self._watches = cancel_on_disconnect
        self._opener = opener_async_of(check_limiter(limit))
        self._counts = Counts()

    def stats(self) -> ServerStats:
        """A snapshot of its totals."""
        return self._counts.stats(self._settings.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as a server asks it to."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        self._counts.add("requests")
        try:
            limit, request = arrived(self._settings, self._counts, scope, _headers)
            token = served.set(request)
            try:
                if scope["type"] == "http":
                    await self._http(scope, limit, request, receive, send)
                else:
                    await self._websocket(scope, limit, receive, send)
            finally:
                served.reset(token)
        finally:
            self._counts.add("ended")

    async def _http(
        self, scope: Scope, limit: float, request: Served, receive: Receive, send: Send
    ) -> None:
        wire, (block, margin) = self._settings.wire, self._limit(scope, limit)
        serving = Serving(scope, self._counts, request, block, margin, self._opener)
        reply = Reply(
            send,
            request,
            None if wire is None else wire.should_retry,
            serving,
            is_head=scope.get("method") == "HEAD",
        )
        inbox = Inbox(receive) if self._watches else None
        await serving.run(self.app, inbox, receive, reply)

    async def _websocket(self, scope: Scope, limit: float, receive: Receive, send: Send) -> None:
        block, _ = self._limit(scope, limit)
        await Socket(scope, self._counts, block, self._opener).run(self.app, receive, send)

    def _limit(self, scope: Scope, limit: float) -> tuple[Deadline, float]:
        """The deadline of a request that may take *limit* seconds, and the margin in it."""
        seconds, margin = limit_here(self._settings, scope, limit)
        return deadline(None if seconds == math.inf else seconds, name=self._settings.name), margin


def _headers(scope: Scope) -> Headers:
    values: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return values


def _peer(scope: Scope) -> str | None:
    """The address of the caller, if it has one."""
    client = scope.get("client")
    return client[0] if client else None


@final
class HealthApp(HealthCheck):
    """An ASGI application that answers what `resilient.health` says: mount it where the health
    check asks.

    200 while it is ``"ok"`` or ``"degraded"``, 503 while it is ``"down"``: a process that serves
    what it can is not restarted.

    Args:
        critical: the names of breakers without which this process is of no use, ``True`` for all.
        details: whether the body tells of each policy, or of the status alone: their names are of
            the inside.

    Raises:
        TypeError: *critical* is no collection of names, or *details* no bool.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope["method"], send)
        else:
            raise ValueError(f"HealthApp answers HTTP alone, and no {scope['type']!r}")

    async def _answer(self, method: str, send: Send) -> None:
        status, headers, body = self._answer_to(method)
        await send(start_of(status, headers))
        await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    """Begin and end with the server, if it is the whole application."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

"""WSGI servers and frameworks (Flask, Django, ...): each request under the limit of its caller, and
the errors of policies as answers.

::

    app.wsgi_app = ResilientMiddleware(app.wsgi_app, timeout=1.0)  # Flask
    application = ResilientMiddleware(get_wsgi_application(), timeout=1.0)  # Django

Needs no extra: a WSGI application is a function.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, final

from resilient._core.checks import Seconds, refuse_type
from resilient._core.deadline import Life
from resilient._policies.deadline import Deadline
from resilient.integrations._server.arrival import Headers, arrived, limit_here
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.health import HealthCheck
from resilient.integrations._server.settings import Timeout, Trust, check_settings
from resilient.integrations._wsgi.reply import Reply, StartResponse
from resilient.integrations._wsgi.serving import App, Serving
from resilient.integrations.http import ServerStats, Wire

__all__ = ["HealthApp", "ResilientMiddleware"]

Environ = dict[str, Any]


@final
class ResilientMiddleware:
    """Puts a deadline around each request, and answers for an application that could not.

    The limit is what the caller says in ``X-Request-Timeout`` (or `Wire`'s name),
    ``Request-Timeout`` or ``x-envoy-expected-rq-timeout-ms``, less a margin for the way back; and
    *timeout*, if that is shorter. Every policy, client and ``remaining()`` in the application sees
    it, while each part of the body is made as well. **Nothing interrupts a thread**: what waits
    without a limit of its own waits on. What a policy rejects is a 503 with ``Retry-After``, and an
    error that comes after the limit is a 504, until the answer has begun: with the first part that
    is not empty, or with ``write()``.

    Frameworks make a 500 of errors before a middleware sees them. Let them pass: in Flask by
    ``PROPAGATE_EXCEPTIONS``, in Django by ``DEBUG_PROPAGATE_EXCEPTIONS``.

    Args:
        app: the application inside.
        timeout: seconds, above 0, or a function of the environ that gives seconds or ``None``; no
            request has more, whatever its caller says.
        trust: whose headers count: ``True``, ``False``, or a predicate on the environ. Not given,
            those of callers on this machine, on a private network or behind a Unix socket: a
            stranger's tiny limits would open your breakers.
        max_deadline: seconds, above 0: a longer limit of the caller's is cut to it.
        margin: seconds, at least 0, or a tenth of the caller's limit if that is less: the answer
            gets out so long before the caller leaves.
        wire: the names of the headers that are read and sent, ``None`` for none.
        name: what `stats`, and the deadline's errors, call it.

    Raises:
        TypeError, ValueError: an argument is not what it should be.

    Source:
        PEP 3333.
    """

    def __init__(
        self,
        app: App,
        *,
        timeout: Timeout | None = None,
        trust: Trust | None = None,
        max_deadline: Seconds = 300.0,
        margin: Seconds = 0.005,
        wire: Wire | None = Wire(),  # noqa: B008  # frozen
        name: str | None = None,
    ) -> None:
        if not callable(app):
            refuse_type("app", app, "a WSGI application")
        self.app = app
        self._settings = check_settings(
            "wsgi",
            timeout=timeout,
            trust=trust,
            max_deadline=max_deadline,
            margin=margin,
            wire=wire,
            name=name,
            peer=_peer,
        )
        self._counts = Counts()

    def stats(self) -> ServerStats:
        """A snapshot of its totals. A request is in flight until the server closes its answer."""
        return self._counts.stats(self._settings.name)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request, as a server asks it to."""
        self._counts.add("requests")
        settings = self._settings
        limit, request = arrived(settings, self._counts, environ, _headers)
        seconds, _margin = limit_here(settings, environ, limit)
        block = Deadline._of_life(Life.READ_ONLY, seconds, settings.name)  # a loop is not ours
        reply = Reply(
            start_response,
            request,
            block,
            None if settings.wire is None else settings.wire.should_retry,
            is_head=environ.get("REQUEST_METHOD") == "HEAD",
        )
        return Serving(self._counts, request, block, reply).run(self.app, environ)


def _headers(environ: Environ) -> Headers:
    """The headers of a request: servers join those that stand twice by a comma."""
    return {
        name.removeprefix("HTTP_").replace("_", "-").lower(): (value,)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }


def _peer(environ: Environ) -> str | None:
    """The address of the caller, if it has one."""
    return environ.get("REMOTE_ADDR")


@final
class HealthApp(HealthCheck):
    """A WSGI application that answers what `resilient.health` says: mount it where the health
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

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        status, headers, body = self._answer_to(environ["REQUEST_METHOD"])
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

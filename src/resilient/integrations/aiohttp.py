"""aiohttp: a client middleware with policies around each request, and the deadline on the wire.

::

    session = aiohttp.ClientSession(middlewares=(ResilientMiddleware(),))

Needs the extra ``aiohttp``.
"""

from __future__ import annotations

from functools import partial
from typing import Final, Literal, final

try:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
except ImportError as error:  # pragma: no cover  # told in a process of its own
    raise ImportError(
        "resilient.integrations.aiohttp needs aiohttp 3.12.7 or newer: "
        "pip install resilient-py[aiohttp]"
    ) from error

from resilient._policies.common.policy import Policy
from resilient._typing import DEFAULT, Default
from resilient.integrations._aiohttp import repetition
from resilient.integrations._aiohttp.library import Aiohttp, transmit
from resilient.integrations._client.engine import Client
from resilient.integrations._client.settings import Methods, Statuses, check_settings
from resilient.integrations.http import FAILURES, IDEMPOTENT, BadStatus, Wire

__all__ = [  # noqa: RUF022  # by their code points
    "BadStatus",
    "FAILURES",
    "IDEMPOTENT",
    "ResilientMiddleware",
    "TRANSIENT",
    "Wire",
    "origin",
]

_LIBRARY: Final = Aiohttp()
TRANSIENT: Final = _LIBRARY.transient
"""Errors after which another attempt may succeed. Give it to ``on=`` of a retry or breaker."""


def origin(request: ClientRequest) -> str:
    """Where a request goes, ``scheme://host:port``: give it to ``key=`` of a policy.

    In lower case, and with the port, also where it is the scheme's own.
    """
    return _LIBRARY.origin(request)


@final
class ResilientMiddleware:
    """A client middleware that puts policies around each request, and its deadline on the wire.

    It serves many sessions, in tasks, threads and event loops. It stands below redirects,
    authentication and cookies: each hop of a redirect is a request of its own. Without a word of
    yours it repeats what may be repeated (three attempts in all, with a budget), and has a breaker
    and at most 50 requests at once for each origin, which is the scheme, the host and the port. You
    get the answer itself, and the library's own errors; what the policies refuse is an error of
    both families, `CircuitOpen` and ``ClientConnectionError`` in one.

    A breaker or limit counts a request until its body has come: read it, or close the answer.

    Args:
        policy: one policy or pipeline of retry, breaker, limits, throttle, timeout, hedge and
            fallback; ``None`` for none. Each is asked with the ``ClientRequest``: write
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
        Rejected: from a request, also a ``ClientConnectionError``: a policy did not let it out.
        DeadlineExceeded: from a request, also a ``ServerTimeoutError``: no time was left.

    Source:
        RFC 9110, 9.2.2 (idempotent methods) and 10.2.3 (Retry-After).
    """

    def __init__(
        self,
        *,
        policy: Policy | Literal[Default.DEFAULT] | None = DEFAULT,
        failures: Statuses = FAILURES,
        idempotent: Methods = IDEMPOTENT,
        max_retry_after: float = 30.0,
        wire: Wire | None = Wire(),  # noqa: B008  # frozen
        name: str | None = None,
    ) -> None:
        settings = check_settings(
            _LIBRARY,
            policy=policy,
            failures=failures,
            idempotent=idempotent,
            max_retry_after=max_retry_after,
            wire=wire,
            name=name,
        )
        self._client = Client(_LIBRARY, settings)

    @property
    def policy(self) -> Policy | None:
        """What is around each request."""
        return self._client.policy

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """The answer to *request*, which *handler* sends. ``ClientSession`` calls it."""
        repetition.forget(request)
        try:
            answer: ClientResponse = await self._client.send_async(
                request, partial(transmit, handler)
            )
        except repetition.REPEATED as error:
            if self._client.repeats():
                repetition.remember(request, error)
            raise
        return answer

    def __repr__(self) -> str:
        return f"ResilientMiddleware(policy={self.policy!r})"

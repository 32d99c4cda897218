"""gRPC, sync and async: policies around each call, and its deadline on the wire; each call of a
server under the limit of its caller; and the health of this process, for who asks by gRPC.

::

    channel = grpc.aio.insecure_channel(target, interceptors=aio_client_interceptors())
    channel = grpc.intercept_channel(channel, *client_interceptors())

Needs the extra ``grpc``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

try:
    import grpc
    import grpc_health  # noqa: F401
    import grpc_status  # noqa: F401
except ImportError as error:
    raise ImportError(
        "resilient.integrations.grpc needs grpcio, grpcio-status and grpcio-health-checking: "
        "pip install resilient-py[grpc]"
    ) from error

from collections.abc import Callable, Collection

from resilient._core.checks import Seconds
from resilient._policies.common.policy import Policy
from resilient._typing import DEFAULT, Default
from resilient.integrations._client.settings import Methods
from resilient.integrations._grpc import aio_client, sync_client
from resilient.integrations._grpc.aio_server import AioServerInterceptor
from resilient.integrations._grpc.family import FAILURES, transient
from resilient.integrations._grpc.health import AioHealthServicer, HealthServicer
from resilient.integrations._grpc.sync_server import ServerInterceptor
from resilient.integrations._server.settings import Limiter, Timeout, Trust
from resilient.integrations.http import BadStatus

__all__ = [  # noqa: RUF022  # by their code points
    "AioHealthServicer",
    "BadStatus",
    "FAILURES",
    "HealthServicer",
    "TRANSIENT",
    "aio_client_interceptors",
    "aio_server_interceptors",
    "client_interceptors",
    "method",
    "server_interceptors",
]

Statuses = Collection[grpc.StatusCode] | Callable[[grpc.StatusCode], object]
TRANSIENT: Final[Callable[[BaseException], bool]] = transient
"""Whether an error is one after which another call may succeed. Give it to ``on=`` of a policy."""


def method(details: Any) -> str:
    """The full name of what is called: give it to ``key=`` of a policy.

    It is ``/package.Service/Method``.
    """
    name = details.method
    return name.decode() if isinstance(name, bytes) else str(name)


def client_interceptors(
    *,
    policy: Policy | Literal[Default.DEFAULT] | None = DEFAULT,
    failures: Statuses = FAILURES,
    idempotent: Methods = (),
    max_retry_after: float = 30.0,
    name: str | None = None,
) -> list[Any]:
    """Put policies around each call of a sync channel, and its deadline on the wire.

    ``grpc.intercept_channel(channel, *client_interceptors())``. Without a word of yours there is a
    breaker and at most 50 calls at once for each method, and up to three attempts for the methods
    in *idempotent*: gRPC does not tell whether a call that failed had been sent. You get the
    library's own errors; what the policies refuse is an error of both families, `CircuitOpen` and
    ``RpcError`` in one. An error that says when to come back has that as its ``retry_after``.

    Only a call with one message there and one back is repeated. A stream is sent once; a breaker or
    limit counts it until its last message, or its status. So is what you call by ``future``, since
    nobody waits for it here.

    Args:
        policy: one policy or pipeline of retry, breaker, limits, throttle, timeout, hedge (async
            channels only) and fallback, which gives the message; ``None`` for none. Each is asked
            with the details of the call: write ``key=method``. To a retry or breaker name
            `TRANSIENT`.
        failures: which statuses are failures: a collection, or a predicate on the status. Any other
            status is an answer, and ``CANCELLED`` says nothing.
        idempotent: what may be repeated: full names of methods, or a predicate on the details. A
            call with an ``idempotency-key`` in its metadata always may.
        max_retry_after: seconds, at least 0; a call that is to wait longer is not repeated.
        name: what errors, events and metrics call the policies that are made here.

    Raises:
        TypeError, ValueError: an argument is not what it should be.
        Rejected: from a call, also a ``grpc.RpcError``: a policy did not let it out.
        DeadlineExceeded: from a call, also a ``grpc.RpcError``: no time was left.

    Source:
        gRPC's proposal A6 (retries), for the pushback of servers.
    """
    return [
        sync_client.Interceptor(
            policy=policy,
            failures=failures,
            idempotent=idempotent,
            max_retry_after=max_retry_after,
            name=name,
        )
    ]


def aio_client_interceptors(
    *,
    policy: Policy | Literal[Default.DEFAULT] | None = DEFAULT,
    failures: Statuses = FAILURES,
    idempotent: Methods = (),
    max_retry_after: float = 30.0,
    name: str | None = None,
) -> list[grpc.aio.ClientInterceptor]:
    """`client_interceptors` for ``grpc.aio``: four, of which a channel takes each for its kind.

    ``grpc.aio.insecure_channel(target, interceptors=aio_client_interceptors())``. Errors are also
    ``grpc.aio.AioRpcError``.
    """
    return aio_client.interceptors(
        policy=policy,
        failures=failures,
        idempotent=idempotent,
        max_retry_after=max_retry_after,
        name=name,
    )


def server_interceptors(
    *,
    timeout: Timeout | None = None,
    limit: Limiter | None = None,
    trust: Trust | None = None,
    max_deadline: Seconds = 300.0,
    margin: Seconds = 0.005,
    name: str | None = None,
) -> list[ServerInterceptor]:
    """Put a deadline around each call of a sync server, and answer for handlers that could not.

    ``grpc.server(pool, interceptors=server_interceptors(timeout=1.0))``. The limit is the caller's,
    less a margin for the way back, and *timeout*, if that is shorter. Every policy, client and
    ``remaining()`` in the handler sees it. What a policy in the handler rejects, and a limit that
    has passed, is answered as a status that says so, and when to come back. The ``stats()`` of the
    first element are the totals.

    Nothing interrupts a thread: a handler that has work of its own asks ``deadline.check``.

    Args:
        timeout: seconds, above 0, or a function of the context that gives seconds or ``None``; no
            call takes longer, whatever its caller says.
        limit: a bulkhead, rate limit, adaptive limit or throttle around the handler, asked with the
            details of the call. What it refuses is ``RESOURCE_EXHAUSTED``, and the handler does not
            run. A place is held until the last message was made.
        trust: whose limits count: ``True``, ``False``, or a predicate on the context. Not given,
            those of callers on this machine, on a private network or behind a Unix socket: a
            stranger's tiny limits would open your breakers.
        max_deadline: seconds, above 0: a longer limit of the caller's is cut to it.
        margin: seconds, at least 0, or a tenth of the caller's limit if that is less. What the wire
            rounds up comes on top: 10 ms from 1 s on, 100 ms from 10 s, 1 s from 100 s.
        name: what ``stats()``, and the deadline's errors, call it.

    Raises:
        TypeError, ValueError: an argument is not what it should be.
    """
    return [
        ServerInterceptor(
            timeout=timeout,
            limit=limit,
            trust=trust,
            max_deadline=max_deadline,
            margin=margin,
            name=name,
        )
    ]


def aio_server_interceptors(
    *,
    timeout: Timeout | None = None,
    limit: Limiter | None = None,
    trust: Trust | None = None,
    max_deadline: Seconds = 300.0,
    margin: Seconds = 0.005,
    name: str | None = None,
) -> list[AioServerInterceptor]:
    """`server_interceptors` for ``grpc.aio``, where the limit cancels the handler.

    ``grpc.aio.server(interceptors=aio_server_interceptors(timeout=1.0))``. Sync handlers run in
    threads, as without it.
    """
    return [
        AioServerInterceptor(
            timeout=timeout,
            limit=limit,
            trust=trust,
            max_deadline=max_deadline,
            margin=margin,
            name=name,
        )
    ]

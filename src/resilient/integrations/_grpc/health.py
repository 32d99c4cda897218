"""The health of this process, for who asks by gRPC (grpc.health.v1)."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import anyio
import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer as _Servicer

from resilient._core.checks import Seconds, check_seconds
from resilient._policies.health import WORST_FIRST, Critical, check_critical, health

SERVING: Final = HealthCheckResponse.SERVING
NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN


class _Asked(_Servicer):
    """What both kinds answer.

    Args:
        critical: the names of breakers without which this process is of no use, ``True`` for all.
        every: seconds, above 0, after which `Watch` looks again.

    Raises:
        TypeError, ValueError: an argument is not what it should be.
    """

    def __init__(self, *, critical: Critical = (), every: Seconds = 1.0) -> None:
        self._critical = check_critical(critical)
        self._every = check_seconds("every", every, above=0)

    def _look(self, service: str) -> Any:
        """The status of a policy, or of the whole for ``""``."""
        found = health(critical=self._critical)
        if not service:
            return _status(found["status"])
        statuses = {one["status"] for one in found["policies"] if one["name"] == service}
        return _status(next((one for one in WORST_FIRST if one in statuses), None))

    def _answer(self, service: str) -> HealthCheckResponse | None:
        status = self._look(service)
        return None if status == UNKNOWN else HealthCheckResponse(status=status)


def _status(status: str | None) -> Any:
    if status is None:
        return UNKNOWN
    return NOT_SERVING if status == "down" else SERVING


class HealthServicer(_Asked):
    """Answers health checks by what `resilient.health` says; each `Watch` holds a thread of the
    server's until its caller leaves.

    ``grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)``. The
    service ``""`` is the whole process, any other name is that of a policy. Each serves unless it
    is down: a process that is degraded is not taken out.
    """

    __doc__ += (_Asked.__doc__ or "").partition("\n")[2]

    def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802  # gRPC's
        """How it is now; ``NOT_FOUND`` for a name that no policy has."""
        return self._answer(request.service) or context.abort(*_not_found(request))

    def Watch(self, request: HealthCheckRequest, context: Any) -> Iterator[HealthCheckResponse]:  # noqa: N802  # gRPC's
        """How it is now, and at each change."""
        gone, last = threading.Event(), None
        if not context.add_callback(gone.set):
            return
        while True:
            if (now := self._look(request.service)) != last:
                yield HealthCheckResponse(status=now)
            last = now
            if gone.wait(self._every):
                return


class AioHealthServicer(_Asked):
    """`HealthServicer` for ``grpc.aio``."""

    __doc__ += "\n" + (_Asked.__doc__ or "").partition("\n")[2]

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802  # gRPC's
        """How it is now; ``NOT_FOUND`` for a name that no policy has."""
        return self._answer(request.service) or await context.abort(*_not_found(request))

    async def Watch(  # noqa: N802  # gRPC's
        self,
        request: HealthCheckRequest,
        context: Any,  # noqa: ARG002  # its end cancels this
    ) -> AsyncIterator[HealthCheckResponse]:
        """How it is now, and at each change."""
        last = None
        while True:
            if (now := self._look(request.service)) != last:
                yield HealthCheckResponse(status=now)
            last = now
            await anyio.sleep(self._every)


def _not_found(request: HealthCheckRequest) -> tuple[grpc.StatusCode, str]:
    return grpc.StatusCode.NOT_FOUND, f"no policy has the name {request.service!r}"

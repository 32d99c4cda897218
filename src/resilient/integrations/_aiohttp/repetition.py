"""aiohttp's own repetition, which goes around the middlewares.

``ClientSession`` begins an idempotent request anew, once, if it raises one of `REPEATED`, since a
connection that was kept may have been closed meanwhile. Where a retry of ours has decided by then,
that would double its attempts: so the second request raises what the first one did. The requests of
one call have one timer, and each is an object of its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from weakref import ReferenceType, ref

from aiohttp import ClientConnectorError, ClientOSError, ClientRequest, ServerDisconnectedError

from resilient._core.http import IDEMPOTENT
from resilient.integrations._client.exchange import current

REPEATED: Final = (ClientOSError, ServerDisconnectedError)


class _Raised(NamedTuple):
    """What the first request of a call has raised."""

    timer: Any
    request: ReferenceType[ClientRequest]
    error: Exception


_raised: ContextVar[_Raised | None] = ContextVar("resilient.aiohttp.raised", default=None)


def forget(request: ClientRequest) -> None:
    """Begin *request*, unless it is a repetition.

    Raises:
        ClientOSError, ServerDisconnectedError: it is one: what was raised for the first.
    """
    if (last := _raised.get()) is None:
        return
    _raised.set(None)
    if last.timer is request._timer and last.request() is not request:
        try:
            raise last.error
        finally:
            del last  # or it would keep itself alive


def remember(request: ClientRequest, error: Exception) -> None:
    """A retry has decided on *request*, and the caller gets *error*."""
    repeated = request.method in IDEMPOTENT and not isinstance(error, ClientConnectorError)
    if repeated and not _is_inside(request):
        _raised.set(_Raised(request._timer, ref(request), error))


def _is_inside(request: ClientRequest) -> bool:
    """Whether it is an attempt of another middleware of ours around this one."""
    outer = current.get(None)
    return outer is not None and getattr(outer.request, "_timer", None) is request._timer

"""What a client asks of gRPC; see `Library`."""

from __future__ import annotations

from typing import Any, Final

import grpc
from grpc import StatusCode

from resilient._core.checks import refuse, refuse_type
from resilient._core.http import Fault, Hint
from resilient.errors import DeadlineExceeded, Rejected
from resilient.integrations._client.exchange import Held
from resilient.integrations._client.met import Met, note
from resilient.integrations._grpc.hints import hint_of
from resilient.integrations._grpc.rpc import Answer, Rpc
from resilient.integrations.http import BadStatus, Wire

FAILURES: Final = frozenset({
    StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED,
    StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.DATA_LOSS,
})  # fmt: skip
"""Statuses that say "not now", or "something broke": another call may get another answer."""
IN_HTTP: Final = {
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.RESOURCE_EXHAUSTED: 503,
}
"""What a server of ours answers to its own caller, see `met_by`."""

CALLERS: Final = (
    "Exception serializing request!", "Exception iterating requests!", "Invalid metadata",
)  # fmt: skip
"""What sync calls say of what could not be sent, under a status of the service's."""


def transient(error: BaseException) -> bool:
    """Whether *error* is one after which another call may succeed."""
    if isinstance(error, (Rejected, DeadlineExceeded)):
        return False
    if isinstance(error, BadStatus):
        return True
    return isinstance(error, grpc.RpcError) and code_of(error) in FAILURES


def code_of(error: Any) -> StatusCode | None:
    """The status that an error of gRPC's says, or the context of a call: interceptors may raise
    errors that say none, and the context of a sync handler on an async server does not.
    """
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def is_own(error: Any) -> bool:
    """Whether *error*, or a call that has ended, says nothing of the service: it was cancelled, or
    could not be sent.
    """
    if isinstance(error, Exception) and not isinstance(error, grpc.RpcError):
        return True
    code = code_of(error)
    return code is StatusCode.CANCELLED or (code is not None and error.details() in CALLERS)


class GrpcFamily:
    """What a client asks of gRPC, see `Library`. *refused* is what its own decisions are, too."""

    leeway = 0.0  # what the library may wait is what it tells the server
    name, transient, answer = "grpc", staticmethod(transient), object

    def __init__(self, refused: type[Exception]) -> None:
        self.rejected = self.timed_out = refused

    def origin(self, request: Rpc) -> str:
        return request.method

    method = origin

    def has_header(self, request: Rpc, name: str) -> bool:
        return any(key == name for key, _ in request.metadata)

    def is_replayable(self, request: Rpc) -> bool:
        return request._is_unary

    def fault(self, error: BaseException) -> Fault:
        if not isinstance(error, Exception) or isinstance(error, TimeoutError):
            return Fault.BROKEN
        return Fault.OWN if is_own(error) else Fault.BROKEN

    def status(self, answer: Answer) -> StatusCode:
        return answer.code

    def hint(self, answer: Answer, _wire: Wire | None) -> Hint:
        return hint_of(answer.error.trailing_metadata())

    def check_status(self, failures: object, status: object) -> None:
        if not isinstance(status, StatusCode):
            refuse_type("failures", failures, "a collection of grpc.StatusCode")

    def check_method(self, idempotent: object, method: str) -> None:
        if not method.startswith("/") or method.count("/") != 2:  # noqa: PLR2004  # as gRPC has it
            refuse("idempotent", idempotent, 'full names, such as {"/shop.Cart/Get"}')

    def hold(self, answer: Answer, held: Held) -> None:
        if answer.is_open:
            answer.held = held
        else:
            held.end()

    def remember(self, error: BadStatus) -> None:
        """The error that the caller gets remembers it."""

    def close(self, answer: Answer) -> None:
        if answer.is_open:
            answer.call.cancel()

    async def close_async(self, answer: Answer) -> None:
        self.close(answer)


def told(error: Any) -> Any:
    """*error*, the library's own, with what its server asks (W42), as the caller gets it."""
    hint, status = hint_of(error.trailing_metadata()), IN_HTTP.get(error.code())
    if hint.retry_after is not None:
        error.retry_after = hint.retry_after
    if status is not None:
        note(error, Met(status, hint.retry_after))
    return error

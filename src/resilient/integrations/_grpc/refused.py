"""What a client decides by itself, as gRPC's own error: `of_both` makes one of each (W13)."""

from __future__ import annotations

from typing import Any, Final

import grpc
from grpc import StatusCode

from resilient.errors import CircuitOpen, DeadlineExceeded

Metadata = tuple[tuple[str, str | bytes], ...]
NOTHING: Final[Metadata] = ()


class _Refused:
    """What both worlds ask of an error: it is as final as an answer."""

    def code(self) -> StatusCode:
        """The status that a server of ours would have answered."""
        if isinstance(self, DeadlineExceeded):
            return StatusCode.DEADLINE_EXCEEDED
        return _code_of_rejected(self)

    def details(self) -> str:
        """The message."""
        return str(self)

    def debug_error_string(self) -> str:
        """Nothing: no call was made."""
        return ""


def _code_of_rejected(error: object) -> StatusCode:
    return StatusCode.UNAVAILABLE if isinstance(error, CircuitOpen) else EXHAUSTED


EXHAUSTED: Final = StatusCode.RESOURCE_EXHAUSTED


class Refused(_Refused, grpc.RpcError, grpc.Future, grpc.Call):
    """Also a call that has ended, as every `grpc.RpcError` is that a sync client raises."""

    __str__, __repr__ = Exception.__str__, Exception.__repr__

    def __init__(self, *_: object) -> None:
        """It has no fields of its own."""

    def initial_metadata(self) -> Metadata:
        return NOTHING

    def trailing_metadata(self) -> Metadata:
        return NOTHING

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:
        return None

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002  # it is there
        raise self

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002  # the same
        return self

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002  # the same
        return self.__traceback__

    def add_callback(self, callback: Any) -> bool:  # noqa: ARG002  # as of a call that has ended
        return False

    def add_done_callback(self, fn: Any) -> None:
        fn(self)


class AioRefused(_Refused, grpc.aio.AioRpcError):
    """For async clients."""

    __str__, __repr__ = Exception.__str__, Exception.__repr__

    def __init__(self, *_: object) -> None:
        """It has no fields of its own."""

    def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()

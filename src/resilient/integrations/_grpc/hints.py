"""What the trailing metadata of a call says of another attempt (W7, W8), read and written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from resilient._core.grpc import PUSHBACK, pushback, pushback_of
from resilient._core.http import Hint

STATUS: Final = "grpc-status-details-bin"
NO_HINT: Final = Hint(None, should_retry=True)
Pairs = Iterable[tuple[str, Any]]


def hint_of(trailing: Pairs | None) -> Hint:
    """What a server asks: by its pushback, else by its ``RetryInfo``."""
    pairs = list(trailing or ())
    if (asked := pushback_of([value for key, value in pairs if key == PUSHBACK])) is not None:
        return asked
    infos = [_retry_info(value) for key, value in pairs if key == STATUS]
    return infos[0] if len(infos) == 1 else NO_HINT


def _retry_info(status: bytes) -> Hint:
    """What the details of a *status* say; anything malformed is as if absent."""
    info = RetryInfo()
    try:
        for detail in Status.FromString(status).details:
            if detail.Unpack(info):
                delay = info.retry_delay
                seconds = delay.seconds + delay.nanos / 1e9
                return Hint(seconds, should_retry=True) if seconds >= 0 else NO_HINT
    except DecodeError:
        pass
    return NO_HINT


def trailing_hint(
    code: StatusCode, details: str, retry_after: float | None
) -> tuple[tuple[str, str | bytes], ...]:
    """What asks a caller to come back after *retry_after* seconds, in both ways (W43)."""
    milliseconds = pushback(retry_after)
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    info = Packed()
    info.Pack(RetryInfo(retry_delay=delay))
    status = Status(code=code.value[0], message=details, details=[info])
    return ((PUSHBACK, str(milliseconds)), (STATUS, status.SerializeToString()))


NO_MORE: Final = ((PUSHBACK, "-1"),)
"""What tells a caller that another attempt is of no use (W25)."""

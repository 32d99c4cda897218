"""What the servers of both kinds know of a call, and what they answer for its handler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from grpc import StatusCode

from resilient._core.checks import Seconds
from resilient._core.grpc import rounded_up
from resilient._core.http import attempt_of, margin_of
from resilient._core.matching import leaves
from resilient._policies.common.served import Served
from resilient._policies.deadline import Deadline, deadline
from resilient.errors import CircuitOpen, Rejected
from resilient.integrations._grpc.family import FAILURES, code_of
from resilient.integrations._grpc.hints import NO_MORE, trailing_hint
from resilient.integrations._grpc.rpc import ATTEMPT, Metadata
from resilient.integrations._server.answers import Answer
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.place import opener_async_of, opener_of
from resilient.integrations._server.settings import (
    Limiter,
    Timeout,
    Trust,
    check_limiter,
    check_settings,
)
from resilient.integrations.http import ServerStats, Wire

FOR_EVER: Final = 1e9
"""Seconds: a sync server says more of a caller without a limit."""
DETAILS: Final = {
    StatusCode.DEADLINE_EXCEEDED: "deadline exceeded",
    StatusCode.UNAVAILABLE: "unavailable",
    StatusCode.RESOURCE_EXHAUSTED: "resource exhausted",
}
"""Nothing of the inside."""


class Refusal(NamedTuple):
    """A status of ours, in place of the handler's."""

    code: StatusCode
    details: str
    trailing: Metadata


class GrpcServer:
    """What stands behind the interceptors of one list."""

    def __init__(
        self,
        *,
        timeout: Timeout | None,
        limit: Limiter | None,
        trust: Trust | None,
        max_deadline: Seconds,
        margin: Seconds,
        name: str | None,
    ) -> None:
        self._settings = check_settings(
            "grpc",
            timeout=timeout,
            trust=trust,
            max_deadline=max_deadline,
            margin=margin,
            wire=Wire(),
            name=name,
            peer=_peer,
        )
        limiter = check_limiter(limit)
        self.opener, self.opener_async = opener_of(limiter), opener_async_of(limiter)
        self.counts = Counts()

    def stats(self) -> ServerStats:
        """A snapshot of its totals."""
        return self.counts.stats(self._settings.name)

    def arrived(self, context: Any) -> tuple[Deadline, Served]:
        """The limit under which a call is served, and what its handler may ask of it."""
        limit, attempt = self._told(context)
        margin = margin_of(limit, self._settings.margin) + rounded_up(limit)
        seconds = min(limit - margin, self._settings.timeout_of(context))
        block = deadline(None if seconds == math.inf else seconds, name=self._settings.name)
        return block, Served(attempt)

    def _told(self, context: Any) -> tuple[float, int]:
        """Seconds that the caller leaves, and the number of its attempt, as far as they count."""
        remaining = context.time_remaining()
        limit = math.inf if remaining is None or remaining > FOR_EVER else remaining
        if not self._settings.trusts(context):
            if limit < math.inf:
                self.counts.add("ignored_headers")
            return math.inf, 1
        numbers = [value for key, value in context.invocation_metadata() or () if key == ATTEMPT]
        return self._settings.at_most(limit), attempt_of(numbers)


def check_in_time(block: Deadline) -> None:
    """Raise, if there was nothing left of the limit when the call came (W20)."""
    if block.expired:
        raise block._exceeded(block.name, started=False)


def refusal_of(error: BaseException, answer: Answer, already: Sequence[Any]) -> Refusal:
    """The status that says *answer*, with the trailing metadata that is *already* there."""
    if answer.status == 504:  # noqa: PLR2004  # a limit that has passed
        code, hint = StatusCode.DEADLINE_EXCEEDED, None
    else:
        code = StatusCode.RESOURCE_EXHAUSTED if _is_busy(error) else StatusCode.UNAVAILABLE
        hint = trailing_hint(code, DETAILS[code], answer.retry_after)
    return Refusal(code, DETAILS[code], (*already, *(hint or ())))


def _is_busy(error: BaseException) -> bool:
    """Whether it is a limit of ours that has refused."""
    if isinstance(error, BaseExceptionGroup):
        error = next(leaves(error))
    return isinstance(error, Rejected) and not isinstance(error, CircuitOpen)


def trailing_of(context: Any) -> tuple[Any, ...]:
    """What the handler has said so far, where its context tells."""
    ask = getattr(context, "trailing_metadata", None)
    return tuple(ask() or ()) if ask is not None else ()


def mark_used_up(context: Any) -> None:
    """Tell the caller that another attempt is of no use (W25)."""
    context.set_trailing_metadata((*trailing_of(context), *NO_MORE))


def has_failed(context: Any) -> bool:
    """Whether the handler has said so itself."""
    return code_of(context) in FAILURES


def has_spoken(context: Any) -> bool:
    """Whether the handler has chosen the status of a failure."""
    return code_of(context) not in {None, 0, StatusCode.OK}


def _peer(context: Any) -> str | None:
    """The address of the caller, if it has one."""
    kind, _, rest = context.peer().partition(":")
    if kind in {"ipv4", "ipv6"}:
        return unquote(rest).rpartition(":")[0].strip("[]")
    return None if kind.startswith("unix") or kind == "inproc" else rest

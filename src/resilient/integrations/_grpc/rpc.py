"""One call of the user's, and what an attempt at it came to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import grpc
from grpc import StatusCode

from resilient.integrations._client.exchange import Held
from resilient.integrations._client.library import Outgoing

ATTEMPT: Final = "x-request-attempt"
ATTEMPTS_BEFORE: Final = "grpc-previous-rpc-attempts"
Metadata = tuple[tuple[str, str | bytes], ...]


class CallDetails(NamedTuple):
    """What a sync call is made with; the library has no such type that one could make."""

    method: str
    timeout: float | None
    metadata: Metadata
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class Rpc(grpc.ClientCallDetails):
    """One call: the details, which policies are asked with, and how an attempt is made.

    Attributes:
        method: the full name, ``/package.Service/Method``.
        timeout, metadata, credentials, wait_for_ready, compression: as the caller gave them.
    """

    __slots__ = (
        "_is_unary", "_message", "_send", "compression", "credentials", "metadata", "method",
        "timeout", "wait_for_ready",
    )  # fmt: skip

    def __init__(
        self, details: Any, message: object, send: Callable[..., Any], *, is_unary: bool
    ) -> None:
        name = details.method
        self.method = name.decode() if isinstance(name, bytes) else name
        self.timeout = details.timeout
        self.metadata = tuple(details.metadata or ())
        self.credentials, self.wait_for_ready = details.credentials, details.wait_for_ready
        self.compression = getattr(details, "compression", None)
        self._message, self._send, self._is_unary = message, send, is_unary

    def attempt(self, outgoing: Outgoing) -> Any:
        """Make one attempt of a sync client's."""
        timeout, metadata = self._carrying(outgoing)
        details = CallDetails(
            self.method, timeout, metadata, self.credentials, self.wait_for_ready, self.compression
        )
        return self._send(details, self._message)

    async def attempt_async(self, outgoing: Outgoing) -> Any:
        """Make one attempt of an async client's: the call, which has begun."""
        timeout, metadata = self._carrying(outgoing)
        details = grpc.aio.ClientCallDetails(
            self.method.encode(), timeout, grpc.aio.Metadata(*metadata),
            self.credentials, self.wait_for_ready,
        )  # fmt: skip
        return await self._send(details, self._message)

    def let_go(self) -> None:
        """There is no other attempt. The library's task for one has a context in which this is, so
        it would keep the call alive, whose task it is.
        """
        del self._send, self._message

    def _carrying(self, outgoing: Outgoing) -> tuple[float | None, Metadata]:
        """The time limit and the metadata of an attempt (W11, W12)."""
        ours = outgoing.headers
        if (number := int(ours[ATTEMPT])) > 1:
            ours[ATTEMPTS_BEFORE] = str(number - 1)
        theirs = (one for one in self.metadata if one[0] not in ours)
        longest = min(outgoing.longest, math.inf if self.timeout is None else self.timeout)
        return None if longest == math.inf else longest, (*theirs, *ours.items())


class Answer:
    """What an attempt came to.

    Attributes:
        call: the library's call.
        error: the library's own error, if it ended by one.
        is_open: whether it is still under way.
        held: what ends when it does.
    """

    __slots__ = ("call", "error", "held", "is_open")

    def __init__(self, call: Any, error: Any = None, *, is_open: bool = False) -> None:
        self.call, self.error, self.is_open = call, error, is_open
        self.held: Held | None = None

    @property
    def code(self) -> StatusCode:
        """Its status, ``OK`` where it is under way."""
        return StatusCode.OK if self.error is None else self.error.code()

"""What a client asks of the library whose requests it sends."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from resilient._core.http import Fault, Hint
from resilient.integrations.http import BadStatus, Wire


class Outgoing(NamedTuple):
    """What an attempt adds to the caller's request."""

    headers: dict[str, str]
    longest: float
    """Seconds that the library may wait for anything, ``inf`` for as long as it was told."""


class Library(Protocol):
    """One library, in the words that all have in common. Requests and answers are its own."""

    name: str
    """The module of the integration, which is also the name of the extra."""
    transient: Any
    """What a retry names: errors of the way, and `BadStatus`."""
    rejected: type[Exception]
    """The library's own error for a call that was not made."""
    timed_out: type[Exception]
    """The library's own error for a limit that has passed."""
    leeway: float
    """Seconds that async code lets the library wait beyond the deadline, so that the deadline,
    which cancels it, comes first: the caller gets `DeadlineExceeded`."""
    answer: Any
    """The type of an answer."""

    def origin(self, request: Any) -> str: ...
    def method(self, request: Any) -> str: ...
    def has_header(self, request: Any, name: str) -> bool: ...
    def is_replayable(self, request: Any) -> bool:
        """Whether the library has the body as bytes, or there is none."""
        ...

    def fault(self, error: BaseException) -> Fault: ...
    def status(self, answer: Any) -> Any: ...
    def hint(self, answer: Any, wire: Wire | None) -> Hint:
        """What *answer*, a failure, says of another attempt."""
        ...

    def remember(self, error: BadStatus) -> None:
        """Let a server of ours know what the answer was that its handler gets (W23)."""

    def check_status(self, failures: object, status: object) -> None:
        """Refuse what is no status in the argument *failures*."""

    def check_method(self, idempotent: object, method: str) -> None:
        """Refuse what is no method in the argument *idempotent*."""

    def hold(self, answer: Any, held: Any) -> None:
        """End *held* when the body of *answer* does; see `Held`."""

    def close(self, answer: Any) -> None:
        """Close an answer that nobody has read."""

    async def close_async(self, answer: Any) -> None:
        """`close` in async code, where there is something to wait for."""
        self.close(answer)

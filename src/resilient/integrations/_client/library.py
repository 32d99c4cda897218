"""What a client asks of the library whose requests it sends."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from resilient._core.http import Fault


class Outgoing(NamedTuple):
    """What an attempt adds to the caller's request."""

    headers: dict[str, str]
    longest: float
    """Seconds that the library may wait for anything, ``inf`` for as long as it was told."""


class Library(Protocol):
    """One library, in the words that all have in common. Requests and answers are its own."""

    name: str
    """The module of the integration, which is also the name of the extra."""
    transient: tuple[type[Exception], ...]
    """What a retry names: errors of the way, and `BadStatus`."""
    rejected: type[Exception]
    """The library's own error for a call that was not made."""
    timed_out: type[Exception]
    """The library's own error for a limit that has passed."""
    answer: type
    """The type of an answer."""

    def origin(self, request: Any) -> str: ...
    def method(self, request: Any) -> str: ...
    def has_header(self, request: Any, name: str) -> bool: ...
    def is_replayable(self, request: Any) -> bool:
        """Whether the library has the body as bytes, or there is none."""
        ...

    def fault(self, error: BaseException) -> Fault: ...
    def status(self, answer: Any) -> int: ...
    def values(self, answer: Any, name: str) -> list[str]:
        """Each value of a header of *answer*."""
        ...

    def in_error(self, answer: Any) -> object:
        """What the library's own error for *answer*, of ``raise_for_status``, has of it."""
        ...

    def hold(self, answer: Any, held: Any) -> None:
        """End *held* when the body of *answer* does; see `Held`."""

    def close(self, answer: Any) -> None:
        """Close an answer that nobody has read."""

    async def close_async(self, answer: Any) -> None:
        """`close` in async code."""

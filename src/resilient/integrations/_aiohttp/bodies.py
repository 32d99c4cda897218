"""Bodies: of the caller's request, and of the answer."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from aiohttp import EMPTY_PAYLOAD, ClientConnectionError, ClientResponse

from resilient.integrations._client.exchange import Exchange, Held


class WatchedBody:
    """The caller's body: what it raises is no fault of the service."""

    def __init__(self, payload: Any, exchange: Exchange) -> None:
        self._payload, self._exchange = payload, exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._payload, name)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        watched = _WatchedWriter(writer)
        try:
            await self._payload.write_with_length(watched, content_length)
        except Exception as error:
            if error is not watched.error:
                self._exchange.body_error = error
            raise


class _WatchedWriter:
    """What a body is written to: what this raises is the way's."""

    error: Exception | None = None

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    async def write(self, chunk: Any) -> None:
        try:
            await self._writer.write(chunk)
        except Exception as error:
            self.error = error
            raise


def hold(answer: ClientResponse, held: Held) -> None:
    """End *held* when the body of *answer* does (W10).

    It has ended when its connection is given back: all has come, or the caller has closed it.
    """
    connection, content = answer.connection, answer.content
    if connection is None or content is EMPTY_PAYLOAD:  # as where a WebSocket begins
        held.end()
        return
    content._timer = _Reading(content._timer, held)  # type: ignore[assignment]  # as one of its own
    connection.add_callback(lambda: _end(held, content.exception()))


def _end(held: Held, error: BaseException | None) -> None:
    """End *held* by what its body ended by; that it was closed is no error."""
    held.end(None if type(error) is ClientConnectionError else error)


class _Reading:
    """What each wait for a part of a body is in, around the limit ``total`` of aiohttp. An error
    that ends it is that of the body; when the connection is given back, it is no longer known.
    """

    __slots__ = ("_held", "_timer")

    def __init__(self, timer: Any, held: Held) -> None:
        self._timer, self._held = timer, held

    def assert_timeout(self) -> None:
        self._ask(self._timer.assert_timeout)

    def __enter__(self) -> None:
        self._ask(self._timer.__enter__)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ask(self._timer.__exit__, kind, error, trace)
        if error is not None:
            _end(self._held, error)

    def _ask(self, step: Callable[..., object], *args: object) -> None:
        try:
            step(*args)
        except TimeoutError as late:
            self._held.end(late)
            raise

"""Bodies: of the caller's request, and of the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import left_here
from resilient.integrations._client.exchange import Exchange, Held, note_deadline
from resilient.integrations._client.families import of_both


class WatchedBody:
    """The caller's body: what it raises is no fault of the service."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except Exception as error:
            self._exchange.body_error = error
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except Exception as error:
            self._exchange.body_error = error
            raise


class HeldBody:
    """The body of an answer: its end is that of the calls that are held (W10)."""

    def __init__(self, stream: Any, held: Held, name: str, timed_out: type[Exception]) -> None:
        self._stream, self._held = stream, held
        self._name, self._timed_out = name, timed_out

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._stream)
        try:
            while True:
                self._check_deadline()
                if (part := next(parts, None)) is None:
                    break
                yield part
        except GeneratorExit:  # as when all was read, `close` ends it
            raise
        except BaseException as error:
            if isinstance(error, self._timed_out):
                note_deadline(error, self._name)
            self._held.end(error)
            raise

    def _check_deadline(self) -> None:
        """Nothing interrupts a thread, but a part that comes too late is not read (W11)."""
        if (limit := deadline_here()) is None or left_here() > 0:
            return
        raise of_both(limit._exceeded(self._name, started=True), self._timed_out)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._held.end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = self._stream.__aiter__()
        try:
            async for part in parts:
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            self._held.end(error)
            raise
        finally:
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._held.end()

"""What a caller sends: read ahead of the handler, so that a departure is seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from anyio import Event

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
DISCONNECT = "http.disconnect"


class Inbox:
    """The messages of one request, whole and in order.

    A part of a body is read when the handler has taken the one before it. Until then a departure is
    not seen: nothing is piled up here.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: deque[Message] = deque()
        self._news = Event()
        self._gone: Message | None = None
        self._error: Exception | None = None
        self._watched = True

    async def watch(self, departed: Callable[[], None]) -> None:
        """Read until the caller leaves, and say so; raises nothing."""
        complete = False
        try:
            while True:
                message = await self._receive()
                if message["type"] == DISCONNECT:
                    self._gone = message
                    departed()
                    return
                self._messages.append(message)
                self._tell()
                if complete:  # it goes on after its end: perhaps for ever, without a wait
                    return
                complete = not message.get("more_body")
                while not complete and self._messages:
                    await self._news.wait()
        except Exception as error:  # noqa: BLE001  # the handler gets it, when it asks
            self._error = error
        finally:
            self._watched = False
            self._tell()

    async def receive(self) -> Message:
        """The next message, for the handler; when the caller has left, that again and again."""
        while not self._messages:
            if self._gone is not None:
                return self._gone
            if self._error is not None:
                raise self._error
            if not self._watched:
                return await self._receive()
            await self._news.wait()
        message = self._messages.popleft()
        self._tell()
        return message

    def _tell(self) -> None:
        """Wake who waits; each of them looks for itself."""
        news, self._news = self._news, Event()
        news.set()

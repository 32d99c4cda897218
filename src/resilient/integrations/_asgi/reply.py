"""What the handler sends: whether its answer has begun, or ended, and what is ours in it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from resilient._policies.common.served import Served
from resilient.integrations._asgi.inbox import Message
from resilient.integrations._server.answers import BUSY, Answer, answer_to

Send = Callable[[Message], Awaitable[None]]
SERVER_ERROR = 500
"""From this status on, and for 429, an answer says whether another attempt is of use."""


class End(Protocol):
    """Who is told of the end of an answer."""

    def ending(self) -> None: ...
    def ended(self) -> None: ...


class Reply:
    """The answer of one request. *prefix* is ``http.response``, or that of a refused WebSocket."""

    def __init__(
        self,
        send: Send,
        request: Served,
        should_retry: str | None,
        end: End,
        *,
        is_head: bool = False,
        prefix: str = "http.response",
    ) -> None:
        self._send, self._request, self._should_retry = send, request, should_retry
        self._is_head, self._prefix, self._end = is_head, prefix, end
        self._trailers = False
        self._outside = sys.exc_info()[1]  # what the one who calls us handles is no matter of ours
        self.begun = self.ended = False
        self.answered: Answer | None = None
        """Ours, in place of the handler's."""

    async def send(self, message: Message) -> None:
        """Send a message of the handler's."""
        if self.answered is not None:
            return  # it is the framework's own answer to the same error
        kind = message["type"].removeprefix(self._prefix)
        if kind == ".start":
            if message["status"] == SERVER_ERROR and (answer := self._instead()) is not None:
                await self.answer(answer)
                return
            self._trailers = bool(message.get("trailers"))
            message = self._marked(message)
            self.begun = True  # what may go before it, such as a hint or a push, is no answer
        if not self._is_last(kind, message):
            await self._send(message)
        else:
            await self._send_last(message)

    async def answer(self, answer: Answer) -> None:
        """Send an answer of ours, and nothing after it."""
        self.answered = answer
        self.begun = True
        headers = answer.headers(is_head=self._is_head)
        start = start_of(answer.status, headers, self._prefix)
        body = {"type": f"{self._prefix}.body", "body": answer.body(is_head=self._is_head)}
        await self._send(start if answer.status in BUSY else self._marked(start))
        await self._send_last(body)

    def _instead(self) -> Answer | None:
        """The answer to the error that a framework handles while it answers 500."""
        error = sys.exc_info()[1]
        return None if error is None or error is self._outside else answer_to(error)

    def _marked(self, message: Message) -> Message:
        """*message*, which begins an answer, with a word on whether to try again (W25)."""
        status = message["status"]
        if self._should_retry is None or not self._request.used_up:
            return message
        if status != 429 and status < SERVER_ERROR:  # noqa: PLR2004  # what a client may repeat
            return message
        name = self._should_retry.lower().encode()
        others = [one for one in message.get("headers", ()) if one[0].lower() != name]
        return {**message, "headers": [*others, (name, b"false")]}  # what stands twice says nothing

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind == ".trailers":
            return not message.get("more_trailers")
        if kind in {".body", ".zerocopysend"}:
            return not message.get("more_body") and not self._trailers
        return kind == ".pathsend" and not self._trailers

    async def _send_last(self, message: Message) -> None:
        self._end.ending()
        await self._send(message)
        self.ended = True
        self._end.ended()


def start_of(status: int, headers: list[tuple[str, str]], prefix: str = "http.response") -> Message:
    """The message that begins an answer."""
    found = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": f"{prefix}.start", "status": status, "headers": found}

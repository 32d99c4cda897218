"""One WebSocket, until it is accepted or closed; what its policies refuse later closes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from resilient._policies.common.served import Served
from resilient._policies.deadline.block import Deadline
from resilient.integrations._asgi.inbox import Message, Receive
from resilient.integrations._asgi.reply import Reply, Send
from resilient.integrations._server.answers import Answer
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.place import OpenerAsync, Place

TRY_AGAIN_LATER: Final = 1013
INTERNAL_ERROR: Final = 1011
DENIAL: Final = "websocket.http.response"


class Socket:
    """The work on one WebSocket (W28)."""

    def __init__(
        self, scope: Any, counts: Counts, limit: Deadline, opener: OpenerAsync | None
    ) -> None:
        self._scope, self._limit, self._opener = scope, limit, opener
        self._place = Place(counts)
        self._accepted = self._closed = False

    async def run(self, app: Callable[..., Awaitable[None]], receive: Receive, send: Send) -> None:
        """Let *app* speak with the caller."""

        async def watched(message: Message) -> None:
            accepts = message["type"] == "websocket.accept"
            closes = message["type"] in {"websocket.close", f"{DENIAL}.start"}
            # First: cut short in sending it, nobody knows whether it has gone out.
            self._accepted, self._closed = self._accepted or accepts, self._closed or closes
            await send(message)
            if accepts or closes:
                self._decided()

        try:
            async with self._limit:
                await self._place.take_async(self._opener, self._scope)
                await app(self._scope, receive, watched)
        except Exception as error:
            answer = self._place.answer_to(error)
            self._place.end(error)
            if answer is None or self._closed:
                raise
            self._place.count(answer)
            await self._refuse(answer, send)
        except BaseException as error:
            self._place.end(error)
            raise
        finally:
            self._place.forget()
        self._place.end()

    def _decided(self) -> None:
        """It is accepted, or closed: nothing waits any more."""
        with suppress(RuntimeError):
            self._limit.reschedule(None)
        self._place.end()

    async def _refuse(self, answer: Answer, send: Send) -> None:
        code = INTERNAL_ERROR if answer.status == 504 else TRY_AGAIN_LATER  # noqa: PLR2004  # a limit
        if self._accepted:
            await send({"type": "websocket.close", "code": code, "reason": ""})
        elif DENIAL in (self._scope.get("extensions") or {}):
            reply = Reply(send, Served(1), None, self, prefix=DENIAL)
            await reply.answer(answer)
        else:
            await send({"type": "websocket.close", "code": code, "reason": ""})

    def ending(self) -> None:
        """A denial is being sent: nothing is left to do."""

    ended = ending

"""One WebSocket, until it is accepted or closed; what its policies refuse later closes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from resilient._policies.common.calls import Call
from resilient._policies.common.served import Served
from resilient._policies.deadline.block import Deadline
from resilient.errors import Rejected
from resilient.integrations._asgi.inbox import Message, Receive
from resilient.integrations._asgi.reply import Reply, Send
from resilient.integrations._server.answers import Answer, answer_to, answer_to_shed
from resilient.integrations._server.counts import Counts

TRY_AGAIN_LATER: Final = 1013
INTERNAL_ERROR: Final = 1011
DENIAL: Final = "websocket.http.response"


class Socket:
    """The work on one WebSocket (W28)."""

    def __init__(
        self, scope: Any, counts: Counts, limit: Deadline, opener: Callable[[Any], Any] | None
    ) -> None:
        self._scope, self._counts, self._limit, self._opener = scope, counts, limit, opener
        self._call: Call | None = None
        self._started = self._accepted = self._closed = False
        self._shed: Rejected | None = None

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
                await self._take_place()
                self._started = True
                await app(self._scope, receive, watched)
        except Exception as error:
            answer = answer_to(error) if self._shed is None else answer_to_shed(self._shed)
            self._end_call(error)
            if answer is None or self._closed:
                raise
            self._count(answer)
            await self._refuse(answer, send)
        except BaseException as error:
            self._end_call(error)
            raise
        finally:
            self._shed = None  # no cycle by its traceback
        self._end_call(None)

    async def _take_place(self) -> None:
        if self._opener is None:
            return
        try:
            self._call = await self._opener(self._scope)
        except Rejected as error:
            self._shed = error
            raise

    def _decided(self) -> None:
        """It is accepted, or closed: nothing waits any more."""
        with suppress(RuntimeError):
            self._limit.reschedule(None)
        self._end_call(None)

    def _end_call(self, error: BaseException | None) -> None:
        if self._call is not None:
            self._call.close(error)

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

    def _count(self, answer: Answer) -> None:
        if self._shed is not None:
            self._counts.add("shed")
        elif answer.status == 504:  # noqa: PLR2004  # a limit that has passed
            self._counts.add("deadline_exceeded" if self._started else "not_started")
        else:
            self._counts.add("rejected")

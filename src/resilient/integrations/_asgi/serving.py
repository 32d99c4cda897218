"""One HTTP request, from its headers to the end of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from anyio import CancelScope, create_task_group

from resilient._policies.common.served import Served
from resilient._policies.deadline.block import Deadline
from resilient.errors import DeadlineExceeded
from resilient.integrations._asgi.inbox import Inbox, Receive
from resilient.integrations._asgi.reply import Reply
from resilient.integrations._server.answers import Answer
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.place import OpenerAsync, Place

App = Callable[[Any, Receive, Any], Awaitable[None]]


class Serving:
    """The work on one request: the handler, under a limit, and in a place if there is a limit of
    places, while somebody watches whether the caller is still there.
    """

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        scope: Any,
        counts: Counts,
        request: Served,
        limit: Deadline,
        margin: float,
        opener: OpenerAsync | None,
    ) -> None:
        self._scope, self._counts, self._request = scope, counts, request
        self._limit, self._margin, self._place = limit, margin, Place(counts)
        self._opener = opener
        self._handler, self._watcher = CancelScope(), CancelScope()
        self._departed = self._ended = self._passed = False

    async def run(self, app: App, inbox: Inbox | None, receive: Receive, reply: Reply) -> None:
        """Let *app* answer; where it can't, answer for it (W23)."""
        error: BaseException | None = None
        try:
            if inbox is None:
                error = await self._work(app, receive, reply)
            else:
                async with create_task_group() as group:
                    group.start_soon(self._watch, inbox)
                    error = await self._work(app, inbox.receive, reply)
                    self._watcher.cancel()
            if self._departed:
                self._counts.add("disconnected")
            if error is not None:
                await self._conclude(error, reply)
            elif reply.answered is not None:  # in place of a framework's answer to its error
                self._place.count(reply.answered)
        finally:
            error = None  # no cycles: under overload there would be one per request
            self._place.forget()

    def ending(self) -> None:
        """The last part of the answer is being sent: servers call that a departure, too."""
        self._ended = True
        self._watcher.cancel()

    def ended(self) -> None:
        """It was sent: what follows is nobody's wait (W27)."""
        try:
            self._limit.reschedule(None)
        except RuntimeError:  # it has passed at this very moment
            self._passed = True
        self._place.end()

    # The handler.

    async def _work(self, app: App, receive: Receive, reply: Reply) -> BaseException | None:
        """Run the handler; what it raises is returned, since a group would wrap it."""
        try:
            async with self._limit:
                with self._handler:
                    await self._place.take_async(self._opener, self._scope)
                    await app(self._scope, receive, reply.send)
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  # see _conclude
            self._place.end(error)
            return error
        except BaseException as error:
            self._place.end(error)
            raise
        if self._handler.cancelled_caught and not reply.ended:
            self._place.ignore()  # it was cut short
        self._place.end()
        return None

    # The caller.

    async def _watch(self, inbox: Inbox) -> None:
        with self._watcher:
            await inbox.watch(self._leave)

    def _leave(self) -> None:
        """The caller has left. If its limit is all but over, that is what it has met (W26)."""
        if self._ended:  # perhaps it is only now that the watcher begins
            return
        self._departed = True
        if self._limit.remaining() <= self._margin:
            with suppress(RuntimeError):
                self._limit.reschedule(0)
        else:
            self._handler.cancel()

    # The end.

    async def _conclude(self, error: BaseException, reply: Reply) -> None:
        """Answer for a handler that has raised *error*, or raise it."""
        if not isinstance(error, Exception):  # the program ends
            raise error
        if reply.ended and reply.answered is None:  # nobody waits for what a background task does
            if self._passed and isinstance(error, DeadlineExceeded):
                return
            raise error
        answer = self._place.answer_to(error)
        if answer is not None:
            self._place.count(answer)
            if reply.answered is not None or self._departed:
                return
        if reply.begun or (answer is None and not self._request.used_up):
            raise error
        await reply.answer(answer or Answer(500))
        if answer is None:
            raise error

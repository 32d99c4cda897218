"""One request, from its headers to the end of its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from resilient._policies.common.served import Served, served
from resilient._policies.deadline.block import Deadline
from resilient.integrations._server.answers import Answer, answer_to
from resilient.integrations._server.counts import Counts
from resilient.integrations._wsgi.reply import Reply

App = Callable[[dict[str, Any], Any], Iterable[bytes]]
_log = logging.getLogger("resilient")


class Serving:
    """The work on one request, and the body of its answer, which the server iterates and closes.

    The application, each part of its body, and its end see the limit and the request in a context
    of their own: the server's thread has neither, between the parts and afterwards.
    """

    def __init__(self, counts: Counts, request: Served, limit: Deadline, reply: Reply) -> None:
        self._counts, self._request = counts, request
        self._limit, self._reply = limit, reply
        self._context = copy_context()
        self._body: Iterable[bytes] | None = None
        self._parts: Iterator[bytes] = iter(())
        self._first = b""
        self._closed = False

    def run(self, app: App, environ: dict[str, Any]) -> Serving:
        """Let *app* begin its answer; where it can't, answer for it (W23)."""
        try:
            self._context.run(self._begin, app, environ)
        except BaseException:
            with suppress(Exception):  # what led here says more
                self.close()
            raise
        return self

    # What the server calls.

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(self._next)

    def close(self) -> None:
        """End the answer, whether it was read to its end or not."""
        if not self._closed:
            self._closed = True
            self._context.run(self._end)

    # In the context.

    def _begin(self, app: App, environ: dict[str, Any]) -> None:
        served.set(self._request)
        try:
            self._limit.__enter__()
            self._reply.started = True
            self._body = app(environ, self._reply.start)
            self._parts = iter(self._body)
            if not self._reply.begun:
                self._first = next(filter(None, self._parts), b"")
                self._reply.begin()
        except Exception as error:  # noqa: BLE001  # it is raised again, unless it is answered
            self._conclude(error)
        else:
            if self._reply.answered is not None:
                self._count(self._reply.answered)
                self._give(self._reply.answered)

    def _next(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return next(self._parts)
        except Exception as error:
            answer = None if isinstance(error, StopIteration) else self._reply.answer_to(error)
            if answer is not None and self._reply.answered is None:
                self._count(answer)
            raise

    def _end(self) -> None:
        try:
            if self._reply.started:
                self._limit.__exit__(None, None, None)
            self._close_body()
        finally:
            self._parts = iter(())  # which may know the reply, and so itself
            self._counts.add("ended")

    def _close_body(self) -> None:
        close, self._body = getattr(self._body, "close", None), None
        if close is not None:
            close()

    # For an application that has failed.

    def _conclude(self, error: Exception) -> None:
        """Answer for an application that has raised *error*, or raise it."""
        answer = self._reply.answer_to(error)
        if answer is not None:
            self._count(answer)
        if self._reply.answered is None:
            if self._reply.begun or (answer is None and not self._request.used_up):
                raise error
            self._reply.answer(answer or Answer(500))
        assert self._reply.answered is not None
        self._give(self._reply.answered)
        if answer is None:
            self._parts = _raising(error)  # after the answer, to the server
        elif answer_to(error) is None:
            text = "%s: answered by 504, since the limit of %g s had passed when this was raised"
            _log.error(text, self._limit.name, self._limit.seconds, exc_info=error)

    def _count(self, answer: Answer) -> None:
        self._counts.add_answer(answer.status, started=self._reply.started)

    def _give(self, answer: Answer) -> None:
        """Let the body be that of *answer*."""
        self._first, self._parts = answer.body(is_head=self._reply.is_head), iter(())
        with suppress(Exception):  # of a body that nobody reads
            self._close_body()


def _raising(error: Exception) -> Iterator[bytes]:
    """No parts, but an error."""
    try:
        raise error
    finally:
        del error  # no cycles
    yield b""

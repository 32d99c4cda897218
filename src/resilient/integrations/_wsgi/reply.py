"""What the application answers with: held back until its answer begins, and what is ours in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from resilient._policies.common.served import Served
from resilient._policies.deadline.block import Deadline
from resilient.integrations._server.answers import BUSY, Answer, answer_to

Write = Callable[[bytes], object]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Write]
SERVER_ERROR = 500
"""From this status on, and for 429, an answer says whether another attempt is of use."""


class Reply:
    """The answer of one request. It begins with the first part that is not empty, or with `write`:
    until then, what the application says of it can be taken back.
    """

    def __init__(
        self,
        start_response: StartResponse,
        request: Served,
        limit: Deadline,
        should_retry: str | None,
        *,
        is_head: bool,
    ) -> None:
        self._start_response, self._request, self._limit = start_response, request, limit
        self._should_retry, self.is_head = should_retry, is_head
        self._told: tuple[str, Headers] | None = None
        self._error: BaseException | None = None
        self._outside = sys.exc_info()[1]  # what the one who calls us handles is no matter of ours
        self._write: Write | None = None
        self.begun = False
        self.answered: Answer | None = None
        """Ours, in place of the application's."""
        self.started = False
        """Whether the application was asked: there was time for it."""

    # What the application calls.

    def start(self, status: str, headers: Headers, exc_info: Any = None, /) -> Write:
        """Take the head of an answer, or another one in its place if there is an error."""
        try:
            if self._told is not None and exc_info is None:
                raise AssertionError("start_response() was called before, and there is no exc_info")
            if self._write is not None:  # it is up to the server, which knows what it has sent
                self._write = self._start_response(status, self._marked(status, headers), exc_info)
                return self.write
            if not self.begun:
                self._told = status, headers
                error = sys.exc_info()[1] if exc_info is None else exc_info[1]
                self._error = None if error is self._outside else error
            return self.write
        finally:
            exc_info = error = None  # no cycles

    def write(self, part: bytes) -> None:
        """Send a part, as old applications do; from here on the answer has begun."""
        if not self.begun:
            self.begin()
        if self._write is not None:  # and not ours
            self._write(part)

    # What we do.

    def begin(self) -> None:
        """Give the head to the server, or our own in its place."""
        if self._told is None:
            raise AssertionError("the application answers, but has not called start_response()")
        self.begun, (status, headers) = True, self._told
        if (answer := self._instead(status)) is None:
            self._write = self._start_response(status, self._marked(status, headers))
        else:
            self.answer(answer)

    def answer(self, answer: Answer) -> None:
        """Begin an answer of ours."""
        self.begun, self.answered, self._error = True, answer, None
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        headers = answer.headers(is_head=self.is_head)
        self._start_response(
            status, headers if answer.status in BUSY else self._marked(status, headers)
        )

    def answer_to(self, error: BaseException | None) -> Answer | None:
        """The answer to *error*: after the limit it is 504, whatever came of it (W30)."""
        if self._is_late():
            return Answer(504)
        return None if error is None else answer_to(error)

    def _is_late(self) -> bool:
        return self.started and self._limit.expired

    def _instead(self, status: str) -> Answer | None:
        """The answer to the error of which a framework has made its 500."""
        error, self._error = self._error, None
        return self.answer_to(error) if _code(status) == SERVER_ERROR else None

    def _marked(self, status: str, headers: Headers) -> Headers:
        """*headers*, with a word on whether to try again (W25)."""
        code, name = _code(status), self._should_retry
        if name is None or not self._request.used_up:
            return headers
        if code != 429 and code < SERVER_ERROR:  # noqa: PLR2004  # what a client may repeat
            return headers
        others = [one for one in headers if one[0].lower() != name.lower()]
        return [*others, (name, "false")]  # what stands twice says nothing


def _code(status: str) -> int:
    """The number of a status; 0 where the server will complain of it."""
    return int(status[:3]) if status[:3].isdecimal() else 0

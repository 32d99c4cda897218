"""The place of a request or WebSocket in the server's own limit, and how what it met is counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from resilient._policies.common.calls import Call
from resilient.errors import Rejected
from resilient.integrations._server.answers import Answer, answer_to, answer_to_shed
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.settings import Limiter

Opener = Callable[[Any], Call]
OpenerAsync = Callable[[Any], Awaitable[Call]]


def opener_of(limiter: Limiter | None) -> Opener | None:
    """How a place of *limiter* is taken, if there is one."""
    return None if limiter is None else limiter._opener(_handler)


def opener_async_of(limiter: Limiter | None) -> OpenerAsync | None:
    """`opener_of` in async code."""
    return None if limiter is None else limiter._opener_async(_handler_async)


def _handler(_scope: Any) -> None:
    """Stands for the handler where a limit asks what it is around."""


async def _handler_async(_scope: Any) -> None:
    """The same, for an async one."""


class Place:
    """Held from `take` to `end`; without a limit, nothing is."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._call: Call | None = None
        self._shed: Rejected | None = None
        self._started = False

    # Twins.

    def take(self, opener: Opener | None, scope: Any) -> None:
        """Wait for a place, if need be; from then on the handler runs.

        Raises:
            Rejected: there is none.
        """
        if opener is not None:
            try:
                self._call = opener(scope)
            except Rejected as error:
                self._shed = error
                raise
        self._started = True

    async def take_async(self, opener: OpenerAsync | None, scope: Any) -> None:
        """`take` in async code."""
        if opener is not None:
            try:
                self._call = await opener(scope)
            except Rejected as error:
                self._shed = error
                raise
        self._started = True

    # Both.

    def ignore(self) -> None:
        """What the handler did says nothing (B9)."""
        if self._call is not None:
            self._call.ignore()

    def end(self, error: BaseException | None = None) -> None:
        """Give the place back; only the first time counts."""
        if self._call is not None:
            self._call.close(error)

    def answer_to(self, error: BaseException) -> Answer | None:
        """The answer to what was raised: by the limit itself, or by the handler."""
        return answer_to(error) if self._shed is None else answer_to_shed(self._shed)

    def count(self, answer: Answer) -> None:
        """Count what is answered so."""
        if self._shed is not None:
            self._counts.add("shed")
        else:
            self._counts.add_answer(answer.status, started=self._started)

    def forget(self) -> None:
        """Let go of the rejection: by its traceback it would keep itself alive."""
        self._shed = None

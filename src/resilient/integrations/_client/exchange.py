"""One request of a caller's, from its first attempt until the body of its answer has ended.

The policies see attempts one by one, and the caller sees one answer. Between them stands the
exchange: it numbers the attempts, knows which of their errors may be repeated, has the answers that
are still open, and the calls of breakers and limits that must stay open with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from resilient._core.chaining import add_note
from resilient._core.http import LEAST, Fault, forbids_retry, limit_text, repeatable, retry_after_of
from resilient._policies.common.calls import Call
from resilient._policies.common.served import served
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import left_here
from resilient._policies.retry.deciding import is_final
from resilient._runtime import clock
from resilient.errors import DeadlineExceeded
from resilient.integrations._client.library import Library, Outgoing
from resilient.integrations._client.settings import Settings
from resilient.integrations.http import BadStatus, said

Transmit = Callable[[Any, Outgoing], Any]
LEEWAY = 0.1
"""Seconds that async code lets the library wait beyond the deadline, so that the deadline, which
cancels it, comes first: the caller gets `DeadlineExceeded`."""


class Held:
    """The calls of breakers and limits that stay open until the body of an answer ends (W10).

    If the answer is lost, so is this, and each call gives its place back when it is collected.
    """

    __slots__ = ("_calls",)

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls  # innermost first

    def end(self, error: BaseException | None = None) -> None:
        """The body was read, or closed, or broke by *error*. Only the first time counts."""
        while True:
            try:
                call = self._calls.pop(0)
            except IndexError:  # perhaps another thread has closed the answer, to end its reading
                return
            call.close(error)


class Attempt:
    """An answer that is open, and the calls that it is the answer to."""

    __slots__ = ("answer", "branch", "calls")

    def __init__(self, answer: Any) -> None:
        self.answer, self.branch = answer, branch.get()
        self.calls: list[Call] = []


class Exchange:
    """One request of a caller's."""

    __slots__ = (
        "_dropped", "_idempotent", "_number", "_settings", "attempts", "began", "body_error",
        "is_replayable", "library", "request", "transmit",
    )  # fmt: skip

    def __init__(
        self, library: Library, settings: Settings, request: Any, transmit: Transmit
    ) -> None:
        self.library, self._settings = library, settings
        self.request, self.transmit = request, transmit
        self._number, self.began = 0, clock.now()
        self._idempotent = said.get().idempotent
        self.is_replayable = library.is_replayable(request)
        self.attempts: list[Attempt] = []
        self._dropped: list[Any] = []
        self.body_error: Exception | None = None
        """What the caller's own body raised, until the exchange is over."""

    # Attempts.

    def begin_attempt(self, leeway: float) -> Outgoing:
        """What the next attempt carries (W11, W12).

        Raises:
            DeadlineExceeded: with ``started`` false: nothing is left.
        """
        left = left_here()
        if left < LEAST:
            limit = deadline_here()
            assert limit is not None
            raise limit._exceeded(self._settings.name, started=False)
        self._number += 1
        headers: dict[str, str] = {}
        if (wire := self._settings.wire) is not None:
            if wire.timeout is not None and left < math.inf:
                headers[wire.timeout] = limit_text(left, wire.unit)
            if wire.attempt is not None:
                headers[wire.attempt] = str(self._number)
        return Outgoing(headers, left + leeway)

    def answered(self, answer: Any) -> Any:
        """An attempt has got *answer*: return it, or raise the `BadStatus` that it is."""
        self.attempts.append(Attempt(answer))
        status = self.library.status(answer)
        if self._settings.is_failure(status):
            raise self._bad_status(status, answer)
        return answer

    def _bad_status(self, status: int, answer: Any) -> BadStatus:
        values, wire = self.library.values, self._settings.wire
        after = retry_after_of(
            values(answer, "retry-after"), values(answer, "retry-after-ms"),
            values(answer, "date"), clock.wall(),
        )  # fmt: skip
        name = None if wire is None else wire.should_retry
        forbidden = name is not None and forbids_retry(values(answer, name))
        if forbidden and (request := served.get()) is not None:
            request.used_up = True
        return BadStatus(status, after, not forbidden, answer)

    # Whether there may be another one.

    @property
    def is_idempotent(self) -> bool:
        """Whether several such requests do what one does (W5): asked when it matters."""
        if self._idempotent is None:
            self._idempotent = self.library.has_header(
                self.request, "idempotency-key"
            ) or self._settings.is_idempotent(self.request)
        return self._idempotent

    def fault(self, error: BaseException) -> Fault:
        """What *error* says of what was sent."""
        if error is self.body_error:
            return Fault.OWN
        return Fault.BROKEN if isinstance(error, BadStatus) else self.library.fault(error)

    def may_repeat(self, error: BaseException | None) -> bool:
        """Whether another attempt may follow one that raised *error*, or returned an unwanted
        answer (W4 to W8).
        """
        if is_final(error):  # no attempt was made
            return self.is_replayable
        if isinstance(error, BadStatus) and not self._may_ask_again(error):
            return False
        fault = Fault.BROKEN if error is None else self.fault(error)
        idempotent = fault is Fault.BROKEN and self.is_idempotent
        return repeatable(fault, idempotent=idempotent, replayable=self.is_replayable)

    def _may_ask_again(self, error: BadStatus) -> bool:
        most = self._settings.max_retry_after
        return error.should_retry and (error.retry_after is None or error.retry_after <= most)

    def may_hedge(self) -> bool:
        """Whether attempts may run beside each other."""
        return self.is_replayable and self.is_idempotent

    # Breakers and limits.

    def end(self, call: Call, error: BaseException) -> None:
        """An attempt has failed in *call*."""
        if self.fault(error) is Fault.OWN:
            call.ignore()
        call.close(error)

    def keep(self, call: Call, answer: Any) -> None:
        """Let *call* stay open with *answer*; what is no answer to an attempt of ours has ended."""
        attempt = self.attempt_of(answer)
        if attempt is None:
            call.close()
        else:
            attempt.calls.append(call)

    # The end.

    def attempt_of(self, answer: Any) -> Attempt | None:
        """The attempt whose answer this is."""
        return next((one for one in self.attempts if one.answer is answer), None)

    def drop(self) -> list[Any]:
        """The answers that are not wanted any more, because another attempt follows: close them.
        What runs beside it, in other branches, keeps its own.
        """
        here = branch.get()
        unwanted = [one for one in self.attempts if one.branch[: len(here)] == here]
        for attempt in unwanted:
            self.attempts.remove(attempt)
            self._dropped.append(attempt.answer)
            Held(attempt.calls).end()
        return [attempt.answer for attempt in unwanted]

    def is_dropped(self, answer: Any) -> bool:
        """Whether it is closed, since another attempt was to follow, for which no time was left.

        A transport that makes its answers may give the same one again: then it has come anew.
        """
        dropped = any(one is answer for one in self._dropped)
        return dropped and self.attempt_of(answer) is None

    def others(self, answer: Any) -> Iterator[Any]:
        """Each open answer but *answer*, which the caller gets: close it."""
        while self.attempts:
            attempt = self.attempts.pop()
            if attempt.answer is answer:
                self.library.hold(answer, Held(attempt.calls))
            else:
                Held(attempt.calls).end()
                yield attempt.answer

    # Twins. That an answer breaks as it is closed is no matter of the call: nobody wants it.

    def close(self, answer: Any) -> None:
        """Close an answer that the caller does not get."""
        with suppress(Exception):
            self.library.close(answer)

    async def close_async(self, answer: Any) -> None:
        """Close an answer that the caller does not get."""
        with suppress(Exception):
            await self.library.close_async(answer)


current: ContextVar[Exchange] = ContextVar("resilient.http.exchange")
branch: ContextVar[tuple[object, ...]] = ContextVar("resilient.http.branch", default=())
"""The attempts of hedges that this is in, outermost first."""


def note_deadline(error: BaseException, name: str) -> None:
    """Say in a time-out of the library which deadline it was, if it was one."""
    if isinstance(error, DeadlineExceeded):  # which says so itself
        return
    if (limit := deadline_here()) is not None and left_here() <= 0:
        text = str(limit._exceeded(name, started=True))
        add_note(error, text, text)


async def close_each(exchange: Exchange, answers: list[Any]) -> None:
    """Close answers that the caller does not get, the rest also if one is interrupted."""
    if answers:
        try:
            await exchange.close_async(answers.pop())
        finally:
            await close_each(exchange, answers)

"""A client's way from a request to its answer, sync and async."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from resilient._core.http import LEAST
from resilient._policies.common.policy import Policy
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import left_here
from resilient._policies.retry import Retry
from resilient._runtime import clock
from resilient.errors import DeadlineExceeded, Rejected
from resilient.integrations._client.exchange import (
    Exchange,
    Transmit,
    close_each,
    current,
    note_deadline,
)
from resilient.integrations._client.families import of_both
from resilient.integrations._client.library import Library
from resilient.integrations._client.settings import Settings
from resilient.integrations._client.stack import Async, Sync, members, stack_async, stack_sync
from resilient.integrations.http import KEEP, BadStatus, said

T = TypeVar("T")
MOST: Final = 64
"""Policies whose stacks are kept: `options` may name more of them than there should be."""


class Client:
    """What stands behind one transport, middleware, adapter or interceptor."""

    def __init__(self, library: Library, settings: Settings) -> None:
        list(members(settings.policy))  # refuses what can't stand around a request
        self._library, self._settings = library, settings
        self._sync: dict[Policy | None, Sync] = {}
        self._async: dict[Policy | None, Async] = {}

    @property
    def policy(self) -> Policy | None:
        """What is around each request."""
        return self._settings.policy

    def repeats(self) -> bool:
        """Whether a retry decides on this call."""
        return any(isinstance(member, Retry) for member in members(self._policy()))

    # Twins. *transmit* makes one attempt.

    def send(self, request: Any, transmit: Transmit) -> Any:
        """The answer to *request*, unread."""
        exchange = self._begin(request, transmit)
        token, answer = current.set(exchange), None
        try:
            try:
                return (answer := self._checked(exchange, self._stack()(request)))
            except BadStatus as error:
                answer = error.response
                return self._own(exchange, error)
            except (Rejected, DeadlineExceeded) as error:
                refused = error
            raise self._of_both(refused)
        finally:
            refused = None  # type: ignore[assignment]  # or it would keep itself alive
            exchange.body_error = None  # the same
            current.reset(token)
            for other in exchange.others(answer):
                exchange.close(other)

    async def send_async(self, request: Any, transmit: Transmit) -> Any:
        """The answer to *request*, unread; *transmit* is awaited."""
        exchange = self._begin(request, transmit)
        token, answer = current.set(exchange), None
        try:
            try:
                return (answer := self._checked(exchange, await self._stack_async()(request)))
            except BadStatus as error:
                answer = error.response
                return self._own(exchange, error)
            except (Rejected, DeadlineExceeded) as error:
                refused = error
            raise self._of_both(refused)
        finally:
            refused = None  # type: ignore[assignment]  # or it would keep itself alive
            exchange.body_error = None  # the same
            current.reset(token)
            if others := list(exchange.others(answer)):
                await _close(exchange, others, answer)

    def _attempt(self, request: Any) -> Any:
        exchange = current.get()
        outgoing = exchange.begin_attempt(0.0)
        try:
            answer = exchange.transmit(request, outgoing)
        except self._library.timed_out as error:
            note_deadline(error, self._settings.name)
            raise
        return exchange.answered(answer)

    async def _attempt_async(self, request: Any) -> Any:
        exchange = current.get()
        outgoing = exchange.begin_attempt(self._library.leeway)
        return exchange.answered(await exchange.transmit(request, outgoing))

    # What both ask.

    def _begin(self, request: Any, transmit: Transmit) -> Exchange:
        """Begin an exchange, before any policy is asked, if there is time for it (W11)."""
        if (limit := deadline_here()) is not None and left_here() < LEAST:
            raise self._of_both(limit._exceeded(self._settings.name, started=False))
        return Exchange(self._library, self._settings, request, transmit)

    def _policy(self) -> Policy | None:
        """The policy of this call: the client's, or what `options` says."""
        chosen = said.get().policy
        return self._settings.policy if chosen is KEEP else chosen

    def _stack(self) -> Sync:
        policy = self._policy()
        stack = self._sync.get(policy)
        return stack or _keep(self._sync, policy, stack_sync(policy, self._attempt))

    def _stack_async(self) -> Async:
        policy = self._policy()
        stack = self._async.get(policy)
        return stack or _keep(self._async, policy, stack_async(policy, self._attempt_async))

    def _checked(self, exchange: Exchange, answer: Any) -> Any:
        """*answer*, if the caller can have it."""
        if not isinstance(answer, self._library.answer):
            raise TypeError(
                f"a fallback in policy must give a {self._library.answer.__module__}."
                f"{self._library.answer.__qualname__}, not {answer!r}"
            )
        if exchange.is_dropped(answer):
            raise self._over_while_waiting(exchange)
        return answer

    def _own(self, exchange: Exchange, error: BadStatus) -> Any:
        """The answer that *error* stands for, which the caller gets as without us (W3)."""
        if exchange.is_dropped(error.response):
            raise self._over_while_waiting(exchange) from error
        if exchange.attempt_of(error.response) is None:
            raise error
        self._library.remember(error)
        return error.response

    def _over_while_waiting(self, exchange: Exchange) -> Exception:
        """The limit came while a retry waited, and the answer before it is closed."""
        name, limit = self._settings.name, deadline_here()
        if limit is not None and left_here() <= 0:
            return self._of_both(limit._exceeded(name, started=False))
        elapsed = clock.now() - exchange.began  # it was ``within`` of the retry
        return self._of_both(DeadlineExceeded(name, elapsed, elapsed, started=False))

    def _of_both(self, error: Rejected | DeadlineExceeded) -> Exception:
        """*error* as the library's own as well (W13)."""
        mine = self._library.rejected if isinstance(error, Rejected) else self._library.timed_out
        return of_both(error, mine)


async def _close(exchange: Exchange, others: list[Any], answer: Any) -> None:
    """Close the *others*. If asyncio cancels the caller meanwhile, it does not get *answer*."""
    from anyio import CancelScope  # noqa: PLC0415  # most calls have one answer

    with CancelScope(shield=True):
        try:
            await close_each(exchange, others)
        except BaseException:
            if answer is not None:
                await exchange.close_async(answer)
            raise


def _keep(stacks: dict[Policy | None, T], policy: Policy | None, stack: T) -> T:
    """Keep the *stack* of a policy for its next request."""
    if len(stacks) >= MOST:
        stacks.clear()
    stacks[policy] = stack
    return stack

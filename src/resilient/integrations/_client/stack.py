"""The policies of a client around its attempts: each as it wraps a function, but that breakers and
limits stay open with the answer, and that retries and hedges ask the exchange.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from resilient._policies.cache import Cache
from resilient._policies.common.admission import AdmissionPolicy
from resilient._policies.common.policy import Policy
from resilient._policies.fallback import Fallback
from resilient._policies.hedge import Hedge
from resilient._policies.pipeline import Pipeline
from resilient._policies.retry import Retry
from resilient._policies.singleflight import SingleFlight
from resilient._policies.timeout import Timeout
from resilient._runtime.keying import Key
from resilient.integrations._client.exchange import branch, close_each, current

Sync = Callable[[Any], Any]
Async = Callable[[Any], Awaitable[Any]]
Member = AdmissionPolicy[Any] | Retry | Hedge | Fallback[Any] | Timeout


def members(policy: Policy | None) -> Iterator[Member]:
    """The policies of *policy*, outermost first.

    Raises:
        TypeError: one can't stand around a request.
    """
    if policy is None:
        return
    if isinstance(policy, Pipeline):
        for inner in policy.policies:
            yield from members(inner)  # type: ignore[arg-type]  # what a pipeline takes is a Policy
    elif isinstance(policy, AdmissionPolicy | Retry | Hedge | Fallback | Timeout):
        if isinstance(key := _key_of(policy), str):
            raise TypeError(
                f"policy must not have {policy!r} in it: its key must be a function of the "
                f"request, such as origin, not {key!r}"
            )
        yield policy
    else:
        why = ": its answer is used once" if isinstance(policy, Cache | SingleFlight) else ""
        raise TypeError(f"policy must not have {policy!r} in it{why}")


def _key_of(policy: Member) -> Key | None:
    if isinstance(policy, AdmissionPolicy):
        return policy._states._key
    return policy._settings.key if isinstance(policy, Retry) else None


def stack_sync(policy: Policy | None, send: Sync) -> Sync:
    """*send* under *policy*.

    Raises:
        TypeError: there is a hedge in it.
    """
    for member in reversed(list(members(policy))):
        if isinstance(member, AdmissionPolicy):
            send = _hold_sync(member, send)
        elif isinstance(member, Retry):
            send = member._repeating(send, REPEATS)
        elif isinstance(member, Hedge):
            raise TypeError(
                f"policy must not have {member!r} in it for a sync client: "
                "a hedge runs attempts beside each other, which needs an async client"
            )
        else:
            send = member._wrap_sync(send)
    return send


def stack_async(policy: Policy | None, send: Async) -> Async:
    """*send* under *policy*."""
    for member in reversed(list(members(policy))):
        if isinstance(member, AdmissionPolicy):
            send = _hold_async(member, send)
        elif isinstance(member, Retry):
            send = member._repeating_async(send, REPEATS)
        elif isinstance(member, Hedge):
            send = _hedge(member, send)
        else:
            send = member._wrap_async(send)
    return send


# Breakers and limits: open until the body of the answer ends (W10).


def _hold_sync(policy: AdmissionPolicy[Any], send: Sync) -> Sync:
    open_call = policy._opener(send)

    def holding(request: Any) -> Any:
        exchange, call = current.get(), open_call(request)
        try:
            answer = send(request)
        except BaseException as error:
            exchange.end(call, error)
            raise
        if policy._is_unwanted(answer):
            call.fail()
        exchange.keep(call, answer)
        return answer

    return holding


def _hold_async(policy: AdmissionPolicy[Any], send: Async) -> Async:
    open_call = policy._opener_async(send)

    async def holding(request: Any) -> Any:
        exchange, call = current.get(), await open_call(request)
        try:
            answer = await send(request)
        except BaseException as error:
            exchange.end(call, error)
            raise
        if policy._is_unwanted(answer):
            call.fail()
        exchange.keep(call, answer)
        return answer

    return holding


# Retries and hedges: of what may be repeated, and no answer is left open behind them.


class _Repeats:
    """What a retry or hedge asks of the exchange that it is in."""

    def may_repeat(self, error: BaseException | None) -> bool:
        return current.get().may_repeat(error)

    def drop(self) -> None:
        exchange = current.get()
        for answer in exchange.drop():
            exchange.close(answer)

    async def drop_async(self) -> None:
        exchange = current.get()
        await close_each(exchange, exchange.drop())


REPEATS = _Repeats()


def _hedge(policy: Hedge, send: Async) -> Async:
    async def attempt(request: Any) -> Any:
        branch.set((*branch.get(), object()))  # it has a task, and so a context, of its own
        return await send(request)

    hedged = policy._repeating_async(attempt, REPEATS)

    async def hedging(request: Any) -> Any:
        return await (hedged if current.get().may_hedge() else send)(request)

    return hedging

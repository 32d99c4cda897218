"""Adaptive limit: a bound on concurrency that finds itself.

It is long by its docstrings: what is measured is in `_core.adaptive_limit`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, final

from resilient._core.adaptive_limit import (
    ALGORITHMS,
    AdaptiveLimitConfig,
    AdaptiveLimitCore,
    Outcome,
    Ticket,
)
from resilient._core.checks import (
    check_int,
    check_name,
    check_number,
    check_per_call,
    refuse,
)
from resilient._core.functions import per_call
from resilient._core.matching import each
from resilient._policies.common.factory import factory
from resilient._policies.common.keyed import OfKey, Totals
from resilient._policies.common.queueing import QueueingPolicy
from resilient._policies.common.waiting import Sleeper
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction, plain_type
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient.errors import DeadlineExceeded, Overloaded

Priority = float | Callable[..., float]
Reading = tuple[int, int, int, float | None, float | None]
"""The limit, how many are in flight and queued, the latency and that without load."""


@dataclass(frozen=True, slots=True)
class AdaptiveLimitStats:
    """What an adaptive limit holds, what it knows, and its totals.

    ``latency`` is the smoothed recent mean, ``latency_unloaded`` what it is thought to be
    without load, in seconds; None before enough calls have ended. Of a keyed one ``limit`` is the
    lowest of the keys', and the latencies are the highest.
    """

    name: str
    limit: int
    in_flight: int
    queued: int
    calls: int
    rejected: int
    latency: float | None
    latency_unloaded: float | None


@final
class AdaptiveLimit(QueueingPolicy[AdaptiveLimitCore]):
    """Bounds concurrency by what the latency says; `adaptive_limit` makes it.

    Decorates functions, sync and async; guards blocks, which wait as a decorated call does; and
    hands out single calls, `admit`, which never wait. Of a block, ``call.fail()`` counts as
    a drop, ``call.ignore()`` as nothing.
    """

    kind = "adaptive_limit"
    _error = Overloaded
    _reason = "limit"

    def __init__(
        self,
        name: str | None,
        config: AdaptiveLimitConfig,
        priority: Priority,
        key: Key | None,
        max_keys: int,
    ) -> None:
        self._config, self._priority = config, priority
        if not callable(priority):
            self._usual_priority = priority
        super().__init__(name, key, max_keys)

    def of(self, key: Hashable) -> AdaptiveLimitOfKey:
        return AdaptiveLimitOfKey(self, self._states.checked(self, key))

    def _finish_call(
        self,
        ticket: Ticket,
        began: float,  # noqa: ARG002  # the ticket knows
        error: BaseException | None,
        outcome_override: str | None,
    ) -> None:
        if outcome_override is None:
            self._finish_by(ticket, error)
        else:
            failed = outcome_override == "fail"
            self._finish(ticket, Outcome.DROP if failed else Outcome.IGNORED, error)

    def _finish(self, ticket: Ticket, outcome: Outcome, error: BaseException | None = None) -> None:
        """End a call, and sample it."""
        ticket.outcome, ticket.ended_at = outcome, clock.now()
        self._end(ticket, error)

    def _finish_by(self, ticket: Ticket, error: BaseException | None) -> None:
        """End a call that ended by *error*, or by none."""
        outcome = Outcome.IGNORED  # if it can't be told
        try:
            outcome = outcome_of(error)
        finally:
            self._finish(ticket, outcome, error)

    # What the shell asks.

    def _new_state(self, key: Hashable) -> AdaptiveLimitCore:
        return AdaptiveLimitCore(self._config, clock.now(), self._woken, key)

    def _try_acquire(
        self,
        state: AdaptiveLimitCore,
        priority: float,
        cost: int,  # noqa: ARG002  # a place for each
        now: float,
    ) -> Ticket | None:
        return Ticket(state, now) if state.try_acquire(priority, now) else None

    def _patience(self, state: AdaptiveLimitCore, now: float) -> float:
        return state.patience(now)

    def _ticket(self, waiter: Sleeper) -> Ticket:
        next(waiter.state.calls.increment)
        return Ticket(waiter.state, clock.now())

    def _release(self, ticket: Ticket | Sleeper, now: float) -> None:
        if isinstance(ticket, Sleeper):
            if ticket.state is not None:  # else it was interrupted before it arrived
                ticket.state.give_up(ticket, now)
            return
        moved = ticket.state.release(ticket, now)
        if moved is not None and notify.listening:
            old, new = moved
            self._emit("LimitChanged", at=now, key=ticket.state.key, old=old, new=new)

    def _is_healthy(self, state: AdaptiveLimitCore) -> bool:
        return state.untouched()

    def _explain(self, state: AdaptiveLimitCore) -> str:
        queue = f", {len(state.queue)} of {state.max_queue} queued" if state.max_queue else ""
        return f"{state.in_flight} in flight of the {state.limit} that its latency allows{queue}"

    def stats(self) -> AdaptiveLimitStats:
        """A snapshot; see `AdaptiveLimitStats`."""
        return cast("AdaptiveLimitStats", super().stats())

    def _read(self, state: AdaptiveLimitCore, now: float) -> Reading:  # noqa: ARG002  # all is reckoned
        return state.limit, state.in_flight, len(state.queue), state.latency, state.unloaded

    def _stats_of(self, readings: list[Reading], totals: Totals) -> AdaptiveLimitStats:
        known = [reading for reading in readings if reading[3] is not None]
        return AdaptiveLimitStats(
            name=self.name,
            limit=min((limit for limit, *_ in readings), default=self._config.initial),
            in_flight=sum(in_flight for _, in_flight, *_ in readings),
            queued=sum(queued for _, _, queued, *_ in readings),
            calls=totals.get("calls", 0),
            rejected=totals.get("rejected", 0),
            latency=max((latency or 0.0 for *_, latency, _ in known), default=None),
            latency_unloaded=max((unloaded or 0.0 for *_, unloaded in known), default=None),
        )

    # Wrappers.

    def _wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        rank = self._rank()
        plain: type | None = None  # the type that it returned last

        def limited(*args: Any, **kwargs: Any) -> Any:
            nonlocal plain
            key = None if find is None else find(*args, **kwargs)
            ticket = self._acquire_sync(key, rank(*args, **kwargs))
            try:
                result = fn(*args, **kwargs)
                if type(result) is not plain:
                    plain = plain_type(fn, result)
            except BaseException as error:
                self._finish_by(ticket, error)
                raise
            self._finish(ticket, Outcome.SAMPLE)
            return result

        return limited

    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        rank = self._rank()

        async def limited(*args: Any, **kwargs: Any) -> Any:
            key = None if find is None else find(*args, **kwargs)
            ticket = await self._acquire(key, rank(*args, **kwargs))
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                self._finish_by(ticket, error)
                raise
            self._finish(ticket, Outcome.SAMPLE)
            return result

        return limited

    def _rank(self) -> Callable[..., float]:
        return per_call(self._priority, partial(check_number, "priority"))


@final
class AdaptiveLimitOfKey(OfKey[AdaptiveLimit, AdaptiveLimitStats]):
    """One key of a keyed adaptive limit."""


def outcome_of(error: BaseException | None) -> Outcome:
    """What a call tells that ended by *error*, or by none. Only a result and a time-out tell how
    long the service takes; another error may come at once.
    """
    if error is None:
        return Outcome.SAMPLE
    if not isinstance(error, Exception):  # cancelled, or a group with a cancellation in it
        return Outcome.IGNORED
    for one in each(error):
        if isinstance(one, TimeoutError) and not (
            isinstance(one, DeadlineExceeded) and not one.started
        ):
            return Outcome.DROP
    return Outcome.IGNORED


@factory("adaptive_limit()")
def adaptive_limit(
    *,
    initial: int = 20,
    min: int = 1,  # noqa: A002  # the contract's word
    max: int = 1000,  # noqa: A002  # the same
    algorithm: Literal["gradient", "aimd", "vegas"] = "gradient",
    queue: int = 0,
    priority: Priority = 0,
    key: Key | None = None,
    max_keys: int = 1024,
    name: str | None = None,
) -> AdaptiveLimit:
    """Let as many calls run at once as the dependency can take, which its latency tells.

    More than that only wait at the other end, and in an overload nothing that waits is of use any
    more. The limit shrinks when calls take longer than they do without load, and grows while
    they do not. What they take without load is measured: after the first window, after five seconds
    without a quick one, or the time of ten calls, and once a minute where half of the limit is in
    use. For that, half of what was in flight is let in, for about two latencies, and half of that
    again as long as it makes calls quicker; never fewer than *min*.

    Args:
        initial: the limit to begin with, *min* to *max*.
        min: what it never falls below, at least 1.
        max: what it never rises above, at least *min*.
        algorithm: ``"gradient"`` settles closest to the knee, a short queue above it; ``"vegas"`` a
            little higher; ``"aimd"`` where calls take twice as long as without load.
        queue: callers that may wait, at least 0; they wait as long as their deadline allows.
        priority: a number, or a function of the call's arguments: higher is more important. Of the
            priorities that were seen in the last ten seconds the lowest may use half of the limit,
            the highest all of it; so under pressure the low ones are shed first, in the queue too.
            Blocks and `admit` have the number, or 0.
        key: a function of the call's arguments, or the name of a parameter: a limit for each key.
        max_keys: how many keys are kept, at least 1: the least recently used idle one goes first.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    A call that ends in a `TimeoutError` is a *drop*: its time is a lower bound. Calls that were
    cancelled, rejected, or ended by another error say nothing.

    Raises:
        Overloaded: from a call: the limit is reached (``reason`` is ``"limit"``), a more important
            caller took its place in the queue (``"shed"``), or waiting would block an event
            loop (``"would_block"``).
        DeadlineExceeded: from a call, ``started`` false: the deadline came first.

    Source:
        Netflix's concurrency-limits (Gradient2, AIMD, Vegas); priorities after its partitioned
        limiters and *Site Reliability Engineering* (2016), ch. 21, "Criticality"; the measuring
        after ProbeRTT of BBR (Cardwell et al., 2016).
    """
    check_int("min", min)
    check_int("initial", initial)
    check_int("max", max)
    check_number("max", max)  # the limit is reckoned with as a float, and the others are no more
    if max < min:
        refuse("max", max, f"at least min, which is {min}")
    if not min <= initial <= max:
        refuse("initial", initial, f"between min and max, {min} to {max}")
    if algorithm not in ALGORITHMS:
        refuse("algorithm", algorithm, 'one of "gradient", "aimd", "vegas"')
    priority = check_per_call("priority", priority, partial(check_number, "priority"), "a number")
    return AdaptiveLimit(
        check_name("name", name, instead="@adaptive_limit()"),
        AdaptiveLimitConfig(
            initial, min, max, ALGORITHMS[algorithm], check_int("queue", queue, least=0)
        ),
        priority,
        check_key(key),
        check_int("max_keys", max_keys),
    )

"""Adaptive limit: a bound on concurrency that finds itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, Literal, cast, final

from resilient._core.adaptive_limit import (
    ALGORITHMS,
    AdaptiveLimitCore,
    LimitRule,
    Outcome,
    Ticket,
)
from resilient._core.checks import number, refuse, refuse_type, text, whole
from resilient._core.matching import each
from resilient._policies.bracketing import OfKey, Queueing
from resilient._policies.waiting import Sleeper
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction, refuse_coroutine
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient.errors import DeadlineExceeded, Overloaded

Priority = float | Callable[..., float]


@dataclass(frozen=True, slots=True)
class AdaptiveLimitStats:
    """What an adaptive limit holds, what it knows, and its totals.

    ``latency`` is the smoothed mean of late, ``latency_unloaded`` what it is thought to be
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
class AdaptiveLimit(Queueing[AdaptiveLimitCore]):
    """Bounds concurrency by what the latency says; `adaptive_limit` makes it.

    Decorates functions, sync and async; guards blocks, which wait as a decorated call does; and
    hands out single calls, `admit`, which never wait. Of a block, ``call.fail()`` counts as
    a drop, ``call.ignore()`` as nothing.
    """

    kind = "adaptive_limit"
    error = Overloaded
    reason = "limit"

    def __init__(
        self, name: str | None, rule: LimitRule, priority: Priority, key: Key | None, most: int
    ) -> None:
        super().__init__(name, key, most)
        self._rule, self._priority = rule, priority
        if not callable(priority):
            self.usual_priority = priority
        self.begin()

    def of(self, key: Hashable) -> AdaptiveLimitOfKey:
        """See `Bracketing.of`."""
        return AdaptiveLimitOfKey(self, self.checked(key))

    def close_call(
        self,
        ticket: Ticket,
        began: float,  # noqa: ARG002  # the ticket knows
        error: BaseException | None,
        said: str | None,
    ) -> None:
        """See `Call.close`."""
        if said is None:
            self.finish(ticket, outcome_of(error))
        else:
            self.finish(ticket, Outcome.DROP if said == "fail" else Outcome.IGNORED)

    def finish(self, ticket: Ticket, outcome: Outcome) -> None:
        """A call is over."""
        ticket.outcome, ticket.ended_at = outcome, clock.now()
        self.end(ticket)
        self.outbox.deliver()

    # What `Queueing` asks.

    def new_core(self, key: Hashable) -> AdaptiveLimitCore:
        """See `Bracketing.new_core`."""
        return AdaptiveLimitCore(self._rule, clock.now(), self.woken, key)

    def take_place(self, core: AdaptiveLimitCore, priority: float, now: float) -> Ticket | None:
        """See `Bracketing.take_place`."""
        return Ticket(core, now) if core.enter(priority, now) else None

    def why_lost(self, waiter: Sleeper) -> str:
        """See `Queueing.why_lost`; a `protect` bounds the wait."""
        return "shed" if waiter.shed else "max_wait"

    def ticket(self, waiter: Sleeper) -> Ticket:
        """See `Queueing.ticket`."""
        return Ticket(waiter.core, clock.now())

    def settle(self, ticket: Ticket | Sleeper, now: float) -> None:
        """See `Bracketing.settle`."""
        if isinstance(ticket, Sleeper):
            ticket.core.give_up(ticket, now)
            return
        moved = ticket.core.leave(ticket, now)
        if moved is not None and notify.listening:
            from resilient.events import LimitChanged  # noqa: PLC0415  # whoever listens has loaded it

            old, new = moved
            self.outbox.put(
                LimitChanged(
                    policy=self.name, kind=self.kind, at=now, key=ticket.core.key, old=old, new=new
                )
            )

    def healthy(self, core: AdaptiveLimitCore) -> bool:
        """See `Bracketing.healthy`."""
        return core.untouched()

    def describe(self, core: AdaptiveLimitCore) -> str:
        """See `Bracketing.describe`."""
        queue = f", {len(core.queue)} of {core.room} queued" if core.room else ""
        return f"{core.in_flight} in flight of the {core.limit} that its latency allows{queue}"

    def stats(self) -> AdaptiveLimitStats:
        """A snapshot; see `AdaptiveLimitStats`."""
        return cast("AdaptiveLimitStats", super().stats())

    def stats_of(
        self, cores: list[AdaptiveLimitCore], totals: dict[str, int]
    ) -> AdaptiveLimitStats:
        """See `Bracketing.stats_of`."""
        known = [core for core in cores if core.latency is not None]
        return AdaptiveLimitStats(
            name=self.name,
            limit=min((core.limit for core in cores), default=self._rule.initial),
            in_flight=sum(core.in_flight for core in cores),
            queued=sum(len(core.queue) for core in cores),
            latency=max((core.latency or 0.0 for core in known), default=None),
            latency_unloaded=max((core.unloaded or 0.0 for core in known), default=None),
            **totals,
        )

    # Wrappers.

    def wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper`."""
        rank = self._rank()

        def limited(*args: Any, **kwargs: Any) -> Any:
            key = None if find is None else find(*args, **kwargs)
            ticket = self.enter(key, rank(*args, **kwargs))
            try:
                result = fn(*args, **kwargs)
                if type(result) is CoroutineType:
                    refuse_coroutine(fn, result)
            except BaseException as error:
                self.finish(ticket, outcome_of(error))
                raise
            self.finish(ticket, Outcome.SAMPLE)
            return result

        return limited

    def wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper_async`."""
        rank = self._rank()

        async def limited(*args: Any, **kwargs: Any) -> Any:
            key = None if find is None else find(*args, **kwargs)
            ticket = await self.enter_async(key, rank(*args, **kwargs))
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                self.finish(ticket, outcome_of(error))
                raise
            self.finish(ticket, Outcome.SAMPLE)
            return result

        return limited

    def _rank(self) -> Callable[..., float]:
        priority = self._priority
        if callable(priority):
            return lambda *args, **kwargs: number("priority", priority(*args, **kwargs))
        return lambda *_args, **_kwargs: priority


@final
class AdaptiveLimitOfKey(OfKey[AdaptiveLimitCore]):
    """One key of a keyed adaptive limit."""

    def stats(self) -> AdaptiveLimitStats:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        return cast("AdaptiveLimitStats", super().stats())


def outcome_of(error: BaseException | None) -> Outcome:
    """What a call tells that ended by *error*, or by none.

    Only a result and a time-out tell how long the service takes; another error may come at once.
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
    they do not. After five seconds without a quick one, or the time of ten calls, it is halved for
    two latencies, to find out what the latency without load is now.

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
    if callable(initial):
        raise TypeError(f"initial must be a number, not {initial!r}: write @adaptive_limit()")
    least, first = whole("min", min), whole("initial", initial)
    most = whole("max", max)
    number("max", most)  # the limit is reckoned with as a float, and the others are no more
    if most < least:
        refuse("max", max, f"at least min, which is {least}")
    if not least <= first <= most:
        refuse("initial", initial, f"between min and max, {least} to {most}")
    if algorithm not in ALGORITHMS:
        refuse("algorithm", algorithm, 'one of "gradient", "aimd", "vegas"')
    if not callable(priority):
        if isinstance(priority, str):
            refuse_type("priority", priority, "a number or a function of the call's arguments")
        priority = number("priority", priority)
    return AdaptiveLimit(
        text("name", name, instead="@adaptive_limit()"),
        LimitRule(first, least, most, ALGORITHMS[algorithm], whole("queue", queue, least=0)),
        priority,
        check_key(key),
        whole("max_keys", max_keys),
    )

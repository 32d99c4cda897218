"""Rate limit: a bound on the calls in any stretch of time.

The calls that pass without the lock and those that wait stand in one file, since both spend the
same tokens, and must agree on when the next one is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, final

from resilient._core.checks import (
    Seconds,
    check_int,
    check_name,
    check_number,
    check_per_call,
    check_seconds,
    refuse,
)
from resilient._core.functions import per_call
from resilient._core.rate_limit import RateLimitConfig, RateLimitCore
from resilient._policies.common.factory import factory
from resilient._policies.common.keyed import OfKey, Totals
from resilient._policies.common.queueing import QueueingPolicy
from resilient._policies.common.waiting import Sleeper, ThreadSleeper
from resilient._policies.deadline.block import Deadline, deadline_here
from resilient._policies.deadline.here import check_deadline, left_here
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, plain_type
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient.errors import RateLimited, Rejected

Cost = int | Callable[..., int]
Change = tuple[float | None, float | None, int | None]
"""Another rate, per and burst, each ``None`` if it stays."""


@dataclass(frozen=True, slots=True)
class RateLimitStats:
    """Totals of a rate limit, and how many wait.

    ``calls`` were let through, ``rejected`` ones not; each `RateLimit.take` counts as one.
    """

    name: str
    calls: int
    rejected: int
    queued: int


@final
class RateLimit(QueueingPolicy[RateLimitCore]):
    """Bounds the calls in any stretch of time; `rate_limit` makes it.

    Decorates functions, sync and async; guards blocks, which wait as a decorated call does; and
    `take` asks for itself. A call takes what it needs when it begins, and gives nothing back.
    """

    kind = "rate_limit"
    _error = RateLimited
    _reason = "rate"

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        name: str | None,
        config: RateLimitConfig,
        max_wait: float,
        cost: Cost,
        key: Key | None,
        max_keys: int,
    ) -> None:
        self._first_config = self._config = config
        self._max_wait, self._cost = max_wait, cost
        if not callable(cost):
            self._usual_cost = cost
        super().__init__(name, key, max_keys)

    def take(self, n: int = 1) -> None:
        """Let *n* calls pass, all or none. Never waits.

        Args:
            n: 1 to the burst.

        Raises:
            RateLimited: they may not pass now; nothing was taken. ``retry_after`` is when they
                would.
            TypeError: the limit is keyed; write ``.of(key).take(n)``.
        """
        self._states.refuse_keyed(self, "take()")
        self._take_of(None, n)

    def _take_of(self, key: Hashable, n: int) -> None:
        """`take` for one key."""
        check_int("n", n)
        if deadline_here() is not None:
            check_deadline(self.name, clock.now())

        def step(now: float) -> Rejected | None:
            state = self._states.find(key)
            if n > state.config.burst:
                refuse("n", n, f"at most the burst, {state.config.burst}")
            if not self._passes_now(state, now, n):
                return self._reject(state, "rate", now, state.wait(now, n))
            next(state.calls.increment)
            return None

        self._locked(step)

    def change(
        self,
        *,
        rate: float | None = None,
        per: Seconds | None = None,
        burst: int | None = None,
    ) -> None:
        """Go on by another *rate*, *per* or *burst*; what you don't give stays as it is.

        It applies at once, to callers that wait as well, and forgives nothing: what has been used
        of the burst stays used, and fills up at the new rate. A caller that waits keeps its place,
        even if it must now wait longer than ``max_wait``; its deadline still ends its wait. If its
        call costs more than the new burst, it passes when the bucket is full. With keys, the
        change is for every key, present and future.

        Args:
            rate: calls in *per* seconds, above 0.
            per: seconds, above 0.
            burst: calls that may pass at once after a pause, at least 1. One that was never given
                follows the rate: it is ``max(1, ceil(rate))``.

        Raises:
            TypeError: none of them is given, or one is no number. Nothing is changed.
            ValueError: one is out of its range, or ``cost`` is a number above the burst. Nothing
                is changed.
        """
        wanted = check_change(rate, per, burst)
        config = self._config

        def begin() -> None:
            nonlocal config
            config = self._changed(self._config, wanted)
            self._config = config

        def change(state: RateLimitCore, now: float) -> None:
            if self._config is config:  # else there was another one meanwhile, as in a `resize`
                state.change(config, now)

        self._visit(change, begin)

    def _change_key(self, key: Hashable, wanted: Change) -> None:
        """`change` for one key, for as long as it is kept."""

        def step(now: float) -> None:
            state = self._states.find(key)
            state.change(self._changed(state.config, wanted), now)

        self._locked(step)

    def _changed(self, config: RateLimitConfig, wanted: Change) -> RateLimitConfig:
        """*config* with what is wanted, unless no call could pass any more."""
        (rate, _, burst), cost = wanted, self._usual_cost
        changed = config.changed(*wanted)
        if cost > changed.burst:
            if burst is not None:
                refuse("burst", burst, f"at least what a call costs, {cost}")
            raise ValueError(
                f"rate must be above {cost - 1}, not {rate!r}: the burst follows it, and a call "
                f"costs {cost}; or write burst={cost} as well"
            )
        return changed

    def of(self, key: Hashable) -> RateLimitOfKey:
        return RateLimitOfKey(self, self._states.checked(self, key))

    def _new_state(self, key: Hashable) -> RateLimitCore:
        return RateLimitCore(self._config, clock.now(), self._woken, key)

    def _try_acquire(self, state: RateLimitCore, priority: float, cost: int, now: float) -> object:  # noqa: ARG002  # all are as important
        if cost > state.config.burst:  # asked here as well: one call less
            check_cost(cost, state.config)
        return state if self._passes_now(state, now, cost) else None

    def _passes_now(self, state: RateLimitCore, now: float, n: int) -> bool:
        """Let *n* calls pass, or none. Waiters whose loop was closed block nobody."""
        while state.queue and (first := cast("Sleeper", state.queue.first())).lost():
            state.give_up(first)
        return state.take(now, n)

    def _arrive(self, waiter: Sleeper, now: float, *, patient: bool) -> float | Rejected:
        state: RateLimitCore = waiter.state
        if self._try_acquire(state, 0.0, waiter.cost, now) is not None:
            waiter.given = True
            next(state.calls.increment)
            return 0.0
        wait = state.wait(now, waiter.cost)
        if wait > self._max_wait or wait >= left_here():
            return self._reject(state, "rate", now, wait)
        if not patient:
            return self._reject(state, "would_block", now, wait)
        is_first = not state.queue
        state.queue.join(waiter)
        return wait if is_first else math.inf

    def _ask_again(self, waiter: Sleeper, now: float, *, over: bool) -> float:
        state: RateLimitCore = waiter.state
        seconds = state.try_pass(waiter, now, over=over)
        if waiter.given:
            next(state.calls.increment)
        return seconds

    def _wait(self, waiter: ThreadSleeper, seconds: float, limit: Deadline | None) -> bool:
        """See `QueueingPolicy._wait`: the first in the queue sleeps, and a `change` wakes it."""
        if seconds == math.inf:
            return super()._wait(waiter, seconds, limit)
        left = math.inf if limit is None else limit._left()
        waiter.sleep(min(seconds, max(left, 0.0), clock.LONGEST_WAIT))
        if limit is not None and limit._left() <= 0:
            raise limit._exceeded(self.name, started=False)
        return False

    def _ticket(self, waiter: Sleeper) -> RateLimitCore:
        """See `QueueingPolicy._ticket`: counted under the lock, since afterwards its key may go."""
        return cast("RateLimitCore", waiter.state)

    def _release(self, ticket: Sleeper | RateLimitCore, now: float) -> None:  # noqa: ARG002  # leaving takes no time
        """See `AdmissionPolicy._release`: only a waiter leaves anything behind."""
        if isinstance(ticket, Sleeper) and ticket.state is not None:
            ticket.state.give_up(ticket)

    def _is_healthy(self, state: RateLimitCore) -> bool:
        return state.config is self._config and state.full(clock.now())

    def _reject(
        self, state: RateLimitCore, reason: str, now: float, wait: float | None = None
    ) -> Rejected:
        next(state.rejected.increment)
        wait = state.wait(now, self._usual_cost) if wait is None else wait
        return self._rejection(state, reason, now, wait, self._explain(state))

    def _explain(self, state: RateLimitCore) -> str:
        queue = f", {len(state.queue)} wait" if state.queue else ""
        return f"a burst of {state.config.burst} is used up{queue}"

    def stats(self) -> RateLimitStats:
        """A snapshot; see `RateLimitStats`."""
        return cast("RateLimitStats", super().stats())

    def _read(self, state: RateLimitCore, now: float) -> int:  # noqa: ARG002  # how many wait
        return len(state.queue)

    def _stats_of(self, readings: list[int], totals: Totals) -> RateLimitStats:
        return RateLimitStats(
            name=self.name,
            calls=totals.get("calls", 0),
            rejected=totals.get("rejected", 0),
            queued=sum(readings),
        )

    def _reset(self) -> None:
        self._config = self._first_config
        super()._reset()

    def _settled_now(self) -> float:
        """See `AdmissionPolicy._settled_now`: what was given ahead is reckoned up as well.

        It is closed before the clock is read, and reckoned up after: nobody may pass between.
        """
        if self._states.is_keyed:
            return super()._settled_now()
        state = self._states.only
        state.close()
        now = super()._settled_now()
        if state.passed:
            state.reckon(now)
        return now

    # Wrappers: flat, since they run on every call. Most find a place that was given ahead.

    def _passes(self, state: RateLimitCore) -> bool:
        """Let a call pass that found no place ahead, unless it must wait, or be rejected."""

        def step(now: float) -> bool:
            passed = state.take_ahead(now)
            if passed:
                next(state.calls.increment)
            return passed

        return self._locked(step)

    def _wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        states = self._states
        weight, usual, varies = self._weight(), self._usual_cost, callable(self._cost)
        ahead = find is None and self._cost == 1
        plain: type | None = None  # the type that it returned last

        def limited(*args: Any, **kwargs: Any) -> Any:
            nonlocal plain
            if not ahead:
                key = None if find is None else find(*args, **kwargs)
                n = weight(*args, **kwargs) if varies else usual
                self._acquire_sync(key, 0.0, n)
            else:
                if deadline_here() is not None:
                    check_deadline(self.name, clock.now())
                state = states.only
                places, times = state.ahead
                at = next(places, None)
                if at is not None:
                    times[at] = clock.now()
                elif not self._passes(state):
                    self._acquire_sync(None, 0.0)
            result = fn(*args, **kwargs)
            if type(result) is not plain:
                plain = plain_type(fn, result)
            return result

        return limited

    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        states = self._states
        weight, usual, varies = self._weight(), self._usual_cost, callable(self._cost)
        ahead = find is None and self._cost == 1

        async def limited(*args: Any, **kwargs: Any) -> Any:
            if not ahead:
                key = None if find is None else find(*args, **kwargs)
                n = weight(*args, **kwargs) if varies else usual
                await self._acquire(key, 0.0, n)
            else:
                if deadline_here() is not None:
                    check_deadline(self.name, clock.now())
                state = states.only
                places, times = state.ahead
                at = next(places, None)
                if at is not None:
                    times[at] = clock.now()
                elif not self._passes(state):
                    await self._acquire(None, 0.0)
            return await fn(*args, **kwargs)

        return limited

    def _weight(self) -> Callable[..., int]:
        return per_call(self._cost, partial(check_int, "cost", least=0))


@final
class RateLimitOfKey(OfKey[RateLimit, RateLimitStats]):
    """One key of a keyed rate limit."""

    def take(self, n: int = 1) -> None:
        """See `RateLimit.take`: for this key."""
        self._policy._take_of(self._key, n)

    def change(
        self,
        *,
        rate: float | None = None,
        per: Seconds | None = None,
        burst: int | None = None,
    ) -> None:
        """See `RateLimit.change`: for this key, for as long as it is kept, or until one for all."""
        self._policy._change_key(self._key, check_change(rate, per, burst))


def check_change(rate: float | None, per: Seconds | None, burst: int | None) -> Change:
    """What is to be changed."""
    if rate is None and per is None and burst is None:
        raise TypeError("change() wants rate, per or burst: write change(rate=200)")
    return (
        None if rate is None else check_number("rate", rate, above=0),
        None if per is None else check_seconds("per", per, above=0),
        None if burst is None else check_int("burst", burst),
    )


def check_cost(cost: Cost, config: RateLimitConfig) -> None:
    """Refuse a number that can never pass."""
    if not callable(cost) and cost > config.burst:
        refuse("cost", cost, f"at most the burst, {config.burst}")


@factory("rate_limit(100)")
def rate_limit(
    rate: float,
    *,
    per: Seconds = 1.0,
    burst: int | None = None,
    max_wait: Seconds = 0.0,
    cost: Cost | None = None,
    key: Key | None = None,
    max_keys: int = 1024,
    name: str | None = None,
) -> RateLimit:
    """Let no more calls pass than were agreed on: *rate* in *per* seconds, and a burst.

    In no stretch of t seconds pass more than ``rate / per * t + burst`` calls, exactly: nothing is
    rounded. Who waits is served in the order of arrival, across tasks, loops and threads, however
    much each of them costs. A sync function in a thread with a running event loop does not wait.

    Args:
        rate: calls in *per* seconds, above 0; a fraction will do, ``rate_limit(0.5)`` is one call
            in two seconds.
        per: seconds, above 0.
        burst: calls that may pass at once after a pause, at least 1; by default one period's
            worth, ``max(1, ceil(rate))``.
        max_wait: seconds that a call may wait until it passes, at least 0; ``inf`` for no limit but
            the deadline.
        cost: how many of them one call counts for, 1 by default: a whole number from 1 to the
            burst, or a function of the call's arguments that returns one, from 0 (such a call
            passes at once, and takes nothing) to the burst. Blocks and `admit` cost the number,
            or 1.
        key: a function of the call's arguments, or the name of a parameter: a limit for each key.
        max_keys: how many keys are kept, at least 1: the least recently used one that is full
            goes first.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        RateLimited: from a call, at once: its wait would be longer than *max_wait* or than the
            deadline allows (``reason`` is ``"rate"``), or would block an event loop
            (``"would_block"``). It takes nothing. ``retry_after`` is exactly when a call that does
            not wait would pass.
        ValueError: from a call that costs more than the burst, and so could never pass. It takes
            nothing. What *cost* itself raises comes from the call as well.
        DeadlineExceeded: from a call, ``started`` false: nothing was left of the deadline, or it
            was moved while the call waited.

    Source:
        The generic cell rate algorithm: ATM Forum, *Traffic Management Specification 4.0* (1996).
    """
    if callable(rate):
        raise TypeError(
            f"rate must be a number, not {rate!r}: write @rate_limit(100), with parentheses"
        )
    config = RateLimitConfig.of(
        check_number("rate", rate, above=0),
        check_seconds("per", per, above=0),
        None if burst is None else check_int("burst", burst),
    )
    cost = 1 if cost is None else cost
    cost = check_per_call("cost", cost, partial(check_int, "cost"), "a whole number")
    check_cost(cost, config)
    return RateLimit(
        check_name("name", name, instead="@rate_limit(100)"),
        config,
        check_seconds("max_wait", max_wait, finite=False),
        cost,
        check_key(key),
        check_int("max_keys", max_keys),
    )

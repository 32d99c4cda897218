"""Rate limit: a bound on the calls in any stretch of time."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, cast, final

from resilient._core.checks import Seconds, number, refuse, seconds, text, whole
from resilient._core.rate_limit import RateLimitCore, RateRule
from resilient._policies.base import Call
from resilient._policies.bracketing import Bracketing, OfKey
from resilient._policies.deadline.ambient import left_here, not_expired
from resilient._policies.deadline.block import Deadline, deadline_here
from resilient._policies.deadline.waits import wait_here
from resilient._policies.waiting import Sleeper, ThreadSleeper, async_sleeper, on_loop
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, refuse_coroutine
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient.errors import RateLimited, Rejected


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
class RateLimit(Bracketing[RateLimitCore]):
    """Bounds the calls in any stretch of time; `rate_limit` makes it.

    Decorates functions, sync and async; guards blocks, which wait as a decorated call does; and
    `take` asks for itself. A call takes what it needs when it begins, and gives nothing back.
    """

    kind = "rate_limit"
    error = RateLimited
    reason = "rate"

    def __init__(
        self, name: str | None, rule: RateRule, max_wait: float, key: Key | None, most: int
    ) -> None:
        super().__init__(name, key, most)
        self.rule, self.max_wait = rule, max_wait
        self._read = clock.now  # of the clock that is installed
        self.begin()

    def take(self, n: int = 1) -> None:
        """Let *n* calls pass, all or none. Never waits.

        Args:
            n: 1 to the burst.

        Raises:
            RateLimited: they may not pass now; nothing was taken. ``retry_after`` is when they
                would.
            TypeError: the limit is keyed; write ``.of(key).take(n)``.
        """
        self.unkeyed("take()")
        self.take_of(None, n)

    def take_of(self, key: Hashable, n: int) -> None:
        """`take` for one key."""
        if whole("n", n) > self.rule.burst:
            refuse("n", n, f"at most the burst, {self.rule.burst}")
        if deadline_here() is not None:
            not_expired(self.name, clock.now())
        with self._lock:
            now = self._settled()
            core = self.core_of(key)
            error = None if core.take(now, n) else self._refuse(core, now, n)
            if error is None:
                next(core.calls.ticks)  # see `_arrive`
        self.after()
        if error is not None:
            self.outbox.deliver()
            raise error

    def of(self, key: Hashable) -> RateLimitOfKey:
        """See `Bracketing.of`."""
        return RateLimitOfKey(self, self.checked(key))

    def admit_of(self, key: Hashable) -> Call:
        """See `Bracketing.admit_of`."""
        self.take_of(key, 1)
        return Call(self, None, clock.now())

    def block_of(self, key: Hashable) -> Call:
        """See `Bracketing.block_of`."""
        self.enter(key)
        return Call(self, None, clock.now())

    async def block_of_async(self, key: Hashable) -> Call:
        """See `Bracketing.block_of_async`."""
        await self.enter_async(key)
        return Call(self, None, clock.now())

    def new_core(self, key: Hashable) -> RateLimitCore:
        """See `Bracketing.new_core`."""
        return RateLimitCore(self.rule, clock.now(), self.woken, key)

    def core_of(self, key: Hashable) -> RateLimitCore:
        """See `Bracketing.core_of`; who is lost holds nobody up."""
        core = super().core_of(key)
        while core.queue and (first := cast("Sleeper", next(iter(core.queue)))).lost():
            core.give_up(first)
        return core

    def take_place(self, core: RateLimitCore, priority: float, now: float) -> object:
        """See `Bracketing.take_place`: `admit_of` is its own."""
        raise NotImplementedError

    def settle(self, ticket: Sleeper | None, now: float) -> None:  # noqa: ARG002  # who goes takes no time
        """See `Bracketing.settle`: only who waits leaves anything behind."""
        if ticket is not None:
            ticket.core.give_up(ticket)

    def healthy(self, core: RateLimitCore) -> bool:
        """See `Bracketing.healthy`."""
        return core.full(clock.now())

    def describe(self, core: RateLimitCore) -> str:
        """See `Bracketing.describe`."""
        queue = f", {len(core.queue)} wait" if core.queue else ""
        return f"a burst of {self.rule.burst} is used up{queue}"

    def stats(self) -> RateLimitStats:
        """A snapshot; see `RateLimitStats`."""
        return cast("RateLimitStats", super().stats())

    def stats_of(self, cores: list[RateLimitCore], totals: dict[str, int]) -> RateLimitStats:
        """See `Bracketing.stats_of`."""
        queued = sum(len(core.queue) for core in cores)
        return RateLimitStats(name=self.name, queued=queued, **totals)

    # Waiting. The clock is read under the lock: readings that come in the wrong order are those
    # of a clock that steps back, and of nothing else. So nobody may pass after a reading, and be
    # reckoned up before it is used: see `_settled`.

    def enter(self, key: Hashable) -> None:
        """Let one sync call pass, if need be after a wait, or raise."""
        limit = not_expired(self.name, clock.now()) if deadline_here() is not None else None
        waiter = ThreadSleeper()
        seconds = self._arrive(key, waiter, patient=not on_loop())
        try:
            while not waiter.given:
                if seconds == math.inf:
                    waiter.wait(seconds, limit, self.name)
                else:
                    self._sleep(seconds, limit)
                seconds = self._turn(waiter, over=False)
        except BaseException:
            self.end(waiter)
            raise

    async def enter_async(self, key: Hashable) -> None:
        """`enter` for an async call."""
        if deadline_here() is not None:
            not_expired(self.name, clock.now())
        waiter = async_sleeper()
        seconds = self._arrive(key, waiter, patient=True)
        try:
            while not waiter.given:
                over = await wait_here(self.name, None, waiter.wait, seconds)
                seconds = self._turn(waiter, over=over)
        except BaseException:
            self.end(waiter)
            raise

    def _arrive(self, key: Hashable, waiter: Sleeper, *, patient: bool) -> float:
        """Pass at once, or join the queue, or raise; returns how long the first of it must wait."""
        left, error, wait = left_here(), None, 0.0
        with self._lock:
            now = self._settled()
            core = waiter.core = self.core_of(key)
            if core.take(now):
                waiter.given = True
                next(core.calls.ticks)  # under the lock: afterwards its key may make room
            elif (wait := core.wait(now)) > self.max_wait or wait >= left:
                error = self._refuse(core, now)
            elif not patient:
                error = self._refuse(core, now, reason="would_block")
            else:
                wait = math.inf if core.queue else wait
                core.line_up(waiter)
        self.after()
        if error is not None:
            self.outbox.deliver()
            raise error
        return wait

    def _sleep(self, seconds: float, limit: Deadline | None) -> None:
        """Let the time of the first in the queue pass: nobody will wake it."""
        left = math.inf if limit is None else limit.left()
        clock.sleep(min(seconds, max(left, 0.0), clock.LONGEST_WAIT))
        if limit is not None and limit.left() <= 0:
            raise limit.exceeded(self.name, started=False)

    def _turn(self, waiter: Sleeper, *, over: bool) -> float:
        with self._lock:
            now = self._settled()
            wait = waiter.core.turn(waiter, now, over=over)
            if waiter.given:
                next(waiter.core.calls.ticks)  # see `_arrive`
        self.after()
        return float(wait)

    def _refuse(
        self, core: RateLimitCore, now: float, n: int = 1, reason: str = reason
    ) -> Rejected:
        return self.refuse(core, reason, now, core.wait(now, n))

    def drain(self, now: float) -> None:
        """See `Bracketing.drain`: what was given ahead is reckoned up as well."""
        super().drain(now)
        self._reckon()

    def _settled(self) -> float:
        """Settle what ended, give nothing ahead any more, and read the clock, in this order."""
        super().drain(math.nan)  # who goes takes no time
        if self._keys is None:
            self.only.close()
        return clock.now()

    def _reckon(self) -> None:
        if self._keys is None:
            self.only.close()
            self.only.reckon(self._read())

    def clock_changed(self) -> None:
        """See `PolicyBase.clock_changed`: what was given ahead was taken by the clock before."""
        with self._lock:
            self._reckon()
            self._read = clock.now
        self.after()

    def forked(self) -> None:
        """See `PolicyBase.forked`: those who waited are not here."""
        for core in self.cores():
            core.queue.clear()

    # Wrappers: flat, since they run on every call. Most find a place that was given ahead.

    def _passes(self, core: RateLimitCore) -> bool:
        """Let a call pass that found no place ahead, unless it must wait, or be refused."""
        with self._lock:
            places, times = core.ahead  # another thread may have been quicker
            at = next(places, None)
            if at is not None:
                times[at] = clock.now()
                passed = True
            else:
                core.close()
                passed = not self._ended and core.take_ahead(clock.now())
        if at is None and passed:
            next(core.calls.ticks)
        if self._ended:  # somebody went meanwhile, who may have stood before others, see `renew`
            self.after()
        return passed

    def wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper`."""

        def limited(*args: Any, **kwargs: Any) -> Any:
            if find is not None:
                self.enter(find(*args, **kwargs))
            else:
                if deadline_here() is not None:
                    not_expired(self.name, clock.now())
                core = self.only
                places, times = core.ahead
                at = next(places, None)
                if at is not None:
                    times[at] = clock.now()
                elif not self._passes(core):
                    self.enter(None)
            result = fn(*args, **kwargs)
            if type(result) is CoroutineType:
                refuse_coroutine(fn, result)
            return result

        return limited

    def wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper_async`."""

        async def limited(*args: Any, **kwargs: Any) -> Any:
            if find is not None:
                await self.enter_async(find(*args, **kwargs))
            else:
                if deadline_here() is not None:
                    not_expired(self.name, clock.now())
                core = self.only
                places, times = core.ahead
                at = next(places, None)
                if at is not None:
                    times[at] = clock.now()
                elif not self._passes(core):
                    await self.enter_async(None)
            return await fn(*args, **kwargs)

        return limited


@final
class RateLimitOfKey(OfKey[RateLimitCore]):
    """One key of a keyed rate limit."""

    def take(self, n: int = 1) -> None:
        """See `RateLimit.take`: for this key."""
        cast("RateLimit", self._policy).take_of(self._key, n)

    def stats(self) -> RateLimitStats:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        return cast("RateLimitStats", super().stats())


def rate_limit(
    rate: float,
    *,
    per: Seconds = 1.0,
    burst: int | None = None,
    max_wait: Seconds = 0.0,
    key: Key | None = None,
    max_keys: int = 1024,
    name: str | None = None,
) -> RateLimit:
    """Let no more calls pass than were agreed on: *rate* in *per* seconds, and a burst.

    In no stretch of t seconds pass more than ``rate / per * t + burst`` calls, exactly: nothing is
    rounded. Who waits is served in the order of arrival, across tasks, loops and threads. A sync
    function in a thread with a running event loop does not wait.

    Args:
        rate: calls in *per* seconds, above 0; a fraction will do, ``rate_limit(0.5)`` is one call
            in two seconds.
        per: seconds, above 0.
        burst: calls that may pass at once after a pause, at least 1; by default one period's
            worth, ``max(1, ceil(rate))``.
        max_wait: seconds that a call may wait for its turn, at least 0; ``inf`` for no limit but
            the deadline.
        key: a function of the call's arguments, or the name of a parameter: a limit for each key.
        max_keys: how many keys are kept, at least 1: the least recently used one that is full
            goes first.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        RateLimited: from a call, at once: its wait would be longer than *max_wait* or than the
            deadline allows (``reason`` is ``"rate"``), or would block an event loop
            (``"would_block"``). It takes nothing. ``retry_after`` is exactly when a call that does
            not wait would pass.
        DeadlineExceeded: from a call, ``started`` false: nothing was left of the deadline, or it
            was moved while the call waited.

    Source:
        The generic cell rate algorithm: ATM Forum, *Traffic Management Specification 4.0* (1996).
    """
    if callable(rate):
        raise TypeError(
            f"rate must be a number, not {rate!r}: write @rate_limit(100), with parentheses"
        )
    rule = RateRule.of(
        number("rate", rate, above=0),
        seconds("per", per, above=0),
        None if burst is None else whole("burst", burst),
    )
    return RateLimit(
        text("name", name, instead="@rate_limit(100)"),
        rule,
        seconds("max_wait", max_wait, finite=False),
        check_key(key),
        whole("max_keys", max_keys),
    )

"""Adaptive limit: who gets in, and what the limit is.

1. At most ``limit`` calls hold a place; at most ``max_queue`` wait for one.
2. Priorities: the lowest that was seen recently may use half of the limit, the highest all of
   it, those between their share. So when the limit shrinks, the low ones are shed first.
3. Whoever waits is served by priority, and in the order of arrival among equals. If the
   queue is full, a newcomer takes the place of the last one of a lower priority, which is *shed*.
4. A limit of which less than half is used does not grow (L7). One that is used up doubles with
   each window, until the first that says no: the slow start of TCP.
5. While the latency without load is measured, fewer may be in flight, but never fewer than the
   least limit (L9).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, MutableSequence
from typing import Final, NamedTuple

from resilient._core.adaptive_limit.algorithms import Algorithm
from resilient._core.adaptive_limit.sampling import Baseline, Outcome, Sampler
from resilient._core.counter import Counter
from resilient._core.waiters import Waiter, WaitQueue

REMEMBERED: Final = 10.0
"""Seconds for which a priority is remembered at least; twice that at most."""
RECENT: Final = 0.3
USUAL: Final = 2.0
"""How many times the latency without load a call may take and still be as usual."""
SILENT: Final = 5.0
"""So many times it, and something is wrong if none of those in flight has ended."""
HURRY: Final = 1 / 4
"""The part of their patience for which callers wait then."""
FEW: Final = 8
"""So many may wait in any case: a burst at a limit that is nearly used up."""


class AdaptiveLimitConfig(NamedTuple):
    """Where the limit begins, its bounds, how it follows; how many may wait, and how long."""

    initial: int
    min: int
    max: int
    algorithm: Algorithm
    max_queue: int
    patience: float = math.inf


class Ticket:
    """A place that is held, since when, and how the call ended."""

    __slots__ = ("began", "ended_at", "outcome", "state")

    def __init__(self, state: AdaptiveLimitCore, began: float) -> None:
        self.state, self.began, self.ended_at = state, began, began
        self.outcome = Outcome.IGNORED


class Priorities:
    """The range of the priorities that were seen recently."""

    __slots__ = ("_high", "_low", "_old_high", "_old_low", "_until")

    def __init__(self) -> None:
        self._until = -math.inf
        self._low = self._old_low = math.inf
        self._high = self._old_high = -math.inf

    def see(self, priority: float, now: float) -> None:
        """A call of *priority* is here, or waits."""
        if now >= self._until:
            gone = now >= self._until + REMEMBERED
            self._old_low = math.inf if gone else self._low
            self._old_high = -math.inf if gone else self._high
            self._low, self._high = math.inf, -math.inf
            self._until = now + REMEMBERED
        self._low, self._high = min(self._low, priority), max(self._high, priority)

    def share(self, priority: float) -> float:
        """Which share of the limit *priority*, which was seen, may use: one half to 1."""
        low, high = min(self._low, self._old_low), max(self._high, self._old_high)
        if high <= low:
            return 1.0
        if math.isinf(high - low):  # they are further apart than a float can say
            low, high, priority = low / 2, high / 2, priority / 2
        return 0.5 + 0.5 * ((priority - low) / (high - low))


class AdaptiveLimitCore:
    """The state of one limit, or of one key of it. Who is given a place, or shed, is put into
    *woken*, for the shell to wake.
    """

    __slots__ = (
        "_baseline", "_config", "_heard_at", "_limit", "_priorities", "_recent", "_sampler",
        "_starting", "calls", "in_flight", "key", "latency", "max_queue", "queue", "rejected",
    )  # fmt: skip

    def __init__(
        self,
        config: AdaptiveLimitConfig,
        now: float,
        woken: MutableSequence[Waiter],
        key: Hashable = None,
    ) -> None:
        self._config, self.key, self.max_queue = config, key, config.max_queue
        self._limit = float(config.initial)
        self._sampler, self._baseline = Sampler(now), Baseline(now, config.min)
        self._priorities = Priorities()
        self._starting = True
        self._recent = 0.0  # the latency of the last calls
        self._heard_at = now  # when one ended, or the first began
        self.latency: float | None = None  # smoothed, recent
        self.in_flight = 0
        self.queue = WaitQueue(woken)
        self.calls, self.rejected = Counter(), Counter()

    @property
    def limit(self) -> int:
        """How many may be in flight, once nothing is measured any more."""
        return int(self._limit)

    @property
    def unloaded(self) -> float | None:
        """The latency without load, if it is known."""
        return self._baseline.unloaded

    def patience(self, now: float) -> float:
        """How many seconds a caller may wait. All of them while the limit has met nothing yet and
        calls end as usual: then the queue is a burst that passes. Else a part of them.
        """
        known = self.unloaded
        usual = known is None or (
            self._recent <= USUAL * known and now - self._heard_at <= SILENT * known
        )
        return self._config.patience * (1.0 if usual and self._starting else HURRY)

    def try_acquire(self, priority: float, now: float) -> bool:
        """Take a place, if one is free for *priority*."""
        self._priorities.see(priority, now)
        if self.queue and self.in_flight < self._limit:
            self._fill(now)  # their share may have grown: other priorities came, or were forgotten
        return self._take(priority, now)

    def arrive(self, waiter: Waiter, now: float, *, patient: bool = True) -> bool:
        """Take a place, or one in the queue; False if there is neither. Who is not *patient* does
        not queue.
        """
        if self.try_acquire(waiter.priority, now):
            waiter.given = True
            return True
        if not patient or not (self._has_room(now) or self._shed_below(waiter.priority)):
            return False
        self.queue.join(waiter)
        return True

    def release(self, ticket: Ticket, now: float) -> tuple[int, int] | None:
        """A call is over; the old limit and the new one, if that made it change."""
        self.in_flight -= 1
        before = self.limit
        if ticket.outcome is not Outcome.IGNORED:
            lasted, self._heard_at = ticket.ended_at - ticket.began, now
            self._recent += RECENT * (lasted - self._recent) if self._recent else lasted
            if self._baseline.takes(ticket.began):
                self._learn(lasted, ticket.outcome, now)
        self._fill(now)
        after = self.limit
        return None if before == after else (before, after)

    def give_up(self, waiter: Waiter, now: float) -> None:
        """*waiter* goes, whether it was given a place or not."""
        if waiter.given:
            waiter.given = False  # it may go twice: given up for lost, and collected
            self.in_flight -= 1
        else:
            self.queue.leave(waiter)
        self._fill(now)

    def totals(self) -> dict[Hashable, int]:
        """What it has counted."""
        return {"calls": self.calls.read(), "rejected": self.rejected.read()}

    def idle(self) -> bool:
        """Whether nobody is in, and nobody waits."""
        return not self.in_flight and not self.queue

    def untouched(self) -> bool:
        """Whether a new one would not differ."""
        return self._baseline.unloaded is None

    def forked(self) -> AdaptiveLimitCore:
        """In the child of a fork: it without its calls in flight, which end here if they do."""
        new = AdaptiveLimitCore(self._config, 0.0, self.queue.woken, self.key)
        new._limit, new._starting, new.latency = self._limit, self._starting, self.latency
        new._recent, new._heard_at = self._recent, self._heard_at
        new._sampler, new._baseline, new._priorities = (
            self._sampler, self._baseline, self._priorities,
        )  # fmt: skip
        new.calls, new.rejected = self.calls, self.rejected
        return new

    def mend(self, now: float) -> None:
        """Go on after a step that was cut short: nobody waits beside a free place."""
        self.queue.mend()
        self._fill(now)

    def _has_room(self, now: float) -> bool:
        """Whether one more may wait: by how many do, and by how long it would."""
        waiting, limit = len(self.queue), min(self._limit, self._baseline.cap)
        wait = (waiting + 1) / limit * self._recent
        return waiting < self.max_queue and (waiting < FEW or wait <= self.patience(now))

    def _take(self, priority: float, now: float) -> bool:
        limit = min(self._limit, self._baseline.cap)
        if self.in_flight >= max(1, int(limit * self._priorities.share(priority))):
            return False
        if not self.in_flight:
            self._heard_at = now
        self.in_flight += 1
        self._sampler.peak = max(self._sampler.peak, self.in_flight)
        return True

    def _learn(self, latency: float, outcome: Outcome, now: float) -> None:
        sampler, config = self._sampler, self._config
        sampler.add(latency, outcome, now)
        reading = sampler.read(now, self.latency or latency)
        if reading is None:
            return
        sampler.clear(now)
        sampler.peak = self.in_flight
        known = self.latency
        self.latency = reading.mean if known is None else known + RECENT * (reading.mean - known)
        bound = self._baseline.learn(reading, self._limit, now)
        if bound is not None:
            self._starting = self._starting and bound == math.inf
            self._limit = max(min(self._limit, bound), float(config.min))
            return
        assert self._baseline.unloaded is not None
        limit = config.algorithm(self._limit, reading, self._baseline.unloaded)
        if limit <= self._limit:
            self._starting = False
        elif 2 * reading.peak < self._limit:
            limit = self._limit
        elif self._starting and reading.peak >= self.limit:
            limit = 2 * self._limit
        self._limit = min(max(limit, float(config.min)), float(config.max))

    def _fill(self, now: float) -> None:
        while self.queue:
            waiter = self.queue.first()
            self._priorities.see(waiter.priority, now)
            if not self._take(waiter.priority, now):
                return
            self.queue.hand_over(waiter)

    def _shed_below(self, priority: float) -> bool:
        """Make room for *priority* in the queue; False if nobody in it is lower."""
        if not self.queue or self.queue.last().priority >= priority:
            return False
        self.queue.shed(self.queue.last())
        return True

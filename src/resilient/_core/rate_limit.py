"""Rate limit: the generic cell rate algorithm.

1. The one number of a limit is the *theoretical arrival time*: when the bucket is full again.
   A call moves it one ``cost`` on, and may pass while it is not more than ``burst`` costs
   ahead of the clock afterwards. So in no time t do more than ``rate * t + burst`` pass.
2. n at once are n single ones, and all or none (L4). So a call that costs n is n calls of one;
   one that costs nothing passes in any case, since it takes nothing from anybody.
3. Time is counted in whole units, ``scale`` of them a nanosecond, so chosen that a cost is
   a whole number of them for every rate that is a fraction: nothing is rounded, and nothing
   drifts.
4. Whoever waits stands in a queue and takes nothing before it passes: the first knows how long
   it must wait, the others behind it only that they are not first. So if one of them goes,
   those behind it move up, and the rate still holds (L6). What it costs changes nothing in
   that: a dear one that is first is not overtaken by a cheap one (L6).
5. Readings of several threads may arrive out of order: time never goes back here.
6. Time only fills the bucket: as many calls as may pass now may pass at any time later. Some of
   them are given ahead: who takes a place in ``ahead``, one step, does not need the shell's
   lock, and says when it took it. What was taken so is reckoned up, each call as of its time,
   before anything else is decided: so a call passes exactly when it would have passed under
   the lock. While somebody waits, nothing is given ahead.
7. A change of what was agreed on applies at once and forgives nothing: as many calls as are
   missing from the bucket are missing from the new one, also if that holds fewer. Whoever waits
   keeps its place, and passes when the new rate lets it. One that costs more than the new bucket
   holds passes when that is full. A change rounds the debt up to a unit, which from then on is
   so fine that a billion changes make no difference.

The algorithm is that of the ATM Forum's *Traffic Management Specification 4.0* (1996), section
4.4.2, in its virtual-scheduling form.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, MutableSequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from resilient._core.counter import Counter
from resilient._core.waiters import Waiter, WaitQueue

MOST_AHEAD: Final = 128
LEAST_AHEAD: Final = 8
"""To give fewer ahead would cost more than it saves."""
NANO: Final = 1_000_000_000
FINE: Final = 2**64
"""So many units are one of those that would do, once there was a change."""
NEVER: Final = 10**30
"""A nanosecond so far away that what is later may as well never come."""


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """What was agreed on, and that in units: ``cost`` of them a call, ``scale`` of them a
    nanosecond, ``depth`` in all. ``given`` is the burst that was asked for.
    """

    rate: float
    per: float
    given: int | None
    burst: int
    cost: int
    scale: int
    depth: int

    @classmethod
    def of(cls, rate: float, per: float, burst: int | None, fine: int = 1) -> RateLimitConfig:
        """The rule of *rate* calls in *per* seconds, as exact as they are written."""
        holds = max(1, math.ceil(rate)) if burst is None else burst
        nanoseconds = Fraction(repr(per)) * NANO / Fraction(repr(rate))
        cost, scale = nanoseconds.numerator * fine, nanoseconds.denominator * fine
        return cls(rate, per, burst, holds, cost, scale, holds * cost)

    def changed(self, rate: float | None, per: float | None, burst: int | None) -> RateLimitConfig:
        """This with another *rate*, *per* or *burst*, each if it is given."""
        return RateLimitConfig.of(
            self.rate if rate is None else rate,
            self.per if per is None else per,
            self.given if burst is None else burst,
            FINE,
        )


Ahead = tuple[Iterator[int], list[float]]
"""Places that were given ahead, and when they were taken.

``at = next(places, None)``, and then ``times[at] = now``. Who has only done the first counts as
of the reckoning.
"""
NOTHING: Final[Ahead] = iter(()), []


class RateLimitCore:
    """The state of one limit, or of one key of it. Whoever becomes the first of the queue is put
    into *woken*, for the shell to wake.
    """

    max_queue = math.inf
    """How many may wait: *max_wait* is the bound."""

    __slots__ = (
        "_full_at", "_left", "_outdated", "_seen", "ahead", "calls", "config", "key", "passed",
        "queue", "rejected",
    )  # fmt: skip

    def __init__(
        self,
        config: RateLimitConfig,
        now: float,
        woken: MutableSequence[Waiter],
        key: Hashable = None,
    ) -> None:
        self.config, self.key = config, key
        self._seen = self._full_at = int(now * NANO) * config.scale
        self.ahead = NOTHING
        self._left: list[int] = []
        self.passed: tuple[float, ...] = ()
        self.queue = WaitQueue(woken)
        self._outdated: Waiter | None = None
        """The first in the queue, if there was a change since it was told how long to wait."""
        self.calls, self.rejected = Counter(), Counter()

    def take(self, now: float, n: int = 1) -> bool:
        """Let *n* calls pass, or none of them."""
        if not n:
            return True
        config = self.config
        units = self._units(now)
        full_at = self._full_at
        if full_at < units:  # noqa: PLR1730  # max() costs two ticks
            full_at = units
        full_at += n * config.cost
        if full_at - units > config.depth or self.queue:
            return False
        self._full_at = full_at
        return True

    def take_ahead(self, now: float) -> bool:
        """Let one call pass, and give ahead of those that may follow it at once."""
        if not self.take(now):
            return False
        more = (self.config.depth + self._seen - self._full_at) // self.config.cost
        if more >= LEAST_AHEAD:
            more = min(more, MOST_AHEAD)
            self._left = []
            self.ahead = iter(range(more)), [math.inf] * more
        return True

    def close(self) -> None:
        """Give nothing ahead any more.

        To be called before the clock is read for a decision: so whoever has taken a place did so
        before, even if it has not yet said when.

        An interrupt may come between any two calls here: what was done by then is not done again.
        """
        if self.ahead is not NOTHING:
            places, times = self.ahead
            self._left.extend(places)  # one step: nobody takes one meanwhile
            passed = tuple(times[: len(times) - len(self._left)])
            self.passed, self.ahead = self.passed + passed, NOTHING

    def wait(self, now: float, n: int = 1) -> float:
        """Seconds until *n* more calls would pass, behind those who wait: 0 if they would now. A
        call made so much later passes: no rounding makes it too early.
        """
        units = self._units(now)
        full_at = max(self._full_at, units) + (self.queue.cost + n) * self.config.cost
        return self._until(full_at - self.config.depth, now)

    def try_pass(self, waiter: Waiter, now: float, *, over: bool) -> float:
        """Let *waiter* pass, if it is the first and its time has come; else how long to wait.

        Its wait may be *over* by another clock than ours. One that is not the first is woken when
        it is.
        """
        if self.queue.first() is not waiter:
            return math.inf
        if self._outdated is waiter:
            self._outdated, over = None, False
        units, need = self._units(now), waiter.cost * self.config.cost
        full_at = max(self._full_at, units) + need
        ready = full_at - max(need, self.config.depth)
        if ready > units and not over:
            return self._until(ready, now)
        self._full_at = full_at
        waiter.given = True
        self.give_up(waiter)
        return 0.0

    def give_up(self, waiter: Waiter) -> None:
        """*waiter* leaves the queue; whoever is first now must know."""
        if self._outdated is waiter:
            self._outdated = None
        if self.queue.leave(waiter):
            self.queue.wake_first()

    def forked(self) -> RateLimitCore:
        """In the child of a fork: nobody waits. What has passed has passed."""
        self.queue, self._outdated = WaitQueue(self.queue.woken), None
        return self

    def mend(self, now: float) -> None:  # noqa: ARG002  # the first knows when it may pass
        """Go on after a step that was cut short: whoever is first knows it."""
        self.queue.mend()
        self.queue.wake_first()

    def change(self, config: RateLimitConfig, now: float) -> None:
        """Go on by *config*; the first in the queue must know."""
        units, before = self._units(now), self.config
        if self.queue:
            self._outdated = self.queue.first()
            self.queue.wake_first()
        debt = max(self._full_at - units, 0) * config.cost
        seen = units // before.scale * config.scale
        full_at = seen - -debt // before.cost
        self.config, self._seen, self._full_at = config, seen, full_at  # all of it, or nothing

    def totals(self) -> dict[Hashable, int]:
        """What it has counted."""
        return {"calls": self.calls.read(), "rejected": self.rejected.read()}

    def idle(self) -> bool:
        """Whether nobody waits."""
        return not self.queue

    def full(self, now: float) -> bool:
        """Whether a new one would not differ."""
        return self._units(now) >= self._full_at

    def reckon(self, now: float) -> None:
        """Take for the calls that passed by what was given ahead, and count them.

        n calls move ``full_at`` n costs on, but from no less than the time of each of them, which
        moves it for itself and those after it. Looked at from the last one, so that it may end
        where those before can't matter.
        """
        passed = self.passed
        cost, full_at, seen = self.config.cost, self._full_at, self._seen
        full_at += len(passed) * cost
        for n, at in enumerate(sorted(passed, reverse=True), 1):
            units = int((now if at == math.inf else at) * NANO) * self.config.scale
            seen = max(seen, units)
            if units + len(passed) * cost <= full_at:
                break
            full_at = max(full_at, units + n * cost)
        self.calls.add(len(passed))  # first: after it no interrupt can come
        self._full_at, self._seen, self.passed = full_at, seen, ()

    def _units(self, now: float) -> int:
        self.close()
        if self.passed:
            self.reckon(now)
        self._seen = max(self._seen, int(now * NANO) * self.config.scale)
        return self._seen

    def _until(self, ready: int, now: float) -> float:
        """Seconds until *ready*, in units."""
        scale = self.config.scale
        if ready <= self._seen:
            return 0.0
        if ready > NEVER * scale:
            return math.inf
        at = -(-ready // scale) / NANO
        while int(at * NANO) * scale < ready:
            at = math.nextafter(at, math.inf)
        left = at - now
        while now + left < at:
            left = math.nextafter(left, math.inf)
        return left

"""A server with a knee, in numbers: what the experiments on the adaptive limit run against.

So many workers, one queue in the order of arrival, and calls that come by chance at a given
rate. Up to the knee, one call for each worker, more concurrency is more throughput; beyond it,
only longer waits. Time is a number, so that a minute of overload takes less than a second.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean
from typing import Any

from resilient._core.adaptive_limit import (
    ALGORITHMS,
    AdaptiveLimitConfig,
    AdaptiveLimitCore,
    Outcome,
    Ticket,
)
from resilient._core.waiters import Waiter

WORKERS, SERVICE, AGAIN = 20, 0.010, 0.2


def core_of(
    algorithm: str = "gradient",
    *,
    initial: int = 20,
    least: int = 1,
    most: int = 1000,
    room: int = 0,
    now: float = 0.0,
    woken: list[Waiter] | None = None,
) -> AdaptiveLimitCore:
    """A limit as the policy makes it."""
    rule = AdaptiveLimitConfig(initial, least, most, ALGORITHMS[algorithm], room)
    return AdaptiveLimitCore(rule, now, [] if woken is None else woken)


@dataclass(frozen=True)
class Change:
    """From *at* on the server has so many workers, which take so long."""

    at: float
    workers: int = WORKERS
    service: float = SERVICE


@dataclass(frozen=True)
class Served:
    """One admitted call, and the limit when it ended."""

    at: float
    latency: float
    limit: int
    priority: float


@dataclass
class Log:
    """What came out."""

    served: list[Served] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    """The priorities of those who were turned away."""

    def between(self, begin: float, end: float) -> list[Served]:
        return [one for one in self.served if begin <= one.at < end]

    def goodput(self, begin: float, end: float) -> float:
        """Calls a second."""
        return len(self.between(begin, end)) / (end - begin)

    def p99(self, begin: float, end: float) -> float:
        return quantile((one.latency for one in self.between(begin, end)), 0.99)

    def limit(self, begin: float, end: float) -> float:
        """Its mean."""
        return fmean(one.limit for one in self.between(begin, end))


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[int(share * len(ordered))]


def overload(
    core: AdaptiveLimitCore,
    *,
    seconds: float,
    rate: float = 0.0,
    callers: int = 0,
    spread: float = 0.0,
    changes: Sequence[Change] = (),
    seed: int = 1,
    priority: Callable[[random.Random], float] = lambda _: 0.0,
    patience: float = math.inf,
) -> Log:
    """Send *rate* calls a second to a server behind *core*; or those of so many *callers*, each of
    whom calls again as soon as it is answered, and after `AGAIN` seconds if it is turned away.

    *spread* is the deviation of the logarithm of the service times (0.3: the slowest of a hundred
    takes twice the mean; 0.5: nearly three times). A call that waits longer than *patience*
    ends in a time-out, while the server works on.
    """
    chance, log, events, order = random.Random(seed), Log(), list[Any](), count()
    workers, service, busy, queue = WORKERS, SERVICE, 0, deque[Ticket]()
    ranks: dict[Ticket, float] = {}

    def at(when: float, what: str, about: Any = None) -> None:
        heapq.heappush(events, (when, next(order), what, about))

    def lasts() -> float:
        if not spread:
            return service
        return chance.lognormvariate(math.log(service) - spread * spread / 2, spread)

    def leave(ticket: Ticket, now: float, outcome: Outcome) -> None:
        ticket.ended_at, ticket.outcome = now, outcome
        core.release(ticket, now)
        rank = ranks.pop(ticket)
        if outcome is Outcome.SAMPLE:
            log.served.append(Served(now, now - ticket.began, core.limit, rank))

    for _ in range(callers or 1):
        at(0.0, "call")
    for change in changes:
        at(change.at, "change", change)
    while events:
        now, _, what, about = heapq.heappop(events)
        if now >= seconds:
            break
        if what == "call":
            if not callers:
                at(now + chance.expovariate(rate), "call")
            rank = priority(chance)
            if not core.try_acquire(rank, now):
                log.rejected.append(rank)
                if callers:
                    at(now + AGAIN, "call")
                continue
            ticket = Ticket(core, now)
            ranks[ticket] = rank
            queue.append(ticket)
            if patience < math.inf:
                at(now + patience, "patience over", ticket)
        elif what == "done":
            busy -= 1
            if about in ranks:
                leave(about, now, Outcome.SAMPLE)
            if callers:
                at(now, "call")
        elif what == "patience over":
            if about in ranks:
                leave(about, now, Outcome.DROP)
        else:
            workers, service = about.workers, about.service
        while queue and busy < workers:
            busy += 1
            at(now + lasts(), "done", queue.popleft())
    return log


def unloaded_p99(spread: float, service: float = SERVICE) -> float:
    """How long the slowest of a hundred calls takes where nobody waits."""
    return service * math.exp(2.326 * spread - spread * spread / 2)

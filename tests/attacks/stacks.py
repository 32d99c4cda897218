"""Random stacks of policies over a dependency that answers, is slow or fails, by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import anyio

from resilient import (
    BulkheadFull,
    Pipeline,
    RateLimited,
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)

ON = (ConnectionError, TimeoutError)
UNWANTED = 13


def is_unwanted(result: object) -> bool:
    return result == UNWANTED


async def another(_item: int) -> int:
    await anyio.sleep(0.05)
    return 2


MAKERS: tuple[Callable[[], Any], ...] = (
    lambda: retry(on=(*ON, BulkheadFull, RateLimited), wait=0.1, budget=None),
    lambda: retry(on=ON, wait=0.1, within=0.6, on_result=is_unwanted, key="item"),
    lambda: breaker(consecutive_failures=2, cooldown=0.3, slow=0.15),
    lambda: breaker(consecutive_failures=2, cooldown=0.3, key="item"),
    lambda: timeout(0.12),
    lambda: timeout(0.3),
    lambda: bulkhead(1, queue=2),
    lambda: bulkhead(1, queue=2, max_wait=0.25, key="item"),
    lambda: rate_limit(10, burst=1, max_wait=1.0),
    lambda: rate_limit(10, burst=4, max_wait=1.0, cost=lambda item: 1 + item, key="item"),
    lambda: adaptive_limit(initial=1, queue=2),
    lambda: throttle(minimum=1),
    lambda: hedge(0.05, max=2, budget=None),
    lambda: fallback(default=0, on=ConnectionError),
    lambda: fallback(instead=another, on=(ConnectionError, Rejected), on_result=is_unwanted),
    lambda: cache(0.2, stale=5.0, refresh_ahead=0.1),
    lambda: cache(0.15, key="item"),
    singleflight,
)


class Stack:
    """Up to four policies over one dependency."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        makers = self._random.choices(MAKERS, k=self._random.randint(1, 4))
        self.policies: list[Any] = [make() for make in makers]
        self.policy: Pipeline = pipeline(*self.policies)
        self.running = 0

    async def dependency(self, item: int) -> int:
        """It knows what runs."""
        seconds = self._random.choice([0, 0, 0.05, 0.1, 0.2])
        outcome: Any = self._random.choice([1, 1, ConnectionError, UNWANTED])
        self.running += 1
        try:
            if seconds:
                await anyio.sleep(seconds)
            if isinstance(outcome, int):
                return outcome
            raise outcome(item)
        finally:
            self.running -= 1

    def left_behind(self) -> Iterator[str]:
        """What is still held when all callers have gone."""
        if self.running:
            yield f"{self.running} calls run"
        for policy in self.policies:
            stats = policy.stats()
            for held in ("in_flight", "queued"):
                if getattr(stats, held, 0):
                    yield f"{policy}: {held} in {stats}"
            if policy.kind == "breaker" and stats.calls != (
                stats.successes + stats.failures + stats.ignored
            ):
                yield f"{policy}: calls are lost in {stats}"
            if policy._lock.locked():
                yield f"{policy}: its lock is held"

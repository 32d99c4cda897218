"""A simulated service: workers, a bounded queue, and work that nobody can call back."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass

QUEUE_SECONDS = 1.0


class DownError(ConnectionError):
    """Refused at once."""


@dataclass(frozen=True)
class Shape:
    """How big a service is, and how long it works on a call."""

    workers: int = 8
    median: float = 0.020
    spread: float = 0.5  # sigma of the log-normal service time

    @property
    def mean(self) -> float:
        return self.median * math.exp(self.spread**2 / 2)

    @property
    def capacity(self) -> float:
        """Calls a second."""
        return self.workers / self.mean


@dataclass(frozen=True)
class Condition:
    """What is wrong with it now."""

    down: bool = False
    blackhole: bool = False
    slower: float = 1.0  # a call takes so many times longer
    errors: float = 0.0  # share of calls that fail after their work
    refused: float = 0.0  # share of calls that fail at once
    stragglers: float = 0.0  # share of answers that are held up on their way back
    dead_keys: frozenset[int] = frozenset()


class Service:
    """First in, first out; what is queued is executed even if the caller has left.

    A straggler's answer is late by `STRAGGLE` times the median, and holds no worker: else two
    in a hundred of them would be an overload of another kind.
    """

    STRAGGLE = 50

    def __init__(self, shape: Shape, seed: str, loop: asyncio.AbstractEventLoop) -> None:
        self.shape, self.now_is = shape, Condition()
        self._rng, self._loop = random.Random(seed), loop
        self._room = max(1, round(QUEUE_SECONDS * shape.capacity))
        self._queue: deque[asyncio.Future[None]] = deque()
        self._busy = 0
        self._running: dict[asyncio.Future[None], None] = {}  # in the order of their beginning
        self.sent: list[float] = []  # when a call came in
        self.wasted = self.executed = 0

    def set(self, condition: Condition) -> None:
        """Something changes. A service that goes down answers none of those it had."""
        if condition.down and not self.now_is.down:
            for future in (*self._queue, *self._running):
                if not future.done():
                    future.set_exception(DownError("connection reset"))
            self._queue.clear()
        self.now_is = condition

    def wait(self) -> float:
        """Seconds that a call that came now would have to wait for a worker, about."""
        free = self.shape.workers - self._busy
        ahead = len(self._queue) + 1 - free
        return max(0.0, ahead * self.shape.mean * self.now_is.slower / self.shape.workers)

    async def call(self, key: int) -> None:
        """One call; raises a `ConnectionError` if it is refused or fails."""
        condition = self.now_is
        self.sent.append(self._loop.time())
        if condition.down or key in condition.dead_keys:
            raise DownError("connection refused")
        if condition.refused and self._rng.random() < condition.refused:
            raise DownError("refused at once")
        future: asyncio.Future[None] = self._loop.create_future()
        if condition.blackhole:
            await future
        if self._busy < self.shape.workers:
            self._work(future)
        elif len(self._queue) < self._room:
            self._queue.append(future)
        else:
            raise DownError("queue full")
        await future
        if condition.stragglers and self._rng.random() < condition.stragglers:
            await asyncio.sleep(self.STRAGGLE * self.shape.median)
        if condition.errors and self._rng.random() < condition.errors:
            raise DownError("internal error")

    def _work(self, future: asyncio.Future[None]) -> None:
        self._busy += 1
        self._running[future] = None
        shape = self.shape
        lasts = shape.median * math.exp(self._rng.gauss(0.0, shape.spread)) * self.now_is.slower
        self._loop.call_later(lasts, self._done, future)

    def _done(self, future: asyncio.Future[None]) -> None:
        self._busy -= 1
        self.executed += 1
        self._running.pop(future, None)
        if future.done():
            self.wasted += 1
        else:
            future.set_result(None)
        while self._queue and self._busy < self.shape.workers:
            self._work(self._queue.popleft())

"""How the cost of a call grows: with tasks, threads, keys, calls in the window, policies, waiters.

A growth is a row of cases, one for each size; what counts is the ratio to its first.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import singleflight
from benchmarks.floor import answer, answer_async, by_hand, by_hand_async
from benchmarks.timing import FLOOR, OURS, Call, Case, Entry
from resilient import breaker, pipeline, retry, timeout

CALLS = 10
"""By one task or thread, so that beginning it does not count for all."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The same task in several sizes."""

    name: str
    of: str  # what the sizes are
    sizes: tuple[int, ...]
    case: Callable[[int], Case]


def tasks(size: int) -> Case:
    """So many tasks on one breaker, each with a few calls that let the others run in between."""

    def crowd(guarded: Call) -> Call:
        async def one() -> None:
            for _ in range(CALLS):
                await guarded()

        async def all_of_them() -> None:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*[loop.create_task(one()) for _ in range(size)])

        return all_of_them

    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    return Case(
        "growth",
        f"{size} tasks on one breaker",
        "async",
        (
            Entry(FLOOR, lambda: crowd(by_hand_async(work)), by_hand=True),
            Entry(OURS, lambda: crowd(breaker("benchmark", slow=1.0)(work))),
        ),
        units=size * CALLS,
        loops=("asyncio",),
    )


THREAD_CALLS = 20_000


def threads(size: int) -> Case:
    """So many threads on one breaker, which begin together."""

    def crowd(guarded: Call) -> Call:
        def all_of_them() -> None:
            start = threading.Barrier(size)

            def one() -> None:
                start.wait()
                for _ in range(THREAD_CALLS):
                    guarded()

            crew = [threading.Thread(target=one) for _ in range(size)]
            for thread in crew:
                thread.start()
            for thread in crew:
                thread.join()

        return all_of_them

    return Case(
        "growth",
        f"{size} threads on one breaker",
        "sync",
        (
            Entry(FLOOR, lambda: crowd(by_hand(answer)), by_hand=True),
            Entry(OURS, lambda: crowd(breaker("benchmark", slow=1.0)(answer))),
        ),
        units=size * THREAD_CALLS,
    )


HOT = 100
"""Keys that are called in turn. Of more, each would be called less than once in a second, and
then what is measured is the first call of each twelfth of the window: "each key in turn"."""


def keyed(size: int, *, cold: bool = False) -> Call:
    """One call of a breaker with *size* keys: of a few in turn, or of all."""
    policy = breaker("benchmark", slow=1.0, key="key", max_keys=1_000_000)
    names = [f"key {number}" for number in range(size)]

    async def fetch(key: str) -> str:
        return key

    for name in names:
        policy.of(name).admit().close()
    turn = itertools.cycle(names if cold else names[:: max(1, size // HOT)])
    guarded = policy(fetch)
    return lambda: guarded(next(turn))


def unkeyed() -> Call:
    policy = breaker("benchmark", slow=1.0)
    turn = itertools.cycle(["key 0"])

    async def fetch(key: str) -> str:
        return key

    guarded = policy(fetch)
    return lambda: guarded(next(turn))


def keys(size: int) -> Case:
    """A call of a breaker with so many keys."""
    return Case(
        "growth",
        f"{size} keys of one breaker",
        "async",
        (
            Entry("unkeyed", unkeyed, by_hand=True),
            Entry(OURS, lambda: keyed(size)),
            Entry("each key in turn", lambda: keyed(size, cold=True), by_hand=True),
        ),
        loops=("asyncio",),
    )


def calls(size: int) -> Case:
    """A failure, which is judged, with so many calls in the window."""

    def failing() -> Call:
        policy = breaker("benchmark", consecutive_failures=None, failure_rate=1.0, slow=1.0)
        good = policy(answer)
        for _ in range(size):
            good()
        good()
        once = policy(_fail)

        def caller() -> None:
            try:
                once()
            except ValueError:
                pass

        return caller

    return Case("growth", f"{size} calls in the window", "sync", (Entry(OURS, failing),))


def _fail() -> None:
    raise ValueError


def policies(size: int) -> Case:
    """A stack of so many policies."""

    def stacked() -> Call:
        members = [
            retry(on=ValueError),
            breaker(slow=1.0),
            timeout(5.0),
            breaker(slow=1.0),
            timeout(5.0),
        ][:size]
        return pipeline(*members, name="benchmark")(answer_async) if members else answer_async

    entries = (Entry(OURS, stacked),)
    return Case("growth", f"{size} policies stacked", "async", entries, loops=("asyncio",))


def waiters(size: int) -> Case:
    """So many callers of one flight; the figure is for each."""

    def wave(fetch: Any) -> Call:
        number = 0

        async def once() -> None:
            nonlocal number
            number += 1
            key, loop = f"key {number}", asyncio.get_running_loop()
            await asyncio.gather(*[loop.create_task(fetch(key)) for _ in range(size)])

        return once

    return Case(
        "growth",
        f"{size} waiters of one flight",
        "async",
        (
            Entry(
                "task + shield",
                lambda: wave(singleflight.by_hand(singleflight.work)),
                by_hand=True,
            ),
            Entry(OURS, lambda: wave(singleflight.ours(singleflight.work))),
        ),
        units=size,
        loops=("asyncio",),
    )


GROWTHS = [
    Growth("tasks on one breaker", "tasks", (1, 100, 10_000), tasks),
    Growth("threads on one breaker", "threads", (1, 2, 4, 8), threads),
    Growth("keys of one breaker", "keys", (1, 1_000, 100_000), keys),
    Growth("a failure, by calls in the window", "calls", (0, 1_000, 1_000_000), calls),
    Growth("policies stacked", "policies", (0, 1, 2, 3, 4, 5), policies),
    Growth("waiters of one flight", "waiters", (1, 100, 10_000), waiters),
]
CASES = [growth.case(size) for growth in GROWTHS for size in growth.sizes]

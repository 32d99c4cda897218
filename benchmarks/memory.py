"""What a policy keeps: bytes by `tracemalloc`, each in a fresh state."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.timing import Call
from resilient import breaker, deadline


def kept(make: Callable[[], Any]) -> int:
    """Bytes that what *make* returns keeps alive."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del made
        return after - before
    finally:
        tracemalloc.stop()


def one_breaker(calls: int) -> float:
    """A breaker with a function, after *calls* calls, a failure among them."""

    def make() -> Call:
        guarded: Call = breaker("benchmark", slow=1.0)(_fails_first())
        for _ in range(calls):
            try:
                guarded()
            except ValueError:
                pass
        return guarded

    make()
    return min(kept(make) for _ in range(3))  # in one of them the table of policies may grow


def _fails_first() -> Call:
    first = True

    def fn() -> int:
        nonlocal first
        if first:
            first = False
            raise ValueError
        return 1

    return fn


def a_key(size: int = 100_000) -> float:
    """One of *size* keys of one breaker, each called once; the key itself is the caller's."""
    names = [f"key {number}" for number in range(size)]
    policy = breaker("benchmark", slow=1.0, key="key", max_keys=1_000_000)
    guarded = policy(_echo)

    def make() -> None:
        for name in names:
            guarded(name)

    return kept(make) / size


def _echo(key: str) -> str:
    return key


def an_open_deadline(size: int = 1000) -> float:
    """One of *size* deadlines that are open at once, each in a task of its own, less the task."""

    async def all_of_them(*, limited: bool) -> float:
        done, ready = asyncio.Event(), asyncio.Semaphore(0)

        async def one() -> None:
            if limited:
                async with deadline(3600.0):
                    ready.release()
                    await done.wait()
            else:
                ready.release()
                await done.wait()

        async def crowd() -> list[asyncio.Task[None]]:
            tasks = [asyncio.get_running_loop().create_task(one()) for _ in range(size)]
            for _ in tasks:
                await ready.acquire()
            return tasks

        tasks = await crowd()  # once for nothing, so that what is made once is made
        done.set()
        await asyncio.gather(*tasks)
        done.clear()
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tasks = await crowd()
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        done.set()
        await asyncio.gather(*tasks)
        return (after - before) / size

    async def both() -> float:
        return await all_of_them(limited=True) - await all_of_them(limited=False)

    return asyncio.run(both())


FIGURES: list[tuple[str, Callable[[int], float]]] = [
    ("memory of one breaker", lambda _: one_breaker(10)),
    ("memory of one breaker, window filled", one_breaker),
    ("memory of a key of 100,000", lambda calls: a_key(min(100_000, calls))),
    ("memory of an open deadline", lambda _: an_open_deadline()),
]
"""Names, and what gives the bytes, told how many calls to make (10^6, fewer in the short mode)."""

"""Single-flight: a wave of callers for one key, and callers who meet nobody."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks.timing import OURS, Call, Case, Entry
from resilient import singleflight

WAITERS = 1000
Fetch = Callable[[str], Any]


async def work(key: str) -> str:
    """One turn of the loop, so that others can join."""
    await asyncio.sleep(0)
    return key


async def nothing(key: str) -> str:
    return key


def ours(fn: Fetch) -> Fetch:
    return singleflight("benchmark", key="key")(fn)


def by_hand(fn: Fetch) -> Fetch:
    """One task for each key; whoever comes meanwhile waits for it, shielded."""
    tasks: dict[str, asyncio.Task[str]] = {}

    async def fetch(key: str) -> str:
        task = tasks.get(key)
        if task is None:
            task = tasks[key] = asyncio.get_running_loop().create_task(fn(key))
            task.add_done_callback(lambda _: tasks.pop(key))
        return await asyncio.shield(task)

    return fetch


def create_task(fn: Fetch) -> Fetch:
    """What a task of its own costs, with nobody to share it."""

    async def fetch(key: str) -> str:
        return await asyncio.get_running_loop().create_task(fn(key))

    return fetch


def async_lru(fn: Fetch) -> Fetch:
    from async_lru import alru_cache

    return alru_cache(maxsize=1024)(fn)


def theine(fn: Fetch) -> Fetch:
    from theine import Memoize

    cached = Memoize(1024, timedelta(seconds=100))(fn)
    cached.key(lambda key: key)

    async def fetch(key: str) -> str:
        return await cached(key)

    return fetch


def singleflight_py(fn: Fetch) -> Fetch:
    from singleflight.asynchronous import SingleFlightAsync

    call = SingleFlightAsync().call

    async def fetch(key: str) -> str:
        return await call(fn, key, key)

    return fetch


def cashews(fn: Fetch) -> Fetch:
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://")
    return cache(ttl=100, key="{key}", protected=True)(fn)


def aiocache(fn: Fetch) -> Fetch:
    from aiocache import cached_stampede

    return cached_stampede(lease=2, ttl=100, key_builder=lambda _, key: key)(fn)


PEERS = [
    ("async-lru", async_lru, "keeps what it got: a cache"),
    ("theine", theine, "keeps what it got: a cache; a first caller who leaves breaks the others"),
    ("singleflight", singleflight_py, "a first caller who leaves breaks the others, for ever"),
    ("cashews", cashews, "keeps what it got: a cache; a first caller who leaves breaks the others"),
    ("aiocache", aiocache, "keeps what it got: a cache"),
]


def wave(fetch: Fetch) -> Call:
    """All ask for the same new key at once."""
    keys = itertools.count()

    async def once() -> None:
        key, loop = f"key {next(keys)}", asyncio.get_running_loop()
        answers = await asyncio.gather(*[loop.create_task(fetch(key)) for _ in range(WAITERS)])
        if answers != [key] * WAITERS:
            raise RuntimeError(f"not everybody got the answer: {answers[:3]}")

    return once


def alone(fetch: Fetch) -> Call:
    """One asks for a new key."""
    keys = itertools.count()

    async def once() -> None:
        await fetch(f"key {next(keys)}")

    return once


CASES = [
    Case(
        "singleflight",
        "single-flight, 1000 waiters, per waiter",
        "async",
        (
            Entry("task + shield", lambda: wave(by_hand(work)), by_hand=True),
            Entry(OURS, lambda: wave(ours(work))),
            *(
                Entry(name, lambda make=make: wave(make(work)), lacks)
                for name, make, lacks in PEERS
            ),
        ),
        units=WAITERS,
    ),
    Case(
        "singleflight",
        "single-flight, nobody else waiting",
        "async",
        (
            Entry("create_task", lambda: alone(create_task(nothing)), by_hand=True),
            Entry("task + shield", lambda: alone(by_hand(nothing)), by_hand=True),
            Entry(OURS, lambda: alone(ours(nothing))),
            *(
                Entry(name, lambda make=make: alone(make(nothing)), lacks)
                for name, make, lacks in PEERS
            ),
        ),
    ),
]

"""A cache hit. Ours does not exist yet: what it will be held against."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks.timing import Call, Case, Entry


def answer(key: str) -> str:
    return key


async def answer_async(key: str) -> str:
    return key


def hit(cached: Callable[[str], Any]) -> Call:
    cached("key")
    return lambda: cached("key")


async def hit_async(cached: Callable[[str], Any]) -> Call:
    await cached("key")
    return lambda: cached("key")


def cachetools(*, locked: bool) -> Callable[[str], str]:
    from cachetools import TTLCache, cached

    return cached(TTLCache(1024, 3600.0), lock=threading.Lock() if locked else None)(answer)


def theine(fn: Callable[[str], Any]) -> Callable[[str], Any]:
    from theine import Memoize

    cached = Memoize(1024, timedelta(hours=1))(fn)
    cached.key(lambda key: key)
    return cached


def async_lru() -> Callable[[str], Any]:
    from async_lru import alru_cache

    return alru_cache(maxsize=1024, ttl=3600.0)(answer_async)


def aiocache() -> Callable[[str], Any]:
    from aiocache import cached

    return cached(ttl=3600, key_builder=lambda _, key: key)(answer_async)


def cashews() -> Callable[[str], Any]:
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://")
    return cache(ttl=3600, key="{key}")(answer_async)


LACKS = "no stale values, no refresh ahead"
CASES = [
    Case(
        "cache",
        "cache hit",
        "sync",
        (
            Entry("cachetools", lambda: hit(cachetools(locked=False)), "not thread-safe"),
            Entry("cachetools with a lock", lambda: hit(cachetools(locked=True)), LACKS),
            Entry("theine", lambda: hit(theine(answer)), LACKS),
        ),
    ),
    Case(
        "cache",
        "cache hit",
        "async",
        (
            Entry("async-lru", lambda: hit_async(async_lru()), LACKS),
            Entry("theine", lambda: hit_async(theine(answer_async)), LACKS),
            Entry("aiocache", lambda: hit_async(aiocache()), "coalesces nothing"),
            Entry("cashews", lambda: hit_async(cashews()), "coalesces nothing unless told"),
        ),
    ),
]  # fmt: skip

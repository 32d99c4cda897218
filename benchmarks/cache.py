"""A cache hit, by one argument, in the form that takes each library least."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks.timing import OURS, Call, Case, Entry
from resilient import cache


def answer(key: str) -> str:
    return key


async def answer_async(key: str) -> str:
    return key


def itself(key: str) -> str:
    """A key made of the argument alone."""
    return key


def hit(cached: Callable[[str], Any]) -> Call:
    cached("key")
    return lambda: cached("key")


async def hit_async(cached: Callable[[str], Any]) -> Call:
    await cached("key")
    return lambda: cached("key")


def ours(fn: Any) -> Callable[[str], Any]:
    return cache(3600.0)(fn)


def cachetools(*, locked: bool) -> Callable[[str], str]:
    from cachetools import TTLCache, cached

    lock = threading.Lock() if locked else None
    return cached(TTLCache(1024, 3600.0), key=itself, lock=lock)(answer)


def theine(fn: Callable[[str], Any], *, nolock: bool = False) -> Callable[[str], Any]:
    from theine import Memoize

    cached = Memoize(1024, timedelta(hours=1), nolock=nolock)(fn)
    cached.key(itself)
    return cached


def async_lru() -> Callable[[str], Any]:
    from async_lru import alru_cache

    return alru_cache(maxsize=1024, ttl=3600.0, key=itself)(answer_async)


def aiocache() -> Callable[[str], Any]:
    from aiocache import cached

    return cached(ttl=3600, key_builder=lambda _, key: key)(answer_async)


def cashews() -> Callable[[str], Any]:
    from cashews import Cache

    it = Cache()
    it.setup("mem://")
    return it(ttl=3600, key="{key}")(answer_async)


def pyresilience(fn: Any) -> Callable[[str], Any]:
    from pyresilience import CacheConfig, resilient

    return resilient(cache=CacheConfig(max_size=1024, ttl=3600.0))(fn)


LACKS = "no stale values, no refresh ahead"
UNLOCKED = f"{LACKS}; not thread-safe"
ALONE = f"{LACKS}; coalesces nothing without a condition, too"
LOOP = f"{LACKS}; one event loop alone"
CASES = [
    Case(
        "cache",
        "cache hit",
        "sync",
        (
            Entry(OURS, lambda: hit(ours(answer))),
            Entry(
                "cachetools",
                lambda: hit(cachetools(locked=False)),
                f"{UNLOCKED}; coalesces nothing",
            ),
            Entry("cachetools with a lock", lambda: hit(cachetools(locked=True)), ALONE),
            Entry("theine", lambda: hit(theine(answer)), LACKS),
            Entry("theine (nolock)", lambda: hit(theine(answer, nolock=True)), UNLOCKED),
            Entry("pyresilience", lambda: hit(pyresilience(answer)), LACKS),
        ),
    ),
    Case(
        "cache",
        "cache hit",
        "async",
        (
            Entry(OURS, lambda: hit_async(ours(answer_async))),
            Entry("async-lru", lambda: hit_async(async_lru()), LOOP),
            Entry("theine", lambda: hit_async(theine(answer_async)), LACKS),
            Entry("theine (nolock)", lambda: hit_async(theine(answer_async, nolock=True)), LOOP),
            Entry("aiocache", lambda: hit_async(aiocache()), f"{LACKS}; coalesces nothing"),
            Entry("cashews", lambda: hit_async(cashews()), "coalesces nothing unless told"),
            Entry("pyresilience", lambda: hit_async(pyresilience(answer_async)), LACKS),
        ),
    ),
]

"""A rate limit that permits: a rate that nobody reaches, so that every call passes."""

from __future__ import annotations

from typing import Any

from benchmarks.floor import answer, answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry
from resilient import rate_limit

MANY = 1_000_000_000


def ours(fn: Any) -> Call:
    return rate_limit(MANY)(fn)


def hyx() -> Call:
    """As a decorator: that takes less than its context manager."""
    from hyx.ratelimit import tokenbucket

    return tokenbucket(max_executions=MANY, per_time_secs=1.0, bucket_size=MANY)(answer_async)


def aiolimiter() -> Call:
    """By its `acquire`: that takes less than `async with`."""
    from aiolimiter import AsyncLimiter

    acquire = AsyncLimiter(MANY, 1.0).acquire

    async def limited() -> int:
        await acquire()
        return await answer_async()

    return limited


def limits() -> Call:
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(MANY)

    def limited() -> int:
        if not limiter.hit(item, "benchmark"):
            raise RuntimeError("refused")
        return answer()

    return limited


def limits_async() -> Call:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(MANY)

    async def limited() -> int:
        if not await limiter.hit(item, "benchmark"):
            raise RuntimeError("refused")
        return await answer_async()

    return limited


def _pyrate_limiter() -> Any:
    from pyrate_limiter import Duration, Limiter, Rate, StateBucket, TokenBucket

    return Limiter(StateBucket([Rate(MANY, Duration.SECOND)], algorithm=TokenBucket()))


def pyrate_limiter() -> Call:
    limiter = _pyrate_limiter()

    def limited() -> int:
        if not limiter.try_acquire("benchmark", blocking=False):
            raise RuntimeError("refused")
        return answer()

    return limited


def pyrate_limiter_async() -> Call:
    limiter = _pyrate_limiter()

    async def limited() -> int:
        if not await limiter.try_acquire_async("benchmark"):
            raise RuntimeError("refused")
        return await answer_async()

    return limited


def pyresilience(fn: Any) -> Call:
    from pyresilience import RateLimiterConfig, resilient

    return resilient(rate_limiter=RateLimiterConfig(max_calls=MANY, period=1.0))(fn)


# hyx asks the time only once its bucket is empty: here never, where all others do at each call.
BLIND = "asks no time while its bucket is not empty: twice the burst after a pause"
BORDER = "a fixed window: twice the rate at its border"
CASES = [
    Case(
        "rate_limit",
        "rate limit, permitted",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry(OURS, lambda: ours(answer_async)),
            Entry("hyx", hyx, f"{BLIND}; asyncio alone, not thread-safe"),
            Entry("aiolimiter", aiolimiter, "asyncio alone, not thread-safe; rounds"),
            Entry("limits", limits_async, f"{BORDER}; not thread-safe"),
            Entry("pyrate-limiter", pyrate_limiter_async, "whole milliseconds"),
            Entry("pyresilience", lambda: pyresilience(answer_async), "not thread-safe; rounds"),
        ),
    ),
    Case(
        "rate_limit",
        "rate limit, permitted",
        "sync",
        (
            bare("sync"),
            floor("sync"),
            Entry(OURS, lambda: ours(answer)),
            Entry("limits", limits, BORDER),
            Entry("pyrate-limiter", pyrate_limiter, "whole milliseconds"),
            Entry("pyresilience", lambda: pyresilience(answer), "rounds"),
        ),
    ),
]

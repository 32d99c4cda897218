"""A rate limit that permits. Ours does not exist yet: what it will be held against."""

from __future__ import annotations

from benchmarks.floor import answer_async, bare, floor
from benchmarks.timing import Call, Case, Entry

MANY = 1_000_000_000


def hyx() -> Call:
    from hyx.ratelimit import tokenbucket

    return tokenbucket(max_executions=MANY, per_time_secs=1.0, bucket_size=MANY)(answer_async)


def aiolimiter() -> Call:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(MANY, 1.0)

    async def limited() -> int:
        async with limiter:
            return await answer_async()

    return limited


def limits() -> Call:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(MANY)

    async def limited() -> int:
        if not await limiter.hit(item, "benchmark"):
            raise RuntimeError("refused")
        return await answer_async()

    return limited


def pyrate_limiter() -> Call:
    from pyrate_limiter import Duration, Limiter, Rate, StateBucket, TokenBucket

    rate = Rate(MANY, Duration.SECOND)
    limiter = Limiter(StateBucket([rate], algorithm=TokenBucket()))

    async def limited() -> int:
        if not await limiter.try_acquire_async("benchmark"):
            raise RuntimeError("refused")
        return await answer_async()

    return limited


def pyresilience() -> Call:
    from pyresilience import RateLimiterConfig, resilient

    return resilient(rate_limiter=RateLimiterConfig(max_calls=MANY, period=1.0))(answer_async)


CASES = [
    Case(
        "rate_limit",
        "rate limit, permitted",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry("hyx", hyx, "asyncio alone, not thread-safe"),
            Entry("aiolimiter", aiolimiter, "asyncio alone"),
            Entry("limits", limits, "a fixed window: twice the rate at its border"),
            Entry("pyrate-limiter", pyrate_limiter),
            Entry("pyresilience", pyresilience, "asyncio and threads"),
        ),
    )
]

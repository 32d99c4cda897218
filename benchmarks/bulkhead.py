"""A bulkhead with a free place. Ours does not exist yet: what it will be held against."""

from __future__ import annotations

import asyncio

from benchmarks.floor import answer_async, bare, floor
from benchmarks.timing import Call, Case, Entry


def semaphore() -> Call:
    places = asyncio.Semaphore(100)

    async def limited() -> int:
        async with places:
            return await answer_async()

    return limited


def hyx() -> Call:
    from hyx.bulkhead import bulkhead

    return bulkhead(max_concurrency=100, max_capacity=100)(answer_async)


def pyresilience() -> Call:
    from pyresilience import BulkheadConfig, resilient

    return resilient(bulkhead=BulkheadConfig(max_concurrent=100))(answer_async)


def aioresilience() -> Call:
    from aioresilience import disable_logging
    from aioresilience.bulkhead import bulkhead

    disable_logging()
    return bulkhead(max_concurrent=100, max_waiting=100)(answer_async)


CASES = [
    Case(
        "bulkhead",
        "bulkhead free",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry("asyncio.Semaphore", semaphore, by_hand=True),
            Entry("hyx", hyx, "loses a permit when a waiter is cancelled; asyncio alone"),
            Entry("pyresilience", pyresilience, "asyncio and threads"),
            Entry("aioresilience", aioresilience, "asyncio alone"),
        ),
    )
]

"""A bulkhead with a free place."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from benchmarks.floor import answer, answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry
from resilient import bulkhead


def ours(fn: Any) -> Call:
    return bulkhead(100, queue=100)(fn)


def semaphore() -> Call:
    places = asyncio.Semaphore(100)

    async def limited() -> int:
        async with places:
            return await answer_async()

    return limited


def semaphore_by_hand() -> Call:
    """Without `async with`, and so without two of its coroutines."""
    places = asyncio.Semaphore(100)

    async def limited() -> int:
        await places.acquire()
        try:
            return await answer_async()
        finally:
            places.release()

    return limited


def thread_semaphore() -> Call:
    places = threading.Semaphore(100)

    def limited() -> int:
        with places:
            return answer()

    return limited


def hyx() -> Call:
    """As a context manager: that takes less than its decorator."""
    from hyx.bulkhead import bulkhead as hyx_bulkhead

    places = hyx_bulkhead(max_concurrency=100, max_capacity=200)

    async def limited() -> int:
        async with places:
            return await answer_async()

    return limited


def pyresilience(fn: Any) -> Call:
    from pyresilience import BulkheadConfig, resilient

    return resilient(bulkhead=BulkheadConfig(max_concurrent=100))(fn)


def aioresilience() -> Call:
    """As a context manager: that takes less than its decorator, and tells nobody of it."""
    from aioresilience import Bulkhead, BulkheadConfig, disable_logging

    disable_logging()
    places = Bulkhead("benchmark", BulkheadConfig(max_concurrent=100, max_waiting=100))

    async def limited() -> int:
        async with places:
            return await answer_async()

    return limited


def interlock() -> Call:
    """Its bulkhead is there in a pipeline alone."""
    from interlock import Pipeline

    pipe = Pipeline.builder().bulkhead(100).build()
    return lambda: pipe.call(answer_async)


LOSES = "loses a permit when a waiter is cancelled; asyncio alone"
CASES = [
    Case(
        "bulkhead",
        "bulkhead free",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry(OURS, lambda: ours(answer_async)),
            Entry("asyncio.Semaphore", semaphore, "no end to its queue", by_hand=True),
            Entry(
                "asyncio.Semaphore.acquire", semaphore_by_hand, "no end to its queue", by_hand=True
            ),
            Entry("hyx", hyx, LOSES),
            Entry("pyresilience", lambda: pyresilience(answer_async), "no queue; asyncio alone"),
            Entry("aioresilience", aioresilience, "asyncio alone"),
            Entry("interlock-cb", interlock, "no queue; asyncio alone"),
        ),
    ),
    Case(
        "bulkhead",
        "bulkhead free",
        "sync",
        (
            bare("sync"),
            floor("sync"),
            Entry(OURS, lambda: ours(answer)),
            Entry("threading.Semaphore", thread_semaphore, "no end to its queue", by_hand=True),
            Entry("pyresilience", lambda: pyresilience(answer), "no queue"),
        ),
    ),
]

"""Timeout and deadline, where the limit does not come."""

from __future__ import annotations

import asyncio

import anyio

from benchmarks.floor import answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry
from resilient import deadline, timeout


async def asyncio_timeout() -> int:
    async with asyncio.timeout(5.0):
        return await answer_async()


async def asyncio_wait_for() -> int:
    return await asyncio.wait_for(answer_async(), 5.0)


async def anyio_fail_after() -> int:
    with anyio.fail_after(5.0):
        return await answer_async()


async def our_deadline() -> int:
    async with deadline(5.0):
        return await answer_async()


def hyx() -> Call:
    from hyx.timeout import timeout as hyx_timeout

    async def limited() -> int:  # as a decorator it makes a task for each call
        async with hyx_timeout(5.0):
            return await answer_async()

    return limited


def pyresilience() -> Call:
    from pyresilience import TimeoutConfig, resilient

    return resilient(timeout=TimeoutConfig(seconds=5.0))(answer_async)


def aioresilience() -> Call:
    from aioresilience import TimeoutConfig, TimeoutManager, disable_logging

    disable_logging()
    execute = TimeoutManager(TimeoutConfig(timeout=5.0)).execute
    return lambda: execute(answer_async)


def interlock() -> Call:
    from interlock import timeout as interlock_timeout

    async def limited() -> int:
        async with interlock_timeout(5.0):
            return await answer_async()

    return limited


ALONE = "limits this call alone: nothing below sees what is left"

# pyfailsafe has no timeout.
CASES = [
    Case(
        "timeout",
        "timeout or deadline that does not fire",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry("asyncio.timeout", lambda: asyncio_timeout, ALONE, by_hand=True),
            Entry("asyncio.wait_for", lambda: asyncio_wait_for, ALONE, by_hand=True),
            Entry("anyio.fail_after", lambda: anyio_fail_after, ALONE, by_hand=True),
            Entry(OURS, lambda: timeout(5.0)(answer_async)),
            Entry("resilient deadline", lambda: our_deadline, by_hand=True),
            Entry("hyx", hyx, f"{ALONE}; asyncio alone"),
            Entry("pyresilience", pyresilience, f"{ALONE}; asyncio alone"),
            Entry("aioresilience", aioresilience, f"{ALONE}; asyncio alone"),
            Entry("interlock-cb", interlock, f"{ALONE}; asyncio alone"),
        ),
    )
]

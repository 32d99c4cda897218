"""Each failed call left a cycle for the collector: its error, whose traceback led back to it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import tenacity

from resilient import (
    RetryBudget,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from tests.worlds import World, world_named


class Mark:
    """What an error carries: it lives as long as the error does."""


class MarkedError(Exception):
    def __init__(self) -> None:
        super().__init__()
        self.mark = Mark()
        MARKS.append(weakref.ref(self.mark))


MARKS: list[weakref.ref[Mark]] = []


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    MARKS.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_breaker() -> Any:
    one = breaker(cooldown=1e6)
    one.force_open()
    return one


def full() -> Any:
    one = bulkhead(1)
    FULL.append(one.admit())
    return one


def empty() -> Any:
    one = rate_limit(1, per=1e6)
    one.take()
    return one


def handler(_: Exception) -> None:
    raise MarkedError


FULL: list[Any] = []
BUDGET = RetryBudget(0, 0)
OFTEN: dict[str, Any] = {"on": Exception, "wait": 0.01, "attempts": 3, "budget": None}
POLICIES: dict[str, Callable[[], Any]] = {
    "retry": lambda: retry(**OFTEN),
    "retry, keyed": lambda: retry(**OFTEN, key=lambda: 1),
    "retry, within": lambda: retry(**OFTEN, within=60.0),
    "retry, not retryable": lambda: retry(on=KeyError),
    "retry, keyed, not retryable": lambda: retry(on=KeyError, key=lambda: 1),
    "retry, no budget": lambda: retry(on=Exception, wait=0, budget=BUDGET),
    "breaker": lambda: breaker(consecutive_failures=None, minimum=10**6),
    "breaker, slow": lambda: breaker(slow=1.0, consecutive_failures=None, minimum=10**6),
    "breaker, keyed": lambda: breaker(key=lambda: 1, consecutive_failures=10**6, failure_rate=None),
    "bulkhead": lambda: bulkhead(1),
    "rate_limit": lambda: rate_limit(10**6),
    "adaptive_limit": adaptive_limit,
    "throttle": throttle,
    "timeout": lambda: timeout(60.0),
    "singleflight": singleflight,
    "cache": lambda: cache(60),
    "cache, stale": lambda: cache(60, stale=60),
    "fallback": lambda: fallback(handler),
    "fallback, value": lambda: fallback(default=1),
    "hedge": lambda: hedge(0.5),
    "hedge, at once": lambda: hedge(1e-9, max=2),
    "protect": lambda: protect(on=Exception, timeout=60.0),
    "rejected by a breaker": open_breaker,
    "rejected by a bulkhead": full,
    "rejected by a rate limit": empty,
    "timeout, fired": lambda: timeout(0.5),
    "retry, within, fired": lambda: retry(**OFTEN, within=0.5),
}
ASYNC_ONLY = {"hedge", "hedge, at once", "protect", "timeout, fired", "retry, within, fired"}


def fails() -> None:
    raise MarkedError


async def fails_async() -> None:
    await anyio.lowlevel.checkpoint()
    raise MarkedError


async def hangs() -> None:
    try:
        raise MarkedError
    except MarkedError:
        await anyio.sleep(5)


@pytest.mark.rule("E1", "F8")
@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ASYNC_ONLY])
def test_a_failed_sync_call_leaves_nothing_to_collect(name: str) -> None:
    with world_named("threads"):
        guarded = POLICIES[name]()(fails)

        def run() -> None:
            for _ in range(3):
                with suppress(Exception):
                    guarded()

        run()
        gc.collect()
        MARKS.clear()
        run()
        assert survivors() == []
        assert gc.collect() == 0


@pytest.mark.rule("E1", "F8")
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_failed_async_call_leaves_nothing_to_collect(name: str, loop: str) -> None:
    with world_named(loop) as world:
        guarded = POLICIES[name]()(hangs if "fired" in name else fails_async)

        async def scenario(w: World) -> None:  # nothing of it waits
            async def run() -> None:
                for _ in range(3):
                    with suppress(Exception):
                        await guarded()
                await anyio.sleep(1)

            await run()
            gc.collect()
            MARKS.clear()
            await run()
            assert survivors() == []
            gc.collect()

        world.run(scenario)


def survivors() -> list[Mark]:
    return [one for mark in MARKS if (one := mark()) is not None]


@pytest.mark.rule("C4", "E1")
@pytest.mark.parametrize("name", ["asyncio", "trio", "threads"])
def test_a_stale_value_does_not_keep_the_error_that_it_is_served_for(name: str) -> None:
    with world_named(name) as world:

        async def scenario(w: World) -> None:
            answers: list[int] = [1]

            def fn() -> int:
                if answers:
                    return answers.pop()
                raise MarkedError

            guarded = cache(1.0, jitter=0, stale=1e6)(w.function(fn))
            for _ in range(3):
                assert await w.call(guarded) == 1
                await w.sleep(2)
            assert len(MARKS) == 2
            assert survivors() == []

        world.run(scenario)


@pytest.mark.rule("R3", "E1")
@pytest.mark.parametrize("fails_at_last", [True, False])
@pytest.mark.parametrize("name", ["asyncio", "trio", "threads"])
def test_what_a_strategy_is_shown_is_let_go(name: str, fails_at_last: bool) -> None:
    with world_named(name) as world:

        async def scenario(w: World) -> None:
            calls = 0

            def fn() -> None:
                nonlocal calls
                calls += 1
                if fails_at_last or calls % 2:
                    raise MarkedError

            stop = tenacity.stop_after_attempt(2)
            guarded = retry(on=MarkedError, stop=stop, wait=0, budget=None)(w.function(fn))
            for _ in range(3):
                with suppress(MarkedError):
                    await w.call(guarded)
            assert MARKS
            assert survivors() == []

        world.run(scenario)


@pytest.mark.rule("R10", "E1")
@pytest.mark.parametrize("name", ["asyncio", "threads"])
def test_a_loop_that_gives_up_lets_go(name: str) -> None:
    with world_named(name) as world:

        async def scenario(w: World) -> None:  # nothing of it waits
            def repeat() -> None:
                for attempt in retry(on=MarkedError, attempts=1, budget=None):
                    with attempt:
                        raise MarkedError

            for _ in range(3):
                with suppress(MarkedError):
                    repeat()
            assert survivors() == []

        world.run(scenario)

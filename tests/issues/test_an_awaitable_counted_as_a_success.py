"""What a sync function returned to be awaited counted as a success, whatever came of it: the call
of an HTTP client, a task, a future of an executor.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from resilient import breaker, cache, fallback, retry
from tests.kinds import ASYNC_ONLY, MAKERS

KINDS = [kind for kind in MAKERS if kind not in ASYNC_ONLY]


class Request:
    """A stand-in for what a call of an HTTP client returns: to be awaited, or entered."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.sleep(0).__await__()
        raise ConnectionError


def failing() -> None:
    raise ConnectionError


@types.coroutine
def old_style() -> Generator[Any, None, None]:
    yield from asyncio.sleep(0).__await__()
    raise ConnectionError


async def fails() -> None:
    raise ConnectionError


def in_executor(loop: asyncio.AbstractEventLoop) -> Callable[[], Awaitable[None]]:
    def submit() -> Awaitable[None]:
        future = loop.run_in_executor(None, failing)  # asyncio.run ends its threads
        future.add_done_callback(lambda done: done.exception())
        return future

    return submit


def as_task(loop: asyncio.AbstractEventLoop) -> Callable[[], Awaitable[None]]:
    def start() -> Awaitable[None]:
        task = loop.create_task(fails())
        task.add_done_callback(lambda done: done.exception())
        return task

    return start


AWAITABLES: dict[str, Callable[[asyncio.AbstractEventLoop], Callable[[], object]]] = {
    "a request": lambda _: lambda: Request(),
    "an old coroutine": lambda _: lambda: old_style(),  # itself it is refused as a generator
    "a task": as_task,
    "a future of an executor": in_executor,
}


@pytest.mark.rule("F1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", AWAITABLES)
def test_it_is_refused_at_the_call_and_says_nothing_of_the_dependency(what: str, kind: str) -> None:
    async def main() -> None:
        get = AWAITABLES[what](asyncio.get_running_loop())
        watching, policy = breaker(), MAKERS[kind]()
        decorated = policy(get)
        for attempt in (decorated, watching(decorated), lambda: policy.call(get)):
            with pytest.raises(TypeError, match="async def"):
                attempt()
        await asyncio.sleep(0.0)
        stats = watching.stats()
        assert (stats.ignored, stats.failures, stats.successes) == (1, 0, 0)

    asyncio.run(main())


@pytest.mark.rule("F1", "R2")
def test_it_is_neither_retried_nor_kept_nor_replaced() -> None:
    made: list[Request] = []

    def get() -> object:
        made.append(Request())
        return made[-1]

    kept = cache(60)
    for policy in (retry(on=lambda _: True, wait=0), kept, fallback(default="instead")):
        with pytest.raises(TypeError, match="returned an awaitable, Request"):
            policy.call(get)
    assert len(made) == 3
    assert kept.stats().size == 0


@pytest.mark.rule("F1")
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_found_after_results_of_other_types_and_generators_pass(kind: str) -> None:
    results: list[object] = [None, 1, "text", 2.5, (n for n in "ab"), 3, Request(), 4]
    wanted = results[:6] + results[7:]
    guarded, found = MAKERS[kind]()(lambda n: results[n]), []
    for n in range(len(results)):
        try:
            found.append(guarded(n))
        except TypeError:
            assert n == 6
    assert found == wanted

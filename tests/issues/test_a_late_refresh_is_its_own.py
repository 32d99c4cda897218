"""A refresh that outlives its caller: what it brought reached others, and others ended it."""

from __future__ import annotations

import asyncio
import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import cache, deadline, singleflight
from resilient.testing import virtual_time


class Source:
    """A function whose n-th run lasts as told."""

    def __init__(self, *lasts: float) -> None:
        self._lasts, self.runs, self.cancelled = lasts, 0, 0

    async def __call__(self) -> list[int]:
        self.runs += 1
        run = self.runs
        try:
            await asyncio.sleep(self._lasts[min(run, len(self._lasts)) - 1])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [run]


def play(main: Callable[[], Any]) -> Any:
    with virtual_time(fresh=True) as time:
        return time.run(main)


@pytest.mark.rule("C6", "C9")
@pytest.mark.parametrize("copied", [copy.copy, None])
def test_what_a_dropped_run_brings_is_nobodys(copied: Callable[[Any], Any] | None) -> None:
    async def main() -> None:
        source = Source(0, 5, 10)
        policy = cache(1, jitter=0, stale=300, patience=2, copy=copied)
        ask = policy(source.__call__)
        await ask()
        await asyncio.sleep(1)
        first = asyncio.create_task(ask())  # waits for the second run
        await asyncio.sleep(1)
        policy.clear()
        second = asyncio.create_task(ask())  # has the third one, which the first joins
        assert [await first, await second] == [[3], [3]]

    play(main)


@pytest.mark.rule("C4")
def test_a_client_that_leaves_does_not_end_it() -> None:
    async def main() -> None:
        source = Source(0, 30)
        ask = cache(10, jitter=0, stale=300)(source.__call__)
        await ask()
        await asyncio.sleep(11)
        async with deadline(1):
            assert await ask() == [1]
        client = asyncio.create_task(ask())
        await asyncio.sleep(1)
        client.cancel()
        await asyncio.sleep(32)
        assert (source.runs, source.cancelled, await ask()) == (2, 0, [2])

    play(main)


@pytest.mark.rule("S7", "C4")
def test_it_may_ask_for_the_run_that_it_was_begun_in() -> None:
    """Which waits for it no more."""

    async def main() -> None:
        runs, found = 0, list[int]()

        @cache(1, jitter=0, stale=300, patience=2, name="inner")
        async def inner() -> int:
            nonlocal runs
            runs += 1
            if runs > 1:
                await asyncio.sleep(5)
                found.append(await outer())
            return 1

        @singleflight("outer")
        async def outer() -> int:
            result = await inner()
            await asyncio.sleep(10)
            return result

        await inner()
        await asyncio.sleep(1)
        assert await outer() == 1
        await asyncio.sleep(60)
        assert found == [1]

    play(main)


@pytest.mark.rule("F9", "C4")
def test_an_exit_in_a_thread_of_its_own_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # the thread exits as well
    runs = 0

    def ask() -> int:
        nonlocal runs
        runs += 1
        if runs > 1:
            sys.exit(7)
        return runs

    policy = cache(1, jitter=0, stale=300, patience=5)
    with virtual_time(fresh=True) as time:
        assert policy(ask)() == 1
        time.advance(2)
        with pytest.raises(SystemExit):
            policy.call(ask)
        assert policy.stats().stale_served == 0


@pytest.mark.rule("F1", "C4")
def test_a_coroutine_in_place_of_a_result_is_not_answered_with_an_old_value() -> None:
    runs = 0

    async def later() -> int:
        return 1

    def ask() -> Any:
        nonlocal runs
        runs += 1
        return later() if runs > 1 else runs

    policy = cache(1, jitter=0, stale=300)
    with virtual_time(fresh=True) as time:
        assert policy.call(ask) == 1
        time.advance(2)
        with pytest.raises(TypeError, match="async def"):
            policy.call(ask)

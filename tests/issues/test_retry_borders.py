"""Where a retry did not look at the deadline, or looked too often."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from resilient import DeadlineExceeded, deadline, retry
from resilient._runtime import clock
from resilient.events import RetryScheduled, subscribe
from resilient.testing import virtual_time
from tests.worlds import World, world_named


@pytest.mark.rule("D4", "R5")
@pytest.mark.parametrize("form", ["function", "loop"])
@pytest.mark.parametrize("limit", ["deadline", "within"])
def test_after_a_sleep_that_took_too_long_no_attempt_begins(form: str, limit: str) -> None:
    with virtual_time() as time:
        policy = retry(on=ValueError, wait=1, within=5 if limit == "within" else None)
        calls = []

        def work() -> None:
            calls.append(time.now())
            raise ValueError

        def loop() -> None:
            for attempt in policy:
                with attempt:
                    work()

        run = policy(work) if form == "function" else loop
        with deadline(5 if limit == "deadline" else None):
            with subscribe(
                lambda _: time.advance(10), RetryScheduled
            ):  # the machine was suspended, say
                with pytest.raises((ValueError, DeadlineExceeded)):
                    run()
        assert calls == [0]


@pytest.mark.rule("F11", "R5")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("form", ["function", "loop"])
def test_the_backoff_of_a_child_task_ends_at_its_inherited_deadline(name: str, form: str) -> None:
    async def scenario(w: World) -> None:
        calls: list[float] = []
        ended: list[tuple[Any, str, bool]] = []

        async def work() -> None:
            calls.append(w.now())
            raise ValueError

        policy = retry("db", on=ValueError, wait=50)

        async def child() -> None:
            try:
                if form == "function":
                    await policy(work)()
                else:
                    async for attempt in policy:
                        with attempt:
                            await work()
            except DeadlineExceeded as error:
                ended.append((w.now(), error.policy, error.started))

        async with anyio.create_task_group() as group:
            async with deadline(90) as limit:
                group.start_soon(child)
                await w.sleep(1)
                limit.reschedule(2)
                await w.sleep(1)
        assert calls == [0]
        assert ended == [(pytest.approx(3), "db", False)]

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("R11")
def test_a_first_success_under_nested_deadlines_reads_the_clock_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[int] = []
    real = clock.now

    def counted() -> float:
        reads.append(1)
        return real()

    monkeypatch.setattr(clock, "now", counted)
    fn = retry(on=ValueError)(lambda: 5)
    with deadline(50), deadline(60), deadline(70):
        reads.clear()
        assert fn() == 5
        assert len(reads) <= 1


@pytest.mark.rule("R10", "T2")
def test_in_a_loop_on_trio_within_follows_trios_clock() -> None:
    async def main() -> None:
        began = trio.current_time()
        with pytest.raises((ValueError, DeadlineExceeded)):
            async for attempt in retry(on=ValueError, wait=1, within=10, attempts=50, budget=None):
                with attempt:
                    raise ValueError
        assert trio.current_time() - began <= 10

    trio.run(main, clock=MockClock(autojump_threshold=0))

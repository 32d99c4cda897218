"""Six defects that a reader of the code found, each as it was shown."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from typing import Any
from unittest.mock import AsyncMock

import pytest
import tenacity

from resilient import breaker, events, retry, singleflight
from resilient.testing import virtual_time


@pytest.mark.rule("S1")
def test_two_objects_methods_are_two_calls_and_a_mock_is_one() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @breaker("b")
        async def get(self) -> str:
            await asyncio.sleep(0.01)
            return self.name

    async def main() -> None:
        flight, one, other = singleflight(), Named("A"), Named("B")
        both = asyncio.gather(flight.call(one.get), flight.call(other.get))
        assert list(await both) == ["A", "B"]
        assert await singleflight()(AsyncMock(return_value=5))() == 5

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("S1")
def test_two_wrappers_of_one_guarded_function_are_two_functions() -> None:
    @breaker("b")
    async def base() -> str:
        await asyncio.sleep(0.01)
        return "x"

    @functools.wraps(base)
    async def loud() -> str:
        return (await base()).upper()

    @functools.wraps(base)
    async def thrice() -> str:
        return (await base()) * 3

    async def main() -> None:
        flight = singleflight()
        both = await asyncio.gather(flight.call(loud), flight.call(thrice))
        assert list(both) == ["X", "xxx"]

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("F4", "R4")
def test_a_keyed_retry_that_evicts_takes_no_lock_under_its_own() -> None:
    policy = retry(on=ValueError, key=lambda key: key)
    policy.call(lambda key: key, 0)
    assert policy._budgets is not None
    budget = policy._budgets.peek(0)
    assert budget is not None
    with budget._lock:
        for key in range(1, 1200):  # waits for ever, if it takes the lock
            policy.call(lambda key: key, key)


@pytest.mark.rule("F3", "B2")
def test_a_generator_that_is_collected_under_the_lock_settles_later() -> None:
    policy = breaker(consecutive_failures=1)

    def stream() -> Any:
        with policy as call:
            call.fail()
            yield

    begun = stream()
    next(begun)
    with policy._lock:
        del begun
        gc.collect()
    assert policy.stats().failures == 1


@pytest.mark.rule("S1")
def test_a_run_that_ends_inside_create_task_is_not_waited_for() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        factory = getattr(asyncio, "eager_task_factory", None)
        if factory is None:
            pytest.skip("eager tasks are of 3.12")
        loop.set_task_factory(factory)

        async def quick() -> int:
            return 1

        assert await asyncio.wait_for(singleflight().call(quick), 5) == 1

    asyncio.run(main())


@pytest.mark.rule("F8", "F12")
def test_a_strategy_of_tenacity_that_raises_replaces_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ValueError("own")

    def fail() -> None:
        raise error

    broken: Any = tenacity.retry_if_exception(lambda error: error.code == 503)  # type: ignore[attr-defined]  # that is the bug
    policy = retry(on=broken)
    for _ in range(2):
        with pytest.raises(ValueError, match="own") as caught:
            policy.call(fail)
        assert caught.value is error
    assert retry(on=tenacity.retry_if_result(lambda result: result.bad)).call(lambda: 5) == 5
    assert len(caplog.records) == 2


@pytest.mark.rule("F9", "M2")
def test_an_exit_in_a_listener_gives_the_place_back() -> None:
    def leave(_: object) -> None:
        raise SystemExit(1)

    with virtual_time() as time:
        policy = breaker(consecutive_failures=1, cooldown=1.0)
        policy.admit().close(ValueError())
        time.advance(2)
        with events.subscribe(leave, events.StateChanged), pytest.raises(SystemExit):
            policy.call(int)
        assert policy.stats().in_flight == 0
        assert policy.call(int) == 0


@pytest.mark.rule("F4", "S8")
def test_stats_may_be_read_while_other_loops_begin() -> None:
    flight, stop, faults = singleflight(), threading.Event(), list[Exception]()

    def loops() -> None:
        for _ in range(100):
            asyncio.run(flight.call(asyncio.sleep, 0))
        stop.set()

    worker = threading.Thread(target=loops)
    worker.start()
    while not stop.is_set():
        try:
            flight.stats()
        except RuntimeError as error:
            faults.append(error)
    worker.join()
    assert not faults

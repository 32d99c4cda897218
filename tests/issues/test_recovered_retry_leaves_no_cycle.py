"""A call that succeeded after a retry kept its last error, whose traceback led back to the call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from resilient import breaker, retry
from resilient.errors import CircuitOpen


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("unwanted", [None, lambda result: False])
def test_a_recovered_call_leaves_nothing_to_collect(unwanted: object) -> None:
    calls = 0

    def flaky() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ValueError
        return calls

    async def flaky_async() -> int:
        return flaky()

    policy = retry(on=ValueError, wait=0, budget=None, on_result=unwanted)  # type: ignore[arg-type]  # a predicate
    guarded, guarded_async = policy(flaky), policy(flaky_async)
    assert guarded() == 3
    with asyncio.Runner() as runner:
        runner.run(guarded_async())
        gc.collect()
        assert guarded() == 9
        runner.run(guarded_async())
        assert gc.collect() == 0


@pytest.mark.usefixtures("no_collector")
def test_a_rejection_leaves_nothing_to_collect() -> None:
    policy = breaker(consecutive_failures=1, cooldown=1000.0)
    policy.admit().close(ValueError())
    guarded = policy(lambda: 1)
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            guarded()
        gc.collect()
    with suppress(CircuitOpen):
        guarded()
    assert gc.collect() == 0

"""A group of nothing but rejections was repeated by a retry with a strategy of tenacity."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import tenacity.asyncio

from resilient import BulkheadFull, CircuitOpen, DeadlineExceeded, retry
from tests.worlds import World


async def yes(_: BaseException) -> bool:
    return True


STRATEGIES: dict[str, Any] = {
    "sync": tenacity.retry_if_exception_type(Exception),
    "async": tenacity.asyncio.retry_if_exception(yes),
    "named": (Exception, ExceptionGroup),
}
LATE = DeadlineExceeded("inner", 1.0, 1.0, False)
HUNG = DeadlineExceeded("inner", 1.0, 1.0, True)
OPEN, FULL = CircuitOpen("db"), BulkheadFull("pool")
FINAL = [
    ExceptionGroup("all", [OPEN]),
    ExceptionGroup("all", [LATE]),
    ExceptionGroup("all", [OPEN, ExceptionGroup("inside", [LATE, FULL])]),
]
MIXED = [
    ExceptionGroup("all", [OPEN, ConnectionError()]),
    ExceptionGroup("all", [OPEN, ExceptionGroup("inside", [LATE, ConnectionError()])]),
    ExceptionGroup("all", [HUNG]),
]


async def attempts(w: World, strategy: str, *, loop: bool, error: Exception) -> int:
    """How often a call is made that raises *error*."""
    if strategy == "async" and (loop or not w.is_async):
        pytest.skip("only async functions can await it")
    policy = retry(on=STRATEGIES[strategy], attempts=3, wait=0, budget=None)
    made = 0

    def fn() -> None:
        nonlocal made
        made += 1
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        if not loop:
            await w.call(policy(w.function(fn)))
        elif w.is_async:
            async for attempt in policy:
                with attempt:
                    fn()
        else:
            for attempt in policy:
                with attempt:
                    fn()
    assert caught.value is error
    return made


@pytest.mark.rule("R2", "F12")
@pytest.mark.parametrize("loop", [False, True], ids=["function", "loop"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("index", range(3))
def test_a_group_of_nothing_else_is_never_repeated(
    world: World, strategy: str, index: int, loop: bool
) -> None:
    async def scenario(w: World) -> None:
        assert await attempts(w, strategy, loop=loop, error=FINAL[index]) == 1
        assert await attempts(w, strategy, loop=loop, error=MIXED[index]) == 3

    world.run(scenario)

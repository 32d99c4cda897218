"""``discard`` took the rest of the time, or its predicate exited, and nobody looked."""

from __future__ import annotations

import asyncio

import pytest

from resilient import DeadlineExceeded, deadline, fallback, hedge, remaining, retry
from resilient.testing import VirtualTime, virtual_time
from tests.worlds import World


@pytest.mark.rule("D5", "R8")
def test_no_attempt_begins_when_it_took_all_of_the_time(virtual_time: VirtualTime) -> None:
    left = list[float]()

    def ask() -> int:
        left.append(remaining())
        return 1

    policy = retry(
        on=ConnectionError,
        wait=0,
        on_result=lambda result: True,
        discard=lambda result: virtual_time.advance(10),
    )
    with deadline(5), pytest.raises(DeadlineExceeded) as caught:
        policy.call(ask)
    assert (left, caught.value.started) == ([5.0], False)
    assert policy.stats().gave_up["deadline"] == 1


class Exit(BaseException):
    """No Exception."""


@pytest.mark.rule("F9", "H1")
def test_what_a_predicate_that_exits_was_asked_of_is_discarded() -> None:
    closed = list[int]()

    def asked(result: int) -> bool:
        raise Exit

    async def main() -> None:
        policy = hedge(0, budget=None, on_result=asked, discard=closed.append)
        with pytest.raises(Exit):
            await policy.call(asyncio.sleep, 1, 1)

    with virtual_time() as time:
        time.run(main)
    assert closed == [1, 1]


@pytest.mark.rule("F9", "R8")
def test_so_it_is_under_a_retry(world: World) -> None:
    closed = list[int]()

    def asked(result: int) -> bool:
        raise Exit

    async def scenario(w: World) -> None:
        policy = retry(on=ConnectionError, on_result=asked, discard=closed.append)
        with pytest.raises(Exit):
            await w.call(policy(w.function(lambda: 1)))
        assert closed == [1]

    world.run(scenario)


@pytest.mark.rule("F1", "C1")
def test_a_generator_function_is_no_other_provider() -> None:
    def several() -> object:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        fallback(instead=several)

"""The same script gave another trace: the first cooldown of a breaker that begins open was drawn
from real chance, and callers that share a run went on in the order of their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient import BreakerState, breaker, cache, hedge, pipeline, singleflight
from resilient.testing import virtual_time
from resilient.testing.scripts import Answer, Step, play

MANY = 64


def begins_open() -> Any:
    return breaker("payments", initial=BreakerState.OPEN)


@pytest.mark.rule("T2", "T3")
def test_a_cooldown_that_begins_with_virtual_time_is_drawn_from_its_seed() -> None:
    policy = begins_open()
    rests: list[float | None] = []
    others: list[Any] = []
    for seed in (0, 0, 1):
        with virtual_time(seed=seed, fresh=True):
            rests.append(policy.stats().retry_after)
        others.append(begins_open())  # what else is alive does not matter
    assert rests[0] == rests[1] != rests[2]


@pytest.mark.rule("T5")
@pytest.mark.parametrize("on", ["asyncio", "trio", "threads"])
def test_and_with_a_script_is_drawn_from_that_of_play(on: Any) -> None:
    script = [Step(n / 16) for n in range(40)]
    first, again, other = (str(play(begins_open(), script, on=on, seed=n)) for n in (0, 0, 1))
    assert first == again != other
    with virtual_time() as time:
        begins_open()
        time.advance(5)
        assert str(play(begins_open(), script, on=on)) == first
        assert str(play(begins_open(), script, on=on, seed=1)) == other


@pytest.mark.rule("S1", "T2")
@pytest.mark.parametrize("share", [singleflight, lambda: cache(60)])
def test_callers_of_a_run_go_on_in_the_order_in_which_they_came(share: Callable[[], Any]) -> None:
    came: list[int] = []
    policy = share()

    async def main() -> None:
        async def caller(number: int) -> None:
            await policy.call(asyncio.sleep, 1)
            came.append(number)

        await asyncio.gather(*(caller(n) for n in range(MANY)))

    with virtual_time() as time:
        time.run(main)
    assert came == list(range(MANY))


@pytest.mark.rule("H1", "T2")
def test_the_losers_of_a_hedge_are_cancelled_in_the_order_in_which_they_began() -> None:
    began = 0
    cancelled: list[int] = []

    async def fetch() -> None:
        nonlocal began
        number = began
        began += 1
        try:
            await asyncio.sleep(1 if number == MANY else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with virtual_time() as time:
        time.run(hedge(0, max=MANY, budget=None).call, fetch)
    assert cancelled == list(range(MANY))


@pytest.mark.rule("T5")
def test_which_of_two_attempts_wins_that_share_a_run_is_always_the_same() -> None:
    def result() -> object:
        stack = pipeline(hedge(0.5, budget=None), singleflight(copy=str))
        return play(stack, [Step(0.0, Answer(2.0, ["A-17"]))]).calls[0].result

    assert [result() for _ in range(30)] == [["A-17"]] * 30

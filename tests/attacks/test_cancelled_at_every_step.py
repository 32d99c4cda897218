"""A caller that is cancelled leaves nothing behind, at whatever step of whatever stack: F9."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio

from resilient import DeadlineExceeded, Rejected, deadline
from resilient.testing import virtual_time
from tests.attacks.stacks import Stack

CALLERS = (0.0, 0.0, 0.03, 0.03)
"""When each of them comes."""
MOST = 60
"""Steps at which one stack is tried."""
LONG = 30.0
"""Seconds after which whatever was begun is over."""
EXPECTED = (ConnectionError, Rejected, DeadlineExceeded)


class Attack:
    """One stack, and the caller who is cancelled at step *at*."""

    def __init__(self, seed: int, at: int) -> None:
        self.stack = Stack(seed)
        chance = random.Random(seed)
        self.victim, self._hurries = chance.randrange(len(CALLERS)), chance.random() < 0.5
        self.steps, self._at = 0, at
        self.cancel: Callable[[], object] = lambda: None

    def step(self) -> None:
        """The loop begins another step."""
        self.steps += 1
        if self.steps == self._at:
            self.cancel()

    async def call(self, caller: int) -> None:
        item = caller % 2
        with suppress(*EXPECTED):
            if caller == self.victim and self._hurries:
                async with deadline(0.08):
                    await self.stack.policy.call(self.stack.dependency, item)
            else:
                await self.stack.policy.call(self.stack.dependency, item)


async def healthy(item: int) -> int:
    return item + 1


async def on_asyncio(attack: Attack) -> None:
    loop = asyncio.get_running_loop()
    once = loop._run_once  # type: ignore[attr-defined]  # one step of the loop

    def counted() -> None:
        attack.step()
        once()

    async def caller(number: int) -> None:
        await asyncio.sleep(CALLERS[number])
        await attack.call(number)

    tasks = [loop.create_task(caller(number)) for number in range(len(CALLERS))]
    attack.cancel = tasks[attack.victim].cancel
    loop._run_once = counted  # type: ignore[attr-defined]
    try:
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
    finally:
        loop._run_once = once  # type: ignore[attr-defined]
    for number, outcome in enumerate(ended):
        cancelled = number == attack.victim and isinstance(outcome, asyncio.CancelledError)
        assert outcome is None or cancelled
    await asyncio.sleep(LONG)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for policy in attack.stack.policies:
        assert await asyncio.wait_for(policy.call(healthy, 0), LONG) is not None
        await asyncio.sleep(LONG)


class Steps(trio.abc.Instrument):
    def __init__(self, attack: Attack) -> None:
        self._attack = attack

    def before_task_step(self, task: object) -> None:
        self._attack.step()


async def on_trio(attack: Attack) -> None:
    scopes = [trio.CancelScope() for _ in CALLERS]
    attack.cancel = scopes[attack.victim].cancel

    async def caller(number: int) -> None:
        with scopes[number]:
            await trio.sleep(CALLERS[number])
            await attack.call(number)

    steps = Steps(attack)
    trio.lowlevel.add_instrument(steps)
    with trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            for number in range(len(CALLERS)):
                nursery.start_soon(caller, number)
    trio.lowlevel.remove_instrument(steps)
    await trio.sleep(LONG)
    for policy in attack.stack.policies:
        with trio.fail_after(LONG):
            assert await policy.call(healthy, 0) is not None
        await trio.sleep(LONG)


def play(world: str, seed: int, at: int) -> Attack:
    """One attack; it holds what is asserted in it."""
    with virtual_time(seed=seed) as time:
        attack = Attack(seed, at)
        if world == "trio":
            trio.run(on_trio, attack, clock=time.trio_clock())
        else:
            time.run(on_asyncio, attack)
        assert not list(attack.stack.left_behind())
    return attack


@pytest.mark.rule("F9", "L1", "S3", "H1", "B12")
@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_a_cancelled_caller_leaves_nothing_behind(world: str, seed: int) -> None:
    steps = play(world, seed, 0).steps
    chosen = sorted(random.Random(seed).sample(range(1, steps + 1), min(MOST, steps)))
    for at in itertools.chain(chosen, [steps + 1]):
        play(world, seed, at)

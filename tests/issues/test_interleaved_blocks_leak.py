"""Blocks that ended out of order stayed reachable from the context: one more with every round."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from resilient import Call, breaker
from tests.worlds import in_threads


def living_calls() -> int:
    gc.collect()
    return sum(isinstance(one, Call) for one in gc.get_objects())


@pytest.mark.rule("F3", "D9")
def test_blocks_that_interleave_leave_nothing_behind() -> None:
    one, other = breaker("one"), breaker("other")

    def rounds() -> int:
        before = living_calls()
        for _ in range(100):
            one.__enter__()
            other.__enter__()
            one.__exit__(None, None, None)
            other.__exit__(None, None, None)
        return living_calls() - before

    (left,) = in_threads(rounds)
    assert left == 0


@pytest.mark.rule("F3")
def test_hand_over_hand_leaves_nothing_behind() -> None:
    """The next block begins before the last one ends, for ever: as in a walk over locked things."""
    policies: list[Any] = [breaker("even"), breaker("odd")]

    def walk() -> int:
        before = living_calls()
        policies[0].__enter__()
        for step in range(1, 100):
            policies[step % 2].__enter__()
            policies[(step - 1) % 2].__exit__(None, None, None)
        return living_calls() - before

    (left,) = in_threads(walk)
    assert isinstance(left, int)
    assert left <= 2

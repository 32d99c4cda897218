"""A predicate that was interrupted (Ctrl-C, say) kept the permit of its call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import BreakerState, breaker, throttle


def leave(_: object) -> bool:
    raise KeyboardInterrupt


def fail() -> None:
    raise ValueError


@pytest.mark.rule("F9")
@pytest.mark.parametrize("argument", ["on", "ignore", "on_result"])
def test_an_exit_from_inside_a_predicate_passes_and_the_place_comes_back(argument: str) -> None:
    settings: dict[str, Any] = {argument: leave}
    policy = breaker(initial=BreakerState.OPEN, cooldown=0, **settings)
    body: Callable[[], object] = int if argument == "on_result" else fail
    with pytest.raises(KeyboardInterrupt):
        policy.call(body)
    assert policy.stats().in_flight == 0
    assert policy.state is BreakerState.HALF_OPEN
    policy.admit().close()
    assert policy.stats().state is BreakerState.CLOSED


@pytest.mark.rule("F9", "F16")
@pytest.mark.parametrize("argument", ["on", "on_result"])
def test_such_a_call_is_no_request_of_a_throttle(argument: str) -> None:
    policy = throttle(**{argument: leave})  # type: ignore[arg-type]  # of either
    body: Callable[[], object] = int if argument == "on_result" else fail
    with pytest.raises(KeyboardInterrupt):
        policy.call(body)
    assert policy.stats().requests == 0
    policy.admit().close()
    assert policy.stats().requests == 1

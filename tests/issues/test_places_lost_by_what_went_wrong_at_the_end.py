"""A call lost its place where its end went wrong: too deep a group to judge, or a full stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import adaptive_limit, breaker, bulkhead, throttle
from resilient._core.matching import leaves
from resilient._runtime.loops import is_cancellation

KINDS: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: bulkhead(3),
    "bulkhead with keys": lambda: bulkhead(3, key=lambda *_args: "k"),
    "adaptive_limit": lambda: adaptive_limit(initial=3),
    "adaptive_limit with a queue": lambda: adaptive_limit(initial=3, queue=5),
    "throttle": throttle,
    "breaker": lambda: breaker(consecutive_failures=None, minimum=10**6),
}


def deep_group() -> Exception:
    error: Exception = ValueError("deep")
    for _ in range(5000):
        error = ExceptionGroup("around it", [error])
    return error


@pytest.mark.rule("F12", "F8")
@pytest.mark.parametrize("name", KINDS)
def test_a_call_that_raises_a_deep_group_gives_its_place_back(name: str) -> None:
    policy, error = KINDS[name](), deep_group()

    def fail() -> None:
        raise error

    fn = policy(fail)
    for _ in range(5):
        with pytest.raises(ExceptionGroup) as caught:
            fn()
        assert caught.value is error
    assert getattr(policy.stats(), "in_flight", 0) == 0


@pytest.mark.rule("F12")
def test_the_leaves_of_a_group_come_in_its_own_order() -> None:
    errors = [ValueError(number) for number in range(5)]
    inner = ExceptionGroup("inner", [errors[1], ExceptionGroup("innermost", errors[2:4])])
    assert list(leaves(ExceptionGroup("outer", [errors[0], inner, errors[4]]))) == errors
    assert not is_cancellation(deep_group())


def at_depth(depth: int, fn: Callable[[], Any]) -> Any:
    return fn() if depth == 0 else at_depth(depth - 1, fn)


@pytest.mark.rule("F9")
@pytest.mark.parametrize("name", [name for name in KINDS if name != "breaker"])
def test_a_call_where_the_stack_is_full_gives_its_place_back(name: str) -> None:
    policy = KINDS[name]()
    fn = policy(lambda: "returned")
    room = 0
    try:
        while True:
            at_depth(room, int)
            room += 1
    except RecursionError:
        pass
    failed = 0
    for depth in range(room - 60, room + 1):
        try:
            at_depth(depth, fn)
        except RecursionError:
            failed += 1
        assert getattr(policy.stats(), "in_flight", 0) == 0, depth
    assert failed > 1
    assert fn() == "returned"

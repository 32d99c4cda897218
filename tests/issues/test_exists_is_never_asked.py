"""A filter that could not be asked for a single argument, or not at once, let everything pass."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import cache


def fetch(*args: int, **kwargs: int) -> int:
    return sum(args) + sum(kwargs.values())


@pytest.mark.rule("C5", "F7")
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"y": 2}), ((), {"x": 1, "y": 2})]
)
def test_a_call_without_a_single_argument_needs_a_key(
    args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    policy = cache(10.0, exists={1})
    fn = policy(fetch)
    with pytest.raises(TypeError, match="has no single argument: pass key="):
        fn(*args, **kwargs)
    with pytest.raises(TypeError, match="pass key="):
        policy.key_of(fetch, *args, **kwargs)
    assert (policy.stats().calls, policy.stats().size) == (0, 0)


@pytest.mark.rule("C5")
def test_a_single_argument_may_be_given_by_name() -> None:
    fn = cache(10.0, exists={1})(fetch)
    assert (fn(1), fn(x=1), fn(2), fn(x=2)) == (1, 1, None, None)


@pytest.mark.rule("C3", "C5", "F7")
@pytest.mark.parametrize("argument", ["exists", "negative"])
def test_a_predicate_that_can_not_answer_at_once_is_refused(argument: str) -> None:
    async def ask(_: object) -> bool:
        return False

    given: dict[str, Any] = {argument: ask}
    with pytest.raises(TypeError, match=rf"{argument} must be .*no coroutine function.*ask"):
        cache(10.0, negative_ttl=1.0, **given)

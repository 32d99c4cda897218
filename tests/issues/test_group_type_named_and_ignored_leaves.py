"""With a group type in ``on``, a group of nothing but ignored leaves was a failure (B2)."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import CircuitOpen, DeadlineExceeded, Rejected, breaker, retry
from tests.worlds import World


@pytest.mark.rule("F12", "B2")
@pytest.mark.parametrize(
    ("errors", "settings"),
    [
        ([CircuitOpen("inner"), Rejected("inner")], {}),
        ([DeadlineExceeded("inner", 1.0, 1.0, False)], {}),
        ([ValueError(), ValueError()], {"ignore": ValueError}),
    ],
    ids=["rejected", "not started", "ignored"],
)
def test_ignored_leaves_win_over_a_group_type_that_is_named(
    world: World, errors: list[Exception], settings: dict[str, Any]
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(on=ExceptionGroup, **settings)

        def body() -> None:
            raise ExceptionGroup("group", errors)

        with pytest.raises(ExceptionGroup):
            await w.call(policy(w.function(body)))
        assert (policy.stats().ignored, policy.stats().failures) == (1, 0)

    world.run(scenario)


@pytest.mark.rule("F12", "R2")
def test_a_group_of_rejections_is_not_retried_because_a_group_type_is_named(world: World) -> None:
    async def scenario(w: World) -> None:
        tries = []

        def body() -> None:
            tries.append(1)
            raise ExceptionGroup("group", [DeadlineExceeded("inner", 1.0, 1.0, False)])

        with pytest.raises(ExceptionGroup):
            await w.call(retry(on=ExceptionGroup, wait=0)(w.function(body)))
        assert len(tries) == 1, "a DeadlineExceeded that did not start is never retried"

    world.run(scenario)

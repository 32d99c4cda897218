"""A key that was forgotten from another thread while its run ended: all who shared the run hung.

So they did where anything else went wrong in the end of a run, as in the key's own ``__eq__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import cache, singleflight
from tests.worlds import World, in_threads

CALLERS = 3


class Key:
    """A key whose hash is asked for *then*, once it is *armed*; each time counts down."""

    def __init__(self) -> None:
        self.then: Callable[[], object] = int
        self.armed = -1

    def __hash__(self) -> int:
        self.armed -= 1
        if self.armed == 0:
            self.then()
        return 1


class Rude:
    """A key of the same hash, which refuses to be compared once it is *armed*."""

    armed = False

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self.armed:
            raise ArithmeticError("not now")
        return self is other


def joined_by_all(w: World, policy: Any, begin: Callable[[], None]) -> Any:
    """A function that, once all callers share its run, does *begin* and returns."""

    async def body() -> str:
        await w.sleep(1)
        begin()
        return "value"

    return policy(w.function(lambda *_args: body()))


FORGET: dict[str, Callable[[Any, Any], None]] = {
    "forget": lambda policy, key: policy.forget(key),
    "invalidate": lambda policy, key: policy.invalidate(key),
    "clear": lambda policy, _key: policy.clear(),
}


@pytest.mark.rule("S5", "C6", "S1")
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("how", FORGET)
def test_whoever_shares_a_run_is_served_though_its_key_is_forgotten_while_it_ends(
    async_world: World, how: str, at: int
) -> None:
    async def scenario(w: World) -> None:
        key = Key()
        policy: Any = (
            singleflight(key=lambda: key)
            if how == "forget"
            else cache(1000 * w.unit, key=lambda: key)
        )
        key.then = lambda: in_threads(lambda: FORGET[how](policy, key))
        hashed = 2 if how == "forget" else 4  # how often the end of a run asks for it, so far

        def begin() -> None:
            key.armed = hashed - 2 + at

        fn = joined_by_all(w, policy, begin)
        assert await w.together(*[lambda: w.call(fn)] * CALLERS) == ["value"] * CALLERS
        key.armed = -1
        assert await w.call(fn) == "value", "and the next call is as any other"

    async_world.run(scenario)


@pytest.mark.rule("S5", "S1")
def test_whoever_shares_a_run_is_served_though_its_key_can_not_be_compared_at_its_end(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy, rude, key = singleflight(key=lambda key: key), Rude(), Key()

        async def wait_long() -> None:
            await w.sleep(5)

        async def be_rude() -> str:
            await w.sleep(1)
            rude.armed = True
            return "value"

        slow = policy(w.function(lambda _key: wait_long()))
        fn = policy(w.function(lambda _key: be_rude()))
        outcomes = await w.together(
            lambda: w.call(slow, rude), *[lambda: w.call(fn, key)] * CALLERS
        )
        assert outcomes == [None, *["value"] * CALLERS]
        rude.armed = False
        assert await w.call(fn, key) == "value", "its key is free"
        assert policy.stats().in_flight == 0

    world.run(scenario)

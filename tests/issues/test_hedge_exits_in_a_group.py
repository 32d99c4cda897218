"""An exit came out of a hedge in an exception group, or was swallowed with the loser that raised
it; an error that is falsy came out as a `TypeError`.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from resilient import hedge
from resilient.events import HedgeLaunched, subscribe
from tests.worlds import World

pytestmark = pytest.mark.loop


class Exit(BaseException):
    """One of the caller's own."""


class NothingWrongError(Exception):
    """Has no members."""

    def __len__(self) -> int:
        return 0


def leave(*_: object) -> bool:
    raise Exit


async def fails() -> None:
    raise KeyError


def test_of_a_predicate(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(Exit):
            await hedge(1, on=leave).call(fails)

    async_world.run(scenario)


def test_of_a_listener(async_world: World) -> None:
    async def scenario(w: World) -> None:
        with subscribe(leave, HedgeLaunched), pytest.raises(Exit):
            await hedge(w.unit, budget=None).call(anyio.sleep_forever)

    async_world.run(scenario)


def test_of_a_loser(async_world: World) -> None:
    async def scenario(w: World) -> None:
        numbers = iter((1, 2))

        async def fn() -> None:
            if next(numbers) == 1:
                try:
                    await anyio.sleep_forever()
                finally:
                    raise Exit

        with pytest.raises(Exit):
            await hedge(w.unit, budget=None).call(fn)

    async_world.run(scenario)


@pytest.mark.parametrize("on", [NothingWrongError, KeyError])
def test_of_an_error_that_is_falsy(async_world: World, on: Any) -> None:
    async def scenario(w: World) -> None:
        async def fn() -> None:
            raise NothingWrongError

        with pytest.raises(NothingWrongError):
            await hedge(1, on=on).call(fn)

    async_world.run(scenario)

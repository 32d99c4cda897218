"""A sync retry that was called on an event loop stopped it, and nothing said so."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from resilient import retry
from tests.worlds import World

FORMS: dict[str, dict[str, Any]] = {"plain": {}, "keyed": {"key": lambda: 1}, "loop": {}}


def fails() -> None:
    raise ConnectionError("busy")


def repeat(policy: Any, form: str) -> None:
    if form != "loop":
        policy(fails)()
        return
    for attempt in policy:
        with attempt:
            fails()


@pytest.mark.rule("R13")
@pytest.mark.parametrize("form", FORMS)
def test_it_warns_once(world: World, form: str) -> None:
    async def scenario(w: World) -> None:
        policies = [
            retry("fetch", on=ConnectionError, attempts=3, wait=1.0, budget=None, **FORMS[form])
            for _ in range(2)
        ]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                with pytest.raises(ConnectionError):
                    repeat(policies[0], form)
            assert len(caught) == (1 if w.is_async else 0)
            with pytest.raises(ConnectionError):
                repeat(policies[1], form)
        assert len(caught) == (2 if w.is_async else 0), "each policy warns for itself"
        for warning in caught:
            assert warning.category is RuntimeWarning
            assert str(warning.message).startswith("fetch: a sync retry sleeps")
            assert "async def" in str(warning.message)
            assert warning.filename == __file__, "it shows the call"

    world.run(scenario)


@pytest.mark.rule("R13")
@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_said_where_nothing_stops(world: World, form: str) -> None:
    """Without a wait, and where no attempt follows."""

    async def scenario(w: World) -> None:
        quick = retry(on=ConnectionError, attempts=3, wait=0, budget=None, **FORMS[form])
        single = retry(on=ConnectionError, attempts=1, wait=1.0, budget=None, **FORMS[form])
        for policy in (quick, single):
            with pytest.raises(ConnectionError):
                repeat(policy, form)
        slow = retry(on=ConnectionError, attempts=2, wait=1.0, budget=None, **FORMS[form])
        if w.is_async and form != "loop":
            with pytest.raises(ConnectionError):
                await slow.call(w.function(fails))

    world.run(scenario)


@pytest.mark.rule("R13", "F8")
@pytest.mark.parametrize("form", FORMS)
def test_as_an_error_it_has_the_calls_own_behind_it(async_world: World, form: str) -> None:
    async def scenario(_: World) -> None:
        policy = retry(on=ConnectionError, attempts=3, wait=1.0, budget=None, **FORMS[form])
        with pytest.raises(RuntimeWarning) as caught:  # pytest's filters make it one
            repeat(policy, form)
        assert isinstance(caught.value.__context__, ConnectionError)

    async_world.run(scenario)

"""The sync and the async form of a retry are twins: the same script, dice and limit
give the same story.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import DeadlineExceeded, RetryBudget, backoff, deadline, retry, timeout
from resilient.events import Event
from resilient.testing import record
from tests.worlds import World, world_named

NAMES = ("threads", "asyncio", "trio")


class Floor(Exception):
    """Asks for a wait of its own."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


fates = st.lists(
    st.one_of(
        st.sampled_from(["good", "unwanted", "value", "key", "group", "not started"]),
        st.floats(0, 8).map(lambda seconds: Floor(round(seconds, 3))),
    ),
    max_size=7,
)
limits = st.none() | st.sampled_from([0.5, 2.0, 5.0, 11.0])
rules = st.fixed_dictionaries(
    {
        "attempts": st.sampled_from([1, 2, 3, 6]),
        "within": limits,
        "jitter": st.sampled_from(["full", "equal", "none", 0.3]),
        "budget": st.sampled_from([None, 0, 1, 3]),
        "form": st.sampled_from(["function", "loop"]),
    }
)


def happen(fate: object, number: int) -> object:
    match fate:
        case "value":
            raise ValueError(number)
        case "key":
            raise KeyError(number)
        case "group":
            raise ExceptionGroup("g", [KeyError(number), ValueError(number)])
        case "not started":
            raise DeadlineExceeded("inner", 1.0, 1.0, started=False)
        case Floor() as floor:
            raise Floor(floor.retry_after)
    return fate


def story(
    name: str,
    script: list[object],
    seed: int,
    limit: float | None,
    rule: dict[str, Any],
    *,
    plain: bool = False,
) -> tuple[object, ...]:
    """Play in the world *name*: when it was tried, how it ended, what is left of the
    script, what was told and counted. A *plain* policy judges no results, which is shorter.
    """
    left = list(script)
    tries: list[float] = []
    ends: list[str] = []
    budget = (
        None if rule["budget"] is None else RetryBudget(ratio=0, per_second=rule["budget"] / 10)
    )
    policy = retry(
        "twin",
        on=(ValueError, Floor),
        attempts=rule["attempts"],
        within=rule["within"],
        wait=backoff(0.5, max=4, jitter=rule["jitter"], rng=random.Random(seed)),
        budget=budget,
        on_result=None if plain else lambda result: result == "unwanted",
    )
    assert policy._is_plain() is (plain and rule["within"] is None)

    async def scenario(w: World) -> None:
        def body() -> object:
            tries.append(round(w.now(), 6))
            w.time.advance(0.25)  # type: ignore[attr-defined]  # worlds of virtual time
            return happen(left.pop(0) if left else "good", len(tries))

        async def loop() -> object:
            result: object = None
            if w.is_async:
                async for attempt in policy:
                    with attempt:
                        if (result := body()) == "unwanted":
                            attempt.again()
            else:
                for attempt in policy:
                    with attempt:
                        if (result := body()) == "unwanted":
                            attempt.again()
            return result

        try:
            with deadline(limit):
                run = w.call(policy(w.function(body))) if rule["form"] == "function" else loop()
                ends.append(repr(await run))
        except Exception as error:
            ends.append(f"{error!r} {getattr(error, '__notes__', [])}")
        ends.append(f"{w.now():.6f}")

    with world_named(name) as world, record() as events:
        world.run(scenario)
    told = [_words(event) for event in events]
    return tries, ends, left, told, policy.stats(), None if budget is None else budget.left


def _words(event: Event) -> tuple[object, ...]:
    fields = [getattr(event, name, None) for name in ("attempt", "attempts", "reason", "error")]
    return (
        type(event).__name__,
        event.policy,
        *map(repr, fields),
        round(getattr(event, "wait", 0), 6),
    )


@pytest.mark.rule("R1", "R3", "R4", "R5", "R6", "R7", "R8", "R10", "R12")
@settings(max_examples=150)
@given(script=fates, seed=st.integers(0, 3), limit=limits, rule=rules)
def test_the_twins_tell_the_same_story(
    script: list[object], seed: int, limit: float | None, rule: dict[str, Any]
) -> None:
    first, second, third = (story(name, script, seed, limit, rule) for name in NAMES)
    assert first == second
    assert first == third


@pytest.mark.rule("R1", "R3", "R4", "R5", "R6", "R7", "R12")
@settings(max_examples=150)
@given(script=fates, seed=st.integers(0, 3), limit=limits, rule=rules)
def test_the_short_way_of_a_plain_policy_tells_the_same_story(
    script: list[object], seed: int, limit: float | None, rule: dict[str, Any]
) -> None:
    """Where neither results nor strategies are asked, the wrappers ask the rest themselves."""
    wanted = ["good" if fate == "unwanted" else fate for fate in script]
    rule = {**rule, "within": None, "form": "function"}
    long = story("threads", wanted, seed, limit, rule)
    for name in NAMES:
        assert story(name, wanted, seed, limit, rule, plain=True) == long


@pytest.mark.rule("D5", "R2")
@settings(max_examples=40)
@given(script=fates, limit=limits, inner=st.sampled_from([0.0, 1.0, 9.0]))
def test_a_timeout_inside_does_not_part_them(
    script: list[object], limit: float | None, inner: float
) -> None:
    def tale(name: str) -> tuple[object, ...]:
        left, tries, ends = list(script), list[float](), list[str]()
        policy, guard = (
            retry("twin", on=ValueError, wait=0.5, within=limit),
            timeout(inner, name="guard"),
        )

        async def scenario(w: World) -> None:
            def body() -> object:
                tries.append(round(w.now(), 6))
                return happen(left.pop(0) if left else "good", len(tries))

            try:
                ends.append(repr(await w.call(policy(guard(w.function(body))))))
            except Exception as error:
                ends.append(repr(error))

        with world_named(name) as world:
            world.run(scenario)
        return tries, ends, left, policy.stats(), guard.stats()

    assert tale("threads") == tale("asyncio") == tale("trio")

"""The sync and the async form of a policy are twins: the same script, dice and limit
give the same story.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient import (
    CircuitOpen,
    DeadlineExceeded,
    RetryBudget,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    protect,
    rate_limit,
    retry,
    throttle,
    timeout,
)
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


# Load control and protection: one caller after the other, with places held beside them.


class NoEnd(Exception):
    """What a call fails with."""


acts = st.lists(
    st.one_of(
        st.sampled_from(["good", "bad", "none", "late", "hold", "release", "renewed"]),
        st.floats(0.1, 6).map(lambda seconds: round(seconds, 2)),
    ),
    max_size=25,
)


def instead_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        raise LookupError("nor here") from None
    return "instead"


TWINS: dict[str, Callable[[random.Random], Any]] = {
    "bulkhead": lambda _: bulkhead(2, name="twin"),
    "rate_limit": lambda _: rate_limit(0.5, burst=2, max_wait=3.0, name="twin"),
    "adaptive_limit": lambda _: adaptive_limit(initial=2, algorithm="aimd", name="twin"),
    "throttle": lambda dice: throttle(minimum=2, window=5.0, rng=dice, name="twin"),
    "fallback": lambda _: fallback(instead_of, on=(NoEnd, TimeoutError), name="twin"),
    "cache": lambda dice: cache(2.0, stale=3.0, negative_ttl=1.0, rng=dice, name="twin"),
    "protect": lambda _: protect(
        "twin",
        on=NoEnd,
        timeout=3.0,
        within=10.0,
        breaker=breaker("twin", consecutive_failures=3, cooldown=2.0),
        fallback=fallback(default="instead", on=CircuitOpen, name="twin"),
    ),
}
"""Each soon at its limit."""


def log(kind: str, name: str, script: list[object], seed: int) -> tuple[object, ...]:
    """Play in the world *name*: how each act ended and when, what was told and counted."""
    ends: list[str] = []
    stats: list[object] = []

    async def scenario(w: World) -> None:
        policy, held = TWINS[kind](random.Random(seed)), list[Any]()

        def body(act: object) -> object:
            match act:
                case "bad":
                    raise NoEnd
                case "late":
                    raise TimeoutError
                case "none":
                    return None
            return f"{act} at {w.now():.3f}"

        fn = policy(w.function(body))
        for act in script:
            try:
                match act:
                    case float():
                        await w.sleep(act)
                    case "hold" if hasattr(policy, "admit"):
                        held.append(policy.admit())
                    case "release" if held:
                        held.pop().close()
                    case "renewed":
                        policy._reset()
                    case _:
                        ends.append(repr(await w.call(fn, act)))
            except Exception as error:
                ends.append(f"{error!r} from {error.__cause__!r} {getattr(error, '__notes__', [])}")
            ends.append(f"{w.now():.6f}")
            stats.append(policy.stats())

    with world_named(name) as world, record() as events:
        world.run(scenario)
    return ends, stats, [_words(event) for event in events]


@pytest.mark.rule("F1", "F4", "F6", "L3", "L5", "L7", "L8", "C1", "C3", "C4", "T2")
@pytest.mark.parametrize("kind", TWINS)
@settings(max_examples=30)
@given(script=acts, seed=st.integers(0, 3))
@example(
    script=["hold", "hold", "good", "none", "release", "bad", "late", "bad", "bad"] * 2, seed=0
)
@example(script=["good", "good", 2.1, "bad", "good", 0.5, "bad", "none", "none", "renewed"], seed=1)
def test_the_twins_of_load_control_and_protection_tell_the_same_story(
    kind: str, script: list[object], seed: int
) -> None:
    first, second, third = (log(kind, name, script, seed) for name in NAMES)
    assert first == second
    assert first == third

"""`lint` had nothing to say of `timeout(1)` around `breaker(slow=2)`, where a dependency that hangs
never opens the breaker: each call is cut before it is slow, and only a slow one counts (B9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    breaker,
    cache,
    hedge,
    lint,
    pipeline,
    protect,
    retry,
    singleflight,
    timeout,
)
from resilient.testing.scripts import Hang, Step, play

RULE = "slow-never-reached"
HANGS = [Step(3.0 * n, Hang()) for n in range(30)]


def fetch(slow: float | None = 2.0) -> Any:
    return breaker("fetch", slow=slow, consecutive_failures=3)


def patient(within: float) -> Any:
    return retry("patient", on=ConnectionError, within=within)


async def asynchronous() -> None: ...


def sync() -> None: ...


NEVER_SLOW: dict[str, Callable[[], Any]] = {
    "timeout": lambda: pipeline(timeout(1), fetch()),
    "timeout at slow": lambda: pipeline(timeout(2), fetch()),
    "within": lambda: pipeline(patient(1), fetch()),
    "within at slow": lambda: pipeline(patient(2), fetch()),
    "the shorter one": lambda: pipeline(timeout(1), patient(9), fetch()),
    "something between": lambda: pipeline(timeout(1), hedge(0.1, budget=None), fetch()),
    "a longer one inside": lambda: pipeline(timeout(1), fetch(), timeout(1)),
    "a flight inside": lambda: pipeline(timeout(1), fetch(), singleflight()),
    "protect": lambda: protect(
        on=ConnectionError, timeout=2.5, attempts=1, within=2, limit=None, breaker=fetch()
    ),
}
SLOW_AT_LAST: dict[str, Callable[[], Any]] = {
    "timeout": lambda: pipeline(timeout(2.125), fetch()),
    "within": lambda: pipeline(patient(2.125), fetch()),
    "no slow": lambda: pipeline(timeout(1), fetch(None)),
    "inside": lambda: pipeline(timeout(2.5), fetch(), timeout(2.25)),
    "protect": lambda: protect(
        on=ConnectionError, timeout=2.25, within=9, limit=None, breaker=fetch()
    ),
}


@pytest.mark.parametrize("make", NEVER_SLOW.values(), ids=NEVER_SLOW)
def test_a_limit_at_or_below_slow_is_found_where_no_hang_opens_the_breaker(make: Any) -> None:
    found = [one for one in lint(make()) if one.rule == RULE]
    assert len(found) == 1
    assert found[0].policies[1] == "breaker 'fetch'"
    assert not play(make(), HANGS).transitions


@pytest.mark.parametrize("make", SLOW_AT_LAST.values(), ids=SLOW_AT_LAST)
def test_nothing_is_found_where_a_hang_opens_it(make: Any) -> None:
    assert lint(make()) == []
    assert play(make(), HANGS).transitions


@pytest.mark.parametrize(
    "share", [lambda: singleflight("flight", key=lambda _key: 1), lambda: cache(9, stale=9)]
)
def test_a_run_that_is_shared_outlasts_the_limit_of_one_caller(share: Any) -> None:
    def make() -> Any:
        return pipeline(timeout(1), share(), fetch())

    assert lint(make()) == []


def test_callers_that_join_keep_a_run_alive_until_it_is_slow() -> None:
    flight = singleflight("flight", key=lambda _key: 1)
    trace = play(pipeline(timeout(1), flight, fetch()), [Step(n * 0.25, Hang()) for n in range(20)])
    (attempt,) = trace.attempts
    assert attempt.ended == 5.75


def test_a_sync_function_is_cut_by_nothing() -> None:
    assert RULE not in [one.rule for one in lint(timeout(1)(fetch()(sync)))]
    assert RULE in [one.rule for one in lint(timeout(1)(fetch()(asynchronous)))]


def test_the_limit_that_cuts_first_is_named_and_what_comes_of_it() -> None:
    (found,) = lint(pipeline(timeout(1, name="all"), fetch()))
    assert found.policies == ("timeout 'all'", "breaker 'fetch'")
    assert "no call that hangs counts as a failure" in found.why
    assert found.write == (
        "Write `slow` below 1 s, or leave it out, or write a limit longer than 2 s."
    )
    stack = pipeline(timeout(3, name="all"), patient(1), fetch())
    assert [one.policies for one in lint(stack) if one.rule == RULE] == [
        ("retry 'patient'", "breaker 'fetch'")
    ]
    (found,) = lint(pipeline(timeout(1.5), fetch(), timeout(1)))
    assert found.policies == ("breaker 'fetch'",)

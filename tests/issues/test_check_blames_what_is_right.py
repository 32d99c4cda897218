"""`Trace.check()` blamed policies for what their settings ask for, or raised a `TypeError`: a cache
with a function for `ttl`, or with `copy`; a hedge with `on_result`; a `retry_after` that is no
`float`; a function for `key`; functions of the user's that raise; two breakers of one name."""

from __future__ import annotations

import copy
import datetime as dt
import math
from typing import Any

import pytest
import tenacity

from resilient import (
    BreakerState,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.testing.scripts import Answer, Fail, Hang, LawBroken, Step, play

pytestmark = pytest.mark.rule("T5")

LISTS = [Step(n * 0.5, Answer(0.125, ["A-17"])) for n in range(8)]
AT_ONCE = [Step(0.0, Answer(1.0, ["A-17"])) for _ in range(3)]
ON = pytest.mark.parametrize("on", ["asyncio", "trio", "threads"])


class Busy(Exception):
    """A server that says when to come back."""

    retry_after: object = None


def is_bad(result: object) -> bool:
    return result == "bad"


def law_of(policy: Any, script: list[Step], tamper: Any) -> str:
    trace = play(policy, script)
    trace.check()
    tamper(trace)
    with pytest.raises(LawBroken) as caught:
        trace.check()
    return caught.value.law


# Caches, and flights that copy.


@ON
@pytest.mark.rule("C3")
def test_a_cache_whose_ttl_is_a_function(on: Any) -> None:
    play(cache(lambda _result: 1.0), LISTS, on=on).check()


@pytest.mark.rule("C7")
def test_what_such_a_cache_serves_was_answered() -> None:
    def tamper(trace: Any) -> None:
        trace.passages[0].visits[-1].result = "made up"

    assert law_of(cache(lambda _result: 1.0), LISTS, tamper) == "C7"


@ON
@pytest.mark.rule("C9")
@pytest.mark.parametrize("make", [lambda: cache(1, copy=copy.deepcopy), lambda: cache(1, copy=str)])
def test_a_cache_that_copies(on: Any, make: Any) -> None:
    play(make(), LISTS, on=on).check()
    play(make(), AT_ONCE, on=on).check()


@ON
def test_a_flight_that_copies(on: Any) -> None:
    play(singleflight(copy=copy.deepcopy), AT_ONCE, on=on).check()


@pytest.mark.rule("C4")
def test_a_copy_may_be_no_older_than_a_value() -> None:
    policy = cache(1, copy=copy.deepcopy)

    def tamper(_trace: Any) -> None:
        config = policy._settings.config
        policy._settings = policy._settings._replace(config=config._replace(ttl=0.25))

    assert law_of(policy, LISTS, tamper) == "C4"


@pytest.mark.rule("S2")
def test_a_copy_comes_of_a_run_that_its_caller_has_waited_for() -> None:
    def tamper(trace: Any) -> None:
        for run in trace.passages[0].visits[0].runs:
            run.error = ConnectionError()

    assert law_of(singleflight(copy=copy.deepcopy), AT_ONCE, tamper) == "S2"


@pytest.mark.rule("C5")
def test_of_keys_that_exist_is_checked_what_is_served() -> None:
    script = [Step(0.0, key="there"), Step(0.5, key="there"), Step(0.5, key="not there")]

    def tamper(trace: Any) -> None:
        trace.passages[0].visits[1].result = "made up"

    assert law_of(cache(1, exists={"there"}), script, tamper) == "C7"


# Hedges.

FAILS_AT_LAST = [Step(0.0, Fail(0.5), Answer(0.125, "bad"))]
UNWANTED_FIRST = [Step(0.0, Answer(0.25, "bad"), Answer(0.25, "good"))]


@pytest.mark.rule("H1", "H3", "F16")
@pytest.mark.parametrize("on", ["asyncio", "trio"])
@pytest.mark.parametrize("script", [FAILS_AT_LAST, UNWANTED_FIRST])
def test_an_unwanted_result_is_no_answer_of_a_hedge(on: Any, script: list[Step]) -> None:
    trace = play(hedge(0.125, on_result=is_bad, budget=None), script, on=on)
    assert len(trace.attempts) == 2
    trace.check()


@pytest.mark.rule("H1")
def test_an_unwanted_result_wins_over_no_wanted_one() -> None:
    def tamper(trace: Any) -> None:
        (visit,) = trace.passages[0].visits
        visit.result = visit.runs[0].result

    policy = hedge(0.125, on_result=is_bad, budget=None)
    assert law_of(policy, UNWANTED_FIRST, tamper) == "H1"


@pytest.mark.rule("H2")
@pytest.mark.parametrize("on", ["asyncio", "trio"])
def test_an_error_that_ends_the_call_may_come_with_an_answer(on: Any) -> None:
    policy = hedge(0, on=ConnectionError, budget=None)
    play(policy, [Step(0.0, Fail(0.5, ValueError), Answer(0.5))], on=on).check()


# Fallbacks and throttles.


@ON
@pytest.mark.rule("F8", "F16")
def test_a_fallback_replaces_nothing_but_what_is_unwanted(on: Any) -> None:
    policy = fallback(default=0, on_result=is_bad)
    script = [Step(0.0, Answer(0.0, "bad")), Step(1.0), Step(2.0, Fail())]
    trace = play(policy, script, on=on)
    trace.check()
    trace.passages[0].visits[1].result = 0
    with pytest.raises(LawBroken, match=r"^F8: .* replaced 'answer 2' by 0"):
        trace.check()


@ON
@pytest.mark.rule("L8", "F16")
def test_a_throttle_rejects_nothing_unless_something_was_unwanted(on: Any) -> None:
    policy = throttle(on_result=is_bad, minimum=2, k=1.0)
    trace = play(policy, [Step(0.25 * n, Answer(0, "bad")) for n in range(40)], on=on)
    assert any(not visit.runs for visit in trace.passages[0].visits)
    trace.check()
    for visit in trace.passages[0].visits:
        for one in (visit, *visit.runs):
            one.result = "good"
    with pytest.raises(LawBroken, match=r"^L8: .* none had failed"):
        trace.check()


@pytest.mark.rule("H4")
@pytest.mark.parametrize("on", ["asyncio", "trio"])
def test_a_hedge_before_its_time_is_found(on: Any) -> None:
    fates = Fail(0.125), Answer(2.0), Answer(2.0), Answer(2.0)
    policy = hedge(0.5, max=3, budget=None)
    trace = play(policy, [Step(0.0, *fates), Step(9.0)], on=on)
    assert [one.began for one in trace.attempts] == [0.0, 0.125, 0.625, 1.125, 9.0]
    trace.check()
    policy._delay.seconds = 0.75
    with pytest.raises(LawBroken, match=r"^H4: .* attempt 3 began after 0.625 s, 1 had failed"):
        trace.check()


# Retries.


@pytest.mark.rule("R2")
@pytest.mark.parametrize("error", [ValueError(), ExceptionGroup("", [ValueError()])])
def test_a_retry_of_what_it_was_not_told_to_repeat_is_found(error: Any) -> None:
    def tamper(trace: Any) -> None:
        trace.passages[0].visits[0].runs[0].error = error

    policy = retry(on=(ConnectionError, Busy), wait=0.125)
    assert law_of(policy, [Step(0.0, Fail())], tamper) == "R2"


@ON
@pytest.mark.rule("R6")
@pytest.mark.parametrize("unusable", [math.inf, math.nan, -1.0, -1, "soon", True, 10**400])
def test_a_retry_after_that_is_unusable_is_no_floor(
    on: Any, unusable: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Busy, "retry_after", unusable)
    trace = play(retry(on=Busy, wait=0.125), [Step(0.0, Fail(0.0, Busy))], on=on)
    assert len(trace.attempts) == 2
    trace.check()


@pytest.mark.rule("R6")
@pytest.mark.parametrize("asked", [9.0, 9, dt.timedelta(seconds=9)])
def test_every_retry_after_is_held_against_the_wait(
    asked: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tamper(_trace: Any) -> None:
        monkeypatch.setattr(Busy, "retry_after", asked)

    script = [Step(0.0, Fail(0.0, Busy))]
    assert law_of(retry(on=Busy, wait=0.125), script, tamper) == "R6"


@ON
@pytest.mark.rule("R3")
def test_a_strategy_may_ask_for_another_result(on: Any) -> None:
    policy = retry(on=tenacity.retry_if_result(is_bad), wait=0.125)
    trace = play(policy, [Step(0.0, Answer(0.0, "bad"))], on=on)
    assert len(trace.attempts) == 2
    trace.check()


# Keys.

LETTERS = [Step(n * 0.125, Answer(0.25), key="abcAB"[n % 5]) for n in range(20)]
EQUAL = [Step(0.0, Hang(), cancel=9.0, key=True), Step(1.0, Answer(1.0), key=1), Step(2.0, key=1)]


def lower(key: str) -> str:
    return key.lower()


def no_key(key: str) -> str:
    if key == "b":
        raise LookupError(key)
    return key


KEYED = {
    "breaker": lambda key: breaker(consecutive_failures=1, cooldown=1, key=key),
    "breaker that begins open": lambda key: breaker(
        initial=BreakerState.OPEN, cooldown=0.25, key=key
    ),
    "bulkhead": lambda key: bulkhead(1, queue=1, key=key),
    "rate_limit": lambda key: rate_limit(1, max_wait=1, key=key),
    "adaptive_limit": lambda key: adaptive_limit(initial=1, queue=1, key=key),
    "throttle": lambda key: throttle(minimum=2, key=key),
    "retry": lambda key: retry(on=ConnectionError, wait=0.25, key=key),
    "singleflight": lambda key: singleflight(key=key),
    "cache": lambda key: cache(1, key=key),
}


@ON
@pytest.mark.rule("F10")
@pytest.mark.parametrize("key", [lower, no_key, len, "key"])
@pytest.mark.parametrize("make", KEYED.values(), ids=KEYED)
def test_a_key_is_what_the_policy_takes_for_one(on: Any, make: Any, key: Any) -> None:
    play(make(key), LETTERS, on=on).check()
    failing = [Step(n * 0.5, Fail(0.125), key="aB"[n % 2]) for n in range(20)]
    play(make(key), failing, on=on).check()


@pytest.mark.rule("B12")
def test_a_breaker_of_such_keys_is_held_against_its_laws() -> None:
    def tamper(trace: Any) -> None:
        trace.passages[0].policy._settings = policy._settings._replace(
            config=policy._settings.config._replace(consecutive_failures=9, minimum=99)
        )

    policy = breaker(consecutive_failures=1, key=lower)
    assert law_of(policy, [Step(0.0, Fail(), key="A"), Step(1.0, key="a")], tamper) == "B3"


@ON
@pytest.mark.rule("S1")
@pytest.mark.parametrize("make", [singleflight, lambda: cache(5)])
def test_equal_arguments_of_different_types_are_different_keys(on: Any, make: Any) -> None:
    play(make(), EQUAL, on=on).check()


# Functions that raise, and a policy that can't be told from another one.


def raises(*_: object) -> Any:
    raise LookupError


@ON
@pytest.mark.rule("F8")
@pytest.mark.parametrize(
    "make",
    [
        lambda: adaptive_limit(priority=raises),
        lambda: rate_limit(5, cost=raises),
        lambda: bulkhead(5, key=raises),
        lambda: cache(5, copy=raises),
        lambda: cache(raises),
        lambda: cache(5, key=raises),
        lambda: singleflight(copy=raises),
    ],
)
def test_what_a_function_of_the_users_raises_is_no_fault_of_the_policy(on: Any, make: Any) -> None:
    play(make(), LISTS, on=on).check()
    play(make(), AT_ONCE, on=on).check()


@pytest.mark.rule("D2")
@pytest.mark.parametrize("on", ["asyncio", "trio"])
def test_a_timeout_in_a_task_of_a_hedge_ends_by_the_limit_around_it(on: Any) -> None:
    stack = pipeline(
        retry("fetch", on=ConnectionError, within=0.25),
        hedge(0.125, budget=None),
        timeout(None, name="fetch"),
    )
    play(stack, [Step(0.0, Hang(), Hang(), cancel=0.25)], on=on).check()


@ON
@pytest.mark.rule("B3")
def test_of_two_breakers_with_one_name_nothing_is_said(on: Any) -> None:
    strict, lenient = breaker(consecutive_failures=1, cooldown=1), breaker(consecutive_failures=3)
    script = [Step(n * 0.5, Fail(0.0)) for n in range(20)]
    play(pipeline(lenient, strict), script, on=on).check()
    play(pipeline(strict, strict), script, on=on).check()


def test_a_script_may_be_any_iterable() -> None:
    trace = play(retry(on=Busy), (Step(n) for n in range(3)))  # type: ignore[arg-type]
    assert len(trace.calls) == 3

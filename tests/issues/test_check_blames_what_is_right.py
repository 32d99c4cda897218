"""`Trace.check()` blamed policies for what their settings ask for, or raised a `TypeError`: a cache
with a function for `ttl`, or with `copy`; a hedge with `on_result`; a `retry_after` that is no
`float`."""

from __future__ import annotations

import copy
import datetime as dt
import math
from typing import Any

import pytest
import tenacity

from resilient import cache, hedge, retry, singleflight
from resilient.testing.scripts import Answer, Fail, LawBroken, Step, play

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


# Retries.


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


def test_a_script_may_be_any_iterable() -> None:
    trace = play(retry(on=Busy), (Step(n) for n in range(3)))  # type: ignore[arg-type]
    assert len(trace.calls) == 3

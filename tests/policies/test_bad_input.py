"""F7: bad arguments are refused at once, by name, with their value and what would be allowed."""

# ruff: noqa: E501  # a table is read by its rows

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    BreakerState,
    RetryBudget,
    backoff,
    breaker,
    carry,
    deadline,
    events,
    pipeline,
    remaining,
    retry,
    singleflight,
    timeout,
)
from resilient.testing import record, virtual_time

Make = Callable[[Any], object]
NAN, INF = math.nan, math.inf
NEGATIVE = dt.timedelta(seconds=-1)
TEXT, NONE, FLAG, THING = "x", None, True, object()
NOT_A_NUMBER = (TEXT, FLAG, [1.0], THING, 1j)


def fresh_deadline(value: Any) -> object:
    with deadline(5.0) as limit:
        limit.reschedule(value)
    return None


def with_clock(value: Any) -> object:
    with virtual_time() as time:
        time.advance(value)
    return None


# (what, how it is made, the argument's name, values that are a ValueError, values that are a TypeError, a word of the range)
Row = tuple[str, Make, str, tuple[Any, ...], tuple[Any, ...], str]
ROWS: list[Row] = [
    ("breaker", lambda v: breaker(consecutive_failures=v), "consecutive_failures", (0, -1), (1.5, NAN, *NOT_A_NUMBER), "at least 1"),
    ("breaker", lambda v: breaker(failure_rate=v), "failure_rate", (0, -0.1, 1.01, NAN, INF), NOT_A_NUMBER, "at most 1"),
    ("breaker", lambda v: breaker(slow=v), "slow", (-1.0, NAN, INF, NEGATIVE), NOT_A_NUMBER, "at least 0"),
    ("breaker", lambda v: breaker(slow_rate=v), "slow_rate", (0, -0.1, 1.01, NAN, INF), (NONE, *NOT_A_NUMBER), "at most 1"),
    ("breaker", lambda v: breaker(window=v), "window", (0, -1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "above 0"),
    ("breaker", lambda v: breaker(window_calls=v), "window_calls", (0, -1), (1.5, NAN, *NOT_A_NUMBER), "at least 1"),
    ("breaker", lambda v: breaker(minimum=v), "minimum", (0, -1), (1.5, NAN, NONE, *NOT_A_NUMBER), "at least 1"),
    ("breaker", lambda v: breaker(window_calls=5, minimum=v), "minimum", (0, -1), (1.5, NAN, NONE, *NOT_A_NUMBER), "at least 1"),
    ("breaker", lambda v: breaker(cooldown=v), "cooldown", (-1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("breaker", lambda v: breaker(probes=v), "probes", (0, -1), (1.5, NAN, NONE, *NOT_A_NUMBER), "at least 1"),
    ("breaker", lambda v: breaker(probe_lease=v), "probe_lease", (0, -1.0, NAN, INF), (NONE, *NOT_A_NUMBER), "above 0"),
    ("breaker", lambda v: breaker(on=v), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError]), "predicate"),
    ("breaker", lambda v: breaker(ignore=v), "ignore", (GeneratorExit, BaseException), (NONE, 3, int, TEXT, {OSError}), "predicate"),
    ("breaker", lambda v: breaker(on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("breaker", lambda v: breaker(key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("breaker", lambda v: breaker(max_keys=v), "max_keys", (0, -1), (1.5, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("breaker", lambda v: breaker(initial=v), "initial", (BreakerState.HALF_OPEN,), ("open", NONE, 1), "BreakerState"),
    ("breaker", lambda v: breaker(v), "name", (), (3, b"db", ["db"], len), "string"),
    ("backoff", lambda v: backoff(v), "base", (-1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("backoff", lambda v: backoff(1, factor=v), "factor", (0, -2.0, NAN, INF), (NONE, *NOT_A_NUMBER), "above 0"),
    ("backoff", lambda v: backoff(1, max=v), "max", (-1.0, NAN, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("backoff", lambda v: backoff(1, jitter=v), "jitter", (-0.1, 1.1, NAN, INF, "half"), (NONE, FLAG, [1.0], THING), "1"),
    ("backoff", lambda v: backoff(1, rng=v), "rng", (), (3, TEXT, lambda: 0.5), "random.Random"),
    ("Backoff.delay", lambda v: backoff(1).delay(v), "n", (0, -1), (1.0, NAN, NONE, *NOT_A_NUMBER), "at least 1"),
    ("retry", lambda v: retry(on=v), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError]), "predicate"),
    ("retry", lambda v: retry(on=OSError, attempts=v), "attempts", (0, -1), (1.5, NAN, INF, *NOT_A_NUMBER), "at least 1"),
    ("retry", lambda v: retry(on=OSError, wait=v), "wait", (-1.0, NAN, INF, NEGATIVE), (NONE, TEXT, FLAG, [1.0], THING), "must be"),
    ("retry", lambda v: retry(on=OSError, stop=v), "stop", (), (3, TEXT, FLAG, THING), "stop strategy"),
    ("retry", lambda v: retry(on=OSError, within=v), "within", (0, -1.0, NAN, NEGATIVE), NOT_A_NUMBER, "above 0"),
    ("retry", lambda v: retry(on=OSError, budget=v), "budget", (), (3, 0.2, TEXT, FLAG), "RetryBudget"),
    ("retry", lambda v: retry(on=OSError, on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("retry", lambda v: retry(on=OSError, key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("retry", lambda v: retry(v, on=OSError), "name", (), (3, b"r", len), "string"),
    ("RetryBudget", lambda v: RetryBudget(v), "ratio", (-0.1, NAN, INF), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("RetryBudget", lambda v: RetryBudget(per_second=v), "per_second", (-0.1, NAN, INF), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("RetryBudget", lambda v: RetryBudget(ttl=v), "ttl", (0, -1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "above 0"),
    ("deadline", lambda v: deadline(v), "seconds", (-1.0, NAN, -INF, NEGATIVE), NOT_A_NUMBER, "at least 0"),
    ("deadline", lambda v: deadline(1, name=v), "name", (), (3, b"d", len), "string"),
    ("Deadline.reschedule", fresh_deadline, "seconds", (-1.0, NAN, -INF, NEGATIVE), NOT_A_NUMBER, "at least 0"),
    ("timeout", lambda v: timeout(v), "seconds", (-1.0, NAN, -INF, NEGATIVE), NOT_A_NUMBER, "at least 0"),
    ("timeout", lambda v: timeout(1, name=v), "name", (), (3, b"t", len), "string"),
    ("remaining", lambda v: remaining(v), "at_most", (0, -1.0, NAN, -INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "above 0"),
    ("singleflight", lambda v: singleflight(v), "name", (), (3, b"s", len), "string"),
    ("singleflight", lambda v: singleflight(key=v), "key", (), (3, ("sku",), FLAG), "parameter"),
    ("singleflight", lambda v: singleflight(copy=v), "copy", (), (3, TEXT, FLAG), "function"),
    ("SingleFlight.do", lambda v: singleflight().do(v, int), "key", (), (["a"], {"a": 1}), "hashable"),
    ("SingleFlight.do", lambda v: singleflight().do("k", v), "", (), (3, TEXT, NONE), "functions"),
    ("Breaker.of", lambda v: breaker(key="k").of(v), "key", (), (["a"], {"a": 1}), "hashable"),
    ("Call.close", lambda v: breaker().admit().close(v), "error", (), (3, TEXT, ValueError, FLAG), "exception"),
    ("pipeline", lambda v: pipeline(breaker(), v), "", (), (3, TEXT, NONE, breaker, timeout), "takes policies"),
    ("pipeline", lambda v: pipeline(breaker(), name=v), "name", (), (3, b"p", len), "string"),
    ("carry", lambda v: carry(v), "", (), (3, TEXT, NONE), "functions"),
    ("policy", lambda v: breaker()(v), "", (), (3, TEXT, NONE), "functions"),
    ("policy.call", lambda v: timeout(1).call(v), "", (), (3, TEXT, NONE), "functions"),
    ("events.subscribe", lambda v: events.subscribe(v), "listener", (), (3, TEXT, NONE), "function"),
    ("events.subscribe", lambda v: events.subscribe(print, v), "types", (), (3, TEXT, NONE), "event classes"),
    ("testing.record", lambda v: record(v).__enter__(), "types", (), (3, TEXT, NONE), "event classes"),
    ("VirtualTime.advance", with_clock, "seconds", (-1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
]  # fmt: skip
CASES = [
    pytest.param(make, name, value, kind, allowed, id=f"{what}-{name or 'argument'}={value!r}"[:60])
    for what, make, name, wrong_value, wrong_type, allowed in ROWS
    for kind, values in ((ValueError, wrong_value), (TypeError, wrong_type))
    for value in values
]


@pytest.mark.rule("F7")
@pytest.mark.parametrize(("make", "name", "value", "kind", "allowed"), CASES)
def test_it_is_refused_with_its_name_its_value_and_the_range(
    make: Make, name: str, value: Any, kind: type[Exception], allowed: str
) -> None:
    with pytest.raises((ValueError, TypeError)) as refused:
        make(value)
    assert type(refused.value) is kind, refused.value
    said = str(refused.value)
    assert said.startswith(name + " " if name else ""), said
    assert allowed in said
    shown = value.total_seconds() if isinstance(value, dt.timedelta) else value
    members = value if isinstance(value, tuple) else (shown,)
    assert any(repr(one) in said for one in (value, *members)) or not name


@pytest.mark.rule("F7")
@pytest.mark.parametrize("number", [10**400, -(10**400)], ids=["huge", "minus huge"])
@pytest.mark.parametrize(
    "make", [timeout, backoff, lambda v: breaker(window=v), lambda v: RetryBudget(ttl=v)], ids=["timeout", "backoff", "window", "ttl"]
)  # fmt: skip
def test_numbers_that_no_float_holds_are_refused_like_others(make: Make, number: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        make(number)


@pytest.mark.rule("F7")
def test_a_timedelta_beyond_the_range_is_refused_like_others() -> None:
    assert timeout(dt.timedelta.max).seconds == dt.timedelta.max.total_seconds()
    with pytest.raises(ValueError, match="seconds must be"):
        timeout(dt.timedelta.min)


@pytest.mark.rule("F7")
def test_what_is_allowed_is_allowed_at_its_very_ends() -> None:
    breaker(
        failure_rate=1,
        slow_rate=1.0,
        slow=0,
        window=dt.timedelta(milliseconds=1),
        cooldown=0,
        minimum=1,
        probes=1,
    )
    breaker(
        window_calls=1,
        minimum=50,
        max_keys=1,
        consecutive_failures=1,
        on=(),
        ignore=(OSError, (KeyError, lambda error: False)),
    )
    breaker(failure_rate=None, consecutive_failures=None, slow=1)
    backoff(0, factor=0.5, max=0, jitter=0)
    backoff(dt.timedelta(seconds=1), max=INF, jitter=1)
    retry(on=(), attempts=1, wait=0, within=INF)
    retry(on=OSError, attempts=None, within=1)
    retry(on=OSError, wait=dt.timedelta(seconds=1), within=dt.timedelta(seconds=2), budget=None)
    RetryBudget(0, 0, dt.timedelta(seconds=1))
    for limit in (None, 0, INF, dt.timedelta(0)):
        deadline(limit)
        timeout(limit)
    assert remaining(INF) == INF
    assert remaining(dt.timedelta(seconds=2)) == 2.0


@pytest.mark.rule("F7")
def test_settings_that_contradict_each_other_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"consecutive_failures.*failure_rate.*slow"):
        breaker(consecutive_failures=None, failure_rate=None)
    with pytest.raises(ValueError, match=r"attempts.*stop or within"):
        retry(on=OSError, attempts=None)
    with pytest.raises(TypeError, match="at least one policy"):
        pipeline()


@pytest.mark.rule("F7")
def test_what_is_missing_or_unknown_is_refused() -> None:
    for make in (
        lambda: retry(),  # type: ignore[call-arg]
        lambda: timeout(),  # type: ignore[call-arg]
        lambda: deadline(),  # type: ignore[call-arg]
        lambda: breaker("db", 5),  # type: ignore[call-arg]
        lambda: breaker(threshold=5),  # type: ignore[call-arg]
        lambda: retry("r", OSError),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            make()


@pytest.mark.rule("F14")
def test_what_was_refused_does_not_live() -> None:
    from resilient import policies  # noqa: PLC0415

    before = policies()
    for make in (lambda: breaker(window=0), lambda: retry(on=None), lambda: timeout(-1)):  # type: ignore[arg-type]
        with pytest.raises((ValueError, TypeError)):
            make()
    assert policies() == before

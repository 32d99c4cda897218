"""F7: bad arguments are refused at once, by name, with their value and what would be allowed."""

# ruff: noqa: E501  # a table is read by its rows

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    BloomFilter,
    BreakerState,
    RetryBudget,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    carry,
    deadline,
    events,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    remaining,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.testing import record, virtual_time
from tests.ids import shown

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


async def coroutine(_: object) -> None: ...


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
    ("breaker", lambda v: breaker(trip=v), "trip", (), (3, TEXT, FLAG), "function"),
    ("breaker", lambda v: breaker(v), "name", (), (3, b"db", ["db"], len), "string"),
    ("backoff", lambda v: backoff(v), "base", (-1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("backoff", lambda v: backoff(1, factor=v), "factor", (0, -2.0, NAN, INF), (NONE, *NOT_A_NUMBER), "above 0"),
    ("backoff", lambda v: backoff(1, max=v), "max", (-1.0, NAN, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("backoff", lambda v: backoff(1, jitter=v), "jitter", (-0.1, 1.1, NAN, INF, "half"), (NONE, FLAG, [1.0], THING), "1"),
    ("backoff", lambda v: backoff(1, rng=v), "rng", (), (3, TEXT, lambda: 0.5), "random.Random"),
    ("Backoff.delay", lambda v: backoff(1).delay(v), "n", (0, -1), (1.0, NAN, NONE, *NOT_A_NUMBER), "at least 1"),
    ("retry", lambda v: retry(on=v), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError], (ValueError, 5)), "predicate"),
    ("retry", lambda v: retry(on=OSError, attempts=v), "attempts", (0, -1), (1.5, 2.5, NAN, INF, *NOT_A_NUMBER), "at least 1"),
    ("retry", lambda v: retry(on=OSError, wait=v), "wait", (-1.0, NAN, INF, NEGATIVE), (NONE, TEXT, FLAG, [1.0], THING), "must be"),
    ("retry", lambda v: retry(on=OSError, stop=v), "stop", (), (3, TEXT, FLAG, THING), "stop strategy"),
    ("retry", lambda v: retry(on=OSError, within=v), "within", (0, -1.0, NAN, NEGATIVE), NOT_A_NUMBER, "above 0"),
    ("retry", lambda v: retry(on=OSError, budget=v), "budget", (), (3, 0.2, TEXT, FLAG), "RetryBudget"),
    ("retry", lambda v: retry(on=OSError, on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("retry", lambda v: retry(on=OSError, on_result=bool, discard=v), "discard", (), (3, TEXT, FLAG), "function"),
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
    ("bulkhead", lambda v: bulkhead(v), "limit", (0, -1), (1.5, NAN, INF, NONE, *NOT_A_NUMBER, len), "whole number"),
    ("bulkhead", lambda v: bulkhead(1, queue=v), "queue", (-1,), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 0"),
    ("bulkhead", lambda v: bulkhead(1, max_wait=v), "max_wait", (-1.0, NAN, -INF, NEGATIVE), NOT_A_NUMBER, "at least 0"),
    ("bulkhead", lambda v: bulkhead(1, key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("bulkhead", lambda v: bulkhead(1, max_keys=v), "max_keys", (0, -1), (1.5, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("bulkhead", lambda v: bulkhead(1, name=v), "name", (), (3, b"b", len), "string"),
    ("Bulkhead.resize", lambda v: bulkhead(1).resize(v), "limit", (-1, -10**9), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 0"),
    ("BulkheadOfKey.resize", lambda v: bulkhead(1, key="k").of("a").resize(v), "limit", (-1,), (1.5, NONE), "at least 0"),
    ("Bulkhead.of", lambda v: bulkhead(1, key="k").of(v), "key", (), (["a"], {"a": 1}), "hashable"),
    ("rate_limit", lambda v: rate_limit(v), "rate", (0, -1.0, NAN, INF), (NONE, *NOT_A_NUMBER, len), "number"),
    ("rate_limit", lambda v: rate_limit(1, per=v), "per", (0, -1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "above 0"),
    ("rate_limit", lambda v: rate_limit(1, burst=v), "burst", (0, -1), (1.5, NAN, INF, *NOT_A_NUMBER), "at least 1"),
    ("rate_limit", lambda v: rate_limit(1, max_wait=v), "max_wait", (-1.0, NAN, -INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("rate_limit", lambda v: rate_limit(5, cost=v), "cost", (0, -1, 6), (1.5, NAN, INF, *NOT_A_NUMBER), ""),
    ("rate_limit's cost", lambda v: rate_limit(5, cost=lambda: v).call(int), "cost", (-1, 6), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at "),
    ("rate_limit", lambda v: rate_limit(1, key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("rate_limit", lambda v: rate_limit(1, max_keys=v), "max_keys", (0, -1), (1.5, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("rate_limit", lambda v: rate_limit(1, name=v), "name", (), (3, b"r", len), "string"),
    ("RateLimit.take", lambda v: rate_limit(5).take(v), "n", (0, -1, 6), (1.0, NAN, NONE, *NOT_A_NUMBER), "at "),
    ("RateLimitOfKey.take", lambda v: rate_limit(5, key="k").of("a").take(v), "n", (0, 6), (1.0, NONE), "at "),
    ("adaptive_limit", lambda v: adaptive_limit(initial=v), "initial", (0, -1, 1001), (1.5, NAN, NONE, *NOT_A_NUMBER), ""),
    ("adaptive_limit", lambda v: adaptive_limit(initial=v, min=5, max=9), "initial", (4, 10), (), "5 to 9"),
    ("adaptive_limit", lambda v: adaptive_limit(min=v), "min", (0, -1), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("adaptive_limit", lambda v: adaptive_limit(max=v), "max", (0, -1), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("adaptive_limit", lambda v: adaptive_limit(min=9, max=v), "max", (8,), (), "at least min, which is 9"),
    ("adaptive_limit", lambda v: adaptive_limit(min=9, initial=v), "initial", (8,), (), "between min and max, 9 to 1000"),
    ("adaptive_limit", lambda v: adaptive_limit(algorithm=v), "algorithm", ("x", "", "AIMD"), (), "aimd"),
    ("adaptive_limit", lambda v: adaptive_limit(algorithm=v), "algorithm", ("bbr", "", NONE, 3, "Gradient"), (), '"vegas"'),
    ("adaptive_limit", lambda v: adaptive_limit(queue=v), "queue", (-1,), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 0"),
    ("adaptive_limit", lambda v: adaptive_limit(priority=v), "priority", (NAN, INF, -INF, 10**400), (NONE, *NOT_A_NUMBER), "number"),
    ("adaptive_limit's priority", lambda v: adaptive_limit(priority=lambda: v).call(int), "priority", (NAN, INF), (NONE, TEXT, FLAG), "number"),
    ("adaptive_limit", lambda v: adaptive_limit(key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("adaptive_limit", lambda v: adaptive_limit(max_keys=v), "max_keys", (0, -1), (1.5, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("adaptive_limit", lambda v: adaptive_limit(name=v), "name", (), (3, b"a", len), "string"),
    ("adaptive_limit.of", lambda v: adaptive_limit(key="k").of(v), "key", (), (["a"], {"a": 1}), "hashable"),
    ("throttle", lambda v: throttle(k=v), "k", (0, 0.99, -1, NAN, INF), (NONE, *NOT_A_NUMBER), "at least 1"),
    ("throttle", lambda v: throttle(window=v), "window", (0, -1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "above 0"),
    ("throttle", lambda v: throttle(minimum=v), "minimum", (0, -1), (1.5, NAN, NONE, *NOT_A_NUMBER), "at least 1"),
    ("throttle", lambda v: throttle(max_reject=v), "max_reject", (0, -0.1, 1, 1.01, 1.5, NAN, INF), (NONE, *NOT_A_NUMBER), "above 0 and below 1"),
    ("throttle", lambda v: throttle(on=v), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError]), "predicate"),
    ("throttle", lambda v: throttle(on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("throttle", lambda v: throttle(key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("throttle", lambda v: throttle(max_keys=v), "max_keys", (0, -1), (1.5, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("throttle", lambda v: throttle(rng=v), "rng", (), (3, TEXT, lambda: 0.5), "random.Random"),
    ("throttle", lambda v: throttle(name=v), "name", (), (3, b"t", len), "string"),
    ("throttle.of", lambda v: throttle(key="k").of(v), "key", (), (["a"], {"a": 1}), "hashable"),
    ("hedge", lambda v: hedge(v), "after", (-1.0, NAN, INF, NEGATIVE, "p0", "p101", "p", "95", "p-5", "p1e1", "P95", ""), (NONE, FLAG, [1.0], THING, 1j, len), ""),
    ("hedge", lambda v: hedge(1, max=v), "max", (0, -1), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("hedge", lambda v: hedge(1, on=v), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError]), "predicate"),
    ("hedge", lambda v: hedge(1, on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("hedge", lambda v: hedge(1, budget=v), "budget", (), (3, 0.2, TEXT, FLAG), "RetryBudget"),
    ("hedge", lambda v: hedge(1, discard=v), "discard", (), (3, TEXT, FLAG, coroutine), "function"),
    ("hedge", lambda v: hedge(1, name=v), "name", (), (3, b"h", len), "string"),
    ("fallback", lambda v: fallback(v), "handler", (), (3, TEXT, FLAG), "function"),
    ("fallback", lambda v: fallback(instead=v), "instead", (), (3, TEXT, FLAG, NONE), "function"),
    ("fallback", lambda v: fallback(default=1, on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("fallback", lambda v: fallback(default=1, on=v), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError]), "predicate"),
    ("fallback", lambda v: fallback(default=1, name=v), "name", (), (3, b"f", len), "string"),
    ("cache", lambda v: cache(v), "ttl", (0, -1.0, NAN, NEGATIVE), (NONE, *NOT_A_NUMBER, coroutine, divmod), ""),
    ("cache", lambda v: cache(1, max_size=v), "max_size", (0, -1), (1.5, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("cache", lambda v: cache(1, negative_ttl=v), "negative_ttl", (0, -1.0, NAN, NEGATIVE), NOT_A_NUMBER, "above 0"),
    ("cache", lambda v: cache(1, negative=v, negative_ttl=1), "negative", (), (3, TEXT, FLAG), "function"),
    ("cache", lambda v: cache(1, stale=v), "stale", (-1.0, NAN, -INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "at least 0"),
    ("cache", lambda v: cache(1, jitter=v), "jitter", (-0.1, 1, 1.1, NAN, INF), (NONE, *NOT_A_NUMBER), "at least 0 and below 1"),
    ("cache", lambda v: cache(9, refresh_ahead=v), "refresh_ahead", (0, -1.0, NAN, INF, NEGATIVE, 9, 10), NOT_A_NUMBER, ""),
    ("cache", lambda v: cache(1, stale=1, patience=v), "patience", (-1.0, NAN, -INF, NEGATIVE), NOT_A_NUMBER, "at least 0"),
    ("cache", lambda v: cache(1, copy=v), "copy", (), (3, TEXT, FLAG), "function"),
    ("cache", lambda v: cache(1, exists=v), "exists", (), (3, FLAG, THING), "predicate"),
    ("cache", lambda v: cache(1, invalidation=v), "invalidation", (), (3, TEXT, FLAG, THING), "publish(key)"),
    ("cache", lambda v: cache(1, key=v), "key", (), (3, ("sku",), FLAG), "parameter"),
    ("cache", lambda v: cache(1, rng=v), "rng", (), (3, TEXT, lambda: 0.5), "random.Random"),
    ("cache", lambda v: cache(1, name=v), "name", (), (3, b"c", len), "string"),
    ("Cache.invalidate", lambda v: cache(1).invalidate(v), "key", (), (["a"], {"a": 1}), "hashable"),
    ("protect", lambda v: protect(v, on=OSError, timeout=1), "name", (), (3, b"p", len), "string"),
    ("protect", lambda v: protect(on=v, timeout=1), "on", (KeyboardInterrupt, (OSError, SystemExit)), (NONE, 3, int, TEXT, [OSError]), "predicate"),
    ("protect", lambda v: protect(on=OSError, timeout=1, on_result=v), "on_result", (), (3, TEXT, FLAG), "function"),
    ("protect", lambda v: protect(on=OSError, timeout=v), "timeout", (0, -1.0, NAN, INF, NEGATIVE), (NONE, *NOT_A_NUMBER), "above 0"),
    ("protect", lambda v: protect(on=OSError, timeout=1, attempts=v), "attempts", (0, -1), (1.5, NAN, INF, NONE, *NOT_A_NUMBER), "at least 1"),
    ("protect", lambda v: protect(on=OSError, timeout=1, within=v), "within", (0, -1.0, NAN, INF, NEGATIVE, 1, 0.5), NOT_A_NUMBER, ""),
    ("protect", lambda v: protect(on=OSError, timeout=1, key=v), "key", (), (3, ("tenant",), FLAG), "parameter"),
    ("protect", lambda v: protect(on=OSError, timeout=1, breaker=v), "breaker", (), (3, TEXT, breaker, timeout(1)), "Breaker, made by breaker(...)"),
    ("protect", lambda v: protect(on=OSError, timeout=1, limit=v), "limit", (), (3, TEXT, bulkhead(1)), "AdaptiveLimit, made by adaptive_limit(...)"),
    ("protect", lambda v: protect(on=OSError, timeout=1, hedge=v), "hedge", (), (3, TEXT, hedge), "Hedge, made by hedge(...)"),
    ("protect", lambda v: protect(on=OSError, timeout=1, fallback=v), "fallback", (), (3, TEXT, len), "Fallback, made by fallback(...)"),
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
    pytest.param(
        make, name, value, kind, allowed, id=f"{what}-{name or 'argument'}={shown(value)}"[:60]
    )
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
    assert said.startswith(f"{name} must be " if name else ""), said
    assert allowed in said
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    members = value if isinstance(value, tuple) else (seconds,)
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
    assert timeout(dt.timedelta.max)._seconds == dt.timedelta.max.total_seconds()
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
    bulkhead(1, queue=0, max_wait=0, max_keys=1)
    bulkhead(1, max_wait=INF).resize(10**9)
    rate_limit(1e-9, per=dt.timedelta(days=365), burst=1, max_wait=INF)
    rate_limit(0.5, max_wait=0).take(1)
    adaptive_limit(initial=1, min=1, max=1, queue=0, priority=-1e300)
    adaptive_limit(algorithm="vegas", priority=lambda: 0, key="tenant", max_keys=1)
    throttle(k=1, window=dt.timedelta(milliseconds=1), minimum=1, max_reject=0.999, on=())
    for after in (dt.timedelta(seconds=1), dt.timedelta(0), 0, 1e-9, "p100", "p99.9", "p0.1"):
        hedge(after, max=1, on=(), budget=RetryBudget(0, 0), discard=print)
    fallback(default=None, on=())
    fallback(print)
    fallback(instead=print, on_result=bool)
    cache(INF, max_size=1, negative_ttl=INF, stale=INF, jitter=0)
    cache(1, stale=INF, patience=INF)
    cache(1, stale=1, patience=0)
    cache(len, refresh_ahead=1e9)
    cache(dt.timedelta(seconds=2), refresh_ahead=dt.timedelta(seconds=1), jitter=0.99)
    for exists in ({"a"}, BloomFilter(10), lambda key: True, {"a": 1}):
        cache(1, exists=exists)
    protect(on=(), timeout=1e-9, attempts=1, within=1e-10, breaker=None, limit=None)
    protect(on=OSError, timeout=dt.timedelta(seconds=1), within=dt.timedelta(seconds=2))
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
    nothing: dict[str, Any] = {}
    for wrong in (nothing, {"handler": print, "default": 1}, {"instead": print, "default": 1}):
        with pytest.raises(TypeError, match="exactly one of handler, default and instead"):
            fallback(**wrong)
    with pytest.raises(TypeError, match=r"handler must be a function.*write default="):
        fallback(None)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"discard .*on_result"):
        retry(on=OSError, discard=print)
    for stale in (0, 0.0, dt.timedelta(0)):
        with pytest.raises(ValueError, match=r"patience .*stale must say"):
            cache(1, stale=stale, patience=1)
    with pytest.raises(ValueError, match=r"negative .*negative_ttl"):
        cache(1, negative=bool)


@pytest.mark.rule("F7")
def test_what_is_missing_or_unknown_is_refused() -> None:
    for make in (
        lambda: retry(),  # type: ignore[call-arg]
        lambda: timeout(),  # type: ignore[call-arg]
        lambda: deadline(),  # type: ignore[call-arg]
        lambda: breaker("db", 5),  # type: ignore[call-arg]
        lambda: breaker(threshold=5),  # type: ignore[call-arg]
        lambda: retry("r", OSError),  # type: ignore[call-arg]
        lambda: bulkhead(),  # type: ignore[call-arg]
        lambda: bulkhead(1, 2),  # type: ignore[call-arg]
        lambda: rate_limit(1, 2),  # type: ignore[call-arg]
        lambda: adaptive_limit(5),  # type: ignore[call-arg]
        lambda: throttle("db"),  # type: ignore[call-arg, arg-type]
        lambda: hedge(),  # type: ignore[call-arg]
        lambda: cache(60, 10),  # type: ignore[call-overload]
        lambda: protect("db"),  # type: ignore[call-overload]
        lambda: protect("db", on=OSError),  # type: ignore[call-overload]
    ):
        with pytest.raises(TypeError):
            make()


@pytest.mark.rule("F14")
def test_what_was_refused_does_not_live() -> None:
    from resilient import policies  # noqa: PLC0415

    before = policies()
    makers: list[Callable[[], object]] = [
        lambda: breaker(window=0),
        lambda: retry(on=None),  # type: ignore[arg-type]
        lambda: timeout(-1),
        lambda: bulkhead(0),
        lambda: rate_limit(0),
        lambda: adaptive_limit(min=2, initial=1),
        lambda: throttle(k=0),
        lambda: hedge("p0"),
        lambda: fallback(default=1, on=None),  # type: ignore[call-overload]
        lambda: cache(0),
        lambda: protect(on=OSError, timeout=0),
        lambda: protect(on=OSError, timeout=1, within=0.5),
        lambda: protect(on=OSError, timeout=1, key=3),  # type: ignore[call-overload]
        lambda: protect(on=None, timeout=1),  # type: ignore[call-overload]
    ]
    for make in makers:
        with pytest.raises((ValueError, TypeError)):
            make()
    assert policies() == before

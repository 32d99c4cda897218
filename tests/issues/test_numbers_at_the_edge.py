"""A number that was accepted, though no service has it, raised `OverflowError` at a later call."""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from resilient import (
    BloomFilter,
    DeadlineExceeded,
    Rejected,
    RetryBudget,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    deadline,
    hedge,
    protect,
    rate_limit,
    remaining,
    retry,
    throttle,
    timeout,
)
from resilient.testing import VirtualTime, virtual_time

HUGE = sys.float_info.max


class Float64:
    """A number as other libraries have them: no `float`, though it makes one."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Float64({self.value!r})"


NUMBERS: list[Any] = [
    0, 0.0, -0.0, 5e-324, sys.float_info.min, 1e-300, 1e-150, 1e-30, 1e-9, 0.5, 1, 1.0, 2, 1e9,
    1e18, 1e30, 1e150, 1e300,
    HUGE, 2**31, 2**63, 2**64, 10**30, 10**400, math.inf, math.nan, -1, -1.0, -5e-324, -math.inf,
    -(10**400), True, False, Decimal("0.5"), Decimal("NaN"), Fraction(1, 2), Float64(0.5), "1", "",
    b"1", None, 1j, [1],
    dt.timedelta(0), dt.timedelta.resolution, dt.timedelta.max, dt.timedelta.min,
]  # fmt: skip


def check_words(error: Exception, words: str = "") -> None:
    """Its message can be made, and says *words*."""
    assert words in str(error), error


def busy() -> None:
    raise ConnectionError("busy")


def use(policy: Any, time: VirtualTime) -> None:
    """Some calls, good and bad, in moments that are near and far from each other."""
    good, bad = policy(lambda *_: 1), policy(lambda *_: busy())
    for fn in (good, bad, bad, good):
        for seconds in (0.0, 1e-9, 1.0, 100.0):
            try:
                assert fn("key") == 1
            except (ConnectionError, Rejected, DeadlineExceeded) as error:
                check_words(error)
            time.advance(seconds)
            look(policy)


def use_async(policy: Any, time: VirtualTime) -> None:
    """`use` for what is async only."""

    async def good(_: str) -> int:
        return 1

    async def bad(_: str) -> int:
        raise ConnectionError("busy")

    async def main() -> None:
        for fn in (policy(good), policy(bad)) * 3:
            try:
                assert await fn("key") == 1
            except (ConnectionError, Rejected, DeadlineExceeded) as error:
                check_words(error)
            look(policy)

    time.run(main)
    time.advance(100.0)
    time.run(main)


def look(policy: Any) -> None:
    assert repr(policy)
    if hasattr(policy, "stats"):
        assert repr(policy.stats())


def use_budget(budget: Any, time: VirtualTime) -> None:
    for seconds in (0.0, 1e-9, 1.0, 100.0):
        for _ in range(3):
            budget.deposit()
            budget.withdraw()
            assert budget.left >= 0
        time.advance(seconds)
        assert repr(budget)
    use(retry(on=ConnectionError, wait=0, budget=budget), time)


def use_backoff(delays: Any, time: VirtualTime) -> None:
    for n in (1, 2, 3, 100, 10**6):
        assert delays.delay(n) >= 0
    assert repr(delays)
    use(retry(on=ConnectionError, wait=delays, attempts=2, budget=None), time)
    use(breaker(cooldown=delays, consecutive_failures=1), time)


def use_limit(limit: Any, time: VirtualTime) -> None:
    try:
        with limit:
            assert remaining() >= 0
            time.advance(1.0)
            assert limit.remaining() >= 0
            assert repr(limit)
    except DeadlineExceeded as error:
        check_words(error)


def use_filter(one: Any, _: VirtualTime) -> None:
    one.add("a")
    assert "a" in one
    assert "a" in BloomFilter.from_bytes(one.to_bytes())


def take(n: Any) -> Any:
    policy = rate_limit(5)
    policy.take(n)
    return policy


def resized(n: Any) -> Any:
    policy = bulkhead(1)
    policy.resize(n)
    return policy


def rescheduled(seconds: Any) -> None:
    with deadline(5.0) as limit:
        limit.reschedule(seconds)
        assert limit.remaining() >= 0


def advanced(seconds: Any) -> None:
    with virtual_time(fresh=True) as time:
        time.advance(seconds)


def asks(value: Any) -> Any:
    """A retry after an error that asks for *value* seconds: nothing of it is refused."""

    class AskingError(ConnectionError):
        retry_after = value

    def raising() -> None:
        raise AskingError

    policy = retry(on=ConnectionError, attempts=2, wait=0, budget=None)
    with virtual_time(fresh=True), pytest.raises(AskingError):
        policy.call(raising)
    return policy


def once_slow(**kwargs: Any) -> Any:
    return breaker(minimum=1, consecutive_failures=None, **kwargs)


Row = tuple[str, Callable[[Any], Any], Callable[[Any, VirtualTime], None]]
ROWS: list[Row] = [
    ("breaker consecutive_failures", lambda v: breaker(consecutive_failures=v), use),
    ("breaker failure_rate", lambda v: breaker(minimum=1, failure_rate=v), use),
    ("breaker slow", lambda v: once_slow(slow=v), use),
    ("breaker slow_rate", lambda v: once_slow(slow=0.0, slow_rate=v), use),
    ("breaker window", lambda v: once_slow(window=v), use),
    ("breaker window_calls", lambda v: once_slow(window_calls=v), use),
    ("breaker minimum", lambda v: breaker(minimum=v, consecutive_failures=None), use),
    ("breaker cooldown", lambda v: once_slow(cooldown=v), use),
    ("breaker probes", lambda v: once_slow(cooldown=1.0, probes=v), use),
    ("breaker probe_lease", lambda v: once_slow(cooldown=1.0, probe_lease=v), use),
    ("breaker max_keys", lambda v: breaker(key=lambda *_: 1, max_keys=v), use),
    ("backoff base", lambda v: backoff(v), use_backoff),
    ("backoff base, jitter", lambda v: backoff(v, jitter=1.0), use_backoff),
    ("backoff factor", lambda v: backoff(1.0, factor=v, max=1e6), use_backoff),
    ("backoff factor, unbounded", lambda v: backoff(1.0, factor=v), use_backoff),
    ("backoff max", lambda v: backoff(1.0, max=v), use_backoff),
    ("backoff jitter", lambda v: backoff(1.0, max=1e6, jitter=v), use_backoff),
    ("retry attempts", lambda v: retry(on=OSError, attempts=v, wait=1.0), use),
    ("retry wait", lambda v: retry(on=OSError, wait=v), use),
    ("retry wait, a function", lambda v: retry(on=OSError, wait=lambda *_: v), use),
    ("retry within", lambda v: retry(on=OSError, within=v), use),
    ("retry_after", asks, use),
    ("RetryBudget ratio", lambda v: RetryBudget(v), use_budget),
    ("RetryBudget per_second", lambda v: RetryBudget(per_second=v), use_budget),
    ("RetryBudget ttl", lambda v: RetryBudget(ttl=v), use_budget),
    ("RetryBudget ttl, great reserve", lambda v: RetryBudget(per_second=1e300, ttl=v), use_budget),
    ("RetryBudget ttl, small reserve", lambda v: RetryBudget(per_second=1e-300, ttl=v), use_budget),
    ("deadline", lambda v: deadline(v), use_limit),
    ("reschedule", rescheduled, lambda *_: None),
    ("timeout", lambda v: timeout(v), use),
    ("timeout, async", lambda v: timeout(v), use_async),
    ("remaining", lambda v: remaining(v), lambda *_: None),
    ("advance", advanced, lambda *_: None),
    ("bulkhead limit", lambda v: bulkhead(v), use),
    ("bulkhead queue", lambda v: bulkhead(1, queue=v), use),
    ("bulkhead max_wait", lambda v: bulkhead(1, queue=1, max_wait=v), use),
    ("bulkhead max_keys", lambda v: bulkhead(1, key=lambda *_: 1, max_keys=v), use),
    ("resize", resized, use),
    ("rate_limit rate", lambda v: rate_limit(v), use),
    ("rate_limit rate, waiting", lambda v: rate_limit(v, max_wait=1e6), use),
    ("rate_limit rate, per", lambda v: rate_limit(v, per=1e9), use),
    ("rate_limit per", lambda v: rate_limit(1, per=v), use),
    ("rate_limit per, waiting", lambda v: rate_limit(1, per=v, max_wait=1e6), use),
    ("rate_limit per, great rate", lambda v: rate_limit(1e300, per=v), use),
    ("rate_limit burst", lambda v: rate_limit(1, burst=v), use),
    ("rate_limit burst, rare", lambda v: rate_limit(1e-9, burst=v), use),
    ("rate_limit max_wait", lambda v: rate_limit(1, per=60.0, max_wait=v), use),
    ("rate_limit max_keys", lambda v: rate_limit(1, key=lambda *_: 1, max_keys=v), use),
    ("take", take, use),
    ("adaptive_limit initial", lambda v: adaptive_limit(initial=v), use),
    ("adaptive_limit min", lambda v: adaptive_limit(min=v), use),
    ("adaptive_limit max", lambda v: adaptive_limit(max=v), use),
    ("adaptive_limit queue", lambda v: adaptive_limit(queue=v), use),
    ("adaptive_limit max_keys", lambda v: adaptive_limit(key=lambda *_: 1, max_keys=v), use),
    ("throttle k", lambda v: throttle(k=v), use),
    ("throttle window", lambda v: throttle(window=v), use),
    ("throttle minimum", lambda v: throttle(minimum=v), use),
    ("throttle max_reject", lambda v: throttle(max_reject=v), use),
    ("throttle max_keys", lambda v: throttle(key=lambda *_: 1, max_keys=v), use),
    ("hedge after", lambda v: hedge(v), use_async),
    ("hedge max", lambda v: hedge(0.1, max=v), use_async),
    ("cache ttl", lambda v: cache(v), use),
    ("cache ttl, stale", lambda v: cache(v, stale=1e300), use),
    ("cache ttl, refresh", lambda v: cache(v, refresh_ahead=1e-9), use_async),
    ("cache max_size", lambda v: cache(60, max_size=v), use),
    (
        "cache negative_ttl",
        lambda v: cache(60, negative_ttl=v, negative=None if v is None else bool),
        use,
    ),
    ("cache stale", lambda v: cache(60, stale=v), use),
    ("cache jitter", lambda v: cache(60, jitter=v), use),
    ("cache refresh_ahead", lambda v: cache(60, refresh_ahead=v), use_async),
    ("protect timeout", lambda v: protect(on=OSError, timeout=v), use_async),
    ("protect attempts", lambda v: protect(on=OSError, timeout=1.0, attempts=v), use_async),
    ("protect within", lambda v: protect(on=OSError, timeout=1.0, within=v), use_async),
    ("BloomFilter capacity", lambda v: BloomFilter(v), use_filter),
    ("BloomFilter error_rate", lambda v: BloomFilter(10, v), use_filter),
]
MEMORY = {
    "BloomFilter capacity": 1e9,
    "retry attempts": 1e9,
    "hedge max": 1e3,
    "protect attempts": 1e9,
}
"""From where on a number is right, but would take this machine's memory or time."""


@pytest.mark.rule("F7")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("what", "make", "play"), ROWS, ids=[row[0] for row in ROWS])
def test_it_is_refused_or_it_works(
    what: str, make: Callable[[Any], Any], play: Callable[[Any, VirtualTime], None]
) -> None:
    for number in NUMBERS:
        if what in MEMORY and isinstance(number, (int, float)) and number > MEMORY[what]:
            continue
        if what in {"advance", "retry_after"}:
            make_alone(make, number)
            continue
        with virtual_time(fresh=True) as time:
            try:
                policy = make(number)
            except (ValueError, TypeError) as error:
                check_words(error, " must be ")
                continue
            except (Rejected, DeadlineExceeded):
                continue
            try:
                play(policy, time)
            except Exception as error:
                error.add_note(f"{what} = {number!r}")
                raise


def make_alone(make: Callable[[Any], Any], number: Any) -> None:
    try:
        make(number)
    except (ValueError, TypeError) as error:
        check_words(error, " must be ")

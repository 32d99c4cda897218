"""Lint: each finding has a stack that raises it, and the nearest one that does not."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import tenacity

from resilient import (
    Finding,
    Policy,
    RetryBudget,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    lint,
    pipeline,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)

ON = (ConnectionError, TimeoutError)


def sync() -> int:
    return 1


async def asynchronous() -> int:
    return 1


def rules(found: list[Finding]) -> list[str]:
    return [one.rule for one in found]


@dataclass
class Pair:
    """A stack that contradicts itself, and the nearest that does not."""

    rule: str
    bad: Callable[[], Policy | Callable[..., Any]]
    good: Callable[[], Policy | Callable[..., Any]]
    says: str
    by: tuple[str, ...]


def shared() -> Policy:
    budget = RetryBudget()
    return pipeline(retry(on=ON, budget=budget), hedge("p95", budget=budget))


def shared_by_key() -> Policy:
    budget = RetryBudget()
    return pipeline(retry("prices", on=ON, budget=budget, key="item"), hedge("p95", budget=budget))


PAIRS = [
    Pair(
        "retry-outside-hedge",
        lambda: pipeline(retry("prices", on=ON), hedge("p95")),
        shared,
        "different budgets",
        ("retry 'prices'", "hedge"),
    ),
    Pair(
        "retry-outside-hedge",
        lambda: pipeline(retry("prices", on=ON, budget=None), hedge("p95", budget=None)),
        lambda: pipeline(retry("prices", on=ON, attempts=1), hedge("p95")),
        "different budgets",
        ("retry 'prices'", "hedge"),
    ),
    Pair(
        "retry-outside-hedge",
        shared_by_key,
        shared,
        "without `key=`",
        ("retry 'prices'", "hedge"),
    ),
    Pair(
        "attempts-exceed-deadline",
        lambda: pipeline(retry("prices", on=ON, within=0.8), timeout(0.3)),
        lambda: pipeline(retry("prices", on=ON, within=0.9), timeout(0.3)),
        "3 attempts of 0.3 s take up to 0.9 s, and 0.8 s are allowed",
        ("retry 'prices'",),
    ),
    Pair(
        "attempts-exceed-deadline",
        lambda: pipeline(timeout(1, name="all"), retry(on=ON, attempts=4), timeout(0.3)),
        lambda: pipeline(timeout(1.2, name="all"), retry(on=ON, attempts=4), timeout(0.3)),
        "at most 0.25 s",
        ("timeout 'all'", "retry"),
    ),
    Pair(
        "attempts-exceed-deadline",
        lambda: pipeline(retry(on=ON, within=0.8), timeout(0.5), timeout(0.3)),
        lambda: pipeline(retry(on=ON, within=0.8), timeout(0.5), timeout(0.2)),
        "of 0.3 s",
        ("retry",),
    ),
    Pair(
        "attempts-exceed-deadline",
        lambda: protect("prices", on=ON, timeout=0.3, within=0.8),
        lambda: protect("prices", on=ON, timeout=0.3, within=0.9),
        "0.8 s are allowed",
        ("retry 'prices'",),
    ),
    Pair(
        "attempts-exceed-deadline",
        lambda: pipeline(retry(on=ON, within=0.8), timeout(0.267)),
        lambda: pipeline(retry(on=ON, within=0.8), timeout(0.266)),
        "at most 0.266 s",
        ("retry",),
    ),
    Pair(
        "attempts-exceed-deadline",
        lambda: pipeline(retry(on=ON, within=1.2), timeout(0.4001)),
        lambda: pipeline(retry(on=ON, within=1.2), timeout(0.4)),  # 3 * 0.4 > 1.2 for a float
        "at most 0.4 s",
        ("retry",),
    ),
    Pair(
        "retry-around-retry",
        lambda: pipeline(retry("client", on=ON), retry("driver", on=ON, attempts=2)),
        lambda: retry("driver", on=ON, attempts=2),
        "up to 6 times",
        ("retry 'client'", "retry 'driver'"),
    ),
    Pair(
        "retry-around-retry",
        lambda: pipeline(retry(on=ON), retry(on=ON, attempts=None, within=1)),
        lambda: retry(on=ON, attempts=None, within=1),
        "without a bound",
        ("retry", "retry"),
    ),
    Pair(
        "breaker-inside-patient-retry",
        lambda: pipeline(retry(on=ON, wait=backoff(0.5)), breaker("prices", cooldown=1.4)),
        lambda: pipeline(retry(on=ON, wait=backoff(0.5)), breaker("prices", cooldown=1.5)),
        "may wait for 1.5 s, and the breaker stays open for 1.4 s",
        ("retry", "breaker 'prices'"),
    ),
    Pair(
        "breaker-inside-patient-retry",
        lambda: pipeline(retry(on=ON, wait=2), breaker(cooldown=3)),
        lambda: pipeline(retry(on=ON, wait=2, within=3), breaker(cooldown=3)),
        "may wait for 4 s",
        ("retry", "breaker"),
    ),
    Pair(
        "breaker-inside-patient-retry",
        lambda: pipeline(retry(on=ON, wait=dt.timedelta(seconds=2)), breaker(cooldown=3)),
        lambda: pipeline(retry(on=ON, wait=dt.timedelta(seconds=1)), breaker(cooldown=3)),
        "may wait for 4 s",
        ("retry", "breaker"),
    ),
    Pair(
        "breaker-inside-patient-retry",
        lambda: pipeline(retry(on=ON, attempts=None, within=60), breaker(cooldown=3)),
        lambda: pipeline(retry(on=ON, attempts=None, within=60, wait=0), breaker(cooldown=3)),
        "may wait for 60 s",
        ("retry", "breaker"),
    ),
    Pair(
        "slow-never-reached",
        lambda: pipeline(breaker("prices", slow=0.4), timeout(0.3)),
        lambda: pipeline(breaker("prices", slow=0.3), timeout(0.3)),
        "slow after 0.4 s, and is cut after 0.3 s",
        ("breaker 'prices'",),
    ),
    Pair(
        "slow-never-reached",
        lambda: breaker(slow=1.0)(timeout(0.5)(asynchronous)),
        lambda: pipeline(timeout(1.5), breaker(slow=1.0)),
        "`slow` below 0.5 s",
        ("breaker 'asynchronous'",),
    ),
    Pair(
        "slow-never-reached",
        lambda: protect("prices", on=ON, timeout=0.5, breaker=breaker("prices", slow=1.0)),
        lambda: protect("prices", on=ON, timeout=1.5, breaker=breaker("prices", slow=1.0)),
        "or a longer timeout",
        ("breaker 'prices'",),
    ),
    Pair(
        "timeout-longer-than-enclosing",
        lambda: pipeline(timeout(0.5, name="all"), breaker(), timeout(0.6)),
        lambda: pipeline(timeout(0.5, name="all"), breaker(), timeout(0.5)),
        "0.6 s are never reached inside 0.5 s",
        ("timeout 'all'", "timeout"),
    ),
    Pair(
        "timeout-longer-than-enclosing",
        lambda: pipeline(retry(on=ON, within=0.5), timeout(0.6)),
        lambda: pipeline(retry(on=ON, within=0.5), timeout(None)),
        "inside 0.5 s",
        ("retry", "timeout"),
    ),
    Pair(
        "timeout-on-sync",
        lambda: timeout(1)(sync),
        lambda: timeout(1)(asynchronous),
        "runs to its end",
        ("timeout 'sync'",),
    ),
    Pair(
        "timeout-on-sync",
        lambda: timeout(1)(sync),
        lambda: timeout(1),
        "timeout=remaining(1)",
        ("timeout 'sync'",),
    ),
]


ORDERS = [
    ("fallback-inside-retry", lambda: retry(on=ON), lambda: fallback(default=1)),
    ("fallback-inside-cache", lambda: cache(60), lambda: fallback(default=1)),
    ("fallback-inside-breaker", breaker, lambda: fallback(default=1)),
    ("fallback-inside-breaker", throttle, lambda: fallback(default=1)),
    ("cache-inside-retry", lambda: retry(on=ON), lambda: cache(60)),
    ("cache-inside-breaker", breaker, lambda: cache(60)),
    ("cache-inside-adaptive-limit", adaptive_limit, lambda: cache(60)),
    ("singleflight-inside-retry", lambda: retry(on=ON), singleflight),
    ("breaker-outside-retry", breaker, lambda: retry(on=ON, wait=0.1)),
    ("limit-outside-retry", lambda: bulkhead(3), lambda: retry(on=ON)),
    ("limit-outside-retry", lambda: rate_limit(3), lambda: retry(on=ON)),
    ("limit-outside-retry", adaptive_limit, lambda: retry(on=ON)),
    ("limit-outside-retry", throttle, lambda: retry(on=ON)),
    ("hedge-outside-retry", lambda: hedge("p95", budget=None), lambda: retry(on=ON, attempts=2)),
    ("timeout-outside-retry", lambda: timeout(1), lambda: retry(on=ON)),
]


@pytest.mark.parametrize(("rule", "outer", "inner"), ORDERS)
def test_an_order_that_the_pages_call_wrong_is_found(
    rule: str, outer: Callable[[], Policy], inner: Callable[[], Policy]
) -> None:
    one, other = outer(), inner()
    (found,) = lint(pipeline(one, other))
    assert found.rule == rule
    assert found.policies == (one.kind, other.kind)
    expected = "a timeout inside the retry" if one.kind == "timeout" else f"outside the {one.kind}"
    assert expected in found.write
    assert rule not in rules(lint(pipeline(other, one)))


@pytest.mark.parametrize(
    "stack",
    [
        lambda: pipeline(breaker(), retry(on=ON, attempts=1)),
        lambda: pipeline(retry(on=ON, attempts=1), cache(60)),
        lambda: pipeline(timeout(1), retry(on=ON), timeout(0.3)),
        lambda: pipeline(retry(on=ON), fallback(default=None, on=KeyError)),
        lambda: pipeline(breaker(on=ON), fallback(default=None, on=KeyError)),
        lambda: pipeline(throttle(on=ON), fallback(default=None, on=KeyError)),
        lambda: breaker(slow=1.0)(retry(on=ON, attempts=1)(timeout(2.0)(asynchronous))),
    ],
)
def test_the_same_order_is_right_where_its_reason_does_not_hold(
    stack: Callable[[], Any],
) -> None:
    assert lint(stack()) == []


def test_what_a_predicate_or_a_strategy_repeats_may_be_what_the_fallback_takes() -> None:
    for on in (lambda error: True, tenacity.retry_if_exception_type(ON)):
        found = lint(pipeline(retry(on=on), fallback(default=None, on=KeyError)))
        assert rules(found) == ["fallback-inside-retry"]


def test_nothing_cuts_a_sync_function_or_several_attempts_before_they_are_slow() -> None:
    found = lint(breaker(slow=1.0)(timeout(0.5)(sync)))
    assert rules(found) == ["timeout-on-sync"]
    found = lint(pipeline(breaker(slow=1.0), retry(on=ON), timeout(0.5)))
    assert rules(found) == ["breaker-outside-retry"]
    found = lint(pipeline(breaker(slow=1.0), retry(on=ON, within=0.9), timeout(0.1)))
    assert rules(found) == ["breaker-outside-retry", "slow-never-reached"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.rule)
def test_a_stack_raises_it_and_the_nearest_does_not(pair: Pair) -> None:
    (found,) = lint(pair.bad())
    assert found.rule == pair.rule
    assert found.policies == pair.by
    assert pair.says in f"{found.why} {found.write}"
    assert lint(pair.good()) == []


def test_a_finding_reads_as_one_sentence_after_the_other() -> None:
    (found,) = lint(pipeline(breaker("prices"), cache(60)))
    assert str(found) == (
        "cache-inside-breaker (breaker 'prices', cache): An open breaker refuses what the cache "
        "has, and hits hide failures from it. Write the cache outside the breaker."
    )


@pytest.mark.parametrize(
    "stack",
    [
        lambda: protect(on=ON, timeout=0.3),
        lambda: protect("prices", on=ON, timeout=0.3, attempts=3, within=1.0, key="item"),
        lambda: protect(on=ON, timeout=0.3, hedge=hedge("p95"), fallback=fallback(default=1)),
        lambda: protect(on=ON, timeout=0.3, breaker=None, limit=None, hedge=hedge(0.1)),
        lambda: protect(on=ON, timeout=0.3, attempts=9),
        lambda: protect(on=ON, timeout=0.3)(sync),
        lambda: protect(on=ON, timeout=0.3)(asynchronous),
        lambda: pipeline(cache(60), protect(on=ON, timeout=0.3, hedge=hedge("p95"))),
        lambda: pipeline(singleflight(), bulkhead(3), adaptive_limit()),
        lambda: sync,
        lambda: asynchronous,
    ],
)
def test_what_is_recommended_gives_none(stack: Callable[[], Any]) -> None:
    assert lint(stack()) == []


def test_a_protection_is_one_part_of_a_larger_stack() -> None:
    """What stands outside it is judged with what is in it."""
    outer = retry("client", on=ON)
    found = lint(pipeline(outer, protect("prices", on=ON, timeout=0.3, hedge=hedge("p95"))))
    assert rules(found) == ["retry-outside-hedge", "retry-around-retry"]
    assert found[0].policies == ("retry 'client'", "hedge 'prices'")


def test_two_protections_are_two() -> None:
    inner = protect("inner", on=ON, timeout=0.3, hedge=hedge("p95"))
    found = lint(pipeline(protect("outer", on=ON, timeout=1.0), inner))
    assert rules(found) == [
        "breaker-outside-retry",
        "limit-outside-retry",
        "retry-outside-hedge",
        "retry-around-retry",
    ]
    assert found[2].policies == ("retry 'outer'", "hedge 'inner'")


def test_decorators_are_read_like_a_pipeline() -> None:
    @breaker("prices")
    @cache(60)
    async def price() -> int:
        return 1

    assert rules(lint(price)) == ["cache-inside-breaker"]
    assert rules(lint(breaker("prices")(price))) == ["cache-inside-breaker"] * 2


def test_pipelines_inside_pipelines_are_laid_flat() -> None:
    inner = pipeline(cache(60))
    assert rules(lint(pipeline(pipeline(breaker()), inner))) == ["cache-inside-breaker"]


def test_decorators_of_others_are_looked_through() -> None:
    def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return wrapper

    @breaker("prices")
    @logged
    @cache(60)
    @logged
    async def price() -> int:
        return 1

    assert rules(lint(price)) == ["cache-inside-breaker"]
    assert rules(lint(logged(price))) == ["cache-inside-breaker"]
    assert rules(lint(functools.partial(price))) == ["cache-inside-breaker"]


def test_methods_are_functions() -> None:
    class Shop:
        @breaker("prices")
        @cache(60)
        async def price(self) -> int:
            return 1

        @staticmethod
        @timeout(1)
        def tax() -> int:
            return 1

        @timeout(1)
        async def __call__(self) -> int:
            return 1

    assert rules(lint(Shop().price)) == ["cache-inside-breaker"]
    assert rules(lint(Shop.price)) == ["cache-inside-breaker"]
    assert rules(lint(Shop.tax)) == ["timeout-on-sync"]
    assert rules(lint(Shop.__dict__["tax"])) == ["timeout-on-sync"]
    assert lint(Shop().__call__) == []


@pytest.mark.parametrize(
    "keyed",
    [lambda: breaker(key="item"), lambda: bulkhead(3, key="item")],
    ids=["breaker", "bulkhead"],
)
def test_the_handle_of_a_key_is_read_as_its_policy(keyed: Callable[[], Any]) -> None:
    handle = keyed().of("tea")
    assert lint(handle) == []
    found = lint(handle(cache(60)(timeout(1)(sync))))
    expected = ["cache-inside-breaker"] if handle.kind == "breaker" else []
    assert rules(found) == [*expected, "timeout-on-sync"]


def test_a_wait_that_nobody_can_know_is_not_judged() -> None:
    assert lint(pipeline(retry(on=ON, wait=lambda _n, _e: 100.0), breaker(cooldown=1))) == []
    waits = tenacity.wait_fixed(100)
    assert lint(pipeline(retry(on=ON, wait=waits), breaker(cooldown=1))) == []
    stops = tenacity.stop_after_attempt(3)
    found = lint(pipeline(retry(on=ON, wait=2.0, stop=stops), breaker(cooldown=1)))
    assert rules(found) == ["breaker-inside-patient-retry"]


def test_a_stack_may_contradict_itself_in_many_ways() -> None:
    stack = pipeline(
        timeout(0.2, name="all"), breaker("prices"), retry("again", on=ON), cache(60), timeout(0.1)
    )
    assert rules(lint(stack(sync))) == [
        "cache-inside-retry",
        "cache-inside-breaker",
        "breaker-outside-retry",
        "attempts-exceed-deadline",
        "timeout-on-sync",
        "timeout-on-sync",
    ]


@pytest.mark.parametrize("wrong", [None, 1, "fetch", [sync]])
def test_what_is_no_stack_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"lint\(\) takes a policy or a function, not "):
        lint(wrong)  # type: ignore[arg-type]


def test_it_prints_nothing_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[int] = []

    async def fetch() -> None:
        ran.append(1)

    guarded = pipeline(breaker(), cache(math.inf))(fetch)
    assert rules(lint(guarded)) == ["cache-inside-breaker"]
    assert capsys.readouterr() == ("", "")
    assert ran == []
    asyncio.run(guarded())
    assert ran == [1]

"""`fallback(instead=breaker())` was accepted, since a policy can be called: it decorates. So were
policies for predicates, for keys and costs, and for the function that another policy guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    carry,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.events import subscribe

pytestmark = pytest.mark.rule("F7", "F17")

POLICIES = {
    "breaker": lambda: breaker("db"),
    "timeout": lambda: timeout(1),
    "pipeline": lambda: pipeline(timeout(1)),
    "of a key": lambda: breaker("db", key="tenant").of("a"),
}

FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "handler": lambda policy: fallback(policy),
    "instead": lambda policy: fallback(instead=policy),
    "on": lambda policy: breaker(on=policy),
    "on ": lambda policy: retry(on=(OSError, policy)),
    "ignore": lambda policy: breaker(ignore=policy),
    "on_result": lambda policy: hedge(1, on_result=policy),
    "on_result ": lambda policy: fallback(default=1, on_result=policy),
    "on_result  ": lambda policy: throttle(on_result=policy),
    "key": lambda policy: bulkhead(1, key=policy),
    "key ": lambda policy: singleflight(key=policy),
    "trip": lambda policy: breaker(trip=policy),
    "wait": lambda policy: retry(on=OSError, wait=policy),
    "stop": lambda policy: retry(on=OSError, stop=policy),
    "discard": lambda policy: hedge(1, discard=policy),
    "discard ": lambda policy: retry(on=OSError, on_result=bool, discard=policy),
    "cost": lambda policy: rate_limit(1, cost=policy),
    "priority": lambda policy: adaptive_limit(priority=policy),
    "ttl": lambda policy: cache(policy),
    "copy": lambda policy: cache(1, copy=policy),
    "copy ": lambda policy: singleflight(copy=policy),
    "negative": lambda policy: cache(1, negative_ttl=1, negative=policy),
    "exists": lambda policy: cache(1, exists=policy),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("argument", FUNCTIONS)
def test_it_is_refused_where_a_function_is_wanted(policy: Any, argument: str) -> None:
    with pytest.raises(TypeError) as caught:
        FUNCTIONS[argument](policy())
    said = str(caught.value)
    assert said.startswith(f"{argument.strip()} must be ")
    assert said.endswith(": a policy is no function, it decorates one")
    if argument in {"handler", "instead", "on", "ignore", "cost", "priority", "ttl", "exists"}:
        assert " or None" not in said.replace("a predicate on the key, or None", "")


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_it_is_no_listener(policy: Any) -> None:
    with pytest.raises(TypeError, match="listener must be a plain function of one event"):
        subscribe(policy())


def test_where_another_policy_is_wanted_it_is_not_called_so() -> None:
    wrong: Any = bulkhead(1, name="db")
    with pytest.raises(TypeError, match=r"limit must be an AdaptiveLimit.* not <Bulkhead 'db'>$"):
        protect(on=OSError, timeout=1, limit=wrong)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize(
    "guard",
    [
        lambda policy: bulkhead(1)(policy),
        lambda policy: bulkhead(1).call(policy),
        lambda policy: pipeline(bulkhead(1))(policy),
        lambda policy: singleflight().do("key", policy),
        lambda policy: carry(policy),
    ],
)
def test_another_policy_does_not_guard_it(guard: Any, policy: Any) -> None:
    with pytest.raises(TypeError, match=r"write pipeline\(\.\.\.\)"):
        guard(policy())


@pytest.mark.parametrize("wrong", [3, "x", None, [len]])
@pytest.mark.parametrize(
    ("argument", "takes"),
    [("handler", "of the error"), ("instead", "of the call's own arguments")],
)
def test_a_fallback_says_what_its_function_takes(argument: str, takes: str, wrong: Any) -> None:
    with pytest.raises(TypeError) as caught:
        fallback(**{argument: wrong})
    if (argument, wrong) == ("handler", "x"):
        assert str(caught.value).endswith('write fallback(default=..., name="x")')
        return
    assert str(caught.value) == (
        f"{argument} must be a function {takes} (for a value write default=), not {wrong!r}"
    )

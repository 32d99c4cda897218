"""A factory, class or coroutine in place of what it makes was taken, or refused in riddles."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

import resilient
from resilient import (
    BloomFilter,
    RetryBudget,
    adaptive_limit,
    backoff,
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
from resilient.integrations.invalidation import InProcessInvalidation
from tests.kinds import MAKERS

WITHOUT = {
    "breaker": r"write @breaker\(\), with parentheses",
    "retry": r"write @retry\(on=\.\.\.\), with parentheses",
    "protect": r"write @protect\(on=\.\.\., timeout=\.\.\.\), with parentheses",
    "throttle": r"write @throttle\(\), with parentheses",
    "adaptive_limit": r"write @adaptive_limit\(\), with parentheses",
    "bulkhead": r"write @bulkhead\(10\), with parentheses",
    "rate_limit": r"write @rate_limit\(100\), with parentheses",
    "timeout": r"write @timeout\(0\.3\), with parentheses",
    "singleflight": r"write @singleflight\(\), with parentheses",
    "hedge": r'write @hedge\("p95"\), with parentheses',
    "cache": r"write @cache\(60\), with parentheses",
    "fallback": r"write @fallback\(default=\.\.\.\), with parentheses",
    "pipeline": r"write it with parentheses and its arguments",
    "deadline": r"write @timeout\(0\.3\)",
}


@pytest.mark.rule("F17")
@pytest.mark.parametrize("kind", WITHOUT)
def test_a_factory_without_parentheses_says_what_to_write(kind: str) -> None:
    def price(sku: str, currency: str) -> float:
        return 1.0

    async def price_async(sku: str, currency: str) -> float:
        return 1.0

    for fn in (price, price_async):
        with pytest.raises(TypeError, match=WITHOUT[kind]):
            getattr(resilient, kind)(fn)


@pytest.mark.rule("F17")
def test_a_fallback_without_parentheses_over_one_parameter_says_so_when_it_is_used() -> None:
    @fallback
    def price(sku: str) -> float:
        return 1.0

    use: Any = price
    with pytest.raises(TypeError, match=r"a factory used without its parentheses\?"):
        use("A-17")


NAMED: dict[str, tuple[Callable[[], object], str]] = {
    "bulkhead": (lambda: bulkhead("db", 10), r'bulkhead\(10, name="db"\)'),  # type: ignore[arg-type,call-arg]
    "rate_limit": (lambda: rate_limit("db", 9), r'rate_limit\(100, name="db"\)'),  # type: ignore[arg-type,call-arg]
    "timeout": (lambda: timeout("db", 1), r'timeout\(0\.3, name="db"\)'),  # type: ignore[arg-type,call-arg]
    "hedge": (lambda: hedge("db", "p95"), r'hedge\("p95", name="db"\)'),  # type: ignore[arg-type,call-arg]
    "cache": (lambda: cache("db", 60), r'cache\(60, name="db"\)'),  # type: ignore[call-overload]
    "throttle": (lambda: throttle("db"), r'throttle\(name="db"\)'),  # type: ignore[arg-type,call-arg]
    "adaptive_limit": (lambda: adaptive_limit("db"), r'adaptive_limit\(name="db"\)'),  # type: ignore[arg-type,call-arg]
    "fallback": (lambda: fallback("db", None), r'fallback\(default=\.\.\., name="db"\)'),  # type: ignore[call-overload]
    "fallback by default": (lambda: fallback("db", default=1), r'name="db"'),  # type: ignore[call-overload]
    "pipeline": (lambda: pipeline("db", breaker()), r'name="db"'),  # type: ignore[call-overload]
}


@pytest.mark.rule("F17")
@pytest.mark.parametrize("kind", NAMED)
def test_a_name_in_place_of_the_subject_says_where_it_goes(kind: str) -> None:
    make, wanted = NAMED[kind]
    with pytest.raises(TypeError, match=wanted):
        make()


def seconds(attempt: int) -> float:
    return float(attempt)


MADE: dict[str, tuple[Callable[[], object], str]] = {
    "wait, factory": (lambda: retry(on=OSError, wait=backoff), r"^wait .*write backoff\("),  # type: ignore[arg-type]
    "wait, class": (
        lambda: retry(on=OSError, wait=tenacity.wait_fixed),  # type: ignore[arg-type]
        r"^wait .*write wait_fixed\(",
    ),
    "wait, one argument": (lambda: retry(on=OSError, wait=seconds), r"^wait .*\(attempt, error\)"),  # type: ignore[arg-type]
    "stop, class": (
        lambda: retry(on=OSError, stop=tenacity.stop_after_attempt),  # type: ignore[arg-type]
        r"^stop .*write stop_after_attempt\(",
    ),
    "stop, no argument": (lambda: retry(on=OSError, stop=lambda: True), r"^stop "),  # type: ignore[arg-type]
    "on, class": (
        lambda: retry(on=tenacity.retry_if_exception_type),
        r"^on .*write retry_if_exception_type\(",
    ),
    "budget": (lambda: retry(on=OSError, budget=RetryBudget), r"^budget .*write RetryBudget\("),  # type: ignore[arg-type]
    "hedge's budget": (lambda: hedge(1, budget=RetryBudget), r"^budget .*write RetryBudget\("),  # type: ignore[arg-type]
    "cooldown": (lambda: breaker(cooldown=backoff), r"^cooldown .*write backoff\("),  # type: ignore[arg-type]
    "cooldown, class": (lambda: breaker(cooldown=resilient.Backoff), r"^cooldown .*Backoff"),  # type: ignore[arg-type]
    "rng": (lambda: throttle(rng=random.Random), r"^rng .*write Random\("),  # type: ignore[arg-type]
    "exists": (lambda: cache(60, exists=BloomFilter), r"^exists .*write BloomFilter\("),
    "invalidation": (
        lambda: cache(60, invalidation=InProcessInvalidation),  # type: ignore[call-overload]
        r"^invalidation .*write InProcessInvalidation\(",
    ),
    "protect's breaker": (
        lambda: protect(on=OSError, timeout=1, breaker=breaker),  # type: ignore[call-overload]
        r"^breaker .*breaker\(\.\.\.\)",
    ),
    "protect's limit": (
        lambda: protect(on=OSError, timeout=1, limit=resilient.AdaptiveLimit),  # type: ignore[call-overload]
        r"^limit .*adaptive_limit\(\.\.\.\)",
    ),
    "a policy": (lambda: pipeline(retry), r"parentheses"),  # type: ignore[call-overload]
}


@pytest.mark.rule("F17")
@pytest.mark.parametrize("what", MADE)
def test_what_makes_an_instance_in_place_of_one_says_what_to_write(what: str) -> None:
    make, wanted = MADE[what]
    with pytest.raises(TypeError, match=wanted):
        make()


@pytest.mark.rule("R3")
def test_functions_that_do_not_tell_their_parameters_are_taken() -> None:
    retry(on=OSError, wait=max, stop=bool.__call__)  # type: ignore[arg-type]
    retry(on=OSError, wait=lambda *_: 0.0, stop=tenacity.stop_never)

    def wait(attempt: int, error: BaseException | None, more: float = 1.0) -> float:
        return attempt * more

    retry(on=OSError, wait=wait)


MORE: dict[str, Callable[[], Any]] = {
    **MAKERS,
    "a breaker's key": lambda: breaker(key="id").of(1),
}


@pytest.mark.rule("F17")
@pytest.mark.parametrize("kind", MORE)
def test_a_coroutine_in_place_of_a_function_is_closed_and_refused(kind: str) -> None:
    async def price() -> float:
        return 1.0

    policy = MORE[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusing: tuple[Callable[[Any], object], ...] = (policy, policy.call, carry)
        for refuse in refusing:
            coroutine: Any = price()
            with pytest.raises(TypeError, match=r"write call\(price, \.\.\.\), without calling it"):
                refuse(coroutine)
            assert coroutine.cr_frame is None, "closed"
            del coroutine


@pytest.mark.rule("F17")
def test_a_future_in_place_of_a_function_is_left_alone_and_refused() -> None:
    async def main() -> None:
        future: Any = asyncio.get_running_loop().create_future()
        with pytest.raises(TypeError, match="without calling it"):
            singleflight().do("k", future)
        assert not future.done()

    asyncio.run(main())


@pytest.mark.rule("F17")
@pytest.mark.parametrize("kind", MORE)
def test_a_class_or_a_property_is_not_decorated(kind: str) -> None:
    policy = MORE[kind]()

    class Client: ...

    with pytest.raises(TypeError, match=r"Client is a class: decorate its methods, or"):
        policy(Client)
    for one in (property(lambda self: 1), functools.cached_property(lambda self: 1)):
        with pytest.raises(TypeError, match=r"write the property above, the policy below"):
            policy(one)
    if kind != "hedge":
        assert isinstance(policy.call(Client), Client)


@pytest.mark.rule("F17")
@pytest.mark.parametrize("kind", MORE)
def test_a_policy_has_no_attributes_to_assign(kind: str) -> None:
    policy = MORE[kind]()
    shown = dir(policy)
    for name in ("consecutive_failures", "name", "kind", "call", "limit", "policies"):
        before = getattr(policy, name, None)
        with pytest.raises(AttributeError, match=rf"{name} can't be assigned.*when you build it"):
            setattr(policy, name, 1)
        assert getattr(policy, name, None) == before
    assert dir(policy) == shown


def failing_wait(_attempt: int, _error: BaseException | None) -> float:
    raise LookupError("wait")


def failing_stop(_state: object) -> bool:
    raise LookupError("stop")


def no_wait(_attempt: int, _error: BaseException | None) -> float:
    return 0.0


class BrokenWait(tenacity.wait.wait_base):
    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        raise LookupError("wait")


BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "wait": ({"wait": failing_wait}, "failing_wait", "its wait strategy failed"),
    "wait beside a stop": (
        {"wait": failing_wait, "stop": tenacity.stop_after_attempt(3)},
        "failing_wait",
        "its wait strategy failed",
    ),
    "wait of tenacity": (
        {"wait": BrokenWait()},
        "BrokenWait",
        "its wait strategy failed",
    ),
    "stop": ({"wait": no_wait, "stop": failing_stop}, "failing_stop", "its stop strategy failed"),
}


@pytest.mark.rule("F12", "R7")
@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("form", ["sync", "async", "loop"])
def test_a_strategy_that_fails_is_the_one_that_is_named(
    what: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings, named, noted = BROKEN[what]
    policy = retry(on=OSError, **settings)

    def fail() -> None:
        raise OSError("own")

    async def fail_async() -> None:
        raise OSError("own")

    def repeat() -> None:
        for attempt in policy:
            with attempt:
                fail()

    with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="own") as caught:
        if form == "sync":
            policy.call(fail)
        elif form == "async":
            asyncio.run(policy.call(fail_async))
        else:
            repeat()
    (logged,) = caplog.records
    assert named in logged.getMessage()
    assert f"the {what.partition(' ')[0]} strategy" in logged.getMessage()
    others = {"failing_wait", "failing_stop", "BrokenWait", "stop_after_attempt"} - {named}
    assert not any(other in logged.getMessage() for other in others)
    (note,) = caught.value.__notes__
    assert note.endswith(noted)
    assert policy.stats().gave_up["stop"] == 1

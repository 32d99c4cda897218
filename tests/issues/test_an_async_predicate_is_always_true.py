"""An ``async def`` as a predicate was taken, and its coroutine was true: good results were bad."""

from __future__ import annotations

import asyncio
import functools
import logging
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import tenacity

from resilient import (
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
)
from tests.kinds import KEYED


async def later(*_: object) -> bool:
    return False


async def many(*_: object) -> Any:
    yield False


def generate(*_: object) -> Generator[bool]:
    yield False


class Asker:
    async def __call__(self, *_: object) -> bool:
        return False

    async def ask(self, *_: object) -> bool:
        return False


ASYNC: dict[str, Any] = {
    "async def": later,
    "partial": functools.partial(functools.partial(later, 1), 2),
    "object": Asker(),
    "partial of an object": functools.partial(Asker(), 1),
    "method": Asker().ask,
    "async generator": many,
    "generator": generate,
}


class Keys:
    async def __contains__(self, key: object) -> bool:
        return False


class Channel:
    def __init__(self, publish: Any = print, subscribe: Any = print) -> None:
        self.publish, self.subscribe = publish, subscribe


WHERE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "breaker on": ("on", lambda ask: breaker(on=ask)),
    "breaker on, among others": ("on", lambda ask: breaker(on=(OSError, (ask,)))),
    "breaker ignore": ("ignore", lambda ask: breaker(ignore=ask)),
    "breaker on_result": ("on_result", lambda ask: breaker(on_result=ask)),
    "breaker trip": ("trip", lambda ask: breaker(trip=ask)),
    "breaker key": ("key", lambda ask: breaker(key=ask)),
    "rate_limit cost": ("cost", lambda ask: rate_limit(1, cost=ask)),
    "bulkhead key": ("key", lambda ask: bulkhead(1, key=ask)),
    "rate_limit key": ("key", lambda ask: rate_limit(1, key=ask)),
    "adaptive_limit key": ("key", lambda ask: adaptive_limit(key=ask)),
    "adaptive_limit priority": ("priority", lambda ask: adaptive_limit(priority=ask)),
    "throttle on": ("on", lambda ask: throttle(on=ask)),
    "throttle on_result": ("on_result", lambda ask: throttle(on_result=ask)),
    "throttle key": ("key", lambda ask: throttle(key=ask)),
    "retry on": ("on", lambda ask: retry(on=ask)),
    "retry on_result": ("on_result", lambda ask: retry(on=OSError, on_result=ask)),
    "retry wait": ("wait", lambda ask: retry(on=OSError, wait=ask)),
    "retry stop": ("stop", lambda ask: retry(on=OSError, stop=ask)),
    "retry key": ("key", lambda ask: retry(on=OSError, key=ask)),
    "hedge on": ("on", lambda ask: hedge(1, on=ask)),
    "hedge on_result": ("on_result", lambda ask: hedge(1, on_result=ask)),
    "hedge discard": ("discard", lambda ask: hedge(1, discard=ask)),
    "fallback on": ("on", lambda ask: fallback(default=1, on=ask)),
    "fallback on_result": ("on_result", lambda ask: fallback(default=1, on_result=ask)),
    "protect on": ("on", lambda ask: protect(on=ask, timeout=1)),
    "protect on_result": ("on_result", lambda ask: protect(on=OSError, timeout=1, on_result=ask)),
    "protect key": ("key", lambda ask: protect(on=OSError, timeout=1, key=ask)),
    "singleflight key": ("key", lambda ask: singleflight(key=ask)),
    "singleflight copy": ("copy", lambda ask: singleflight(copy=ask)),
    "cache key": ("key", lambda ask: cache(1, key=ask)),
    "cache ttl": ("ttl", lambda ask: cache(ask)),
    "cache negative": ("negative", lambda ask: cache(1, negative_ttl=1, negative=ask)),
    "cache copy": ("copy", lambda ask: cache(1, copy=ask)),
    "cache exists": ("exists", lambda ask: cache(1, exists=ask)),
    "cache publish": (
        "invalidation.publish",
        lambda ask: cache(1, invalidation=Channel(publish=ask)),
    ),
    "cache subscribe": (
        "invalidation.subscribe",
        lambda ask: cache(1, invalidation=Channel(subscribe=ask)),
    ),
}


@pytest.mark.rule("F7")
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("what", ASYNC)
def test_it_is_refused_by_the_name_of_the_argument(where: str, what: str) -> None:
    argument, make = WHERE[where]
    with pytest.raises(TypeError, match=rf"^{argument} must be .*no coroutine function"):
        make(ASYNC[what])


@pytest.mark.rule("F7")
def test_an_async_container_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^exists must be .*no coroutine function"):
        cache(1, exists=Keys())  # type: ignore[call-overload]


@pytest.mark.rule("F7")
def test_a_handler_may_be_async_and_tenacity_may_be_asked_async() -> None:
    fallback(later)
    fallback(instead=later)
    retry(on=tenacity.asyncio.retry_if_exception(later))
    retry(on=OSError, on_result=bool, discard=later)


class Later:
    """What a sync function returns whose answer is awaited, and was not: a future, say."""

    def __await__(self) -> Generator[Any, None, bool]:
        yield
        return False


def slyly(*_: object, **__: object) -> Any:
    return later()


def a_future(*_: object, **__: object) -> Any:
    return Later()


@pytest.fixture(autouse=True)
def nothing_is_left_unawaited() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def fail(*_: object) -> int:
    raise OSError("own")


SLY = pytest.mark.parametrize("sly", [slyly, a_future])


@pytest.mark.rule("F12")
@SLY
def test_a_predicate_that_answers_later_counts_as_one_that_raised(
    sly: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        good = breaker(on_result=sly)
        bad = breaker(on=sly)
        spared = breaker(ignore=sly)
        throttled = throttle(on=sly)
        shed = throttle(on_result=sly)
        repeated = retry(on=sly, wait=0)
        unwanted = retry(on=OSError, on_result=sly, wait=0)
        for _ in range(2):
            assert good.call(int) == 0
            assert shed.call(int) == 0
            assert unwanted.call(int) == 0
            for policy in (bad, spared, throttled, repeated, fallback(default=1, on=sly)):
                with pytest.raises(OSError, match="own"):
                    policy.call(fail)
    assert [one.stats().failures for one in (good, bad, spared)] == [2, 2, 2]
    assert throttled.stats().accepts == shed.stats().accepts == 0
    assert shed.stats().requests == 2
    assert repeated.stats().retries == unwanted.stats().retries == 0
    assert len(caplog.records) == 7 + 2, "once each, and two fallbacks"
    assert all("answers at once" in (one.exc_text or "") for one in caplog.records)


@pytest.mark.rule("F12", "R3")
@SLY
@pytest.mark.parametrize("what", ["on", "wait", "stop"])
def test_a_strategy_that_answers_later_counts_as_one_that_raised(
    sly: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"on": OSError, "wait": 0, what: sly}
    if what == "on":
        settings["on"] = tenacity.retry_if_exception(sly)
    policy = retry(**settings)
    with pytest.raises(OSError, match="own"):
        policy.call(fail)
    assert policy.stats().retries == 0
    (logged,) = caplog.records
    assert "answers at once" in (logged.exc_text or "")


@pytest.mark.rule("C3", "C5", "F12")
@SLY
def test_a_cache_that_can_not_know_at_once_asks_the_function(
    sly: Any, caplog: pytest.LogCaptureFixture
) -> None:
    policy = cache(10, exists=sly, negative_ttl=1, negative=sly)
    assert policy.call(abs, -1) == 1
    assert policy.stats().negative_hits == policy.stats().refused == 0
    assert len(caplog.records) == 1
    assert "answers at once" in (caplog.records[0].exc_text or "")


MORE: dict[str, Callable[[Any], Any]] = {
    **KEYED,
    "retry": lambda key: retry(on=OSError, key=key),
    "singleflight": lambda key: singleflight(key=key),
    "cache": lambda key: cache(1, key=key),
    "priority": lambda priority: adaptive_limit(priority=priority),
}


@pytest.mark.rule("F10", "F12")
@SLY
@pytest.mark.parametrize("kind", MORE)
def test_a_key_that_comes_later_is_no_key(kind: str, sly: Any) -> None:
    policy = MORE[kind](sly)
    with pytest.raises(TypeError, match="answers at once"):
        policy.call(abs, -1)

    async def main() -> None:
        async def work(number: int) -> int:
            return number

        with pytest.raises(TypeError, match="answers at once"):
            await policy.call(work, 1)

    asyncio.run(main())
    if kind not in {"retry", "singleflight", "cache"}:
        assert policy.keys() == []


@pytest.mark.rule("C6")
@SLY
def test_a_channel_that_publishes_later_publishes_nothing_and_says_so(sly: Any) -> None:
    policy = cache(10, key="x", invalidation=Channel(publish=sly))
    with pytest.raises(TypeError, match="answers at once"):
        policy.invalidate("A-17")


@pytest.mark.rule("H1")
@SLY
def test_a_discard_that_comes_later_is_logged(sly: Any, caplog: pytest.LogCaptureFixture) -> None:
    policy = hedge(1, discard=sly)
    policy._drop("late")
    policy._drop("late")
    (logged,) = caplog.records
    assert "answers at once" in (logged.exc_text or "")

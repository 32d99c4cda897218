"""How the library is used, as type checkers see it: clean under strict mypy and pyright."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, Never, TypeVar, assert_type
from wsgiref.types import WSGIApplication

import aiohttp
import httpx
import httpx2
import requests
import tenacity
from requests.adapters import HTTPAdapter

from resilient import (
    AdaptiveLimit,
    AdaptiveLimitStats,
    Backoff,
    BloomFilter,
    Breaker,
    BreakerState,
    BreakerStats,
    Bulkhead,
    BulkheadFull,
    BulkheadStats,
    Cache,
    CacheStats,
    Call,
    CircuitOpen,
    Deadline,
    DeadlineExceeded,
    Fallback,
    FallbackStats,
    Hedge,
    HedgeStats,
    Overloaded,
    Pipeline,
    Policy,
    Protection,
    RateLimit,
    RateLimited,
    RateLimitStats,
    Rejected,
    Retry,
    RetryBudget,
    RetryStats,
    SingleFlight,
    SingleFlightStats,
    Throttle,
    ThrottleStats,
    Timeout,
    TimeoutStats,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    carry,
    current_deadline,
    deadline,
    detached,
    fallback,
    hedge,
    pipeline,
    policies,
    policy_of,
    protect,
    rate_limit,
    remaining,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.events import (
    Event,
    FallbackUsed,
    HedgeLaunched,
    LimitChanged,
    RetryScheduled,
    StaleServed,
    StateChanged,
    Subscription,
    subscribe,
)
from resilient.integrations.aiohttp import TRANSIENT as OF_AIOHTTP
from resilient.integrations.aiohttp import ResilientMiddleware as AiohttpMiddleware
from resilient.integrations.aiohttp import origin as origin_of_aiohttp
from resilient.integrations.http import ServerStats, options
from resilient.integrations.httpx import ResilientTransport as HttpxTransport
from resilient.integrations.httpx2 import TRANSIENT, ResilientTransport, Wire, origin
from resilient.integrations.requests import ResilientAdapter
from resilient.integrations.requests import origin as origin_of_requests
from resilient.integrations.wsgi import ResilientMiddleware as WsgiMiddleware
from resilient.testing import VirtualTime, fresh, record, virtual_time

T = TypeVar("T")
catalogue = breaker("catalogue", failure_rate=0.5, window=10.0, minimum=20, slow=1.0)
again = retry(on=(ConnectionError, TimeoutError), attempts=3, wait=backoff(0.1, max=2.0))
limit = timeout(0.3)
flight = singleflight()
stack = pipeline(again, catalogue, limit, name="catalogue")

per_tenant = breaker("per tenant", key="tenant")
pool_per_tenant = bulkhead(2, key="tenant")
rate_per_tenant = rate_limit(2, key="tenant")
adaptive_per_tenant = adaptive_limit(key="tenant")
throttle_per_tenant = throttle(key="tenant")

assert_type(catalogue, Breaker)
assert_type(again, Retry)
assert_type(limit, Timeout)
assert_type(flight, SingleFlight)
assert_type(stack, Pipeline)

# Settings.

breaker(trip=lambda error: getattr(error, "retry_after", None))
breaker(trip=lambda error: isinstance(error, MemoryError))
breaker(trip=lambda error: dt.timedelta(minutes=1))
breaker(cooldown=backoff(1.0, rng=random.Random(1)), key="tenant", window=dt.timedelta(seconds=5))
breaker(
    on=(OSError, (KeyError, lambda error: error.args == ())),
    ignore=ValueError,
    on_result=lambda status: status >= 500,
)
breaker(
    key=lambda tenant, **_: tenant,
    initial=BreakerState.DISABLED,
    consecutive_failures=None,
    slow=None,
    window_calls=100,
)
retry(
    on=OSError,
    attempts=None,
    within=dt.timedelta(seconds=3),
    budget=RetryBudget(ratio=0.1),
    key="tenant",
)
retry(
    on=lambda error: True,
    wait=lambda attempt, error: attempt * 0.1,
    budget=None,
    on_result=lambda result: result is None,
    discard=print,
)
retry(
    on=tenacity.retry_if_exception_type(OSError),
    wait=tenacity.wait_fixed(1),
    stop=tenacity.stop_after_attempt(3),
)
retry(
    on=OSError,
    wait=tenacity.wait_fixed(1) + tenacity.wait_random(0, 1),
    stop=tenacity.stop_after_delay(3) | tenacity.stop_never,
)
timeout(None, name="limit")
singleflight("prices", key="sku", copy=dict)
assert_type(backoff(dt.timedelta(seconds=1), factor=3, max=60, jitter="equal"), Backoff)
assert_type(backoff(1, jitter=0.2).delay(1), float)

# Load control and protection.

pool = bulkhead(10, queue=5, max_wait=dt.timedelta(seconds=1), name="pool")
rate = rate_limit(100, per=60.0, burst=10, max_wait=0.5)
rate_limit(60_000, per=60.0, cost=lambda prompt: len(prompt) // 4)
rate_limit(60_000, per=60.0, cost=10)
rate.change(rate=200, burst=20)
rate.change(per=30.0)
rate_per_tenant.of("a").change(rate=5)
adaptive = adaptive_limit(algorithm="vegas", min=2, max=50, initial=5, queue=10, priority=3)
shedding = throttle(k=1.5, window=5, minimum=5, max_reject=0.5, on=OSError, rng=random.Random(1))
at_once = hedge(0, max=2, on_result=lambda found: found is None, budget=None)
second = hedge("p95", max=2, on=(OSError, TimeoutError), discard=lambda result: result.close())
recommended = protect("catalogue", on=OSError, timeout=0.5, within=2.0)

assert_type(pool, Bulkhead)
assert_type(rate, RateLimit)
assert_type(adaptive, AdaptiveLimit)
assert_type(shedding, Throttle)
assert_type(second, Hedge)
assert_type(recommended, Protection)

bulkhead(1, key="tenant", max_keys=10)
rate_limit(0.5, key=lambda tenant: tenant)
adaptive_limit(priority=lambda request, **_: request.rank, key="tenant")
throttle(on=lambda error: True, key="tenant", name="db")
throttle(on_result=lambda response: response.status == 503)
protect(on=OSError, timeout=0.5, on_result=lambda response: response is None)
hedge(dt.timedelta(seconds=1), budget=None)
hedge(0.5, budget=RetryBudget(0.1))
protect(
    on=(OSError, lambda error: True),
    timeout=dt.timedelta(seconds=1),
    attempts=5,
    breaker=breaker("db", consecutive_failures=3),
    limit=None,
    key="sku",
    hedge=second,
    fallback=fallback(default=None),
)


@pool
@rate
@adaptive
@shedding
@recommended
def weigh(sku: str, /, amount: int = 1, *, unit: str = "kg") -> float:
    return 1.0


@pool
@rate
@adaptive
@shedding
@second
async def weigh_async(sku: str, /, amount: int = 1, *, unit: str = "kg") -> float:
    return 1.0


assert_type(weigh("a", 2, unit="lb"), float)
takes_weight: Callable[[str], float] = weigh

# A fallback widens the result, and so does a cache that knows what does not exist.


def apologise(error: Exception) -> str:
    return "sorry"


async def apologise_async(error: Exception) -> str:
    return "sorry"


helped = fallback(apologise, on=OSError, name="sorry")
helped_async = fallback(apologise_async)
zero = fallback(default=0.0)
nothing = fallback(default=None)


def price_elsewhere(sku: str, /, *, shop: int = 1) -> str:
    return "about 1"


async def price_elsewhere_async(sku: str) -> str:
    return "about 1"


elsewhere = fallback(instead=price_elsewhere, on_result=lambda found: not found)
elsewhere_async = fallback(instead=price_elsewhere_async)
kept = cache(60.0, stale=10, negative_ttl=5, negative=lambda found: not found, refresh_ahead=1)
token = cache(
    lambda reply: reply["expires_in"] * 0.9, stale=dt.timedelta(seconds=1), copy=dict, patience=0
)
by_result = cache(lambda sku: dt.timedelta(seconds=len(sku)), exists={"a"})
known = cache(60.0, exists=BloomFilter(1000), key="sku", jitter=0.1, rng=random.Random(1))
in_set = cache(dt.timedelta(seconds=1), exists={"a", "b"})
by_predicate = cache(1, exists=lambda key: key != "no", max_size=10)

assert_type(helped, Fallback[str])
assert_type(helped_async, Fallback[str])
assert_type(zero, Fallback[float])
assert_type(nothing, Fallback[None])
assert_type(elsewhere, Fallback[str])
assert_type(elsewhere_async, Fallback[str])
assert_type(known, Cache[None])
assert_type(token, Cache[Never])
assert_type(by_result, Cache[None])
assert_type(in_set, Cache[None])
assert_type(by_predicate, Cache[None])


@helped
def stock(sku: str, /, *, shop: int = 1) -> int:
    return 1


@helped_async
async def stock_async(sku: str) -> int:
    return 1


@zero
def ratio(sku: str) -> float:
    return 1.0


@nothing
async def seller(sku: str) -> str:
    return "ann"


@kept
def colour(sku: str, /, *, shop: int = 1) -> str:
    return "red"


@kept
async def colour_async(sku: str) -> str:
    return "red"


@known
def size(sku: str) -> int:
    return 1


@known
async def size_async(sku: str) -> int:
    return 1


class Shelf(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    @nothing
    def get(self, index: int = 0) -> T:
        return self.value

    @kept
    async def find(self, index: int = 0) -> T:
        return self.value


assert_type(stock("a", shop=2), int | str)
assert_type(ratio("a"), float)
assert_type(colour("a", shop=2), str)
assert_type(size("a"), int | None)
assert_type(Shelf("a").get(1), str | None)
takes_stock: Callable[[str], int | str] = stock

# Sync functions.


@stack
@flight
@again
@catalogue
@limit
def price(sku: str, /, amount: int = 1, *, currency: str = "EUR") -> float:
    return 1.0


assert_type(price("a", 2, currency="USD"), float)
takes_price: Callable[[str], float] = price

# Async functions.


@stack
@flight
@again
@catalogue
@limit
async def price_async(sku: str, /, amount: int = 1, *, currency: str = "EUR") -> float:
    return 1.0


# Methods, static and class methods.


class Shop:
    @again
    @catalogue
    def price(self, sku: str) -> float:
        return 1.0

    @stack
    async def price_async(self, sku: str) -> float:
        return 1.0

    @staticmethod
    @limit
    def below(sku: str) -> float:
        return 1.0

    @classmethod
    @flight
    def build(cls, sku: str) -> Shop:
        return cls()


assert_type(Shop().price("a"), float)
assert_type(Shop.below("a"), float)
assert_type(Shop.build("a"), Shop)
takes_method: Callable[[str], float] = Shop().price

# Generic functions and classes.


@stack
def first(items: list[T]) -> T:
    return items[0]


class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    @catalogue
    def get(self) -> T:
        return self.value

    @again
    async def get_async(self, default: T) -> T:
        return self.value


assert_type(first([1, 2]), int)
assert_type(first(["a"]), str)
assert_type(Box(3).get(), int)

# `call`, for one call.


def add(a: int, b: int = 0) -> int:
    return a + b


async def add_async(a: int, b: int = 0) -> int:
    return a + b


assert_type(catalogue.call(add, 1, b=2), int)
assert_type(again.call(add, 1), int)
assert_type(limit.call(add, 1), int)
assert_type(flight.call(add, 1), int)
assert_type(stack.call(first, ["a"]), str)
assert_type(flight.do("key", add, 1, b=2), int)


async def main() -> None:
    assert_type(await price_async("a", currency="USD"), float)
    assert_type(await Shop().price_async("a"), float)
    assert_type(await Box("a").get_async(default="b"), str)
    assert_type(await catalogue.call(add_async, 1, b=2), int)
    assert_type(await again.call(add_async, 1), int)
    assert_type(await limit.call(add_async, 1), int)
    assert_type(await stack.call(add_async, 1), int)
    assert_type(await flight.do("key", add_async, 1), int)
    assert_type(await carry(add_async)(1, b=2), int)

    assert_type(await weigh_async("a", 2, unit="lb"), float)
    assert_type(await stock_async("a"), int | str)
    assert_type(await seller("a"), str | None)
    assert_type(await colour_async("a"), str)
    assert_type(await size_async("a"), int | None)
    assert_type(await Shelf("a").find(1), str)
    assert_type(await pool.call(add_async, 1, b=2), int)
    assert_type(await second.call(add_async, 1, b=2), int)
    assert_type(await helped.call(add_async, 1, b=2), int | str)
    assert_type(await kept.call(add_async, 1, b=2), int)
    assert_type(await in_set.call(add_async, 1), int | None)
    for policy in (pool, rate, adaptive, shedding):
        async with policy as call:
            assert_type(call, Call)
    async with rate_per_tenant.of("a") as call:
        assert_type(call, Call)

    async with catalogue as call:
        assert_type(call, Call)
    async with catalogue.admit() as call:
        assert_type(call, Call)
    async with per_tenant.of("a") as call:
        assert_type(call, Call)
    async with deadline(0.5) as ends:
        assert_type(ends, Deadline)
    async for attempt in again:
        with attempt:
            assert_type(attempt.number, int)
            assert_type(attempt.waited, float)
            assert_type(attempt.last_error, BaseException | None)
            attempt.again()


# Blocks, calls and loops.


def blocks() -> str:
    with catalogue as call:
        assert_type(call, Call)
        call.fail()
        call.ignore()
    call = catalogue.admit()
    assert_type(call.close(), None)
    call.close(ValueError())
    for attempt in again:
        with attempt:
            attempt.again()
    with deadline(dt.timedelta(seconds=1), name="request") as ends:
        assert_type(ends.at, float)
        assert_type(ends.seconds, float)
        assert_type(ends.remaining(), float)
        assert_type(ends.expired, bool)
        assert_type(ends.check(), None)
        ends.reschedule(None)
    with detached() as nothing:
        assert_type(nothing, None)
    with catalogue:
        return "a block does not swallow what comes after it"


assert_type(blocks(), str)
assert_type(current_deadline(), Deadline | None)
assert_type(remaining(), float)
assert_type(remaining(at_most=5), float)

# What can be asked.

assert_type(catalogue.state, BreakerState)
assert_type(catalogue.stats(), BreakerStats)
assert_type(catalogue.stats().failure_rate, float | None)
assert_type(per_tenant.of("a").stats(), BreakerStats)
assert_type(per_tenant.of("a").state, BreakerState)
assert_type(per_tenant.of("a").call(add, 1), int)
assert_type(catalogue.keys(), list[Hashable])
assert_type(again.stats(), RetryStats)
assert_type(again.stats().gave_up["budget"], int)
assert_type(limit.stats(), TimeoutStats)
assert_type(flight.stats(), SingleFlightStats)
assert_type(stack.stats(), tuple[object, ...])
assert_type(policies(), list[Policy])
assert_type(policy_of(price), Policy | None)
assert_type(catalogue.name, str)
gave_up: Mapping[Any, int] = again.stats().gave_up

assert_type(pool.stats(), BulkheadStats)
assert_type(pool.stats().limit, int)
assert_type(pool.resize(5), None)
assert_type(pool_per_tenant.of("a").stats(), BulkheadStats)
assert_type(pool_per_tenant.of("a").resize(5), None)
assert_type(pool_per_tenant.of("a").call(add, 1), int)
assert_type(pool_per_tenant.keys(), list[Hashable])
assert_type(rate.stats(), RateLimitStats)
assert_type(rate.take(2), None)
assert_type(rate_per_tenant.of("a").take(), None)
assert_type(rate_per_tenant.of("a").stats().queued, int)
assert_type(rate_per_tenant.of("a").admit(), Call)
assert_type(adaptive.stats(), AdaptiveLimitStats)
assert_type(adaptive.stats().latency, float | None)
assert_type(adaptive_per_tenant.of("a").stats(), AdaptiveLimitStats)
assert_type(shedding.stats(), ThrottleStats)
assert_type(shedding.stats().probability, float)
assert_type(throttle_per_tenant.of("a").stats(), ThrottleStats)
assert_type(second.stats(), HedgeStats)
assert_type(second.stats().after, float | None)
assert_type(helped.stats(), FallbackStats)
assert_type(kept.stats(), CacheStats)
assert_type(kept.invalidate(kept.key_of(colour, "a")), None)
assert_type(kept.clear(), None)
assert_type(pool.call(add, 1, b=2), int)
assert_type(helped.call(add, 1, b=2), int | str)
assert_type(elsewhere.call(add, 1, b=2), int | str)
assert_type(kept.call(add, 1, b=2), int)
assert_type(in_set.call(add, 1), int | None)
assert_type(recommended.call(add, 1, b=2), int)
assert_type(pipeline(helped, again).call(add, 1, b=2), int | str)
assert_type(pipeline(in_set, pipeline(helped, again)).call(add, 1), int | str | None)
assert_type(pipeline(kept, again), Pipeline)
assert_type(protect(on=OSError, timeout=1, fallback=nothing).call(add, 1, b=2), int | None)
assert_type(protect(on=OSError, timeout=1, fallback=None), Protection)

# A protection has its parts as attributes.

assert_type(recommended.breaker, Breaker | None)
assert_type(recommended.retry, Retry)
assert_type(recommended.limit, AdaptiveLimit | None)
assert_type(recommended.timeout, Timeout)
assert_type(recommended.hedge, Hedge | None)
assert_type(recommended.fallback, Fallback[Any] | None)
assert_type(recommended.stats(), tuple[object, ...])


# Two that widen can be stacked, and both are seen.


@fallback(default=None, on=OSError)
@fallback(default="sorry", on=ValueError)
async def count_async(sku: str) -> int:
    return 1


async def counted() -> None:
    assert_type(await count_async("a"), int | str | None)


def with_or_without(instead: Fallback[str] | None) -> str | int:
    stack: Protection = protect(on=OSError, timeout=1, fallback=instead)
    assert_type(stack.fallback, Fallback[Any] | None)
    return protect(on=OSError, timeout=1, fallback=instead).call(add, 1, b=2)


# Every policy is a Policy, and can be passed on.

everything: list[Policy] = [catalogue, per_tenant.of("a"), again, limit, flight, stack]
everything += [pool, pool_per_tenant.of("a"), rate, adaptive, shedding, recommended]
nested: Pipeline = pipeline(pipeline(again), *everything, second)
for one in everything:
    assert_type(one.call(add, 1), int)
    assert_type(one.name, str)


def guarded_by(
    policy: Breaker | Retry | Timeout | SingleFlight | Pipeline, fn: Callable[[int], T]
) -> Callable[[int], T]:
    return policy(fn)


assert_type(guarded_by(catalogue, add)(1), int)

# `carry`.

carried = carry(add)
assert_type(carried(1, b=2), int)

# Errors.

try:
    price("a")
except (BulkheadFull, RateLimited, Overloaded) as rejected:
    assert_type(rejected.retry_after, float | None)
except CircuitOpen as rejected:
    assert_type(rejected.retry_after, float | None)
    assert_type(rejected.policy, str)
except Rejected as rejected:
    assert_type(rejected.reason, str)
except DeadlineExceeded as exceeded:
    assert_type(exceeded.started, bool)
    assert_type(exceeded.seconds, float)
    assert_type(exceeded.elapsed, float)

# Events and tests.


def listen(event: Event) -> None:
    if isinstance(event, StateChanged):
        assert_type(event.new, BreakerState)


def hear_load(event: Event) -> None:
    match event:
        case LimitChanged():
            assert_type(event.old, int)
            assert_type(event.new, int)
        case HedgeLaunched():
            assert_type(event.attempt, int)
            assert_type(event.waited, float)
        case FallbackUsed():
            assert_type(event.error, BaseException | None)
        case StaleServed():
            assert_type(event.age, float)
            assert_type(event.error, BaseException | None)
        case _:
            assert_type(event.kind, str)


def hear_retries(event: RetryScheduled) -> None:
    assert_type(event.error, BaseException | None)


assert_type(subscribe(listen), Subscription)
subscribe(hear_retries, RetryScheduled).close()
subscribe(hear_load, LimitChanged, HedgeLaunched, FallbackUsed, StaleServed).close()
with subscribe(listen, StateChanged) as subscription:
    assert_type(subscription, Subscription)
with record(StateChanged) as moves:
    assert_type(moves, list[StateChanged])
with virtual_time(seed=1, fresh=True) as time, fresh():
    assert_type(time, VirtualTime)
    assert_type(time.run(add_async, 1, b=2), int)
    assert_type(time.now(), float)

# Integrations.


async def ask_a_shop() -> None:
    guarded = protect(on=TRANSIENT, timeout=1, key=origin)
    transport = ResilientTransport(policy=guarded, wire=Wire(unit="ms"))
    assert_type(transport.policy, Policy | None)
    async with httpx2.AsyncClient(transport=transport) as client:
        with options(idempotent=True):
            assert_type(await client.get("http://shop.test"), httpx2.Response)


def ask_a_shop_now() -> None:
    with httpx.Client(transport=HttpxTransport(policy=None, failures={503})) as client:
        assert_type(client.get("http://shop.test"), httpx.Response)


def ask_a_shop_with_requests() -> None:
    adapter = ResilientAdapter(HTTPAdapter(pool_maxsize=50), policy=breaker(key=origin_of_requests))
    assert_type(adapter.policy, Policy | None)
    with requests.Session() as session:
        session.mount("https://", adapter)
        assert_type(session.get("https://shop.test"), requests.Response)


def guard_an_application(app: WSGIApplication) -> WSGIApplication:
    guarded = WsgiMiddleware(app, timeout=lambda environ: 1.0 if environ else None, trust=True)
    assert_type(guarded.stats(), ServerStats)
    return guarded


async def ask_a_shop_by_aiohttp() -> None:
    guarded = protect(on=OF_AIOHTTP, timeout=1, key=origin_of_aiohttp)
    middleware = AiohttpMiddleware(policy=guarded, failures=lambda status: status >= 500)
    assert_type(middleware.policy, Policy | None)
    async with (
        aiohttp.ClientSession(middlewares=(middleware,)) as session,
        session.get("http://shop.test") as answer,
    ):
        assert_type(answer, aiohttp.ClientResponse)

"""How the library is used, as type checkers see it: clean under strict mypy and pyright."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar, assert_type

import tenacity

from resilient import (
    Backoff,
    Breaker,
    BreakerState,
    BreakerStats,
    Call,
    CircuitOpen,
    Deadline,
    DeadlineExceeded,
    Pipeline,
    Policy,
    Rejected,
    Retry,
    RetryBudget,
    RetryStats,
    SingleFlight,
    SingleFlightStats,
    Timeout,
    TimeoutStats,
    backoff,
    breaker,
    carry,
    current_deadline,
    deadline,
    detached,
    pipeline,
    policies,
    policy_of,
    remaining,
    retry,
    singleflight,
    timeout,
)
from resilient.events import Event, RetryScheduled, StateChanged, Subscription, subscribe
from resilient.testing import VirtualTime, fresh, record, virtual_time

T = TypeVar("T")
catalogue = breaker("catalogue", failure_rate=0.5, window=10.0, minimum=20, slow=1.0)
again = retry(on=(ConnectionError, TimeoutError), attempts=3, wait=backoff(0.1, max=2.0))
limit = timeout(0.3)
flight = singleflight()
stack = pipeline(again, catalogue, limit, name="catalogue")

per_tenant = breaker("per tenant", key="tenant")

assert_type(catalogue, Breaker)
assert_type(again, Retry)
assert_type(limit, Timeout)
assert_type(flight, SingleFlight)
assert_type(stack, Pipeline)

# Settings.

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

# Every policy is a Policy, and can be passed on.

everything: list[Policy] = [catalogue, per_tenant.of("a"), again, limit, flight, stack]
nested: Pipeline = pipeline(pipeline(again), *everything)
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


def hear_retries(event: RetryScheduled) -> None:
    assert_type(event.error, BaseException | None)


assert_type(subscribe(listen), Subscription)
subscribe(hear_retries, RetryScheduled).close()
with subscribe(listen, StateChanged) as subscription:
    assert_type(subscription, Subscription)
with record(StateChanged) as moves:
    assert_type(moves, list[StateChanged])
with virtual_time(seed=1, fresh=True) as time, fresh():
    assert_type(time, VirtualTime)
    assert_type(time.run(add_async, 1, b=2), int)
    assert_type(time.now(), float)

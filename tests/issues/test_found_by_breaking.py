"""Small things that an adversary found in load control: each of them failed."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from resilient import (
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    lint,
    pipeline,
    retry,
    throttle,
)
from tests.worlds import in_threads


@pytest.mark.rule("C6")
def test_a_bound_method_has_the_key_of_its_calls() -> None:
    policy = cache(60.0)
    runs: list[int] = []

    class Shop:
        @policy
        def price(self, sku: str, *, amount: int = 1) -> int:
            runs.append(1)
            return len(runs)

    shop, other = Shop(), Shop()
    assert [shop.price("a"), other.price("a"), shop.price("a", amount=2)] == [1, 2, 3]
    policy.invalidate(policy.key_of(shop.price, "a"))
    assert [shop.price("a"), other.price("a"), shop.price("a", amount=2)] == [4, 2, 3]
    assert policy.key_of(shop.price, "a", amount=2) == policy.key_of(
        Shop.price, shop, "a", amount=2
    )


@pytest.mark.rule("C6")
def test_a_bound_method_that_was_decorated_itself_keeps_its_key() -> None:
    class Shop:
        runs = 0

        def price(self, sku: str) -> int:
            self.runs += 1
            return self.runs

    shop, policy = Shop(), cache(60.0)
    cached = policy(shop.price)
    assert cached("a") == 1
    policy.invalidate(policy.key_of(shop.price, "a"))
    assert cached("a") == 2
    policy.invalidate(policy.key_of(cached, "a"))
    assert cached("a") == 3


@pytest.mark.rule("C6")
def test_a_bound_method_has_the_key_that_key_says() -> None:
    policy = cache(60.0, key=lambda shop, sku: sku)

    class Shop:
        @policy
        def price(self, sku: str) -> int:
            return 1

    assert policy.key_of(Shop().price, "a") == "a"


@pytest.mark.rule("F1")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="inspect.markcoroutinefunction is of 3.12")
@pytest.mark.parametrize(
    "policy",
    [bulkhead(3), cache(60.0), fallback(default=0), hedge(1.0), breaker(), retry(on=OSError)],
    ids=lambda policy: policy.kind,
)
def test_a_function_that_is_marked_as_a_coroutine_function_is_one(policy: Any) -> None:
    async def inner() -> int:
        return 5

    def marked() -> Any:
        return inner()

    mark: Callable[[Any], Any] = inspect.markcoroutinefunction  # type: ignore[attr-defined, unused-ignore]  # since 3.12
    guarded = policy(mark(marked))
    assert inspect.iscoroutinefunction(guarded)
    assert asyncio.run(guarded()) == 5


@pytest.mark.rule("L1")
@pytest.mark.parametrize(
    "policy",
    [bulkhead(1, queue=5), adaptive_limit(initial=1, max=1, queue=5)],
    ids=lambda policy: policy.kind,
)
def test_a_place_is_not_for_a_waiter_whose_loop_is_closed(policy: Any) -> None:
    held = policy.admit()
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        async with policy:
            pass

    lost = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert policy.stats().queued == 1
    in_threads(held.close)
    assert (policy.stats().queued, policy.stats().in_flight) == (0, 0)
    with deadline(1), policy:
        assert policy.stats().in_flight == 1
    lost.get_coro().close()  # type: ignore[union-attr, unused-ignore]  # as the collector would
    assert policy.stats().in_flight == 0
    with policy.admit():
        assert policy.stats().in_flight == 1


@pytest.mark.parametrize("wait", [1.0049, 1.004999999, 0.123456])
def test_the_cooldown_that_lint_advises_is_one(wait: float) -> None:
    def stack(cooldown: float) -> Any:
        return pipeline(retry(on=OSError, wait=wait, attempts=2), breaker(cooldown=cooldown))

    (finding,) = lint(stack(wait - 1e-4))
    advised = float(finding.write.split("longer than ")[1].split(" s")[0])
    assert wait <= advised <= wait * 1.01
    assert not lint(stack(advised))


@pytest.mark.rule("F7")
def test_a_callable_that_cannot_be_hashed_is_refused_with_what_to_write() -> None:
    @dataclass
    class Fetch:
        url: str

        def __call__(self, sku: str) -> str:
            return self.url + sku

    with pytest.raises(TypeError, match="pass key="):
        cache(60.0)(Fetch("x"))
    assert cache(60.0, key="sku")(Fetch("x"))("a") == "xa"


@pytest.mark.rule("F7")
@pytest.mark.parametrize("name", ["initial", "max"])
def test_a_limit_that_no_float_holds_is_refused(name: str) -> None:
    given: dict[str, Any] = {"max": 10**400, name: 10**400}
    with pytest.raises(ValueError, match="max must be a number that a float can hold"):
        adaptive_limit(**given)


@pytest.mark.rule("B4", "L8")
@pytest.mark.parametrize("policy", [throttle(window=5e-324), breaker(window=5e-324)])
def test_the_shortest_window_that_a_float_can_tell_is_one(policy: Any) -> None:
    assert policy.call(int) == 0
    assert policy.call(int) == 0

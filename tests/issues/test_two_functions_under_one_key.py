"""With ``key=``, a cache or single-flight gave one function's result to a caller of another."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from resilient import cache, retry, singleflight
from resilient.events import FlightJoined
from resilient.integrations.invalidation import InProcessInvalidation
from resilient.testing import record, virtual_time
from tests.worlds import World


def user(sku: int) -> tuple[str, int]:
    return "user", sku


def order(sku: int) -> tuple[str, int]:
    return "order", sku


@pytest.mark.rule("F10", "C6")
def test_functions_of_one_cache_have_entries_of_their_own(world: World) -> None:
    async def scenario(w: World) -> None:
        runs: list[str] = []

        def read(what: str) -> Callable[[int], str]:
            return lambda sku: (runs.append(what), f"{what} {sku}")[1]  # type: ignore[func-returns-value]  # called for its effect

        policy = cache(60, key=lambda sku: sku)
        users, orders = policy(w.function(read("user"))), policy(w.function(read("order")))
        for _ in range(2):
            assert await w.call(users, 1) == "user 1"
            assert await w.call(orders, 1) == "order 1"
        assert runs == ["user", "order"]
        assert policy.stats().size == 2
        policy.invalidate(1)
        assert policy.stats().size == 0
        assert [await w.call(users, 1), await w.call(orders, 1)] == ["user 1", "order 1"]

    world.run(scenario)


@pytest.mark.rule("F10", "S1", "S5")
def test_functions_of_one_flight_run_beside_each_other(world: World) -> None:
    async def scenario(w: World) -> None:
        runs: list[str] = []

        def read(what: str) -> Callable[[int], Any]:
            def run(sku: int) -> Any:
                runs.append(what)
                return w.sleep(1) if w.is_async else what

            return run

        policy = singleflight(key=lambda sku: sku)
        users, orders = policy(w.function(read("user"))), policy(w.function(read("order")))
        callers = [users, orders] * 2 if w.is_async else [users, orders]
        found = await w.together(*(functools.partial(w.call, one, 1) for one in callers))
        assert sorted(runs) == ["order", "user"]
        if not w.is_async:
            assert found == ["user", "order"]
        assert policy.stats().runs == 2

    world.run(scenario)


@pytest.mark.rule("S5")
def test_forget_is_for_every_function_and_for_do() -> None:
    async def main() -> list[int]:
        policy, runs = singleflight(key="sku"), [0, 0, 0]

        async def slow(which: int) -> None:
            runs[which] += 1
            await anyio.sleep(1)

        @policy
        async def users(sku: int) -> None:
            await slow(0)

        @policy
        async def orders(sku: int) -> None:
            await slow(1)

        async with anyio.create_task_group() as group:
            for _ in range(2):
                for _ in range(3):
                    group.start_soon(users, 1)
                    group.start_soon(orders, 1)
                    group.start_soon(policy.do, 1, slow, 2)
                await anyio.sleep(0.1)
                policy.forget(1)
        return runs

    with virtual_time() as time:
        assert time.run(main) == [2, 2, 2]


@pytest.mark.rule("F10", "S1")
def test_do_goes_by_the_key_alone() -> None:
    async def main() -> list[object]:
        policy, found = singleflight(key="sku"), list[object]()

        async def ask(what: str) -> str:
            await anyio.sleep(1)
            return what

        async def call(what: str) -> None:
            found.append(await policy.do(1, functools.partial(ask, what)))

        with record(FlightJoined) as joined:
            async with anyio.create_task_group() as group:
                group.start_soon(call, "first")
                group.start_soon(call, "second")
        assert [one.key for one in joined] == [1]
        return found

    with virtual_time() as time:
        assert time.run(main) == ["first", "first"]


@pytest.mark.rule("M1", "F10")
@pytest.mark.parametrize("make", [singleflight, lambda key: cache(60, key=key)], ids=["", "cache"])
def test_events_and_errors_have_the_key_that_the_user_knows(make: Callable[..., Any]) -> None:
    async def main() -> None:
        policy = make(key="sku")

        async def sleep(sku: str) -> None:
            await anyio.sleep(1)

        async def ask(sku: str) -> None:
            await circle(sku)

        read, circle = policy(sleep), policy(ask)
        with record(FlightJoined) as joined:
            async with anyio.create_task_group() as group:
                group.start_soon(read, "A-17")
                group.start_soon(read, "A-17")
        assert [one.key for one in joined] == ["A-17"]
        with pytest.raises(RuntimeError, match="asks for its own key 'A-17', and"):
            await circle("A-17")

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("F10")
def test_what_is_one_function_shares() -> None:
    policy, runs = cache(60, key="sku"), list[int]()

    def read(sku: int) -> int:
        runs.append(sku)
        return len(runs)

    first, second, stacked = policy(read), policy(read), policy(retry(on=OSError)(read))
    assert first(1) == second(1) == stacked(1) == 1
    assert policy.call(read, 1) == policy.call(first, 1) == 1
    assert policy.call(read, 2) == policy.call(read, 2) == first(2) == 2


@pytest.mark.rule("F10")
def test_the_key_of_a_method_is_that_of_its_class_unless_it_was_taken_off_an_object() -> None:
    policy = cache(60, key="sku")

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @policy
        def price(self, sku: int) -> str:
            return self.name

        def bare(self, sku: int) -> str:
            return self.name

    one, other = Shop("one"), Shop("other")
    assert (one.price(1), other.price(1)) == ("one", "one"), "self is no part of the key"
    for _ in range(2):
        assert (policy.call(one.bare, 1), policy.call(other.bare, 1)) == ("one", "other")
    assert policy.key_of(one.price, 1) == policy.key_of(Shop.price, one, 1) == 1
    assert policy.stats().size == 3


@pytest.mark.rule("F10")
def test_partials_are_functions_of_their_own() -> None:
    policy = cache(60, key="sku")

    def read(what: str, sku: int) -> tuple[str, int]:
        return what, sku

    users, orders = functools.partial(read, "user"), functools.partial(read, "order")
    cached_users, cached_orders = policy(users), policy(orders)
    assert cached_users(sku=1) == policy.call(users, sku=1) == ("user", 1)
    assert cached_orders(sku=1) == ("order", 1)


@dataclass
class Read:
    """Equal by its field, and so not to be hashed."""

    what: str

    def __call__(self, sku: int) -> tuple[str, int]:
        return self.what, sku


@pytest.mark.rule("F10")
@pytest.mark.parametrize("make", [singleflight, lambda key: cache(60, key=key)], ids=["", "cache"])
def test_a_callable_without_a_hash_is_known_by_itself(make: Callable[..., Any]) -> None:
    policy, users = make(key="sku"), Read("user")
    assert policy(users)(1) == policy.call(users, 1) == ("user", 1)
    assert policy.call(Read("order"), 1) == ("order", 1)
    if policy.kind == "cache":
        assert policy.stats().hits == 1


@pytest.mark.rule("C3")
def test_max_size_counts_the_entries_of_all_functions() -> None:
    policy = cache(60, key="sku", max_size=3)
    users, orders = policy(user), policy(order)
    for sku in range(5):
        assert (users(sku), orders(sku)) == (("user", sku), ("order", sku))
    assert (policy.stats().size, policy.stats().evictions) == (3, 7)


@pytest.mark.rule("C5")
def test_exists_is_asked_for_the_key_itself() -> None:
    asked: list[object] = []
    policy = cache(60, key="sku", exists=lambda sku: (asked.append(sku), sku == 1)[1])  # type: ignore[func-returns-value]  # called for its effect
    assert [policy.call(user, 1), policy.call(order, 2)] == [("user", 1), None]
    assert asked == [1, 2]


@pytest.mark.rule("C6")
def test_caches_of_a_channel_drop_the_key_of_every_function() -> None:
    channel = InProcessInvalidation()
    one, other = (cache(60, key="sku", invalidation=channel) for _ in range(2))
    for policy in (one, other):
        for fn in (user, order):
            policy.call(fn, 1)
            policy.call(fn, 2)
    one.invalidate(one.key_of(user, 1))
    assert [one.stats().size, other.stats().size] == [2, 2]


@pytest.mark.rule("C8")
def test_each_function_is_refreshed_by_itself() -> None:
    async def main() -> None:
        policy, runs = cache(10, key="sku", refresh_ahead=5, jitter=0), list[str]()

        def reader(what: str) -> Callable[..., Any]:
            @policy
            async def read(sku: int) -> str:
                runs.append(what)
                return what

            return read

        users, orders = reader("user"), reader("order")
        assert [await users(1), await orders(1)] == ["user", "order"]
        await anyio.sleep(6)
        assert [await users(1), await orders(1)] == ["user", "order"]
        await anyio.sleep(6)  # past the end of what came first
        assert [await users(1), await orders(1)] == ["user", "order"]
        assert runs.count("user") == runs.count("order") >= 2
        assert policy.stats().misses == 2

    with virtual_time() as time:
        time.run(main)


@pytest.mark.rule("F10")
def test_functions_that_nothing_is_kept_of_are_forgotten() -> None:
    policy = cache(60, key="sku", max_size=2)
    for sku in range(10):
        policy.call(lambda sku: sku, sku)
    flight = singleflight(key="sku")
    for sku in range(10):
        flight.call(lambda sku: sku, sku)
    gc.collect()
    assert len(policy._flight._scopes) == 2
    assert len(flight._scopes) == 0


@pytest.mark.rule("F10")
@pytest.mark.parametrize("make", [singleflight, lambda key: cache(60, key=key)], ids=["", "cache"])
def test_what_can_not_be_a_key_is_refused_as_ever(make: Callable[..., Any]) -> None:
    fn = make(key="sku")(user)
    with pytest.raises(TypeError, match="key must be hashable, not \\[1\\]"):
        fn([1])


@pytest.mark.rule("F10")
@pytest.mark.parametrize("make", [singleflight, lambda: cache(60)], ids=["", "cache"])
def test_without_a_key_the_function_is_part_of_it_as_ever(make: Callable[..., Any]) -> None:
    policy = make()
    assert [policy(user)(1), policy(order)(1)] == [("user", 1), ("order", 1)]

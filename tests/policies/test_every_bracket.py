"""Blocks, single calls and keys of the policies of load control (F3, F10): what all share.

The breaker, which judges more, has the same tests in `test_every_policy_calls` and
`test_every_policy_keys`.
"""

from __future__ import annotations

import contextvars
import gc
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import anyio
import pytest

from resilient import (
    BulkheadFull,
    Call,
    Overloaded,
    Policy,
    RateLimited,
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    policy_of,
    rate_limit,
    retry,
    throttle,
)
from resilient.events import CallRejected
from resilient.testing import record, virtual_time
from tests.worlds import World, drive, in_threads


class Kind(NamedTuple):
    """One kind of policy: with room for many, and so that one call takes all the room."""

    make: Callable[..., Any]
    tight: Callable[..., Any]
    error: type[Rejected]


def bulkhead_of(limit: int) -> Callable[..., Any]:
    return lambda **more: bulkhead(limit, **more)


def rate_of(rate: float, per: float) -> Callable[..., Any]:
    return lambda **more: rate_limit(rate, per=per, **more)


def adaptive_from(limit: int) -> Callable[..., Any]:
    return lambda **more: adaptive_limit(initial=limit, **more)


TIGHT: dict[str, Kind] = {
    "bulkhead": Kind(bulkhead_of(100), bulkhead_of(1), BulkheadFull),
    "rate_limit": Kind(rate_of(1000, 1), rate_of(1, 1000), RateLimited),
    "adaptive_limit": Kind(adaptive_from(100), adaptive_from(1), Overloaded),
}
KINDS = {**TIGHT, "throttle": Kind(throttle, throttle, Overloaded)}  # where chance decides


@pytest.fixture(params=TIGHT)
def tight_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of which one call can take all the room."""
    return TIGHT[request.param]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    return KINDS[request.param]


@pytest.fixture(params=["plain", "keyed"])
def bracket(request: pytest.FixtureRequest, kind: Kind) -> Any:
    """What brackets a call: a policy, and one key of a keyed one."""
    if request.param == "plain":
        return kind.make(name="db")
    return kind.make(name="db", key="tenant").of("a")


def ended(bracket: Any) -> int:
    """How many calls it let through, all of which are over."""
    stats = bracket.stats()
    assert getattr(stats, "in_flight", 0) == 0, "a place is still taken"
    assert stats.rejected == 0
    return stats.requests if bracket.kind == "throttle" else stats.calls  # type: ignore[no-any-return]  # stats of its kind


def held(bracket: Any, expected: int) -> bool:
    """Whether so many places are taken, as far as the kind knows."""
    in_flight = getattr(bracket.stats(), "in_flight", expected)
    assert in_flight == expected
    return True


# F3: blocks.


@pytest.mark.rule("F3")
def test_a_block_is_a_call_in_both_colours(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket as call:
            assert isinstance(call, Call)
            assert held(bracket, 1)
        error = ValueError()
        with pytest.raises(ValueError) as caught:
            with bracket:
                raise error
        assert caught.value is error
        assert ended(bracket) == 2
        if w.is_async:
            async with bracket as call:
                assert isinstance(call, Call)
                assert held(bracket, 1)
            with pytest.raises(ValueError):
                async with bracket:
                    raise error
            assert ended(bracket) == 4

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_call_may_be_said_to_fail_or_to_be_ignored(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket as call:
            call.fail()
        with pytest.raises(ValueError):
            with bracket as call:
                call.ignore()
                raise ValueError
        if bracket.kind == "throttle":
            assert (bracket.stats().requests, bracket.stats().accepts) == (1, 0)
            with bracket:
                pass
            assert (bracket.stats().requests, bracket.stats().accepts) == (2, 1)
        else:
            assert ended(bracket) == 2

    world.run(scenario)


@pytest.mark.rule("F3", "L7")
def test_what_was_said_of_a_call_is_what_an_adaptive_limit_learns() -> None:
    def limit_after(say: str | None, error: Exception | None) -> int:
        with virtual_time() as time:
            policy = adaptive_limit(initial=10, algorithm="aimd")
            for number in range(40):
                calls = [policy.admit() for _ in range(10 if policy.stats().limit > 9 else 1)]
                time.advance(0.1)
                for call in calls:
                    if number > 5 and say is not None:
                        getattr(call, say)()
                    call.close(error if number > 5 else None)
            return policy.stats().limit

    assert limit_after(None, None) > 10
    assert limit_after("fail", None) < 10
    assert limit_after(None, TimeoutError()) < 10
    assert limit_after("ignore", TimeoutError()) == limit_after(None, ValueError()) >= 10


@pytest.mark.rule("F3")
def test_blocks_nest_and_end_in_any_order_among_policies(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        other = breaker()
        with bracket:
            with bracket:
                assert held(bracket, 2)
            assert held(bracket, 1)
        bracket.__enter__()
        other.__enter__()
        bracket.__exit__(None, None, None)
        assert held(bracket, 0)
        assert other.stats().in_flight == 1
        other.__exit__(None, None, None)
        with bracket as call:
            call.close(ValueError())
            assert held(bracket, 0)
        assert ended(bracket) == 4

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_ends_in_the_context_that_began_it(async_world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        async def child() -> None:
            with pytest.raises(RuntimeError, match=r"another context.*admit\(\)"):
                bracket.__exit__(None, None, None)

        with bracket:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
            assert held(bracket, 1)
        assert ended(bracket) == 1

    async_world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_can_not_end_in_another_thread_or_before_it_began(bracket: Any) -> None:
    with bracket:
        (refused,) = in_threads(lambda: bracket.__exit__(None, None, None))
        assert isinstance(refused, RuntimeError)
        assert "admit()" in str(refused)
        assert held(bracket, 1)
    with pytest.raises(RuntimeError, match=r"admit\(\)"):
        bracket.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match=r"admit\(\)"):
        drive(bracket.__aexit__(None, None, None))
    assert ended(bracket) == 1


@pytest.mark.rule("F3")
def test_a_block_that_is_refused_is_not_open(world: World, tight_kind: Kind) -> None:
    async def scenario(w: World) -> None:
        policy = tight_kind.tight()
        with policy:
            with pytest.raises(tight_kind.error):
                with policy:
                    pytest.fail("not reached")
            if w.is_async:
                with pytest.raises(tight_kind.error):
                    async with policy:
                        pytest.fail("not reached")
        with pytest.raises(RuntimeError, match=r"admit\(\)"):
            policy.__exit__(None, None, None)
        stats = policy.stats()
        assert (stats.calls, stats.rejected) == (1, 2 if w.is_async else 1)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_hedges_fallbacks_and_caches_bracket_nothing() -> None:
    for policy in (hedge(1), fallback(default=1), cache(1)):
        for method in ("__enter__", "__aenter__", "admit", "of"):
            assert not hasattr(policy, method)


# F3: calls.


@pytest.mark.rule("F3")
def test_a_call_is_closed_once_by_whom_ever(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        for error in (None, ValueError(), KeyboardInterrupt(), Rejected("in")):
            call = bracket.admit()
            call.close(error)
            call.close()
            with pytest.raises(RuntimeError, match="over"):
                call.fail()
        calls = [bracket.admit() for _ in range(3)]

        async def end(index: int) -> None:
            calls[index].close()

        await w.together(lambda: end(2), lambda: end(0))
        assert held(bracket, 1)
        with calls[1]:
            pass
        with pytest.raises(RuntimeError, match="once"):
            with calls[1]:
                pytest.fail("not reached")
        # To a throttle, one that was interrupted or not made says nothing.
        assert ended(bracket) == (5 if bracket.kind == "throttle" else 7)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_close_refuses_what_is_no_error_and_leaves_the_call_open(bracket: Any) -> None:
    call = bracket.admit()
    for nonsense in ("failed", True, ValueError):
        with pytest.raises(TypeError, match="error must be an exception"):
            call.close(nonsense)
    assert held(bracket, 1)
    call.close()
    assert held(bracket, 0)


@pytest.mark.rule("F3", "F4")
def test_of_many_threads_that_close_one_call_one_does(bracket: Any) -> None:
    for _ in range(30):
        call = bracket.admit()
        assert in_threads(*[call.close] * 8) == [None] * 8
    assert ended(bracket) == 30


@pytest.mark.rule("F3")
def test_a_lost_call_gives_its_place_back(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        bracket.admit()
        gc.collect()
        call = bracket.admit()
        call.fail()
        circle: list[Any] = [call]
        circle.append(circle)
        del call, circle
        gc.collect()
        assert held(bracket, 0)
        if bracket.kind == "throttle":
            assert bracket.stats().requests == 0, "nobody knows how they ended"

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_that_ended_in_the_wrong_context_gives_its_place_back_later(bracket: Any) -> None:
    def stream() -> Iterator[int]:
        with bracket:
            yield 1

    began, rows = contextvars.copy_context(), stream()
    assert began.run(next, rows) == 1
    with pytest.raises(RuntimeError, match=r"admit\(\)"):
        rows.close()  # type: ignore[attr-defined]  # a generator
    assert held(bracket, 1)
    del began, rows
    gc.collect()
    assert held(bracket, 0)


@pytest.mark.rule("F3", "F9")
def test_what_ends_while_this_thread_holds_the_policys_lock_is_no_deadlock(kind: Kind) -> None:
    policy = kind.make()

    class Suspend:
        def __await__(self) -> Generator[None, None, None]:
            yield

    @policy  # type: ignore[untyped-decorator]  # a policy of any kind
    async def wait() -> None:
        await Suspend()

    def under_the_lock() -> str:
        running, lost, mine = wait(), policy.admit(), policy.admit()
        running.send(None)
        assert held(policy, 3)
        with policy._lock:
            running.close()  # as the collector may, at any moment
            del lost
            mine.close()
            gc.collect()
        policy.admit().close()
        return "ended"

    assert in_threads(under_the_lock) == ["ended"]
    assert held(policy, 0)


# F10: keys.


@pytest.mark.rule("F10")
def test_each_key_has_a_state_of_its_own(world: World, tight_kind: Kind) -> None:
    async def scenario(w: World) -> None:
        policy = tight_kind.tight(key=lambda tenant: tenant)

        def body(tenant: str) -> str:
            with pytest.raises(tight_kind.error):
                policy.of("a").admit()
            policy.of("b").admit().close()
            return tenant

        assert await w.call(policy(w.function(body)), "a") == "a"
        assert policy.keys() == ["a", "b"]
        whole = policy.stats()
        of_a, of_b = (policy.of(key).stats() for key in "ab")
        assert (of_a.calls, of_a.rejected, of_b.calls, of_b.rejected) == (1, 1, 1, 0)
        assert (whole.calls, whole.rejected) == (2, 1)

    world.run(scenario)


@pytest.mark.rule("F10")
def test_the_key_is_a_parameter_however_it_is_passed(kind: Kind) -> None:
    policy = kind.make(key="tenant")

    @policy  # type: ignore[untyped-decorator]  # a policy of any kind
    def positional(x: int, tenant: str = "default", *rest: int) -> None: ...

    class Shop:
        @policy  # type: ignore[untyped-decorator]  # the same
        def price(self, *, tenant: str) -> None: ...

    positional(1)
    positional(1, "second")
    positional(1, tenant="third")
    Shop().price(tenant="fourth")
    assert policy.keys() == ["default", "second", "third", "fourth"]
    with pytest.raises(TypeError, match="tenant"):
        Shop().price()


@pytest.mark.rule("F10")
def test_a_key_that_is_no_parameter_is_refused_at_decoration(kind: Kind) -> None:
    def price(sku: str, *tenants: str) -> None: ...

    for name in ("tenant", "tenants", ""):
        with pytest.raises(TypeError, match=r"key must name a parameter.*sku"):
            kind.make(key=name)(price)
    with pytest.raises(TypeError, match=r"key must name a parameter.*sku"):
        cache(1, key="tenant")(price)


@pytest.mark.rule("F10")
def test_an_error_of_the_key_function_reaches_the_caller_and_takes_no_place(kind: Kind) -> None:
    def no_tenant(*_: object) -> str:
        raise LookupError("no tenant here")

    policy = kind.make(key=no_tenant)
    with pytest.raises(LookupError, match="no tenant"):
        policy.call(int)
    assert policy.keys() == []


@pytest.mark.rule("F10", "F13")
def test_a_handle_is_a_policy_and_makes_no_state_before_the_first_call(
    world: World, kind: Kind
) -> None:
    async def scenario(w: World) -> None:
        policy = kind.make(name="db", key="tenant", max_keys=1)
        handle = policy.of("a")
        assert is_policy(handle)
        assert (handle.name, handle.kind, handle.stats().name) == ("db", policy.kind, "db")
        assert ended(handle) == 0
        assert policy.keys() == []
        fn = handle(w.function(lambda: 1))
        assert is_policy(handle, of=fn)
        assert await w.call(fn) == 1
        assert await w.call(handle.call, w.function(lambda: 2)) == 2
        stacked = pipeline(retry(on=LookupError), handle)
        assert await w.call(stacked.call, w.function(lambda: 3)) == 3
        with handle:
            assert policy.keys() == ["a"]
        assert ended(handle) == 4
        policy.of("b").admit().close()
        assert policy.keys() == ["b"]
        assert ended(handle) == 0, "its state made room"
        assert ended(policy) == 5, "and is not forgotten"

    world.run(scenario)


def is_policy(handle: object, of: Any = None) -> bool:
    """Whether it looks like one, and is that of a function."""
    return isinstance(handle, Policy) and (of is None or policy_of(of) is handle)


@pytest.mark.rule("F10")
def test_blocks_and_single_calls_of_the_whole_say_what_to_write(kind: Kind) -> None:
    policy = kind.make(key="tenant")
    uses: list[Callable[[], object]] = [
        policy.admit,
        policy.__enter__,
        lambda: drive(policy.__aenter__()),
    ]
    if policy.kind == "rate_limit":
        uses.append(policy.take)
    for use in uses:
        with pytest.raises(TypeError, match=r"\.of\(key\)"):
            use()
    assert policy.keys() == []
    with pytest.raises(TypeError, match="no key="):
        kind.make().of("a")
    assert kind.make().keys() == []


@pytest.mark.rule("F10")
def test_the_least_recently_used_idle_key_makes_room_and_none_in_flight(kind: Kind) -> None:
    with virtual_time() as time:  # a rate limit's key is healthy again when its bucket is full
        policy = kind.make(key="tenant", max_keys=3)
        running = policy.of("in flight").admit()
        for key in ("first", "second", "first"):
            policy.of(key).admit().close()
        time.advance(10)
        policy.of("second").stats()  # a look is no use
        policy.of("third").admit().close()
        if policy.kind == "rate_limit":  # nothing of it is in flight
            assert policy.keys() == ["first", "second", "third"]
        else:
            assert policy.keys() == ["in flight", "first", "third"]
        running.close()
        assert ended(policy) == 5


@pytest.mark.rule("F10")
def test_healthy_keys_make_room_before_those_that_have_something_to_remember(kind: Kind) -> None:
    with virtual_time() as time:
        policy = kind.make(key="tenant", max_keys=2)
        remember(policy, "remembers", time)
        policy.of("healthy").admit().close()
        if policy.kind == "rate_limit":
            time.advance(0.002)  # its bucket is full again; that of the other is not
        policy.of("new").admit().close()
        assert policy.keys() == ["remembers", "new"]


def remember(policy: Any, key: str, time: Any) -> None:
    """Let *key* be used so that a new state would differ."""
    one = policy.of(key)
    match policy.kind:
        case "bulkhead":
            one.resize(7)
        case "rate_limit":
            one.take(1000)
        case "throttle":
            one.admit().close(ValueError())
        case "adaptive_limit":
            for _ in range(20):
                with one:
                    time.advance(0.25)
            assert one.stats().latency is not None


@pytest.mark.rule("F10")
def test_all_in_flight_may_pass_the_bound_and_go_afterwards() -> None:
    for kind in (KINDS["bulkhead"], KINDS["adaptive_limit"], KINDS["throttle"]):
        policy = kind.make(key="tenant", max_keys=1)
        calls = [policy.of(name).admit() for name in "abc"]
        assert policy.keys() == ["a", "b", "c"]
        for call in calls:
            call.close()
        policy.of("d").admit().close()
        assert policy.keys() == ["d"]
        assert ended(policy) == 4


@pytest.mark.rule("F10", "M1")
def test_a_rejection_is_told_with_its_key_and_what_the_error_says(
    world: World, tight_kind: Kind
) -> None:
    async def scenario(w: World) -> None:
        policy = tight_kind.tight(name="db", key=lambda tenant: tenant)
        fn = policy(w.function(lambda tenant: None))
        with policy.of("a"), record(CallRejected) as told:
            with pytest.raises(tight_kind.error) as first:
                policy.of("a").admit()
            with pytest.raises(tight_kind.error) as second:
                await w.call(fn, "a")
        assert [(one.policy, one.kind, one.key) for one in told] == [("db", policy.kind, "a")] * 2
        assert [(one.reason, one.retry_after) for one in told] == [
            (error.value.reason, error.value.retry_after) for error in (first, second)
        ]

    world.run(scenario)

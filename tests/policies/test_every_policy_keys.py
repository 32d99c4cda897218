"""A state for each key (F10), waiting (F11), exception groups and predicates (F12)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient import (
    Breaker,
    BreakerState,
    CircuitOpen,
    DeadlineExceeded,
    Policy,
    RateLimited,
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    pipeline,
    policy_of,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.events import Event
from resilient.testing import record, virtual_time
from tests.kinds import MAKERS
from tests.worlds import World, in_threads


def fail(*_: object, **__: object) -> None:
    raise ValueError


def state(policy: Any) -> BreakerState:
    """Its state now: a type checker would take the attribute for what it was."""
    return policy.state  # type: ignore[no-any-return]  # a breaker or a handle


def keyed(**settings: Any) -> Breaker:
    return breaker(
        "db", **{"key": "tenant", "consecutive_failures": 1, "cooldown": 1000.0, **settings}
    )


# F10: which key a call has.


@pytest.mark.rule("F10")
def test_the_key_is_a_parameter_however_it_is_passed(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = keyed()

        @policy
        def positional(x: int, tenant: str = "default", *rest: int) -> None: ...

        @policy
        def keyword(x: int, *, tenant: str = "kw-default", **more: int) -> None: ...

        positional(1)
        positional(1, "second")
        positional(1, tenant="third")
        keyword(1)
        keyword(1, tenant="fourth", other=2)
        assert policy.keys() == ["default", "second", "third", "kw-default", "fourth"]

        body = policy(key_param(w))
        await w.call(body, "fifth")
        await w.call(body, tenant="sixth")
        assert policy.keys()[-2:] == ["fifth", "sixth"]

    world.run(scenario)


def key_param(w: World) -> Callable[..., Any]:
    """A function of this world with a parameter `tenant`."""
    if w.is_async:

        async def fn_async(tenant: str) -> None: ...

        return fn_async

    def fn(tenant: str) -> None: ...

    return fn


@pytest.mark.rule("F10")
def test_the_key_of_a_method_is_its_own_parameter_or_an_attribute_of_self() -> None:
    by_name = keyed()
    by_function = keyed(key=lambda self, tenant: (self.region, tenant))

    class Shop:
        region = "eu"

        @by_name
        @by_function
        def price(self, tenant: str) -> None: ...

    Shop().price("a")
    Shop().price(tenant="a")
    assert by_name.keys() == ["a"]
    assert by_function.keys() == [("eu", "a")]


@pytest.mark.rule("F10")
def test_a_key_that_is_no_parameter_is_refused_at_decoration() -> None:
    def price(sku: str, *tenants: str, **more: str) -> None: ...

    for name in ("tenant", "tenants", "more", ""):
        for policy in (keyed(key=name), retry(on=ValueError, key=name), singleflight(key=name)):
            with pytest.raises(TypeError, match="sku") as refused:
                policy(price)
            assert "key" in str(refused.value)
            assert repr(name) in str(refused.value)


@pytest.mark.rule("F10")
def test_wrong_arguments_raise_what_the_call_itself_would_and_make_no_state() -> None:
    policy = keyed()

    @policy
    def price(tenant: str) -> None: ...

    with pytest.raises(TypeError, match="tenant"):
        price()  # type: ignore[call-arg]
    assert policy.keys() == []
    assert policy.stats().calls == 0


@pytest.mark.rule("F10")
def test_a_key_that_can_not_be_hashed_is_refused_and_makes_no_state() -> None:
    policy = keyed(key=lambda tenant: tenant)
    nonsense: Any = ["a"]
    for call in (policy(fail), policy.of):
        with pytest.raises(TypeError, match="key must be hashable"):
            call(nonsense)
    assert policy.keys() == []


@pytest.mark.rule("F10")
def test_an_error_of_the_key_function_reaches_the_caller_and_takes_no_place() -> None:
    def no_tenant(**_: object) -> str:
        raise LookupError("no tenant here")

    policy = keyed(key=no_tenant)
    with pytest.raises(LookupError, match="no tenant"):
        policy(fail)()
    assert policy.stats().calls == 0


# F10: a state for each.


@pytest.mark.rule("F10")
def test_each_key_has_a_state_of_its_own(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = keyed(key=lambda tenant, **_: tenant)
        fn = policy(w.function(lambda tenant, bad=False: fail() if bad else tenant))
        with pytest.raises(ValueError):
            await w.call(fn, "a", bad=True)
        with pytest.raises(CircuitOpen):
            await w.call(fn, "a")
        assert await w.call(fn, "b") == "b"
        assert (policy.of("a").state, policy.of("b").state) == (
            BreakerState.OPEN,
            BreakerState.CLOSED,
        )
        whole = policy.stats()
        assert (whole.calls, whole.failures, whole.successes, whole.rejected, whole.opened) == (
            2,
            1,
            1,
            1,
            1,
        )
        assert whole.state is BreakerState.OPEN, "the worst"
        assert policy.of("a").stats().failures == 1
        assert policy.of("b").stats().failures == 0

    world.run(scenario)


@pytest.mark.rule("F10")
def test_keys_that_are_equal_are_one_and_none_is_a_key() -> None:
    policy = keyed()

    @policy
    def call(tenant: object) -> None: ...

    for tenant in (None, 1, True, 1.0, "1"):
        call(tenant)
    assert policy.keys() == [None, 1, "1"]
    assert policy.of(None).stats().calls == 1


@pytest.mark.rule("F10")
def test_a_handle_makes_no_state_before_the_first_call_and_looks_it_up_at_each_use() -> None:
    policy = keyed(max_keys=1)
    handle = policy.of("a")
    assert state(handle) is BreakerState.CLOSED
    assert handle.stats().calls == 0
    assert handle.stats().name == handle.name == "db"
    assert handle.kind == "breaker"
    assert policy.keys() == []
    handle.admit().close()
    assert policy.keys() == ["a"]
    policy.of("b").admit().close()
    assert policy.keys() == ["b"]
    assert handle.stats().calls == 0, "its state made room"
    with handle as call:
        call.fail()
    assert policy.keys() == ["a"]
    assert state(handle) is BreakerState.OPEN


@pytest.mark.rule("F10", "F13")
def test_a_handle_is_a_policy_with_the_whole_interface(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = keyed()
        handle = policy.of("a")
        assert isinstance(handle, Policy)
        fn = handle(w.function(lambda: 1))
        assert policy_of(fn) is handle
        assert await w.call(fn) == 1
        assert await w.call(handle.call, w.function(lambda: 2)) == 2
        stacked = pipeline(retry(on=LookupError), handle)
        assert await w.call(stacked.call, w.function(lambda: 3)) == 3
        async with handle:
            pass
        assert handle.stats().calls == policy.stats().calls == 4
        handle.force_open()
        assert (handle.state, policy.of("b").state) == (
            BreakerState.FORCED_OPEN,
            BreakerState.CLOSED,
        )
        handle.disable()
        assert state(handle) is BreakerState.DISABLED
        handle.metrics_only()
        assert state(handle) is BreakerState.METRICS_ONLY
        handle.reset()
        assert state(handle) is BreakerState.CLOSED

    world.run(scenario)


@pytest.mark.rule("F10")
def test_a_handle_names_an_unnamed_policy_after_the_first_function_it_decorates() -> None:
    policy = breaker(key="tenant")

    def price() -> None: ...

    policy.of("a")(price)
    assert policy.name == price.__qualname__


@pytest.mark.rule("F10")
def test_state_blocks_and_single_calls_of_the_whole_say_what_to_write() -> None:
    policy = keyed()
    uses: list[Callable[[], object]] = [lambda: policy.state, policy.admit, policy.__enter__]
    for use in uses:
        with pytest.raises(TypeError, match=r"\.of\(key\)"):
            use()
    with pytest.raises(TypeError, match="no key="):
        breaker().of("a")
    assert breaker().keys() == []


@pytest.mark.rule("F10")
def test_what_is_set_by_hand_holds_for_every_key_present_and_future() -> None:
    policy = keyed()
    policy.of("a").admit().close()
    for turn, expected in (
        (policy.force_open, BreakerState.FORCED_OPEN),
        (policy.disable, BreakerState.DISABLED),
        (policy.metrics_only, BreakerState.METRICS_ONLY),
        (policy.reset, BreakerState.CLOSED),
    ):
        turn()
        new = f"new-{expected}"
        assert state(policy.of("a")) is policy.of(new).state is policy.stats().state is expected
        if expected is BreakerState.FORCED_OPEN:
            with pytest.raises(CircuitOpen) as refused:
                policy.of(new).admit()
            assert (refused.value.reason, refused.value.retry_after) == ("forced_open", None)
        else:
            policy.of(new).admit().close()
        assert policy.of(new).state is expected
        assert new in set(policy.keys())


@pytest.mark.rule("F10", "B10")
def test_future_keys_begin_in_the_initial_state_with_a_cooldown_of_their_own(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = keyed(initial=BreakerState.OPEN, cooldown=2.0 * w.unit)
        assert policy.stats().state is BreakerState.OPEN
        with pytest.raises(CircuitOpen):
            policy.of("a").admit()
        await w.sleep(2.1)
        policy.of("a").admit().close()
        with pytest.raises(CircuitOpen):
            policy.of("b").admit()
        policy.reset()
        policy.of("c").admit().close()
        assert policy.of("c").state is BreakerState.CLOSED

    world.run(scenario)


# F10: who makes room.


@pytest.mark.rule("F10")
def test_the_least_recently_used_idle_and_healthy_key_makes_room_first(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = keyed(max_keys=4, consecutive_failures=2)
        running = policy.of("in flight").admit()
        policy.of("has failed").admit().close(ValueError())
        policy.of("healthy").admit().close()
        policy.of("healthy, used since").admit().close()
        policy.of("healthy").stats()  # a look is no use
        policy.of("healthy, used since").admit().close()
        policy.of("1").admit().close()
        assert policy.keys() == ["in flight", "has failed", "healthy, used since", "1"]
        policy.of("healthy, used since").admit().close()
        policy.of("2").admit().close()
        assert policy.keys() == ["in flight", "has failed", "healthy, used since", "2"]
        policy.of("healthy, used since").admit().close(ValueError())
        policy.of("2").admit().close(ValueError())
        policy.of("3").admit().close(ValueError())
        assert policy.keys() == ["in flight", "healthy, used since", "2", "3"], (
            "none is healthy: the oldest idle one"
        )
        running.close()

    world.run(scenario)


@pytest.mark.rule("F10")
def test_a_failure_counts_against_a_key_only_as_long_as_the_window_remembers_it(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = keyed(max_keys=2, consecutive_failures=None, window=1.0 * w.unit)
        policy.of("failed long ago").admit().close(ValueError())
        await w.sleep(1.5)
        policy.of("failed just now").admit().close(ValueError())
        policy.of("third").admit().close()
        assert policy.keys() == ["failed just now", "third"]

    world.run(scenario)


@pytest.mark.rule("F10")
def test_a_key_with_a_call_in_flight_never_makes_room_and_its_result_counts() -> None:
    policy = keyed(max_keys=1)
    calls = {name: policy.of(name).admit() for name in ("a", "b", "c")}
    assert policy.keys() == ["a", "b", "c"]
    calls["a"].close(ValueError())
    assert state(policy.of("a")) is BreakerState.OPEN
    policy.of("d").admit().close()
    assert "a" not in set(policy.keys())
    assert {"b", "c"} <= set(policy.keys())
    for name in "bc":
        calls[name].close()
    policy.of("e").admit().close()
    assert policy.keys() == ["e"]
    stats = policy.stats()
    assert (stats.calls, stats.successes, stats.failures, stats.in_flight, stats.opened) == (
        5,
        4,
        1,
        0,
        1,
    )


@pytest.mark.rule("F10")
def test_never_more_than_max_keys_are_kept(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = keyed(max_keys=3)

        @policy
        def call(tenant: int) -> None: ...

        for number in range(50):
            call(number)
            assert len(policy.keys()) <= 3
        assert policy.keys() == [47, 48, 49]
        assert policy.stats().calls == 50

    world.run(scenario)


@pytest.mark.rule("F10", "B11")
def test_no_count_is_lost_while_threads_fight_for_few_keys() -> None:
    policy = keyed(max_keys=2, consecutive_failures=None)

    @policy
    def call(tenant: int) -> int:
        return tenant

    def many(start: int) -> int:
        return sum(call((start + step) % 5) for step in range(200))

    outcomes = in_threads(*(lambda n=n: many(n) for n in range(4)))
    assert outcomes == [400] * 4
    stats = policy.stats()
    assert (stats.calls, stats.successes, stats.in_flight) == (800, 800, 0)
    assert len(policy.keys()) <= 2


@pytest.mark.rule("F10", "M1")
def test_events_of_a_keyed_policy_name_the_key() -> None:
    policy = keyed()
    with record(Event) as events:
        policy.of("a").admit().close(ValueError())
        with pytest.raises(CircuitOpen):
            policy.of("a").admit()
        policy.force_open()
    assert [(type(event).__name__, event.key) for event in events] == [
        ("StateChanged", "a"),
        ("CallRejected", "a"),
        ("StateChanged", "a"),
    ]


@pytest.mark.rule("F10", "R4")
def test_a_keyed_retry_has_a_balance_for_each_key(world: World) -> None:
    from resilient import RetryBudget  # noqa: PLC0415

    async def scenario(w: World) -> None:
        tries: list[str] = []

        def body(tenant: str) -> None:
            tries.append(tenant)
            raise ValueError

        budget = RetryBudget(ratio=0, per_second=0.1, ttl=10.0)
        fn = retry(on=ValueError, wait=0, attempts=5, key=lambda tenant: tenant, budget=budget)(
            w.function(body)
        )
        for tenant in "ab":
            with pytest.raises(ValueError):
                await w.call(fn, tenant)
        assert tries == ["a", "a", "b", "b"]

    world.run(scenario)


@pytest.mark.rule("F10", "S1")
def test_the_key_of_a_single_flight_says_which_calls_are_the_same(async_world: World) -> None:
    async def scenario(w: World) -> None:
        runs: list[str] = []

        @singleflight(key="sku")
        async def price(sku: str, *, caller: str) -> str:
            runs.append(sku)
            await anyio.sleep(0.5 * w.unit)
            return sku

        found = await w.together(
            lambda: price("a", caller="1"),
            lambda: price(sku="a", caller="2"),
            lambda: price("b", caller="3"),
        )
        assert found == ["a", "a", "b"]
        assert sorted(runs) == ["a", "b"]

    async_world.run(scenario)


@pytest.mark.rule("F10", "C5")
def test_the_key_of_a_cache_says_which_calls_are_the_same(world: World) -> None:
    async def scenario(w: World) -> None:
        runs: list[str] = []
        kept = cache(1000, key=lambda sku, **_: sku)
        fn = kept(w.function(lambda sku, caller: runs.append(sku) or f"{sku} for {caller}"))  # type: ignore[func-returns-value]  # called for its effect
        assert await w.call(fn, "a", caller="1") == "a for 1"
        assert await w.call(fn, "a", caller="2") == "a for 1"
        assert await w.call(fn, "b", caller="3") == "b for 3"
        assert runs == ["a", "b"]
        nonsense: Any = ["a"]
        with pytest.raises(TypeError, match="key must be hashable"):
            kept.invalidate(nonsense)
        with pytest.raises(TypeError, match="key must be hashable"):
            await w.call(fn, nonsense, caller="4")
        assert kept.stats().size == 2

    world.run(scenario)


@pytest.mark.rule("F10")
def test_the_parts_of_a_protection_have_a_state_for_each_key(world: World) -> None:
    async def scenario(w: World) -> None:
        stack = protect("db", on=ValueError, timeout=1000, attempts=1, key=lambda tenant: tenant)
        fn = stack(w.function(lambda tenant: fail() if tenant == "bad" else tenant))
        for _ in range(5):
            with pytest.raises(ValueError):
                await w.call(fn, "bad")
        with pytest.raises(CircuitOpen):
            await w.call(fn, "bad")
        assert await w.call(fn, "good") == "good"
        assert stack.breaker is not None
        assert stack.limit is not None
        assert stack.breaker.keys() == stack.limit.keys() == ["bad", "good"]

    world.run(scenario)


# F11

QUEUES: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: bulkhead(1, queue=5, name="line"),
    "rate_limit": lambda: rate_limit(1, per=1000, max_wait=5000, name="line"),
    "adaptive_limit": lambda: adaptive_limit(initial=1, queue=5, name="line"),
}


@pytest.fixture(params=QUEUES)
def queueing(request: pytest.FixtureRequest) -> Any:
    """A policy in whose queue callers wait, without a place: somebody is in."""
    policy = QUEUES[request.param]()
    with policy.admit():
        yield policy


@pytest.mark.rule("F11", "D2", "L3")
def test_a_queue_that_the_deadline_cuts_is_the_policys_own_not_started(
    async_world: World, queueing: Any
) -> None:
    """Not to be waited for, as far as anybody knows; then the limit is drawn in."""

    async def scenario(w: World) -> None:
        ran: list[int] = []

        async def body() -> None:
            ran.append(1)

        async def shorten(limit: Any) -> None:
            await w.sleep(1)
            limit.reschedule(1.0 * w.unit)

        async with anyio.create_task_group() as group:
            with pytest.raises(DeadlineExceeded) as caught:
                async with deadline(4000.0) as limit:
                    group.start_soon(shorten, limit)
                    await queueing(body)()
        assert (caught.value.policy, caught.value.started) == ("line", False)
        assert not ran
        assert 1.9 <= w.now() < 400
        assert (queueing.stats().queued, queueing.stats().rejected) == (0, 0)

    async_world.run(scenario)


@pytest.mark.rule("F11", "F9", "L3")
def test_a_queue_that_others_cancel_too_is_cancelled(async_world: World, queueing: Any) -> None:
    async def scenario(w: World) -> None:
        ends: list[str] = []
        limits: list[Any] = []

        async def wait() -> None:
            try:
                async with deadline(4000.0) as limit:
                    limits.append(limit)
                    await queueing(returns)()
            except BaseException as error:
                ends.append(type(error).__name__)
                raise

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await w.sleep(1)
            assert queueing.stats().queued == 1
            limits[0].reschedule(0)
            group.cancel_scope.cancel()
        assert ends in (["CancelledError"], ["Cancelled"])
        assert (queueing.stats().queued, queueing.stats().rejected) == (0, 0)

    async_world.run(scenario)


async def returns() -> str:
    return "done"


@pytest.mark.rule("F11", "D4", "L3", "L5")
def test_in_a_plain_thread_a_queue_ends_at_the_deadline(queueing: Any) -> None:
    """A rate limit knows how long the wait would be, and does not begin it."""

    def wait() -> None:
        with deadline(5):
            queueing.call(fail)

    def pass_time() -> None:
        if queueing.kind == "rate_limit":
            return
        while not queueing.stats().queued:
            threading.Event().wait(0.001)
        time.advance(4)
        assert queueing.stats().queued == 1
        time.advance(1)

    with virtual_time() as time:
        refused, done = in_threads(wait, pass_time)
    assert done is None
    assert queueing.stats().queued == 0
    if queueing.kind == "rate_limit":
        assert isinstance(refused, RateLimited)
        assert refused.reason == "rate"
    else:
        assert isinstance(refused, DeadlineExceeded)
        assert (refused.policy, refused.started) == ("line", False)
        assert queueing.stats().rejected == 0


@pytest.mark.rule("F11", "L3")
@pytest.mark.parametrize("colour", ["function", "block"])
def test_sync_code_beside_a_running_loop_does_not_queue(
    async_world: World, queueing: Any, colour: str
) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(Rejected) as refused:
            if colour == "function":
                queueing.call(lambda: "not reached")
            else:
                with queueing:
                    pytest.fail("not reached")
        assert (refused.value.policy, refused.value.reason) == ("line", "would_block")
        assert "line: " in str(refused.value)
        stats = queueing.stats()
        assert (stats.rejected, stats.queued, stats.calls) == (1, 0, 1)

    async_world.run(scenario)


@pytest.mark.rule("F11")
def test_a_cache_beside_a_running_loop_does_not_wait_for_another_threads_run(
    async_world: World,
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    kept, found = cache(1000, name="kept"), list[str]()

    @kept
    def slow(key: str) -> str:
        if not go_on.is_set():
            inside.set()
            assert go_on.wait(30)
        return key

    other = threading.Thread(target=lambda: found.append(slow("k")))
    other.start()
    assert inside.wait(30)

    async def scenario(w: World) -> None:
        with pytest.raises(Rejected) as refused:
            slow("k")
        assert (refused.value.policy, refused.value.reason) == ("kept", "would_block")

    try:
        async_world.run(scenario)
    finally:
        go_on.set()
        other.join()
    assert found == ["k"]


@pytest.mark.rule("F11", "D5")
@pytest.mark.parametrize(
    "kind", ["bulkhead", "rate_limit", "adaptive_limit", "hedge", "cache", "throttle", "fallback"]
)
def test_who_looks_at_the_deadline_does_not_begin_with_nothing_left(
    world: World, kind: str
) -> None:
    """All but the throttle and the fallback, whose healthy path stays bare."""

    async def scenario(w: World) -> None:
        if kind == "hedge" and not w.is_async:
            return  # it has no sync functions
        policy, ran = MAKERS[kind]("p"), list[int]()
        fn = policy(w.function(lambda: ran.append(1)))
        before, refused = policy.stats(), list[DeadlineExceeded]()
        with contextlib.suppress(DeadlineExceeded):  # of the block itself, on a loop
            with deadline(1000.0) as limit:
                limit.reschedule(0)
                try:
                    await w.call(fn)
                    if hasattr(policy, "admit"):
                        policy.admit().close()
                except DeadlineExceeded as error:
                    refused.append(error)
                if kind in {"bulkhead", "rate_limit", "adaptive_limit"}:
                    with pytest.raises(DeadlineExceeded):
                        policy.admit()
        if kind in {"throttle", "fallback"}:
            assert (ran, refused) == ([1], [])
        else:
            (said,) = refused
            assert (said.policy, said.started) == ("p", False)
            assert not ran
            assert policy.stats() == before

    world.run(scenario)


@pytest.mark.rule("F11", "D2")
def test_a_backoff_that_the_deadline_cuts_is_the_retrys_own_not_started(async_world: World) -> None:
    """R5 gives up beforehand where it can: here the limit is drawn in while the retry sleeps."""

    async def scenario(w: World) -> None:
        tries = []

        async def body() -> None:
            tries.append(w.now())
            raise ValueError("first")

        async def shorten(limit: Any) -> None:
            await w.sleep(1)
            limit.reschedule(1.0 * w.unit)

        async with anyio.create_task_group() as group:
            with pytest.raises(DeadlineExceeded) as caught:
                async with deadline(1000.0) as limit:
                    group.start_soon(shorten, limit)
                    await retry("r", on=ValueError, wait=500.0)(body)()
        assert (caught.value.policy, caught.value.started) == ("r", False)
        assert isinstance(caught.value.__cause__, ValueError)
        assert len(tries) == 1
        assert 1.9 <= w.now() < 400

    async_world.run(scenario)


@pytest.mark.rule("F11", "F9")
def test_a_backoff_that_others_cancel_too_is_cancelled(async_world: World) -> None:
    async def scenario(w: World) -> None:
        ends: list[str] = []

        async def body() -> None:
            raise ValueError

        async def wait() -> None:
            try:
                async with deadline(1000.0) as limit:
                    limits.append(limit)
                    await retry("r", on=ValueError, wait=500.0)(body)()
            except BaseException as error:
                ends.append(type(error).__name__)
                raise

        limits: list[Any] = []
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await w.sleep(1)
            limits[0].reschedule(0)
            group.cancel_scope.cancel()
        assert ends in (["CancelledError"], ["Cancelled"])

    async_world.run(scenario)


@pytest.mark.rule("F11", "S7")
def test_sync_code_beside_a_running_loop_does_not_wait_for_other_threads(
    async_world: World,
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    policy = singleflight("flight")

    def slow() -> str:
        inside.set()
        assert go_on.wait(30)
        return "theirs"

    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(policy.do("k", slow)))
    other.start()
    assert inside.wait(30)

    async def scenario(w: World) -> None:
        with pytest.raises(Rejected) as refused:
            policy.do("k", lambda: "ours")
        assert (refused.value.policy, refused.value.reason, refused.value.retry_after) == (
            "flight",
            "would_block",
            None,
        )
        assert policy.do("another key", lambda: "ours") == "ours", "what need not wait goes on"

    try:
        async_world.run(scenario)
    finally:
        go_on.set()
        other.join()
    assert found == ["theirs"]


@pytest.mark.rule("F11", "D5")
def test_a_sync_wait_is_not_begun_when_the_deadline_would_cut_it(world: World) -> None:
    async def scenario(w: World) -> None:
        tries: list[float] = []

        def body() -> None:
            tries.append(w.now())
            raise ValueError

        fn = retry(on=ValueError, wait=5.0 * w.unit)(w.function(body))
        with deadline(3.0 * w.unit):
            with pytest.raises(ValueError):
                await w.call(fn)
        assert len(tries) == 1
        assert w.now() < 3

    world.run(scenario)


# F12

LEAVES: list[tuple[str, list[Exception], dict[str, Any], str]] = [
    ("one of several is named", [KeyError(), ValueError()], {"on": ValueError}, "failure"),
    ("none is named", [KeyError(), KeyError()], {"on": ValueError}, "success"),
    (
        "the named one is ignored",
        [KeyError(), ValueError()],
        {"on": ValueError, "ignore": ValueError},
        "success",
    ),
    ("all are ignored", [ValueError(), ValueError()], {"ignore": ValueError}, "ignored"),
    ("not all are ignored", [KeyError(), ValueError()], {"ignore": ValueError}, "failure"),
    (
        "deep inside",
        [ExceptionGroup("in", [ExceptionGroup("in", [ValueError()])])],
        {"on": ValueError},
        "failure",
    ),
    (
        "ignored deep inside",
        [ValueError(), ExceptionGroup("in", [ValueError()])],
        {"ignore": ValueError},
        "ignored",
    ),
    ("the group type is named", [KeyError()], {"on": ExceptionGroup}, "failure"),
    ("a wider group type is named", [KeyError()], {"on": BaseExceptionGroup}, "failure"),
    (
        "the group type is ignored",
        [KeyError()],
        {"on": KeyError, "ignore": ExceptionGroup},
        "ignored",
    ),
    ("nothing but rejections", [CircuitOpen("in"), Rejected("in")], {"on": Exception}, "ignored"),
    (
        "a rejection beside an answer",
        [CircuitOpen("in"), KeyError()],
        {"on": ValueError},
        "success",
    ),
    (
        "a rejection beside a failure",
        [CircuitOpen("in"), ValueError()],
        {"on": ValueError},
        "failure",
    ),
    ("did not start", [DeadlineExceeded("in", 1.0, 1.0, False)], {"on": Exception}, "ignored"),
    ("was cut short", [DeadlineExceeded("in", 1.0, 1.0, True)], {"on": KeyError}, "failure"),
    (
        "a predicate on a leaf",
        [KeyError(7), ValueError()],
        {"on": lambda error: error.args == (7,)},
        "failure",
    ),
    (
        "a predicate on no leaf",
        [KeyError(8), ValueError()],
        {"on": lambda error: error.args == (7,)},
        "success",
    ),
    (
        "a tuple",
        [KeyError(8)],
        {"on": (ValueError, (OSError, lambda error: error.args == (8,)))},
        "failure",
    ),
]


@pytest.mark.rule("F12", "B2")
@pytest.mark.parametrize(
    ("what", "errors", "settings", "verdict"), LEAVES, ids=[row[0] for row in LEAVES]
)
def test_a_group_is_judged_by_its_leaves(
    world: World, what: str, errors: list[Exception], settings: dict[str, Any], verdict: str
) -> None:
    async def scenario(w: World) -> None:
        policy, group = breaker(**settings), ExceptionGroup("group", errors)

        def body() -> None:
            raise group

        with pytest.raises(ExceptionGroup) as caught:
            await w.call(policy(w.function(body)))
        assert caught.value is group
        stats = policy.stats()
        counted = {"success": stats.successes, "failure": stats.failures, "ignored": stats.ignored}
        assert counted == {one: int(one == verdict) for one in counted}

    world.run(scenario)


@pytest.mark.rule("F12", "L8")
@pytest.mark.parametrize(
    ("what", "errors", "settings", "verdict"),
    [row for row in LEAVES if "ignore" not in row[2]],
    ids=[row[0] for row in LEAVES if "ignore" not in row[2]],
)
def test_a_throttle_judges_a_group_by_its_leaves(
    world: World, what: str, errors: list[Exception], settings: dict[str, Any], verdict: str
) -> None:
    async def scenario(w: World) -> None:
        policy, group = throttle(**settings), ExceptionGroup("group", errors)

        def body() -> None:
            raise group

        with pytest.raises(ExceptionGroup) as caught:
            await w.call(policy(w.function(body)))
        assert caught.value is group
        counted = {"success": (1, 1), "failure": (1, 0), "ignored": (0, 0)}
        assert (policy.stats().requests, policy.stats().accepts) == counted[verdict]

    world.run(scenario)


NAMED: list[tuple[str, list[Exception], Any, bool]] = [
    ("one of several is named", [KeyError(), ValueError()], ValueError, True),
    ("none is named", [KeyError(), KeyError()], ValueError, False),
    ("deep inside", [ExceptionGroup("in", [ExceptionGroup("in", [OSError()])])], OSError, True),
    ("the group type is named", [KeyError()], ExceptionGroup, True),
    ("a predicate on a leaf", [KeyError(7), OSError()], lambda error: error.args == (7,), True),
    ("a predicate on no leaf", [KeyError(8)], lambda error: error.args == (7,), False),
    ("a tuple", [KeyError(8)], (OSError, lambda error: error.args == (8,)), True),
]


@pytest.mark.rule("F12", "C1")
@pytest.mark.parametrize(("what", "errors", "on", "named"), NAMED, ids=[row[0] for row in NAMED])
def test_a_fallback_is_for_a_group_one_of_whose_leaves_is_named(
    world: World, what: str, errors: list[Exception], on: Any, named: bool
) -> None:
    async def scenario(w: World) -> None:
        handed: list[BaseException] = []
        group = ExceptionGroup("group", errors)

        def body() -> None:
            raise group

        def instead(error: BaseException) -> str:
            handed.append(error)
            return "instead"

        fn: Any = fallback(instead, on=on)(w.function(body))
        if named:
            assert await w.call(fn) == "instead"
            assert handed == [group], "the group itself"
        else:
            with pytest.raises(ExceptionGroup) as caught:
                await w.call(fn)
            assert caught.value is group

    world.run(scenario)


@pytest.mark.rule("F12", "H2")
@pytest.mark.parametrize(("what", "errors", "on", "named"), NAMED, ids=[row[0] for row in NAMED])
def test_a_hedge_replaces_an_attempt_that_raised_a_group_one_of_whose_leaves_is_named(
    async_world: World, what: str, errors: list[Exception], on: Any, named: bool
) -> None:
    async def scenario(w: World) -> None:
        tries: list[int] = []
        group = ExceptionGroup("group", errors)

        async def body() -> str:
            tries.append(1)
            if len(tries) == 1:
                raise group
            return "second"

        policy = hedge(1000, on=on)
        if named:
            assert await policy.call(body) == "second"
        else:
            with pytest.raises(ExceptionGroup) as caught:
                await policy.call(body)
            assert caught.value is group
        assert len(tries) == (2 if named else 1)

    async_world.run(scenario)


@pytest.mark.rule("F12")
def test_task_groups_raise_groups_and_they_are_retried_by_their_leaves(async_world: World) -> None:
    async def scenario(w: World) -> None:
        tries = []

        async def child() -> None:
            tries.append(1)
            raise ValueError(len(tries))

        async def body() -> str:
            if len(tries) == 2:
                return "done"
            async with anyio.create_task_group() as group:
                group.start_soon(child)
            return "not reached"

        assert await retry(on=ValueError, wait=0)(body)() == "done"
        tries.clear()
        with pytest.raises(ExceptionGroup):
            await retry(on=KeyError, wait=0)(body)()
        assert len(tries) == 1

    async_world.run(scenario)


@pytest.mark.rule("F12", "R6")
def test_a_predicate_sees_leaves_and_never_the_group(world: World) -> None:
    async def scenario(w: World) -> None:
        seen: list[type] = []

        def look(error: BaseException) -> bool:
            seen.append(type(error))
            return False

        def body() -> None:
            raise ExceptionGroup("group", [KeyError(), ExceptionGroup("in", [OSError()])])

        for policy in (breaker(on=look), breaker(ignore=look, on=()), retry(on=look, wait=0)):
            seen.clear()
            with pytest.raises(ExceptionGroup):
                await w.call(policy(w.function(body)))
            assert sorted(seen, key=str) == [KeyError, OSError]

    world.run(scenario)


class BrokenError(Exception):
    """Raised by a predicate."""


def broken(_: object) -> bool:
    raise BrokenError


@pytest.mark.rule("F12")
@pytest.mark.parametrize("argument", ["on", "ignore", "on_result"])
def test_a_predicate_that_raises_is_logged_once_and_makes_a_failure(
    world: World, caplog: pytest.LogCaptureFixture, argument: str
) -> None:
    async def scenario(w: World) -> None:
        settings: dict[str, Any] = {argument: broken}
        policy, error, result = breaker(consecutive_failures=None, **settings), OSError(), object()
        good = argument == "on_result"

        def body() -> object:
            if good:
                return result
            raise error

        fn = policy(w.function(body))
        for _ in range(3):
            if good:
                assert await w.call(fn) is result
            else:
                with pytest.raises(OSError) as caught:
                    await w.call(fn)
                assert caught.value is error
                assert error.__context__ is None
        stats = policy.stats()
        assert (stats.failures, stats.successes, stats.ignored) == (3, 0, 0)

    world.run(scenario)
    assert len(caplog.records) == 1
    (said,) = caplog.records
    assert said.name == "resilient"
    assert "broken" in said.getMessage()
    assert said.exc_info is not None
    assert said.exc_info[0] is BrokenError


@pytest.mark.rule("F12", "F8")
def test_a_predicate_of_a_retry_that_raises_leaves_the_callers_result_and_error_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        error, result = OSError(), object()

        def body(*, good: bool) -> object:
            if good:
                return result
            raise error

        assert (
            await w.call(retry(on=OSError, on_result=broken, wait=0)(w.function(body)), good=True)
            is result
        )
        with pytest.raises(OSError) as caught:
            await w.call(retry(on=broken, wait=0)(w.function(body)), good=False)
        assert caught.value is error
        assert error.__context__ is None

    world.run(scenario)
    assert len(caplog.records) == 2, "once for each policy"


@pytest.mark.rule("F12", "F8")
def test_a_predicate_of_the_others_that_raises_is_logged_once_and_leaves_the_error_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """To a throttle it makes a failure; a fallback is not used, and no other attempt is made."""

    async def scenario(w: World) -> None:
        error = OSError()

        def body() -> None:
            raise error

        throttled = throttle(on=broken)
        guards: list[Any] = [throttled, fallback(default=1, on=broken)]
        if w.is_async:
            guards.append(hedge(1000, on=broken))
        for number, policy in enumerate(guards, 1):
            fn = policy(w.function(body))
            for _ in range(3):
                with pytest.raises(OSError) as caught:
                    await w.call(fn)
                assert caught.value is error
                assert error.__context__ is None
            assert len(caplog.records) == number
        assert (throttled.stats().requests, throttled.stats().accepts) == (3, 0)

    world.run(scenario)
    assert {said.name for said in caplog.records} == {"resilient"}
    assert all("broken" in said.getMessage() and said.exc_info for said in caplog.records)


@pytest.mark.rule("F12", "F8", "C3", "C5")
@pytest.mark.parametrize("argument", ["exists", "negative"])
def test_a_predicate_of_a_cache_that_raises_is_logged_once_and_leaves_the_result_alone(
    world: World, caplog: pytest.LogCaptureFixture, argument: str
) -> None:
    async def scenario(w: World) -> None:
        settings: dict[str, Any] = {argument: broken, "negative_ttl": 5}
        kept = cache(1000, **settings)
        fn = kept(w.function(lambda key: key))
        for key in ("a", "b", "a"):
            assert await w.call(fn, key) == key
        stats = kept.stats()
        assert (stats.hits, stats.misses, stats.refused, stats.negative_hits) == (1, 2, 0, 0)

    world.run(scenario)
    assert len(caplog.records) == 1
    assert "broken" in caplog.records[0].getMessage()


@pytest.mark.rule("F11", "D5")
def test_a_timeout_around_nothing_left_does_not_begin(world: World) -> None:
    async def scenario(w: World) -> None:
        inner, ran = breaker(), []
        fn = timeout(5.0, name="t")(inner(w.function(lambda: ran.append(1))))
        with pytest.raises(DeadlineExceeded) as caught:
            with deadline(1000.0) as limit:
                limit.reschedule(0)
                await w.call(fn)
        assert (caught.value.policy, caught.value.started) == ("t", False)
        assert not ran
        assert inner.stats().calls == 0

    world.run(scenario)


@pytest.mark.rule("F10", "B11", "B12")
def test_a_call_whose_key_made_room_at_that_moment_is_counted_once() -> None:
    """It had looked its state up, and found after it was counted that another has the place."""
    policy = breaker("db", key="key", max_keys=1)
    seen: list[str] = []

    @policy
    def ask(key: str) -> str:
        seen.append(key)
        return key

    ask("a")
    assert policy._states.is_keyed
    core = policy._states.peek("a")
    assert core is not None
    core.retired = True  # between the look-up and the count: as if another thread had made room
    ask("a")
    core.retired = False
    stats = policy.stats()
    assert (seen, stats.calls, stats.successes, stats.in_flight) == (["a", "a"], 2, 2, 0)
    ask("b")
    stats = policy.stats()
    assert policy.keys() == ["b"]
    assert (stats.calls, stats.successes, stats.in_flight) == (3, 3, 0)

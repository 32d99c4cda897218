"""The interceptors of gRPC's clients, sync and async, against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import pickle
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Rejected,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    pipeline,
    retry,
    singleflight,
    timeout,
)
from resilient.integrations.grpc import (
    FAILURES,
    TRANSIENT,
    aio_client_interceptors,
    client_interceptors,
    method,
)
from resilient.integrations.http import BadStatus, options
from tests.integrations.grpc_service import (
    DOWN,
    NOW,
    Caller,
    Service,
    asks_to_wait,
    eventually,
    play,
)

pytestmark = pytest.mark.real_clock  # gRPC has its own

ONE = "/shop.Cart/One"
AGAIN: dict[str, Any] = {"idempotent": {ONE}}
Play = Callable[..., Service]


@pytest.fixture(params=["asyncio", "threads"])
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(world: str) -> Iterator[Play]:
    """Play a scenario against a service with a script: ``run(scenario, *script, **settings)``."""
    with contextlib.ExitStack() as stack:

        def run(scenario: Any, *script: Any, **settings: Any) -> Service:
            service = stack.enter_context(Service(*script))
            play(world, service.target, scenario, **settings)
            return service

        yield run


def is_deadline(error: BaseException) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() is StatusCode.DEADLINE_EXCEEDED


# W1, W2: the policy, and what it is asked with.


@pytest.mark.rule("W1", "W40")
@pytest.mark.parametrize("make", [client_interceptors, aio_client_interceptors])
def test_what_stands_around_a_call_by_itself(make: Any) -> None:
    ours = make()
    policies = ours[0].policy.policies
    assert [one.kind for one in policies] == ["retry", "breaker", "bulkhead"]
    assert {one.name for one in policies} == {"grpc"}
    assert {one.policy for one in ours} == {ours[0].policy}
    assert make(name="shop")[0].policy.policies[1].name == "shop"
    assert make(policy=None)[0].policy is None
    assert "policy=None" in repr(make(policy=None)[0])


@pytest.mark.rule("W1", "W5", "F7")
@pytest.mark.parametrize("make", [client_interceptors, aio_client_interceptors])
@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"policy": cache(ttl=1)}, TypeError, "policy must not have.*its answer is used once"),
        ({"policy": singleflight()}, TypeError, "policy must not have.*its answer is used once"),
        ({"policy": retry}, TypeError, "policy must be a policy or pipeline, or None"),
        ({"failures": StatusCode.INTERNAL}, TypeError, "failures must be a collection of statuses"),
        ({"failures": {14}}, TypeError, r"failures must be a collection of grpc\.StatusCode"),
        ({"idempotent": "Get"}, TypeError, "idempotent must be a collection of methods"),
        ({"idempotent": ["Get"]}, ValueError, "idempotent must be full names, such as"),
        ({"idempotent": ["shop.Cart/Get"]}, ValueError, "idempotent must be full names, such as"),
        ({"max_retry_after": -1}, ValueError, "max_retry_after must be"),
        ({"name": 5}, TypeError, "name must be a string"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(make: Any, settings: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(**settings)


@pytest.mark.rule("W1")
def test_a_sync_client_has_no_hedge() -> None:
    with Service(b"") as service, grpc.insecure_channel(service.target) as bare:
        channel = grpc.intercept_channel(bare, *client_interceptors(policy=hedge(0.1)))
        with pytest.raises(TypeError, match="needs an async client"):
            channel.unary_unary(ONE)(b"")


@pytest.mark.rule("W1")
def test_a_policy_is_asked_with_the_details_of_the_call(run: Play) -> None:
    asked: list[Any] = []

    def key(details: Any) -> str:
        asked.append(details)
        return method(details)

    async def scenario(caller: Caller) -> None:
        await caller.one(b"x", timeout=5, metadata=[("tenant", "a")])
        assert caller.policy.keys() == [ONE]
        [details] = asked
        assert (details.method, details.timeout) == (ONE, 5)
        assert dict(details.metadata) == {"tenant": "a"}

    run(scenario, b"", policy=breaker(key=key))


@pytest.mark.rule("W1", "W3")
def test_what_a_fallback_gives_is_the_message(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        assert await caller.one() == b"instead"

    service = run(scenario, DOWN, policy=fallback(lambda _error: b"instead", on=TRANSIENT))
    assert len(service.asked) == 1


# W3, W4, W42: what a status is, to the policies and to the caller.


@pytest.mark.rule("W3", "W4", "W41")
@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_what_a_status_is(run: Play, code: StatusCode) -> None:
    """In one row each: a failure, an answer, or, if it is a cancellation, nothing."""

    async def scenario(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            await caller.one()
        assert caught.value.code() is code
        assert type(caught.value).__module__.startswith("grpc")
        assert not isinstance(caught.value, BadStatus)
        seen = caller.policy.policies[1].stats()
        is_cancelled = code is StatusCode.CANCELLED
        assert seen.failures == 2 * (code in FAILURES)
        assert seen.ignored == is_cancelled
        assert seen.successes == (code not in FAILURES and not is_cancelled)
        assert seen.in_flight == 0
        assert TRANSIENT(caught.value) is (code in FAILURES)

    on = retry(attempts=2, on=TRANSIENT, wait=0, budget=None)
    service = run(
        scenario, code, **AGAIN, policy=pipeline(on, breaker("b", on=TRANSIENT), bulkhead(5))
    )
    assert len(service.asked) == (2 if code in FAILURES else 1)


@pytest.mark.rule("W3")
def test_which_statuses_are_failures_can_be_said(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError):
            await caller.one()
        assert caller.policy.stats().failures == 1

    for failures in ({StatusCode.NOT_FOUND}, lambda code: code is StatusCode.NOT_FOUND):
        run(scenario, StatusCode.NOT_FOUND, policy=breaker("b", on=TRANSIENT), failures=failures)


@pytest.mark.rule("W4", "W5")
def test_only_what_is_idempotent_is_repeated(run: Play) -> None:
    async def plain(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError):
            await caller.one()

    async def by_key(caller: Caller) -> None:
        assert await caller.one(metadata=[("idempotency-key", "1")]) == b"yes"

    async def by_block(caller: Caller) -> None:
        with options(idempotent=True):
            assert await caller.one() == b"yes"

    async def named(caller: Caller) -> None:
        assert await caller.one() == b"yes"

    busy = (DOWN, NOW)
    assert run(plain, busy, b"yes").attempts() == ["1"]
    assert run(by_key, busy, b"yes").attempts() == ["1", "2"]
    assert run(by_block, busy, b"yes").attempts() == ["1", "2"]
    assert run(named, busy, b"yes", **AGAIN).attempts() == ["1", "2"]
    assert run(named, busy, b"yes", idempotent=lambda rpc: rpc.method == ONE).attempts() == [
        "1", "2"
    ]  # fmt: skip


@pytest.mark.rule("W4", "W41")
def test_a_message_that_can_not_be_sent_is_ignored() -> None:
    """In threads: an async client sends an empty one in its place."""

    async def scenario(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError, match="serializing request"):
            caller.channel.unary_unary(ONE, request_serializer=int)(b"x")
        seen = caller.policy.policies[1].stats()
        assert (seen.failures, seen.ignored, seen.in_flight) == (0, 1, 0)

    policy = pipeline(retry(attempts=3, on=TRANSIENT, wait=0), breaker("b"))
    with Service(b"") as service:
        play("threads", service.target, scenario, **AGAIN, policy=policy)
        assert not service.asked


@pytest.mark.rule("W4", "W41")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of grpcio 1.66
def test_metadata_that_can_not_be_sent_is_ignored(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        with pytest.raises(Exception, match=r"(?i)metadata|formatting"):  # each version's own
            await caller.one(metadata=[("Upper-Case", "1")])
        assert (caller.policy.stats().failures, caller.policy.stats().ignored) == (0, 1)
        gc.collect()

    assert not run(scenario, b"", policy=breaker("b")).asked


@pytest.mark.rule("W4", "W41")
def test_metadata_of_a_stream_that_can_not_be_sent_is_ignored(run: Play, world: str) -> None:
    if world == "asyncio" and grpc.__version__.startswith("1.66"):
        pytest.skip("it hangs by itself")

    async def scenario(caller: Caller) -> None:
        with pytest.raises(Exception, match=r"(?i)metadata|formatting"):  # each version's own
            await caller.read(caller.many(metadata=[("Upper-Case", "1")]))
        await settled(caller, lambda: not caller.policy.stats().in_flight)
        assert (caller.policy.stats().failures, caller.policy.stats().ignored) == (0, 1)

    assert not run(scenario, b"", policy=breaker("b")).asked


@pytest.mark.rule("W4", "W41")
def test_a_stream_of_the_callers_that_breaks_is_ignored(run: Play) -> None:
    def messages() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("mine")

    async def scenario(caller: Caller) -> None:
        add = caller.channel.stream_unary("/shop.Cart/Sum")
        with pytest.raises((grpc.RpcError, asyncio.CancelledError)):
            await add(messages()) if caller.is_async else add(messages())
        if caller.is_async:
            await asyncio.sleep(0)
        seen = caller.policy.stats()
        assert (seen.failures, seen.ignored, seen.in_flight) == (0, 1, 0)

    run(scenario, lambda messages, _context: b"".join(messages), policy=breaker("b"))


@pytest.mark.rule("W42", "W7")
@pytest.mark.parametrize("trailing", [asks_to_wait(2500), None])
def test_the_error_says_when_to_come_back(run: Play, trailing: Any) -> None:
    if trailing is None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(2500)
        packed = Packed()
        packed.Pack(info)
        status = status_pb2.Status(code=14, details=[packed])
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)

    async def scenario(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            await caller.one()
        assert caught.value.retry_after == 2.5
        with pytest.raises(grpc.RpcError) as caught:
            await caller.read(caller.many())
        assert caught.value.retry_after == 2.5

    run(
        scenario, (DOWN, trailing), lambda *_: (b"1", (DOWN, trailing)),
        policy=None, max_retry_after=1,
    )  # fmt: skip


@pytest.mark.rule("W7")
def test_an_error_without_a_hint_says_nothing(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                await caller.one()
            assert not hasattr(caught.value, "retry_after")

    garbage = (("grpc-status-details-bin", b"\xff\xff"),)
    run(scenario, DOWN, (DOWN, garbage), policy=None)


@pytest.mark.rule("W7")
def test_a_wait_that_is_too_long_is_not_waited_for(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError):
            await caller.one()

    assert len(run(scenario, (DOWN, asks_to_wait(1001)), **AGAIN, max_retry_after=1).asked) == 1


@pytest.mark.rule("W8")
@pytest.mark.parametrize("value", ["-1", "soon", "1e3", ""])
def test_a_pushback_that_says_no(run: Play, value: str) -> None:
    async def scenario(caller: Caller) -> None:
        with pytest.raises(grpc.RpcError):
            await caller.one()

    assert len(run(scenario, (DOWN, asks_to_wait(value)), b"", **AGAIN).asked) == 1


# W10, W41: streams.


@pytest.mark.rule("W10", "W41")
def test_a_stream_holds_its_place_until_its_status(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        places: Any = caller.policy
        call = caller.many()
        assert await caller.next(call) == b"1"
        assert places.stats().in_flight == 1
        with pytest.raises(BulkheadFull):
            await caller.one()
        rest = await caller.read(call) if not caller.is_async else [await call.read()]
        assert rest == [b"2"]
        if caller.is_async:
            assert await call.read() is grpc.aio.EOF
        assert (await call.code() if caller.is_async else call.code()) is StatusCode.OK
        await settled(caller, lambda: places.stats().in_flight == 0)

    run(scenario, (b"1", b"2"), policy=bulkhead(1))


async def settled(caller: Caller, done: Callable[[], bool]) -> None:
    """Wait for what another thread, or a callback of the loop's, does just now."""
    if not caller.is_async:
        eventually(done)
        return
    for _ in range(2000):
        if done():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come")


@pytest.mark.rule("W10", "W41")
@pytest.mark.parametrize(
    ("end", "failures", "ignored"),
    [(DOWN, 1, 0), (StatusCode.NOT_FOUND, 0, 0), (StatusCode.CANCELLED, 0, 1), (b"3", 0, 0)],
)
def test_how_a_stream_ends_is_how_the_call_does(
    run: Play, end: Any, failures: int, ignored: int
) -> None:
    async def scenario(caller: Caller) -> None:
        asks: list[Callable[[], Any]] = [caller.many, lambda: caller.chat(b"a", b"b")]
        for ask in asks:
            before = caller.policy.stats()
            with contextlib.ExitStack() as stack:
                if end != b"3":
                    stack.enter_context(pytest.raises(grpc.RpcError))
                assert await caller.read(ask()) == [b"1", b"3"]
            await settled(caller, lambda: caller.policy.stats().in_flight == 0)
            after = caller.policy.stats()
            assert after.failures - before.failures == failures
            assert after.ignored - before.ignored == ignored

    assert len(run(scenario, (b"1", end), policy=breaker("b", on=TRANSIENT)).asked) == 2


@pytest.mark.rule("W10", "W41")
def test_a_stream_there_is_sent_once(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        assert await caller.sum(b"a", b"b") == b"ab"
        with pytest.raises(grpc.RpcError) as caught:
            await caller.sum(b"a", b"b")
        assert caught.value.retry_after == 0
        await settled(caller, lambda: caller.policy.policies[1].stats().in_flight == 0)
        assert caller.policy.policies[1].stats().failures == 1

    on = retry(attempts=3, on=TRANSIENT, wait=0)
    service = run(
        scenario, lambda messages, _context: b"".join(messages), (DOWN, NOW),
        idempotent=lambda _rpc: True, policy=pipeline(on, breaker("b", on=TRANSIENT)),
    )  # fmt: skip
    assert service.attempts() == ["1", "1"]


@pytest.mark.rule("W10", "F3")
def test_a_stream_that_is_dropped_gives_its_place_back() -> None:
    """In threads: async gRPC by itself keeps a call that is lost for as long as it may last."""

    async def scenario(caller: Caller) -> None:
        call = caller.many()
        assert await caller.next(call) == b"1"
        del call
        gc.collect()
        await settled(caller, lambda: caller.policy.stats().in_flight == 0)

    with Service(lambda *_: iter((b"1", *[b"2"] * 100_000))) as service:
        play("threads", service.target, scenario, policy=bulkhead(1))


@pytest.mark.rule("W10", "W14")
def test_a_stream_that_is_cancelled_gives_its_place_back(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        call = caller.many()
        assert await caller.next(call) == b"1"
        call.cancel()
        await settled(caller, lambda: caller.policy.stats().in_flight == 0)
        assert caller.policy.stats().ignored == 1

    run(scenario, lambda *_: iter((b"1", *[b"2"] * 100_000)), policy=breaker("b"))


@pytest.mark.rule("W40", "W41")
def test_a_future_is_one_attempt_that_nobody_waits_for() -> None:
    with Service((DOWN, NOW), b"yes") as service, grpc.insecure_channel(service.target) as bare:
        guard = breaker("b", on=TRANSIENT)
        policy = pipeline(retry(on=TRANSIENT, wait=0), guard)
        ours = client_interceptors(policy=policy, **AGAIN)
        call = grpc.intercept_channel(bare, *ours).unary_unary(ONE)
        first = call.future(b"")
        assert isinstance(first, grpc.Future)
        assert isinstance(first, grpc.Call)
        with pytest.raises(grpc.RpcError) as caught:
            first.result(10)
        assert caught.value.retry_after == 0
        assert first.exception() is caught.value
        done: list[Any] = []
        second = call.future(b"")
        second.add_done_callback(done.append)
        assert (second.result(10), second.exception(10)) == (b"yes", None)
        eventually(lambda: done == [second] and not guard.stats().in_flight)
        assert (service.attempts(), guard.stats().failures) == (["1", "1"], 1)


# W11, W12: what is on the wire.


@pytest.mark.rule("W11")
@pytest.mark.parametrize(("own", "ours"), [(None, 5), (5, 7), (7, 5)])
def test_an_attempt_carries_what_is_left(run: Play, own: float | None, ours: float) -> None:
    async def scenario(caller: Caller) -> None:
        if caller.is_async:
            async with deadline(ours):
                await caller.one(timeout=own)
        else:
            with deadline(ours):
                await caller.one(timeout=own)

    [asked] = run(scenario, b"").asked
    assert 4 < asked["time_remaining"] <= 5.01  # what the wire rounds up


@pytest.mark.rule("W11")
def test_without_a_deadline_the_callers_own_limit_holds(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        await caller.one(timeout=5)
        await caller.one()

    first, second = run(scenario, b"").asked
    assert 4 < first["time_remaining"] <= 5.01
    assert second["time_remaining"] > 1e9


@pytest.mark.rule("W11", "W13")
def test_nothing_is_sent_when_nothing_is_left(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            if caller.is_async:
                async with deadline(5) as limit:
                    await asyncio.sleep(0)
                    limit._at -= 4.9995
                    await caller.one()
            else:
                with deadline(5) as limit:
                    limit._at -= 4.9995
                    await caller.one()
        assert not caught.value.started
        assert is_deadline(caught.value)

    assert not run(scenario, b"").asked


@pytest.mark.rule("W11")
def test_a_deadline_ends_a_call(run: Play, world: str) -> None:
    service = Service()
    service.script = [service.hangs]

    async def scenario(caller: Caller) -> None:
        if caller.is_async:
            with pytest.raises(DeadlineExceeded) as caught:
                async with deadline(0.05):
                    await caller.one()
            assert caught.value.started
        else:
            with pytest.raises(grpc.RpcError) as told, deadline(0.05):
                await caller.one()
            assert is_deadline(told.value)
            assert re.match(r"grpc: limit of 0.05 s exceeded", told.value.__notes__[0])
        await settled(caller, lambda: caller.policy.stats().in_flight == 0)
        assert caller.policy.stats().failures == 1

    with service:
        play(world, service.target, scenario, policy=breaker("b", on=TRANSIENT))


@pytest.mark.rule("W12")
def test_each_attempt_carries_its_number(run: Play, world: str) -> None:
    async def scenario(caller: Caller) -> None:
        mine = [("x-request-attempt", "9"), ("x-mine", "kept")]
        assert await caller.one(metadata=mine) == b"yes"
        assert mine == [("x-request-attempt", "9"), ("x-mine", "kept")]

    service = run(scenario, (DOWN, NOW), (DOWN, NOW), b"yes", **AGAIN)
    assert service.attempts() == ["1", "2", "3"]
    assert {asked["x-mine"] for asked in service.asked} == {"kept"}
    if world == "threads":  # whose channel leaves it to us
        before = [asked.get("grpc-previous-rpc-attempts") for asked in service.asked]
        assert before == [None, "1", "2"]


# W13: errors of both families.


@pytest.mark.rule("W13")
def test_what_the_policies_refuse_is_of_both_families(run: Play, world: str) -> None:
    refuses = breaker("b")
    refuses.force_open()

    async def scenario(caller: Caller) -> None:
        for policy, code in (
            (refuses, StatusCode.UNAVAILABLE),
            (full, StatusCode.RESOURCE_EXHAUSTED),
        ):
            with options(policy=policy), pytest.raises(Rejected) as caught:
                await caller.one()
            error: Any = caught.value
            kind = grpc.aio.AioRpcError if caller.is_async else grpc.RpcError
            assert isinstance(error, kind)
            assert error.code() is code
            assert error.details() == str(error)
            assert (tuple(error.initial_metadata()), tuple(error.trailing_metadata())) == ((), ())
            assert error.debug_error_string() == ""
            assert repr(error).startswith(f"{type(error).__name__}(")
            assert not TRANSIENT(error)
            for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                assert (type(twin), twin.args) == (type(error), error.args)
                assert twin.code() is code

    full = bulkhead(1)
    with full:
        assert not run(scenario, b"").asked


@pytest.mark.rule("W13")
def test_a_refusal_is_a_call_that_has_ended() -> None:
    """As is what a sync interceptor of others gets from the one of ours inside it."""
    refuses = breaker("b")
    refuses.force_open()
    with Service(b"") as service, grpc.insecure_channel(service.target) as bare:
        inner = grpc.intercept_channel(bare, *client_interceptors(policy=refuses))
        outer_breaker = breaker("outer", on=TRANSIENT)
        outer = grpc.intercept_channel(inner, *client_interceptors(policy=outer_breaker))
        with pytest.raises(CircuitOpen) as caught:
            outer.unary_unary(ONE)(b"")
        assert outer_breaker.stats().ignored == 1
        error: Any = caught.value
        done: list[Any] = []
        error.add_done_callback(done.append)
        assert done == [error]
        assert (error.done(), error.cancelled(), error.cancel(), error.running()) == (
            True, False, False, False
        )  # fmt: skip
        assert (error.exception(), error.is_active(), error.time_remaining()) == (
            error, False, None
        )  # fmt: skip
        assert error.traceback() is error.__traceback__
        assert not error.add_callback(done.append)
        with pytest.raises(CircuitOpen):
            error.result()


@pytest.mark.rule("W13", "W4")
def test_a_closed_channel_is_the_callers_own_mistake() -> None:
    with Service(b"") as service:
        policy = breaker("b")
        with grpc.insecure_channel(service.target) as bare:
            channel = grpc.intercept_channel(bare, *client_interceptors(policy=policy))
        with pytest.raises(ValueError, match="closed channel"):
            channel.unary_unary(ONE)(b"")
        assert (policy.stats().failures, policy.stats().ignored) == (0, 1)


# W9, W14: async alone.


@pytest.mark.rule("W9", "W14")
def test_the_loser_of_a_hedge_is_cancelled() -> None:
    service = Service()
    service.script = [service.hangs, b"second"]

    async def scenario(caller: Caller) -> None:
        assert await caller.one() == b"second"

    with service:
        play("asyncio", service.target, scenario, policy=hedge(0.02), idempotent={ONE})
        assert service.attempts() == ["1", "2"]


@pytest.mark.rule("W14")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_calls_cancelled_at_random_leave_nothing(loop: str, request: pytest.FixtureRequest) -> None:
    dice = random.Random(1)
    rounds = 20 * int(request.config.getoption("--attacks"))
    if loop == "uvloop":
        pytest.importorskip("uvloop")

    async def scenario(caller: Caller) -> None:
        before = asyncio.all_tasks()
        for _ in range(rounds):
            calls = [asyncio.ensure_future(one(caller)) for _ in range(50)]
            for call in calls:
                asyncio.get_running_loop().call_later(dice.random() * 0.02, call.cancel)
            await asyncio.gather(*calls, return_exceptions=True)
        limit, places = caller.policy.policies[1:]
        await settled(caller, lambda: (limit.stats().in_flight, places.stats().in_flight) == (0, 0))
        await settled(caller, lambda: asyncio.all_tasks() == before)

    async def one(caller: Caller) -> None:
        if dice.random() < 0.5:
            await caller.one(timeout=5)
        else:
            await caller.read(caller.many(timeout=1))

    def answer(_message: bytes, context: Any) -> Any:
        entry = b"1" if dice.random() < 0.5 else (DOWN, NOW)
        return (entry,) * 3 if context._rpc_event.call_details.method.endswith(b"Many") else entry

    with Service(answer) as service:
        play(
            loop, service.target, scenario, idempotent={ONE},
            policy=pipeline(
                retry(on=TRANSIENT, wait=0), breaker("b", failure_rate=1.0, on=TRANSIENT),
                bulkhead(20, queue=100),
            ),
        )  # fmt: skip


@pytest.mark.rule("W1", "W15")
def test_a_policy_of_one_block(run: Play) -> None:
    async def scenario(caller: Caller) -> None:
        with options(policy=None), pytest.raises(grpc.RpcError):
            await caller.one()
        assert await caller.one() == b"yes"

    assert run(scenario, (DOWN, NOW), (DOWN, NOW), b"yes", **AGAIN).attempts() == ["1", "1", "2"]


@pytest.mark.rule("W4", "B9")
def test_a_timeout_of_the_policy_is_a_failure() -> None:
    service = Service()
    service.script = [service.hangs]
    guard = breaker("b", on=TRANSIENT)

    async def scenario(caller: Caller) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            await caller.one()
        assert is_deadline(caught.value)
        assert guard.stats().failures == 1

    with service:
        play("asyncio", service.target, scenario, policy=pipeline(guard, timeout(0.05)))

"""Errors: their fields and family, that they travel (E1), and what they say (E2)."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import pickle
import random
import threading
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import resilient
from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    Rejected,
    ResilienceError,
    adaptive_limit,
    backoff,
    breaker,
    bulkhead,
    cache,
    deadline,
    errors,
    fallback,
    hedge,
    rate_limit,
    retry,
    throttle,
    timeout,
)
from resilient.testing import virtual_time
from tests.worlds import World, in_threads

REJECTIONS: list[type[Rejected]] = [Rejected, CircuitOpen, BulkheadFull, RateLimited, Overloaded]
SAMPLES: list[ResilienceError] = [
    ResilienceError("plain"),
    *(kind("p") for kind in REJECTIONS),
    *(kind("p", 1.5, "reason_to_stop", "a reason") for kind in REJECTIONS),
    DeadlineExceeded("p", 0.5, 0.6, True),
    DeadlineExceeded("p", 0.5, 312.0, False, 311.5),
]


def rejected_by_a_breaker() -> CircuitOpen:
    policy = breaker("payments", consecutive_failures=1)
    policy.admit().close(ValueError())
    with pytest.raises(CircuitOpen) as caught:
        policy.admit()
    return caught.value


def shut(name: str) -> Any:
    """A throttle that has seen nothing but failures, and draws what rejects."""
    policy = throttle(minimum=1, rng=NoLuck(), name=name)
    for _ in range(5):
        with contextlib.suppress(Overloaded):
            policy.admit().close(ValueError())
    return policy


class NoLuck(random.Random):
    """Dice that always show the lowest."""

    def random(self) -> float:
        return 0.0


def full(policy: Any) -> Any:
    """*policy*, all of whose room is taken as long as it lives."""
    policy._held = policy.admit()
    return policy


REJECTING: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: full(bulkhead(1, name="payments")),
    "rate_limit": lambda: full(rate_limit(1, per=1000, name="payments")),
    "adaptive_limit": lambda: full(adaptive_limit(initial=1, name="payments")),
    "throttle": lambda: shut("payments"),
}


def rejected_by(kind: str) -> Rejected:
    """What such a policy raises."""
    with pytest.raises(Rejected) as caught:
        REJECTING[kind]().admit()
    return caught.value


def fields(error: BaseException) -> dict[str, object]:
    names = ("policy", "retry_after", "reason", "why", "seconds", "elapsed", "started", "ended_ago")
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


# The family.


def test_the_tree_is_the_one_that_is_drawn_at_the_head() -> None:
    assert ResilienceError.__bases__ == (Exception,)
    assert Rejected.__bases__ == (ResilienceError,)
    for kind in REJECTIONS[1:]:
        assert kind.__bases__ == (Rejected,)
    assert DeadlineExceeded.__bases__ == (ResilienceError, TimeoutError)
    assert issubclass(DeadlineExceeded, OSError)
    assert not issubclass(DeadlineExceeded, Rejected)
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        assert name in drawn
        assert getattr(resilient, name) is getattr(errors, name)
        assert getattr(errors, name).__module__ == "resilient.errors"
    assert {name for name, one in vars(errors).items() if inspect.isclass(one)} == set(
        errors.__all__
    )


# E1


@pytest.mark.rule("E1")
@pytest.mark.parametrize("error", [*SAMPLES, "breaker", *REJECTING], ids=repr)
def test_every_error_pickles_and_copies_with_all_its_fields(error: Any) -> None:
    if isinstance(error, str):
        error = rejected_by_a_breaker() if error == "breaker" else rejected_by(error)
    error.add_note("seen")
    twins = [copy.copy(error), copy.deepcopy(error)]
    twins += [
        pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ]
    for twin in twins:
        assert type(twin) is type(error)
        assert twin is not error
        assert fields(twin) == fields(error)
        assert twin.args == error.args
        assert str(twin) == str(error)
        assert repr(twin) == repr(error)
        assert twin.__notes__ == ["seen"]
    del error.__notes__


@pytest.mark.rule("E1")
def test_a_subclass_of_a_users_own_travels_too() -> None:
    twin = pickle.loads(pickle.dumps(OutOfStock("shop", 2.0)))
    assert type(twin) is OutOfStock
    assert (twin.policy, twin.retry_after, twin.reason) == ("shop", 2.0, "rejected")


class OutOfStock(Rejected):
    """A user's own."""


@pytest.mark.rule("E1")
def test_a_time_limit_error_is_no_confused_os_error() -> None:
    error = DeadlineExceeded("p", 0.5, 0.6, True)
    assert (error.errno, error.strerror, error.filename, error.filename2) == (
        None,
        None,
        None,
        None,
    )
    assert error.args == ("p", 0.5, 0.6, True, None)


@pytest.mark.rule("E1")
def test_each_rejection_is_a_fresh_instance_and_none_is_kept(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=1000.0)
        policy.admit().close(ValueError())
        fn = policy(w.function(lambda: 1))
        lengths, identities, last = set(), [], None
        for _ in range(200):
            with pytest.raises(CircuitOpen) as caught:
                await w.call(fn)
            error = caught.value
            assert error is not last
            assert error.__context__ is None
            assert error.__cause__ is None
            lengths.add(len(list(traceback.walk_tb(error.__traceback__))))
            last = error
            identities.append(id(error))
        assert len(lengths) == 1, "tracebacks do not grow"
        assert len(set(identities)) > 1
        error = last = caught = None  # type: ignore[assignment]  # let go of them
        gc.collect()
        assert not [
            one
            for one in gc.get_objects()
            if type(one) is CircuitOpen and one.policy == policy.name
        ]

    world.run(scenario)


@pytest.mark.rule("E1")
@pytest.mark.parametrize("kind", REJECTING)
def test_each_rejection_of_load_control_is_a_fresh_instance_and_none_is_kept(
    world: World, kind: str
) -> None:
    async def scenario(w: World) -> None:
        policy = REJECTING[kind]()
        fn = policy(w.function(lambda: 1))
        lengths, last = set(), None
        for _ in range(100):
            with pytest.raises(Rejected) as caught:
                await w.call(fn)
            error = caught.value
            assert error is not last
            assert (error.__context__, error.__cause__) == (None, None)
            lengths.add(len(list(traceback.walk_tb(error.__traceback__))))
            last = error
        assert len(lengths) == 1, "tracebacks do not grow"
        assert last is not None
        mine = type(last)
        error = last = caught = None  # type: ignore[assignment]  # let go of them
        gc.collect()
        assert not [
            one for one in gc.get_objects() if type(one) is mine and one.args[0] == "payments"
        ]

    world.run(scenario)


@pytest.mark.rule("E1", "F8")
def test_an_error_that_passes_again_and_again_does_not_grow(world: World) -> None:

    async def scenario(w: World) -> None:
        error = ValueError("again")

        def body() -> None:
            raise error

        def worse(_: BaseException) -> None:
            raise error

        guards: list[Any] = [
            fallback(worse),
            cache(1000),
            bulkhead(1),
            throttle(minimum=1000),
            adaptive_limit(),
        ]
        if w.is_async:
            guards.append(hedge(1000, on=ValueError, budget=None))
        for policy in guards:
            fn, sizes = policy(w.function(body)), list[int]()
            for _ in range(20):
                error.__traceback__ = None
                with pytest.raises(ValueError) as caught:
                    await w.call(fn)
                assert caught.value is error
                sizes.append(len(list(traceback.walk_tb(error.__traceback__))))
            assert len(set(sizes[1:])) == 1, (policy, sizes)
            assert (error.__cause__, getattr(error, "__notes__", [])) == (None, [])

    world.run(scenario)


@pytest.mark.rule("E1")
def test_an_expired_limit_raises_a_fresh_instance_each_time(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fn = timeout(0.5 * w.unit)(anyio.sleep_forever)
        raised = []
        for _ in range(3):
            with pytest.raises(DeadlineExceeded) as caught:
                await fn()
            raised.append(caught.value)
        assert len({id(error) for error in raised}) == 3
        assert len({len(list(traceback.walk_tb(error.__traceback__))) for error in raised}) == 1

    async_world.run(scenario)


@pytest.mark.rule("E1", "D5")
def test_a_limit_that_is_checked_again_and_again_raises_a_fresh_instance(world: World) -> None:
    async def scenario(w: World) -> None:
        with deadline(1000.0) as limit:
            limit.reschedule(0)
            raised: list[DeadlineExceeded] = []
            for _ in range(3):
                with pytest.raises(DeadlineExceeded) as caught:
                    limit.check()
                raised.append(caught.value)
            assert len({id(error) for error in raised}) == 3
            for error in raised:
                assert error.__context__ is None

    if world.is_async:
        with pytest.raises(DeadlineExceeded):
            world.run(_checked_until_cancelled)
    else:
        world.run(scenario)


async def _checked_until_cancelled(w: World) -> None:
    with deadline(0.5 * w.unit) as limit:
        try:
            await anyio.sleep_forever()
        finally:
            first, second = caught_by(limit), caught_by(limit)
            assert first is not second


def caught_by(limit: Any) -> DeadlineExceeded:
    try:
        limit.check()
    except DeadlineExceeded as error:
        return error
    raise AssertionError("it has not expired")


# E2


@pytest.mark.rule("E2")
def test_an_open_breaker_says_why_and_when() -> None:
    with virtual_time() as time:
        policy = breaker(
            "payments", consecutive_failures=None, failure_rate=0.6, minimum=40, cooldown=5.0
        )
        calls = [policy.admit() for _ in range(40)]
        for number, call in enumerate(calls):
            call.close(ValueError() if number < 25 else None)
        time.advance(0.8)
        with pytest.raises(CircuitOpen) as refused:
            policy.admit()
    assert (
        str(refused.value)
        == "payments: circuit open (failure rate 62% of 40 calls); next probe in 4.2 s"
    )


@pytest.mark.rule("E2")
def test_a_rejection_says_what_opened_it() -> None:
    with virtual_time() as time:
        rows: list[tuple[dict[str, Any], list[int], str]] = [
            ({"consecutive_failures": 3}, [1, 1, 1], "3 failures in a row"),
            ({"slow": 1.0, "slow_rate": 0.5, "minimum": 2}, [0, 0], "slow rate 100% of 2 calls"),
        ]
        for settings, ends, why in rows:
            policy = breaker("p", cooldown=9, **settings)
            calls = [policy.admit() for _ in ends]
            time.advance(2.0)
            for call, bad in zip(calls, ends, strict=True):
                call.close(ValueError() if bad else None)
            with pytest.raises(CircuitOpen) as refused:
                policy.admit()
            assert str(refused.value) == f"p: circuit open ({why}); next probe in 9 s"


@pytest.mark.rule("E2")
def test_half_open_and_forced_open_say_what_to_do() -> None:
    policy = breaker("p", consecutive_failures=1, cooldown=0)
    policy.admit().close(ValueError())
    probe = policy.admit()
    with pytest.raises(CircuitOpen) as refused:
        policy.admit()
    assert "half-open" in str(refused.value)
    assert "when one has reported" in str(refused.value)
    assert refused.value.reason == "half_open"
    probe.close()
    policy.force_open()
    with pytest.raises(CircuitOpen) as refused:
        policy.admit()
    assert "p: circuit forced open" in str(refused.value)
    assert "reset()" in str(refused.value)


@pytest.mark.rule("E2", "L3")
def test_a_full_bulkhead_says_how_full_and_who_waits() -> None:
    assert str(rejected_by("bulkhead")) == (
        "payments: bulkhead full (1 of 1 in flight); the call was not made"
    )
    with virtual_time() as time:
        pool = bulkhead(2, queue=1, max_wait=3, name="pool")
        held = [pool.admit(), pool.admit()]

        def pass_time() -> str:
            while not pool.stats().queued:
                threading.Event().wait(0.001)
            with pytest.raises(BulkheadFull) as refused:
                pool.call(int)
            time.advance(3)
            assert (refused.value.reason, refused.value.retry_after) == ("full", None)
            return str(refused.value)

        waited, said = in_threads(lambda: pool.call(int), pass_time)
        assert said == (
            "pool: bulkhead full (2 of 2 in flight, 1 of 1 queued); the call was not made"
        )
        assert isinstance(waited, BulkheadFull)
        assert waited.reason == "max_wait"
        assert str(waited).startswith("pool: bulkhead full (2 of 2 in flight, ")
        for call in held:
            call.close()


@pytest.mark.rule("E2", "L5")
def test_a_used_up_rate_says_when_to_come_again() -> None:
    with virtual_time() as time:
        rate = rate_limit(10, per=50, burst=3, name="api")
        rate.take(3)
        time.advance(0.5)
        with pytest.raises(RateLimited) as refused:
            rate.take()
    assert (refused.value.reason, refused.value.retry_after) == ("rate", 4.5)
    assert str(refused.value) == ("api: rate limited (a burst of 3 is used up); try again in 4.5 s")


@pytest.mark.rule("E2", "L7", "L8")
def test_an_overload_says_what_sheds_it() -> None:
    assert str(rejected_by("adaptive_limit")) == (
        "payments: overloaded (1 in flight of the 1 that its latency allows); the call was not made"
    )
    throttled = rejected_by("throttle")
    assert isinstance(throttled, Overloaded)
    assert (throttled.reason, throttled.retry_after) == ("throttled", None)
    assert str(throttled) == "payments: overloaded (1 of 1 calls failed); the call was not made"


@pytest.mark.rule("E2")
@pytest.mark.parametrize("error", SAMPLES[1:], ids=repr)
def test_every_message_names_the_policy_what_happened_and_what_to_do(error: Any) -> None:
    said = str(error)
    assert said.startswith("p: ")
    happened, _, advice = said[3:].partition("; ")
    assert happened
    assert advice
    for forgotten in ("None", "object at", "<", "inf", "nan", "e+"):
        assert forgotten not in said


@pytest.mark.rule("E2")
@pytest.mark.parametrize(
    ("length", "said"),
    [(4.2, "4.2 s"), (0.0123, "0.0123 s"), (312.4, "312 s"), (123456.0, "123456 s")],
)
def test_lengths_of_time_are_written_as_people_write_them(length: float, said: str) -> None:
    assert str(CircuitOpen("p", length, "open")).endswith(f"next probe in {said}")


@pytest.mark.rule("E2", "D6")
def test_work_that_outlives_its_deadline_says_how_to_detach_it() -> None:
    with virtual_time() as time:

        async def late() -> str:
            await anyio.sleep(312.5)
            with pytest.raises(DeadlineExceeded) as refused:
                await retry("r", on=OSError)(anyio.sleep)(0)
            assert refused.value.started is False
            return str(refused.value)

        async def main() -> str:
            import asyncio  # noqa: PLC0415

            async with deadline(0.5):
                task = asyncio.create_task(late())
                await anyio.sleep(0.25)
            return await task

        said = time.run(main)
    assert (
        "deadline of 0.5 s was inherited from a block that ended 312 s ago; "
        "start this task inside detached()" in said
    )
    assert said.startswith("r: not started, ")


@pytest.mark.rule("E2")
def test_a_limit_says_whether_the_call_had_started() -> None:
    started = str(DeadlineExceeded("price", 0.5, 0.52, True))
    not_started = str(DeadlineExceeded("price", 0.5, 0.52, False))
    assert (
        started == "price: limit of 0.5 s exceeded after 0.52 s; "
        "the call had started, its effects are unknown"
    )
    assert not_started.startswith("price: not started")
    assert not_started.endswith("the call was not made")


@pytest.mark.rule("E2", "R7")
def test_the_note_of_a_retry_says_how_often_how_long_and_why() -> None:
    with virtual_time():
        error = OSError("down")

        def fail() -> None:
            raise error

        with pytest.raises(OSError, match="down"):
            retry("r", on=OSError, attempts=3, wait=backoff(1.0, jitter="none"))(fail)()
    assert error.__notes__ == ["r: gave up after 3 attempts in 3 s: no attempts are left"]

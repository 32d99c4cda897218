"""Events: what is told (M1), to whom and in which order (M2), and that silence is free (M3)."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import itertools
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient import (
    BreakerState,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    Rejected,
    RetryBudget,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    deadline,
    events,
    fallback,
    hedge,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient._runtime import clock, notify
from resilient.events import (
    CallRejected,
    DeadlineExpired,
    Event,
    FallbackUsed,
    FlightJoined,
    HedgeLaunched,
    LimitChanged,
    RetryGaveUp,
    RetryScheduled,
    StaleServed,
    StateChanged,
    WouldHaveOpened,
    subscribe,
)
from resilient.testing import VirtualTime, record, virtual_time
from tests.worlds import World, in_threads

all_events: Any = record  # of every type
KINDS: list[type[Any]] = [
    StateChanged,
    WouldHaveOpened,
    CallRejected,
    RetryScheduled,
    RetryGaveUp,
    DeadlineExpired,
    FlightJoined,
    LimitChanged,
    HedgeLaunched,
    FallbackUsed,
    StaleServed,
]
OPEN, CLOSED, HALF_OPEN = BreakerState.OPEN, BreakerState.CLOSED, BreakerState.HALF_OPEN


def fail(*_: object) -> None:
    raise ValueError


# M1: what is told.


@pytest.mark.rule("M1")
@pytest.mark.parametrize("kind", KINDS)
def test_events_are_frozen_slotted_records_with_policy_kind_and_instant(kind: type[Any]) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    assert names[:4] == ["policy", "kind", "at", "key"]
    event = kind(**dict.fromkeys(names, 1))
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 2
    assert event == kind(**dict.fromkeys(names, 1))
    assert kind.__name__ in events.__all__


@pytest.mark.rule("M1", "B5", "B6")
def test_every_move_of_a_breaker_is_told_with_its_instant_and_reason(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker("db", consecutive_failures=2, cooldown=1.0 * w.unit)
        fn = policy(w.function(lambda bad: fail() if bad else None))
        with all_events() as told:
            for _ in range(2):
                with pytest.raises(ValueError):
                    await w.call(fn, True)
            opened_at = clock.now()
            with pytest.raises(CircuitOpen) as refused:
                await w.call(fn, False)
            await w.sleep(1.5)
            await w.call(fn, False)
            closed_at = clock.now()
        moves = [
            (event.old, event.new, event.reason)
            for event in told
            if isinstance(event, StateChanged)
        ]
        assert moves == [
            (CLOSED, OPEN, "consecutive_failures"),
            (OPEN, HALF_OPEN, "cooldown_over"),
            (HALF_OPEN, CLOSED, "probes_succeeded"),
        ]
        assert [type(event) for event in told] == [
            StateChanged,
            CallRejected,
            StateChanged,
            StateChanged,
        ]
        assert {(event.policy, event.kind, event.key) for event in told} == {
            ("db", "breaker", None)
        }
        rejected = told[1]
        assert isinstance(rejected, CallRejected)
        assert (rejected.reason, rejected.retry_after) == ("open", refused.value.retry_after)
        assert told[0].at <= opened_at < told[2].at <= told[3].at <= closed_at
        if w.name != "uvloop":
            assert told[0].at == opened_at
            assert told[3].at == closed_at

    world.run(scenario)


@pytest.mark.rule("M1", "B10")
def test_a_change_of_a_state_to_itself_is_no_event(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        with all_events() as told:
            policy.reset()
            for turn in (policy.force_open, policy.disable, policy.metrics_only, policy.reset):
                turn()
                turn()
        assert [event.new.value for event in told if isinstance(event, StateChanged)] == [
            "forced_open", "disabled", "metrics_only", "closed",
        ]  # fmt: skip
        assert [event.reason for event in told if isinstance(event, StateChanged)] == [
            "force_open", "disable", "metrics_only", "reset",
        ]  # fmt: skip
        assert len(told) == 4

    world.run(scenario)


@pytest.mark.rule("M1", "B10")
def test_would_have_opened_is_told_once_in_each_generation(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker("db", consecutive_failures=2)
        fn = policy(w.function(fail))
        policy.metrics_only()
        with record(WouldHaveOpened, StateChanged) as told:
            for _ in range(5):
                with pytest.raises(ValueError):
                    await w.call(fn)
            policy.metrics_only()
            for _ in range(5):
                with pytest.raises(ValueError):
                    await w.call(fn)
        assert [type(event) for event in told] == [WouldHaveOpened, WouldHaveOpened]
        assert isinstance(told[0], WouldHaveOpened)
        assert told[0].reason == "consecutive_failures"

    world.run(scenario)


@pytest.mark.rule("M1", "R7")
def test_a_retry_tells_each_wait_and_why_it_gave_up(world: World) -> None:
    async def scenario(w: World) -> None:
        error = ValueError("no")

        def body() -> None:
            raise error

        with all_events() as told:
            with pytest.raises(ValueError):
                await w.call(
                    retry("r", on=ValueError, attempts=3, wait=0.5 * w.unit)(w.function(body))
                )
            with pytest.raises(ValueError):
                await w.call(
                    retry("b", on=ValueError, wait=0, budget=RetryBudget(0, 0))(w.function(body))
                )
            assert (
                await w.call(retry("u", on=(), on_result=bool, attempts=1)(w.function(lambda: 5)))
                == 5
            )
            with pytest.raises(ValueError):
                await w.call(retry("n", on=KeyError)(w.function(body)))
        scheduled = [event for event in told if isinstance(event, RetryScheduled)]
        assert [(one.policy, one.attempt, one.wait, one.error) for one in scheduled] == [
            ("r", 1, 0.5 * w.unit, error),
            ("r", 2, 0.5 * w.unit, error),
        ]
        gave_up = [event for event in told if isinstance(event, RetryGaveUp)]
        assert [(one.policy, one.reason, one.attempts, one.error) for one in gave_up] == [
            ("r", "attempts", 3, error),
            ("b", "budget", 1, error),
            ("u", "attempts", 1, None),
        ]
        assert {event.kind for event in told} == {"retry"}
        assert scheduled[1].at - scheduled[0].at >= 0.4 * w.unit

    world.run(scenario)


@pytest.mark.rule("M1", "D2")
def test_an_expired_limit_is_told_once_for_each_conversion(async_world: World) -> None:
    async def scenario(w: World) -> None:
        limited = timeout(1.0 * w.unit, name="price")
        with all_events() as told:
            with pytest.raises(DeadlineExceeded):
                await limited(anyio.sleep_forever)()
            with pytest.raises(DeadlineExceeded):
                async with deadline(1.0 * w.unit):
                    async with deadline(2.0 * w.unit):
                        await limited(functools.partial(w.sleep, 0.5))()
                        await anyio.sleep_forever()
            with pytest.raises(DeadlineExceeded):
                async with deadline(0):
                    pytest.fail("not reached")
        assert [(type(event), event.policy, event.kind) for event in told] == [
            (DeadlineExpired, "price", "timeout"),
            (DeadlineExpired, "deadline", "deadline"),
        ]
        assert [event.seconds for event in told if isinstance(event, DeadlineExpired)] == [
            1.0 * w.unit
        ] * 2

    async_world.run(scenario)


@pytest.mark.rule("M1", "S1")
def test_a_caller_who_joins_a_flight_is_told_with_the_key(async_world: World) -> None:
    async def scenario(w: World) -> None:
        flight = singleflight("f")
        with all_events() as told:
            await w.together(*[lambda: flight.do("k", w.sleep, 1)] * 3)
        assert [(type(event), event.policy, event.kind, event.key) for event in told] == [
            (FlightJoined, "f", "singleflight", "k")
        ] * 2

    async_world.run(scenario)


class NoLuck(random.Random):
    """Dice that always show the lowest."""

    def random(self) -> float:
        return 0.0


REJECTING: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: bulkhead(1, name="load"),
    "rate_limit": lambda: rate_limit(1, per=1000, name="load"),
    "adaptive_limit": lambda: adaptive_limit(initial=1, name="load"),
    "throttle": lambda: throttle(minimum=1, rng=NoLuck(), name="load"),
}


@pytest.mark.rule("M1", "L3", "L5", "L7", "L8")
@pytest.mark.parametrize("kind", REJECTING)
def test_a_rejection_of_load_control_is_told_with_the_fields_of_its_error(
    world: World, kind: str
) -> None:
    async def scenario(w: World) -> None:
        policy = REJECTING[kind]()
        fn = policy(w.function(lambda: None))
        with policy.admit() as call:
            if kind == "throttle":  # which rejects once a call has failed
                call.close(ValueError())
            with all_events() as told:
                before = clock.now()
                with pytest.raises(Rejected) as by_call:
                    await w.call(fn)
                with pytest.raises(Rejected) as by_admit:
                    policy.admit()
                after = clock.now()
        assert [type(event) for event in told] == [CallRejected, CallRejected]
        for event, error in zip(told, (by_call.value, by_admit.value), strict=True):
            assert isinstance(event, CallRejected)
            assert (event.policy, event.kind, event.key) == ("load", kind, None)
            assert (event.reason, event.retry_after) == (error.reason, error.retry_after)
            assert before <= event.at <= after

    world.run(scenario)


@pytest.mark.rule("M1", "L3", "F11")
def test_the_other_reasons_of_a_rejection_are_told_too(async_world: World) -> None:
    async def scenario(w: World) -> None:
        pool = bulkhead(1, queue=1, max_wait=1.0 * w.unit, name="pool")
        rank = adaptive_limit(initial=1, queue=1, priority=lambda rank: rank, name="rank")

        async def ask(number: int) -> int:
            return number

        with pool.admit(), rank.admit(), all_events() as told:
            with pytest.raises(Rejected):
                pool.call(int)  # a sync function, beside the loop
            with pytest.raises(Rejected):
                await pool.call(ask, 1)
            async with anyio.create_task_group() as group:
                shed = w.together(lambda: rank.call(ask, 0))
                found: list[Any] = []

                async def low() -> None:
                    found.extend(await shed)

                group.start_soon(low)
                await w.sleep(0.2)
                group.start_soon(rank.call, ask, 9)
                await w.sleep(0.2)
                group.cancel_scope.cancel()
        assert isinstance(found[0], Overloaded)
        assert [(one.policy, one.reason) for one in told if isinstance(one, CallRejected)] == [
            ("pool", "would_block"),
            ("pool", "max_wait"),
            ("rank", "shed"),
        ]
        assert found[0].reason == "shed"

    async_world.run(scenario)


@pytest.mark.rule("M1", "L7")
@pytest.mark.parametrize("world", ["asyncio", "trio", "threads"], indirect=True)
@pytest.mark.parametrize("key", [None, "a"])
def test_every_change_of_an_adaptive_limit_is_told_and_nothing_else(
    world: World, key: str | None
) -> None:
    async def scenario(w: World) -> None:
        policy = adaptive_limit(initial=1, algorithm="aimd", key=key and "tenant", name="limit")
        one: Any = policy if key is None else policy.of(key)
        limits = [one.stats().limit]
        with all_events() as told:
            for number in range(100):
                with contextlib.suppress(TimeoutError):
                    async with one:
                        await w.sleep(0.25)
                        if number > 50:
                            raise TimeoutError
                limits.append(one.stats().limit)
        moves = [(old, new) for old, new in itertools.pairwise(limits) if old != new]
        assert [
            (event.old, event.new) for event in told if isinstance(event, LimitChanged)
        ] == moves
        assert len(told) == len(moves) >= 3
        assert min(new for _, new in moves) < max(new for _, new in moves)
        assert {(event.policy, event.kind, event.key) for event in told} == {
            ("limit", "adaptive_limit", key)
        }
        instants = [event.at for event in told]
        assert instants == sorted(instants)
        assert clock.now() - instants[0] > 1

    world.run(scenario)


@pytest.mark.rule("M1", "H1", "H2")
def test_each_hedge_is_told_with_its_number_and_how_long_it_was_waited_for(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        starts: list[int] = []

        async def body() -> int:
            starts.append(1)
            number = len(starts)
            await w.sleep(0.5 if number == 2 else 5)
            if number == 2:
                raise ValueError
            return number

        policy = hedge(1.0 * w.unit, max=2, budget=None, name="hedge")
        with all_events() as told:
            assert await policy.call(body) == 1
        assert [(type(one), one.policy, one.kind) for one in told] == [
            (HedgeLaunched, "hedge", "hedge")
        ] * 2
        launched = [one for one in told if isinstance(one, HedgeLaunched)]
        assert [one.attempt for one in launched] == [2, 3]
        if w.name != "uvloop":
            assert [one.waited for one in launched] == pytest.approx([1.0, 1.5])
        for one, at_least in zip(launched, (0.9, 1.4), strict=True):
            assert one.waited >= at_least * w.unit

    async_world.run(scenario)


@pytest.mark.rule("M1", "C1", "C2")
def test_a_fallback_tells_each_use_with_the_error(world: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")

        def body(*, bad: bool) -> str:
            if bad:
                raise error
            return "fine"

        helped = fallback(default="instead", on=OSError, name="helped")(w.function(body))
        worse: Any = fallback(lambda _: fail(), name="worse")(w.function(body))
        other: Any = fallback(default=1, on=KeyError)(w.function(body))
        with all_events() as told:
            assert await w.call(helped, bad=False) == "fine"
            assert await w.call(helped, bad=True) == "instead"
            with pytest.raises(ValueError):
                await w.call(worse, bad=True)
            with pytest.raises(OSError):
                await w.call(other, bad=True)
            now = clock.now()
        assert [(type(one), one.policy, one.kind, one.key) for one in told] == [
            (FallbackUsed, "helped", "fallback", None),
            (FallbackUsed, "worse", "fallback", None),
        ]
        assert all(one.error is error for one in told if isinstance(one, FallbackUsed))
        assert told[0].at <= told[1].at <= now

    world.run(scenario)


@pytest.mark.rule("M1", "C4")
def test_a_stale_value_is_told_with_its_age_and_the_error(world: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        down: list[bool] = []

        def body() -> str:
            if down:
                raise error
            return "value"

        fn = cache(1.0 * w.unit, stale=100.0, jitter=0, name="kept")(w.function(body))
        with all_events() as told:
            assert await w.call(fn) == "value"
            down.append(True)
            assert await w.call(fn) == "value"
            assert not told, "a hit is no event"
            await w.sleep(2)
            assert await w.call(fn) == "value"
        assert [(type(one), one.policy, one.kind) for one in told] == [
            (StaleServed, "kept", "cache")
        ]
        (stale,) = told
        assert isinstance(stale, StaleServed)
        assert stale.error is error
        assert stale.age >= 1.9 * w.unit
        if w.name != "uvloop":
            assert stale.age == pytest.approx(2.0)

    world.run(scenario)


# M1: who listens.


@pytest.mark.rule("M1")
def test_a_subscription_ends_with_its_block_or_when_it_is_closed() -> None:
    policy, told = breaker(), list[Event]()
    with subscribe(told.append) as subscription:
        policy.force_open()
    policy.reset()
    assert len(told) == 1
    subscription.close()
    again = subscribe(told.append)
    policy.force_open()
    assert len(told) == 2
    again.close()
    again.close()
    policy.reset()
    assert len(told) == 2
    assert not notify.listening


@pytest.mark.rule("M1")
def test_a_listener_hears_the_types_it_asked_for_and_once_for_each_subscription() -> None:
    policy = breaker()
    with (
        record(CallRejected) as rejected,
        record(StateChanged, WouldHaveOpened) as moved,
        all_events() as everything,
    ):
        with record(Event) as also_everything:
            policy.force_open()
            with pytest.raises(CircuitOpen):
                policy.admit()
    assert [type(event) for event in rejected] == [CallRejected]
    assert [type(event) for event in moved] == [StateChanged]
    assert (
        [type(event) for event in everything]
        == [type(event) for event in also_everything]
        == [StateChanged, CallRejected]
    )
    told = list[Event]()
    with subscribe(told.append), subscribe(told.append):
        policy.reset()
    assert len(told) == 2


# M2: listeners do no harm.


@pytest.mark.rule("M2")
def test_a_coroutine_function_is_no_listener() -> None:
    async def listen(event: Event) -> None: ...

    class Listener:
        async def __call__(self, event: Event) -> None: ...

        async def hear(self, event: Event) -> None: ...

    for listener in (listen, functools.partial(listen), Listener(), Listener().hear):
        with pytest.raises(TypeError, match="plain function"):
            subscribe(listener)
    assert not notify.listening


@pytest.mark.rule("M2", "F8")
def test_a_listener_that_raises_is_logged_once_for_each_subscription_and_disturbs_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenError(Exception):
        pass

    def broken(event: Event) -> None:
        raise BrokenError

    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=0)
        fn = policy(w.function(lambda bad: fail() if bad else "fine"))
        with subscribe(broken), all_events() as told, subscribe(broken):
            for _ in range(3):
                with pytest.raises(ValueError) as caught:
                    await w.call(fn, True)
                assert caught.value.__context__ is None
                assert await w.call(fn, False) == "fine"
        assert len(told) == 9, "the others hear everything"

    with caplog.at_level(logging.DEBUG, "resilient"):
        world.run(scenario)
    assert [(record_.name, record_.levelname) for record_ in caplog.records] == [
        ("resilient", "ERROR")
    ] * 2
    assert all(
        one.exc_info is not None and one.exc_info[0] is BrokenError for one in caplog.records
    )


@pytest.mark.rule("M2")
def test_listeners_run_after_the_state_is_consistent_and_outside_every_lock(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker("db", consecutive_failures=1, cooldown=1000.0)
        seen: list[Any] = []

        def look(event: StateChanged) -> None:
            seen.append((event.new, policy.state, policy.stats().state))
            if event.new is OPEN:
                with pytest.raises(CircuitOpen):
                    policy.admit()
                policy.reset()
                seen.append("reset")

        with subscribe(look, StateChanged):
            with pytest.raises(ValueError):
                await w.call(policy(w.function(fail)))
        assert seen == [(OPEN, OPEN, OPEN), "reset", (CLOSED, CLOSED, CLOSED)], (
            "what it causes comes after it"
        )

    world.run(scenario)


def provoke(kind: str, time: VirtualTime) -> tuple[Any, Callable[[], object]]:
    """A policy, and a call of it that is told, each time."""
    match kind:
        case "fallback":
            helped: Any = fallback(default="instead")
            return helped, helped(fail)
        case "cache":
            calls = itertools.count()
            kept: Any = cache(1, stale=10**9, jitter=0)
            look = kept(lambda: fail() if next(calls) else "value")
            look()
            time.advance(5)
            return kept, look
    policy = REJECTING[kind]()
    call = policy.admit()
    policy._held = call  # as long as the policy lives
    if kind == "throttle":
        call.close(ValueError())
    return policy, lambda: policy.admit()


PROVOKED = (*REJECTING, "fallback", "cache")


@pytest.mark.rule("M2", "F8")
@pytest.mark.parametrize("kind", PROVOKED)
def test_a_listener_of_the_others_may_use_the_policy_and_does_no_harm_when_it_raises(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with virtual_time() as time:
        policy, call = provoke(kind, time)
        seen: list[Any] = []

        def look(event: Event) -> None:
            seen.append((type(event), policy.stats()))
            if len(seen) == 1:
                with contextlib.suppress(Rejected):
                    call()  # needs every lock
            raise KeyError

        with subscribe(look):
            (outcome,) = in_threads(call)
        assert len(seen) == 2, "what it causes comes after it"
        assert len({kind for kind, _ in seen}) == 1
        (alike,) = in_threads(call)
        assert type(outcome) is type(alike), "the listener's error goes no further"
        if isinstance(outcome, Rejected):
            assert outcome.__context__ is None
    assert len(caplog.records) == 1


@pytest.mark.rule("M2", "F4")
@pytest.mark.parametrize("kind", PROVOKED)
def test_from_eight_threads_each_decision_of_the_others_is_told_once(kind: str) -> None:
    with virtual_time() as time:
        policy, call = provoke(kind, time)
        busy, told = threading.Lock(), list[Event]()

        def listen(event: Event) -> None:
            assert busy.acquire(blocking=False), "two at a time"
            told.append(event)
            busy.release()

        def many() -> None:
            for _ in range(50):
                with contextlib.suppress(Rejected):
                    call()

        with subscribe(listen, CallRejected, FallbackUsed, StaleServed):
            assert in_threads(*[many] * 8) == [None] * 8
    stats = policy.stats()
    counted = {"fallback": "used", "cache": "stale_served"}.get(kind, "rejected")
    assert len(told) == getattr(stats, counted) == 400


@pytest.mark.rule("M2")
def test_an_event_that_a_listener_causes_comes_after_it_for_every_listener() -> None:
    policy = breaker()
    first, second = list[BreakerState](), list[BreakerState]()

    def cause(event: StateChanged) -> None:
        first.append(event.new)
        if event.new is BreakerState.FORCED_OPEN:
            policy.reset()

    with (
        subscribe(cause, StateChanged),
        subscribe(lambda event: second.append(event.new), StateChanged),
    ):
        policy.force_open()
    assert first == second == [BreakerState.FORCED_OPEN, CLOSED]


who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.mark.rule("M2")
def test_an_event_is_delivered_in_a_copy_of_the_context_of_the_call_that_decided(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker()
        heard: list[str] = []

        def listen(event: Event) -> None:
            heard.append(who.get())
            who.set("a listener")

        def turn(name: str, how: Callable[[], None]) -> Callable[[], Any]:
            async def one() -> str:
                who.set(name)
                how()
                return who.get()

            return one

        with subscribe(listen), subscribe(listen):
            assert await w.together(turn("ann", policy.force_open)) == ["ann"]
            assert await w.together(turn("bob", policy.reset)) == ["bob"]
        assert heard == ["ann", "ann", "bob", "bob"]
        assert who.get() == "nobody"

    world.run(scenario)


@pytest.mark.rule("M2", "B11")
def test_a_slow_listener_gets_events_one_at_a_time_in_order_and_delays_no_other_call() -> None:
    policy = breaker("db")
    inside, go_on = threading.Event(), threading.Event()
    told: list[tuple[str, str]] = []
    busy = threading.Lock()

    def slow(event: StateChanged) -> None:
        assert busy.acquire(blocking=False), "two at a time"
        told.append((event.reason, who.get()))
        if len(told) == 1:
            inside.set()
            assert go_on.wait(30)
        busy.release()

    def turn(name: str, how: Callable[[], None]) -> None:
        who.set(name)
        how()

    with subscribe(slow, StateChanged):
        teller = threading.Thread(target=turn, args=("first", policy.force_open))
        teller.start()
        assert inside.wait(30)
        in_threads(lambda: turn("second", policy.disable))  # returns although the listener is busy
        in_threads(lambda: turn("third", policy.reset))
        assert len(told) == 1
        go_on.set()
        teller.join(30)
    assert told == [("force_open", "first"), ("disable", "second"), ("reset", "third")]


@pytest.mark.rule("M2", "B11")
def test_from_many_threads_every_event_arrives_once_and_in_the_order_of_the_decisions() -> None:
    for _ in range(20):
        policy = breaker("db")
        told: list[StateChanged] = []
        turns = (policy.force_open, policy.disable, policy.metrics_only, policy.reset)
        with subscribe(told.append, StateChanged):
            in_threads(
                *(
                    lambda n=n, turns=turns: [turns[(n + step) % 4]() for step in range(25)]
                    for n in range(4)
                )
            )
        assert all(before.new is after.old for before, after in itertools.pairwise(told)), (
            "a chain of moves"
        )
        assert told[-1].new is policy.state
        assert len(told) + 1 <= policy.stats().generation <= 101


@pytest.mark.rule("M1", "M2")
def test_the_instant_is_that_of_the_decision_not_of_the_delivery() -> None:
    with virtual_time() as time:
        policy = breaker("db")
        told: list[float] = []

        def slow(event: StateChanged) -> None:
            if event.reason == "force_open":
                policy.disable()
                time.advance(10)
            told.append(event.at - start)

        start = clock.now()
        with subscribe(slow, StateChanged):
            policy.force_open()
    assert told == [0.0, 0.0]


@pytest.mark.rule("M2")
def test_a_listener_may_close_itself_and_subscribe_others() -> None:
    policy, told = breaker(), list[str]()

    def once(event: Event) -> None:
        told.append("once")
        subscription.close()
        more.append(subscribe(lambda _: told.append("later")))

    more: list[Any] = []
    subscription = subscribe(once)
    policy.force_open()
    policy.reset()
    more[0].close()
    assert told in (["once", "later"], ["once", "later", "later"])


# M3


@pytest.mark.rule("M3")
def test_without_a_listener_nothing_is_built_or_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("nobody listens")

    for kind in KINDS:
        monkeypatch.setattr(kind, "__init__", built)
    monkeypatch.setattr(notify.Outbox, "put", built)
    assert not notify.listening

    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=1000.0)
        fn = retry(on=ValueError, wait=0)(policy(w.function(fail)))
        with pytest.raises((ValueError, CircuitOpen)):
            await w.call(fn)
        for turn in (policy.metrics_only, policy.reset, policy.force_open):
            turn()
        with pytest.raises(CircuitOpen):
            policy.admit()
        flight = singleflight()
        if w.is_async:
            await w.together(*[lambda: flight.do("k", w.sleep, 1)] * 2)
            with pytest.raises(DeadlineExceeded):
                await timeout(0.5 * w.unit)(anyio.sleep_forever)()
            await hedge(0.1 * w.unit, budget=None).call(w.sleep, 0.5)
        if w.is_async and w.name != "uvloop":
            limit = adaptive_limit(initial=1)
            for _ in range(20):
                await limit.call(w.sleep, 0.25)
            assert limit.stats().limit > 1

    world.run(scenario)


@pytest.mark.rule("M3")
@pytest.mark.parametrize("kind", PROVOKED)
def test_without_a_listener_the_others_build_and_keep_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("nobody listens")

    for one in KINDS:
        monkeypatch.setattr(one, "__init__", built)
    with virtual_time() as time:
        policy, call = provoke(kind, time)
        with contextlib.suppress(Rejected):
            call()
    counted = {"fallback": "used", "cache": "stale_served"}.get(kind, "rejected")
    assert getattr(policy.stats(), counted) == 1
    assert policy._outbox.pending is None


@pytest.mark.rule("M3")
def test_totals_are_counted_whether_anybody_looks_or_not(world: World) -> None:
    async def scenario(w: World) -> None:
        silent, heard = breaker(consecutive_failures=2), breaker(consecutive_failures=2)
        for policy, listen in ((silent, False), (heard, True)):
            with all_events() if listen else deadline(None):
                for _ in range(4):
                    with pytest.raises((ValueError, CircuitOpen)):
                        await w.call(policy.call, w.function(fail))
        one, other = (
            dataclasses.replace(policy.stats(), name="", retry_after=None)
            for policy in (silent, heard)
        )
        assert one == other

    world.run(scenario)

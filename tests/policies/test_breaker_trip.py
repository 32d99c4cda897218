"""A breaker that an error opens by itself, since it says when to come back (B15)."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient import (
    Breaker,
    BreakerState,
    CircuitOpen,
    DeadlineExceeded,
    breaker,
    deadline,
    retry,
    timeout,
)
from resilient.events import StateChanged, WouldHaveOpened
from resilient.testing import record, virtual_time
from tests.worlds import World

pytestmark = pytest.mark.rule("B15")

S = BreakerState


class TooMany(Exception):
    """A 429, and when to come back."""

    def __init__(self, retry_after: Any = 30.0) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


def told(error: object) -> Any:
    return getattr(error, "retry_after", None)


def fails(error: BaseException) -> Callable[[], Any]:
    def body() -> None:
        raise error

    return body


def left(policy: Any) -> float | None:
    """What is left of the cooldown, by what a call is told."""
    with pytest.raises(CircuitOpen) as caught:
        policy.admit()
    return caught.value.retry_after


async def in_a_function(w: World, policy: Breaker, error: Exception) -> None:
    await w.call(policy(w.function(fails(error))))


async def in_a_call(w: World, policy: Breaker, error: Exception) -> None:
    await w.call(functools.partial(policy.call, w.function(fails(error))))


async def in_a_block(w: World, policy: Breaker, error: Exception) -> None:
    with policy:
        raise error


async def in_an_async_block(w: World, policy: Breaker, error: Exception) -> None:
    async with policy:
        raise error


async def by_hand(w: World, policy: Breaker, error: Exception) -> None:
    policy.admit().close(error)
    raise error


async def in_a_block_that_says_so(w: World, policy: Breaker, error: Exception) -> None:
    with policy as call:
        call.fail()
        raise error


PLACES = [
    in_a_function, in_a_call, in_a_block, in_an_async_block, by_hand, in_a_block_that_says_so,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_an_error_that_says_when_to_come_back_opens_for_exactly_that_long(
    world: World, place: Callable[..., Any]
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker("quota", trip=told)
        with record(StateChanged) as events:
            with pytest.raises(TooMany):
                await place(w, policy, TooMany(30.0 * w.unit))
        assert [(one.old, one.new, one.reason) for one in events] == [(S.CLOSED, S.OPEN, "trip")]
        with pytest.raises(CircuitOpen, match=r"quota: circuit open \(tripped by an error\)"):
            await w.call(policy(w.function(lambda: None)))
        assert left(policy) == pytest.approx(30.0 * w.unit, rel=0.1)
        if w.name != "uvloop":
            assert left(policy) == 30.0
            await w.sleep(29.75)
            assert left(policy) == 0.25
            await w.sleep(0.25)
            await w.call(policy(w.function(lambda: None)))
            assert policy.state is S.CLOSED

    world.run(scenario)


@pytest.mark.parametrize(
    ("says", "rest"),
    [
        (5, 5.0),
        (0.5, 0.5),
        (dt.timedelta(minutes=1), 60.0),
        (True, 2.0),
        (None, None),
        (False, None),
        (0, None),
        (-3.0, None),
        (dt.timedelta(seconds=-1), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_what_it_may_say(
    says: Any, rest: float | None, keyed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with virtual_time():
        policy = breaker(trip=lambda _: says, cooldown=2.0, key=(lambda: "k") if keyed else None)
        seen = policy.of("k") if keyed else policy
        with pytest.raises(OSError):
            policy(fails(OSError()))()
        if rest is None:
            assert seen.state is S.CLOSED
        else:
            assert left(seen) == rest
        assert seen.stats().failures == 1
    assert not caplog.records


@pytest.mark.rule("F12")
@pytest.mark.parametrize("says", [math.nan, math.inf, "5", [5], 1j, asyncio.Future], ids=str)
def test_what_it_may_not_say_is_logged_once_and_changes_nothing(
    says: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        policy = breaker(trip=lambda _: says() if callable(says) else says)
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                policy(fails(OSError()))()
            assert caught.value.__context__ is None
        assert (policy.state, policy.stats().failures) == (S.CLOSED, 3)

    with virtual_time() as time:
        time.run(main)
    assert len(caplog.records) == 1


@pytest.mark.rule("F8", "F12")
def test_one_that_raises_is_logged_once_and_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> float:
        raise KeyError("no such header")

    async def scenario(w: World) -> None:
        policy, error = breaker(trip=broken), OSError()
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                await w.call(policy(w.function(fails(error))))
            assert caught.value is error
            assert error.__context__ is None
        with policy as call:
            call.fail()
        assert (policy.state, policy.stats().failures) == (S.CLOSED, 4)

    with caplog.at_level(logging.ERROR):
        world.run(scenario)
    (said,) = caplog.records
    assert "broken" in said.getMessage()


@pytest.mark.rule("F9")
@pytest.mark.parametrize("override", [False, True], ids=["raised", "fail()"])
def test_an_interrupt_in_it_passes_and_the_call_is_counted(override: bool) -> None:
    def leave(_: object) -> float:
        raise KeyboardInterrupt

    policy = breaker(trip=leave)
    call = policy.admit()
    if override:
        call.fail()
    with pytest.raises(KeyboardInterrupt):
        call.close(OSError())
    stats = policy.stats()
    assert (stats.failures, stats.in_flight, stats.state) == (1, 0, S.CLOSED)


def test_it_is_asked_once_of_each_failure_that_has_an_error_and_of_nothing_else(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        asked: list[BaseException] = []
        policy = breaker(
            trip=asked.append, on=OSError, ignore=ConnectionError, on_result=lambda n: n == 5
        )
        error = OSError()
        for one in (error, KeyError(), ConnectionError()):
            with pytest.raises(type(one)):
                await policy(w.function(fails(one)))()
        assert asked == [error]
        await policy(w.function(lambda: 5))()
        with policy as call:
            call.fail()
        with pytest.raises(OSError), policy as call:
            call.ignore()
            raise OSError
        with pytest.raises(DeadlineExceeded), deadline(0.01 * w.unit):
            await policy(anyio.sleep_forever)()
        assert policy.stats().failures == 4
        assert asked == [error], "they have no error"
        with pytest.raises(DeadlineExceeded):
            await policy(timeout(0.01 * w.unit)(anyio.sleep_forever))()
        assert isinstance(asked[-1], DeadlineExceeded), "that of a limit inside"
        assert len(asked) == 2

    async_world.run(scenario)


@pytest.mark.rule("F12")
def test_of_a_group_each_error_is_asked_that_counts_and_the_longest_time_is_taken() -> None:
    with virtual_time():
        errors = [TooMany(3.0), OSError(), TooMany(40.0), ExceptionGroup("", [TooMany(7.0)])]
        policy = breaker(trip=told)
        with pytest.raises(ExceptionGroup):
            policy(fails(ExceptionGroup("", errors)))()
        assert left(policy) == 40.0
        inner = CircuitOpen("inner", 99.0)
        outer = breaker(trip=told)
        with pytest.raises(ExceptionGroup):
            outer(fails(ExceptionGroup("", [inner, TooMany(4.0)])))()
        assert left(outer) == 4.0, "that one was not made"
        nothing = breaker(trip=told)
        with pytest.raises(ExceptionGroup):
            nothing(fails(ExceptionGroup("", [inner, OSError()])))()
        assert nothing.state is S.CLOSED
        some = breaker(on=OSError, trip=told)
        with pytest.raises(ExceptionGroup):
            some(fails(ExceptionGroup("", [OSError(), TooMany(4.0)])))()
        assert some.state is S.CLOSED, "that one does not count"
        group = breaker(on=ExceptionGroup, trip=told)
        with pytest.raises(ExceptionGroup):
            group(fails(ExceptionGroup("", [inner, TooMany(4.0)])))()
        assert left(group) == 4.0, "where the group itself counts, all of its errors do"


@pytest.mark.rule("B6", "B8")
def test_a_probe_reopens_for_as_long_as_its_error_says() -> None:
    with virtual_time() as time:
        policy = breaker(consecutive_failures=1, cooldown=1.0, probes=3, trip=told)
        with pytest.raises(OSError):
            policy(fails(OSError()))()
        time.advance(1)
        with record(StateChanged) as events, pytest.raises(TooMany):
            policy(fails(TooMany(20)))()
        assert [one.reason for one in events] == ["cooldown_over", "trip"]
        assert left(policy) == 20.0
        assert policy.stats().opened == 2


@pytest.mark.rule("B1")
def test_a_late_error_changes_nothing() -> None:
    with virtual_time() as time:
        policy = breaker(trip=told)
        first, second, third = (policy.admit() for _ in range(3))
        first.close(TooMany(10))
        time.advance(4)
        second.close(TooMany(100))
        assert left(policy) == 6.0
        policy.reset()
        third.close(TooMany(100))
        assert policy.state is S.CLOSED


@pytest.mark.rule("B10")
def test_in_metrics_only_it_is_told_once() -> None:
    policy = breaker(trip=told, initial=S.METRICS_ONLY)
    with record(WouldHaveOpened) as events:
        for _ in range(3):
            policy.admit().close(TooMany())
    assert [one.reason for one in events] == ["trip"]
    assert policy.state is S.METRICS_ONLY


def test_it_is_asked_outside_the_lock() -> None:
    def ask(_: object) -> float:
        assert not policy._lock.locked()
        policy.stats()
        return 5.0

    with virtual_time():
        policy = breaker(trip=ask)
        policy.admit().close(OSError())
        assert left(policy) == 5.0


@pytest.mark.rule("R2")
def test_a_retry_outside_waits_for_as_long() -> None:
    with virtual_time() as time:
        policy = breaker(trip=told)
        answers = iter([TooMany(30.0)])

        @retry(on=(TooMany, CircuitOpen), wait=0, attempts=3)
        @policy
        def ask() -> float:
            for error in answers:
                error.retry_after, error.args = 30.0, ("come back in 30 s",)
                raise error
            return time.now()

        assert ask() == 30.0


@pytest.mark.rule("F7")
def test_a_function_that_answers_later_is_refused() -> None:
    async def later(_: object) -> float:
        return 1.0

    for wrong in (later, 30.0, "retry_after"):
        with pytest.raises(TypeError, match="trip must be a function"):
            breaker(trip=wrong)  # type: ignore[arg-type]  # that is what is tested

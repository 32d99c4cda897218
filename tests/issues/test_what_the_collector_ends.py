"""Calls that were closed piled up in a healthy breaker, and other policies told of them there.

A coroutine or a block that is closed, or collected, ends its call wherever its thread is: perhaps
in a step of this policy, or of another one. It is settled there if that takes no wait, and told by
the next step.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

import pytest

from resilient import adaptive_limit, breaker, bulkhead, retry, throttle
from resilient._runtime import notify
from resilient.events import CallRejected, StateChanged, subscribe
from tests.worlds import in_threads

KINDS: dict[str, Callable[..., Any]] = {
    "breaker": breaker,
    "timed breaker": lambda **more: breaker(slow=1.0, **more),
    "bulkhead": lambda **more: bulkhead(9, **more),
    "adaptive_limit": adaptive_limit,
    "throttle": throttle,
}
EACH = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
KEYED = pytest.mark.parametrize("more", [{}, {"key": lambda *_: 1}], ids=["one", "keyed"])


async def answer() -> int:
    return 1


class Forever:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def hang() -> None:
    await Forever()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Take *coroutine*, which does not wait, to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def begun(policy: Any, fn: Any = hang) -> Coroutine[Any, Any, None]:
    """A call under way, to be closed."""
    coroutine: Any = policy(fn)()
    coroutine.send(None)
    return coroutine  # type: ignore[no-any-return]


async def untidy() -> None:
    try:
        await Forever()
    finally:
        raise OSError("its loop is closed")


def stream(policy: Any) -> Generator[None, None, None]:
    with policy:
        yield


def admitted(policy: Any) -> list[Any]:
    """A call in somebody's own hands, to be lost."""
    return [policy.admit()]


class TakenNow:
    """A lock that was free a moment before, and is held now."""

    def locked(self) -> bool:
        return False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        assert not blocking
        return False

    def __enter__(self) -> None:
        raise AssertionError("it waits")

    def __exit__(self, *_: object) -> None: ...


def lost(policy: Any) -> list[Callable[[], None]]:
    """One call of each sort, as what loses it."""
    streamed, held = stream(policy), admitted(policy)
    next(streamed)
    return [streamed.close, held.clear]


def in_flight(policy: Any) -> int:
    """How many places are taken; of a throttle, which counts those that ended, how many wait to be
    settled.
    """
    return getattr(policy.stats(), "in_flight", len(policy._ended))


@pytest.mark.rule("F3", "B12", "L7")
@EACH
@KEYED
def test_closed_coroutines_do_not_pile_up(make: Callable[..., Any], more: dict[str, Any]) -> None:
    policy = make(**more)
    healthy = policy(answer)
    for _ in range(10):
        begun(policy).close()
        assert not policy._ended
        assert run(healthy()) == 1
    handle = policy.of(1) if more else policy
    for _ in range(2):
        for lose in lost(handle):
            lose()
            assert not policy._ended
    assert in_flight(policy) == 0


@pytest.mark.rule("F3", "B12")
@EACH
def test_what_ends_in_a_step_of_its_own_policy_is_settled_by_the_next(
    make: Callable[..., Any],
) -> None:
    policy = make()
    coroutine = begun(policy)
    with policy._lock:  # a step runs, and makes the collector run
        coroutine.close()
    assert in_flight(policy) == 0
    assert not policy._ended


@pytest.mark.rule("M2", "F3")
@EACH
def test_nothing_is_told_where_a_call_is_collected(make: Callable[..., Any]) -> None:
    """It may be under the lock of another policy, which a listener may ask something."""
    policy, other = make(), bulkhead(1)
    heard: list[bool] = []
    ends: list[Callable[[], None]] = [begun(policy).close, *lost(policy)]
    with subscribe(lambda _: heard.append(other._lock.locked()), CallRejected):
        for end in ends:
            policy._emit("CallRejected", reason="full", retry_after=None)  # another thread's
            with other._lock:
                end()
            assert not policy._ended
            assert heard == []
            policy.stats()
            assert heard.pop() is False


@pytest.mark.rule("M2", "B1")
def test_a_call_that_was_said_to_fail_opens_its_breaker_there_and_tells_later() -> None:
    policy, other = breaker(failure_rate=None, consecutive_failures=1), bulkhead(1)
    heard: list[bool] = []

    def fails() -> Generator[None, None, None]:
        with policy as call:
            call.fail()
            yield

    with subscribe(lambda _: heard.append(other._lock.locked()), StateChanged):
        running = fails()
        next(running)
        with other._lock:
            running.close()
        assert (policy.state, heard) == ("open", [])
        with pytest.raises(Exception, match="circuit open"):
            policy.call(answer).send(None)
        assert heard == [False]


@pytest.mark.rule("F4", "F3")
@EACH
def test_what_is_collected_waits_for_no_lock(make: Callable[..., Any]) -> None:
    """Not even for one that was free a moment before: a thread that forks takes them all, and
    waits for the one under which the collector may be.
    """
    policy = make()
    coroutine = begun(policy)

    lock, policy._lock = policy._lock, TakenNow()
    try:
        coroutine.close()
        assert len(policy._ended) == 1
    finally:
        policy._lock = lock
    assert in_flight(policy) == 0
    assert not policy._ended


@pytest.mark.rule("F4", "F3", "M2")
@EACH
def test_clean_up_that_fails_there_waits_for_no_lock_and_tells_nothing(
    make: Callable[..., Any],
) -> None:
    """What then leaves the coroutine is its error."""
    policy, other = make(), bulkhead(1)
    heard: list[bool] = []

    def close(coroutine: Coroutine[Any, Any, Any]) -> None:
        policy._emit("CallRejected", reason="full", retry_after=None)
        with pytest.raises(OSError, match="its loop is closed"):
            coroutine.close()

    with subscribe(lambda _: heard.append(other._lock.locked()), CallRejected):
        first, second = begun(policy, untidy), begun(policy, untidy)
        with other._lock:
            close(first)
        assert (heard, len(policy._ended)) == ([], 0)
        lock, policy._lock = policy._lock, TakenNow()
        try:
            close(second)
        finally:
            policy._lock = lock
        assert heard == []
        assert in_flight(policy) == 0
        assert heard == [False, False]
    if policy.kind == "breaker":
        assert policy.stats().failures == 2


@pytest.mark.rule("L1", "F3", "M2")
@pytest.mark.parametrize(
    "make",
    [lambda: bulkhead(1, queue=3), lambda: adaptive_limit(initial=1, queue=3)],
    ids=["bulkhead", "adaptive_limit"],
)
def test_a_place_of_one_that_is_collected_is_handed_on(make: Callable[[], Any]) -> None:
    async def main() -> None:
        policy = make()
        other = bulkhead(1)
        first = begun(policy)
        limited = policy(answer)
        waiting: Any = limited()
        waiting.send(None)  # in the queue, and never seen again
        task = asyncio.ensure_future(limited())
        await asyncio.sleep(0)
        heard: list[bool] = []
        with subscribe(lambda _: heard.append(other._lock.locked()), CallRejected):
            policy._emit("CallRejected", reason="full", retry_after=None)
            with other._lock:
                waiting.close()
                first.close()
            assert heard == []
            assert await asyncio.wait_for(task, 10) == 1
        assert (policy.stats().in_flight, policy.stats().queued) == (0, 0)

    asyncio.run(main())


@pytest.mark.rule("F4", "R12")
def test_a_retry_gives_up_without_a_lock() -> None:
    """As it does where the clean-up of a coroutine fails that is collected."""
    policy: Any = retry(on=KeyError)
    coroutine = begun(policy, untidy)
    lock, policy._lock = policy._lock, TakenNow()
    try:
        with pytest.raises(OSError, match="its loop is closed"):
            coroutine.close()
    finally:
        policy._lock = lock
    assert policy.stats().gave_up["not_retryable"] == 1
    policy._reset()
    assert policy.stats().gave_up["not_retryable"] == 0


@pytest.mark.rule("M1", "M2")
def test_an_event_is_kept_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may come while a listener is subscribed."""

    class Taken:
        def __enter__(self) -> None:
            raise AssertionError("it waits")

        def __exit__(self, *_: object) -> None: ...

    policy = breaker(failure_rate=None, consecutive_failures=1)
    with subscribe(lambda _: None, StateChanged), monkeypatch.context() as patch:
        patch.setattr(notify, "_changing", Taken())
        with contextlib.suppress(ZeroDivisionError):
            policy.call(divmod, 1, 0)
        assert policy.state == "open"


@pytest.mark.rule("M1", "M2")
def test_of_two_first_events_neither_is_lost() -> None:
    """Each of two threads makes the queue, and both use the same."""
    heard: list[object] = []
    with subscribe(heard.append, CallRejected):
        for _ in range(50):
            policy = bulkhead(1)
            policy.admit()  # and is lost at once
            tell = partial(policy._emit, "CallRejected", reason="full", retry_after=None)
            in_threads(tell, tell)
            policy._outbox.deliver()
    assert len(heard) == 100

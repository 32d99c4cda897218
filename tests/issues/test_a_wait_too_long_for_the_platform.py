"""A sync retry that was asked to wait for centuries raised `OverflowError`, not the call's own."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio

from resilient import bulkhead, deadline, rate_limit, retry, timeout
from resilient._runtime import clock
from resilient.testing import virtual_time

CENTURIES = 9_999_999_999.0
PLATFORM = 4_294_967.0  # seconds that Windows can wait at a stretch: 49 days


class AskedError(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps of the real clock, which take no time here, and can't be too long."""
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        if not 0 <= seconds <= PLATFORM:
            raise OverflowError("timestamp out of range for platform time_t")
        sleeps.append(seconds)

    monkeypatch.setattr(clock, "time", SimpleNamespace(sleep=sleep, monotonic=clock.now))
    monkeypatch.setattr(clock, "LONGEST_WAIT", PLATFORM / 2)
    return sleeps


def asks(error: Exception) -> Any:
    def fn() -> None:
        raise error

    return fn


@pytest.mark.rule("R6", "F8")
@pytest.mark.parametrize(
    ("wait", "retry_after"),
    [(CENTURIES, None), (0.0, CENTURIES), (0.0, dt.timedelta(seconds=CENTURIES))],
    ids=["wait", "retry_after", "timedelta"],
)
def test_a_sync_retry_sleeps_it_in_parts(
    slept: list[float], wait: float, retry_after: object
) -> None:
    error = AskedError(retry_after)
    with pytest.raises(AskedError) as caught:
        retry(on=AskedError, attempts=2, wait=wait, budget=None).call(asks(error))
    assert caught.value is error
    assert sum(slept) == pytest.approx(CENTURIES)


@pytest.mark.rule("R6", "F8")
def test_a_loop_sleeps_it_in_parts(slept: list[float]) -> None:
    error = AskedError(CENTURIES)
    with pytest.raises(AskedError) as caught:
        for attempt in retry(on=AskedError, attempts=2, wait=0, budget=None):
            with attempt:
                raise error
    assert caught.value is error
    assert sum(slept) == pytest.approx(CENTURIES)


@pytest.mark.rule("R6")
def test_a_short_sleep_is_one(slept: list[float]) -> None:
    with pytest.raises(AskedError):
        retry(on=AskedError, attempts=2, wait=0.25, budget=None).call(asks(AskedError(None)))
    assert slept == [0.25]


class RaisingError(Exception):
    @property
    def retry_after(self) -> float:
        raise RuntimeError("no number")


class NoNumber(float):
    def __le__(self, other: object) -> bool:
        raise RuntimeError("no order")

    __ge__ = __le__


@pytest.mark.rule("R6", "F8")
@pytest.mark.parametrize(
    "error",
    [
        RaisingError(),
        *(
            AskedError(value)
            for value in ("soon", float("nan"), -1, dt.timedelta(-1), NoNumber(1), True, 10**400)
        ),
    ],
    ids=repr,
)
def test_a_retry_after_that_is_no_use_is_ignored(error: Exception) -> None:
    with virtual_time() as time:
        with pytest.raises(type(error)) as caught:
            retry(on=Exception, attempts=2, wait=1.0, budget=None).call(asks(error))
        assert caught.value is error
        assert time.now() == 1.0


class HandedEvent(threading.Event):
    """Set at the third wait; it can't wait too long at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        if timeout > PLATFORM:
            raise OverflowError("timeout value is too large")
        self.waits.append(timeout)
        return len(self.waits) == 3


@pytest.mark.rule("R6", "T1")
@pytest.mark.usefixtures("slept")
def test_a_thread_in_a_queue_waits_in_parts() -> None:
    event = HandedEvent()
    clock.wait(event, clock.now() + CENTURIES)
    assert len(event.waits) == 3


@pytest.mark.real_clock
@pytest.mark.rule("R6")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("seconds", [CENTURIES, 1e300])
def test_a_task_waits_for_ever_on_every_loop(loop: str, seconds: float) -> None:
    """Retries, queues and limits: all are entered, and cancelled."""
    places, rate = bulkhead(1, queue=1, max_wait=seconds), rate_limit(1, per=1e6, max_wait=2e6)

    async def fails() -> None:
        raise AskedError(seconds)

    async def queues(policy: Any) -> None:
        async with policy, policy:
            raise AssertionError("no place for two")

    async def limited() -> None:
        async with deadline(seconds):
            await timeout(seconds).call(anyio.sleep, seconds)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(retry(on=AskedError).call, fails)
            group.start_soon(queues, places)
            group.start_soon(queues, rate)
            group.start_soon(limited)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    if loop == "trio":
        trio.run(main)
        return
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())

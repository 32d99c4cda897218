"""Calls that only the collector ends, which comes as often as it can: F3, F4, M2.

It comes in the middle of steps, of this policy or another one, and then closes coroutines whose
clean-up sometimes fails, while listeners ask other policies something.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from resilient import (
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    rate_limit,
    throttle,
)
from resilient.events import subscribe

ROUNDS, THREADS = 800, 3
HANGS = 30.0


class Forever:
    def __await__(self) -> Generator[None]:
        yield


class Circle:
    """What only the collector ends."""

    def __init__(self, held: object) -> None:
        self.held, self.itself = held, self


async def lost(number: int) -> None:
    try:
        await Forever()
    finally:
        if number % 3 == 0:
            raise OSError("its loop is closed")


async def answer(number: int) -> int:
    return number


def fail(number: int) -> None:
    raise OSError(number)


@pytest.fixture
def busy_collector() -> Iterator[None]:
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(7, 2, 2)
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)


@pytest.mark.rule("F3", "F4", "M2", "B12")
@pytest.mark.usefixtures("busy_collector")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_hangs_and_every_place_is_given_back() -> None:
    policies: list[Any] = [
        breaker(consecutive_failures=3, cooldown=0.001),
        breaker(key="number", max_keys=3, slow=1.0),
        bulkhead(50),
        bulkhead(50, queue=5, key="number", max_keys=2),
        adaptive_limit(initial=50),
        throttle(),
        rate_limit(1e6, burst=10**6),
    ]
    guarded: list[tuple[Callable[..., Any], ...]] = [
        (policy(lost), policy(answer), policy(fail)) for policy in policies
    ]

    def work() -> None:
        for number in range(ROUNDS):
            losing, answering, failing = guarded[number % len(guarded)]
            with suppress(Rejected, OSError):
                coroutine = losing(number % 5)
                coroutine.send(None)
                Circle(coroutine)
                del coroutine
                with suppress(StopIteration):
                    answering(number % 5).send(None)
                if number % 4 == 0:
                    failing(number % 5)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    with subscribe(lambda _: random.choice(policies).stats()):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANGS)
            assert not thread.is_alive(), "it hangs"
    gc.collect()
    for policy in policies:
        assert not policy._ended
        assert getattr(policy.stats(), "in_flight", 0) == 0

"""A thread that waited in a queue when `virtual_time` was left waited for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import BulkheadFull, DeadlineExceeded, bulkhead, deadline, singleflight
from resilient.testing import virtual_time

PATIENCE = 30.0

pytestmark = [pytest.mark.rule("T2", "L3"), pytest.mark.real_clock]


def outcome_after_leaving(
    fn: Callable[[], Any], waits: Callable[[], object], *, fresh: bool = False
) -> Any:
    """What becomes of *fn*, in a thread that *waits* when virtual time is left."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(fn())
        except Exception as error:
            outcome.append(error)

    with virtual_time(fresh=fresh) as time:
        time.advance(3600)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive() and not (waits() and time._waiting):
            threading.Event().wait(0.0005)
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for ever"
    return outcome[0]


@pytest.mark.parametrize("fresh", [False, True], ids=["kept", "fresh"])
def test_its_wait_goes_on_by_the_real_clock(fresh: bool) -> None:
    policy = bulkhead(1, queue=1, max_wait=0.05)
    held: list[Any] = []

    def call() -> Any:  # with fresh=True the policy begins anew inside
        held.append(policy.admit())
        return policy.call(int)

    outcome = outcome_after_leaving(call, lambda: policy.stats().queued, fresh=fresh)
    assert isinstance(outcome, BulkheadFull)
    assert outcome.reason == "max_wait"
    held.pop().close()


def test_its_deadline_goes_on_by_the_real_clock() -> None:
    policy = bulkhead(1, queue=1)
    held = policy.admit()

    def call() -> Any:
        with deadline(0.05):
            return policy.call(int)

    outcome = outcome_after_leaving(call, lambda: policy.stats().queued)
    assert isinstance(outcome, DeadlineExceeded)
    held.close()


def test_it_is_not_turned_away_when_time_is_real_again() -> None:
    policy = bulkhead(1, queue=1)
    held = policy.admit()
    timer = threading.Timer(0.02, held.close)
    timer.start()
    assert outcome_after_leaving(policy(lambda: "served"), lambda: policy.stats().queued or 1) == (
        "served"
    )
    timer.join()


def test_whoever_shares_a_run_is_served() -> None:
    flight = singleflight(key=lambda: "k")
    over, began = threading.Event(), threading.Event()

    def body() -> str:
        began.set()
        assert over.wait(PATIENCE)
        return "shared"

    fn = flight(body)
    leader = threading.Thread(target=fn, daemon=True)
    leader.start()
    assert began.wait(PATIENCE)
    timer = threading.Timer(0.02, over.set)

    def joined() -> bool:
        (run,) = flight._threads.flying
        return bool(run.signals)

    timer.start()
    outcome = outcome_after_leaving(fn, lambda: not flight._threads.flying or joined())
    assert outcome == "shared"
    timer.join()
    leader.join()

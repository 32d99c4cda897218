"""A refresh that failed late was counted against what had come in its place."""

from __future__ import annotations

import threading

import pytest

from resilient import cache
from resilient.testing import VirtualTime, fresh
from tests.policies.caches import PATIENCE, settled
from tests.worlds import ThreadsWorld, drive


class Threads:
    """Runs in plain threads: the first two return, and each other waits for its sign to fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.begun = [threading.Event() for _ in range(9)]
        self.fail = [threading.Event() for _ in range(9)]

    def __call__(self, key: str) -> int:
        number, self.runs = self.runs, self.runs + 1
        self.begun[number].set()
        if number in {0, 2}:
            return number
        assert self.fail[number].wait(PATIENCE)
        raise OSError(number)


@pytest.mark.rule("C6", "C8")
def test_a_late_failure_of_a_refresh_does_not_free_the_claim_on_a_newer_entry(
    virtual_time: VirtualTime,
) -> None:
    source = Threads()
    policy = cache(10.0, refresh_ahead=5.0, jitter=0, key="key")
    fn = policy(source)
    assert fn("k") == 0
    virtual_time.advance(6)
    assert fn("k") == 0  # begins run 1
    assert source.begun[1].wait(PATIENCE)
    (late,) = [one for one in threading.enumerate() if one.name.startswith("resilient.cache")]
    policy.invalidate("k")
    assert fn("k") == 2
    virtual_time.advance(6)
    assert fn("k") == 2  # begins run 3
    assert source.begun[3].wait(PATIENCE)
    source.fail[1].set()
    late.join(PATIENCE)
    virtual_time.advance(1)
    assert fn("k") == 2
    assert policy.stats().refreshes == 2, "the newer entry is being refreshed"
    source.fail[3].set()
    drive(settled(ThreadsWorld(virtual_time)))
    assert (policy.stats().refreshes, policy.stats().refresh_failed) == (2, 2)
    assert source.runs == 4


@pytest.mark.rule("T3")
def test_a_refresh_from_before_renewal_counts_nothing(virtual_time: VirtualTime) -> None:
    source = Threads()
    policy = cache(10.0, refresh_ahead=5.0, jitter=0, key="key")
    fn = policy(source)
    assert fn("k") == 0
    virtual_time.advance(6)
    assert fn("k") == 0
    assert source.begun[1].wait(PATIENCE)
    with fresh():
        source.fail[1].set()
        drive(settled(ThreadsWorld(virtual_time)))
        assert (policy.stats().refreshes, policy.stats().refresh_failed) == (0, 0)

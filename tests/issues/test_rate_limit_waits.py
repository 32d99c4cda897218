"""Five defects of the rate limit, each as it was shown.

A wait of exactly `max_wait` was refused. `take()` left the lock without a look at who had gone
meanwhile, and whoever stood behind waited for ever. Threads read the clock before their turn, so
that one that was held up for more than a second looked like a clock that was set back, and the
limit gave away what it had not. Alone, a sync call that waited in virtual time waited for ever.
And a wait that no float can tell was an `OverflowError` from the call.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient import RateLimit, RateLimited, rate_limit
from resilient._runtime import clock
from resilient.testing import virtual_time


@pytest.mark.rule("L5")
def test_a_wait_of_exactly_max_wait_is_no_longer_than_max_wait() -> None:
    with virtual_time() as time:
        policy = rate_limit(1, max_wait=1.0)
        fn = policy(time.now)
        assert [fn(), fn()] == [0.0, 1.0]


@pytest.mark.rule("L6", "F3")
def test_a_waiter_that_is_collected_while_another_call_has_its_turn_holds_nobody_up() -> None:
    class Key:
        """Its hash is asked for under the lock; there the collector may come as well."""

        lost: Coroutine[Any, Any, float] | None = None

        def __hash__(self) -> int:
            if Key.lost is not None:
                lost, Key.lost = Key.lost, None
                lost.close()
            return 1

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key)

    with virtual_time() as time:
        policy = rate_limit(1, max_wait=100.0, key=lambda key: key)
        key = Key()

        @policy
        async def fn(_: Key) -> float:
            return time.now()

        async def main() -> float:
            await fn(key)
            lost = fn(key)
            lost.send(None)
            other = asyncio.create_task(fn(key))
            await asyncio.sleep(0)
            handle = policy.of(key)
            Key.lost = lost
            with pytest.raises(RateLimited):
                handle.take()
            return await other

        assert time.run(main) == 1.0


class HeldUp:
    """A clock whose reader is held up for ten seconds after a reading, if others can go on."""

    def __init__(self) -> None:
        self.at, self.meanwhile = 100.0, list[Callable[[], object]]()
        self.policy: RateLimit | None = None

    def now(self) -> float:
        read = self.at
        if self.policy is not None and self.meanwhile and not self.policy._lock.locked():
            self.at += 10.0
            self.meanwhile.pop()()
        return read

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        self.at += seconds

    def wait(self, event: clock.Event, until: float) -> None:
        raise AssertionError("nobody waits here")


@pytest.mark.rule("L4", "L5")
@pytest.mark.parametrize("way", ["take", "call"])
def test_a_thread_that_is_held_up_after_it_read_the_clock_gives_nothing_away(way: str) -> None:
    time = HeldUp()
    with clock.install(time):
        time.policy = policy = rate_limit(1, burst=5)
        call = policy.take if way == "take" else policy(lambda: None)
        for _ in range(5):
            call()
        passed = []

        def others() -> None:
            for _ in range(6):
                try:
                    policy.take()
                    passed.append(time.at)
                except RateLimited:
                    pass

        time.meanwhile.append(others)
        for _ in range(20):
            try:
                call()
                passed.append(time.at)
            except RateLimited:
                pass
        time.meanwhile.clear()
        time.at = 110.0
        others()
        assert len(passed) == 5, "ten seconds fill the bucket once"


@pytest.mark.rule("L5", "T2")
@pytest.mark.real_clock
def test_a_sync_call_alone_in_virtual_time_does_not_wait_for_ever() -> None:
    """In a process of its own, which can be ended."""
    program = """
        import math
        from resilient import rate_limit
        from resilient.testing import virtual_time
        with virtual_time() as time:
            fn = rate_limit(1, max_wait=math.inf)(time.now)
            assert [fn(), fn(), fn()] == [0.0, 1.0, 2.0]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.rule("L5", "F7")
@pytest.mark.parametrize(("rate", "per"), [(1e-300, 1.0), (5e-324, 1e308)], ids=str)
def test_a_wait_that_no_float_can_tell_is_refused_as_every_other(rate: float, per: float) -> None:
    policy = rate_limit(rate, per=per, max_wait=math.inf)
    policy.take()
    for call in (policy.take, policy(lambda: None)):
        with pytest.raises(RateLimited) as caught:
            call()
        assert caught.value.retry_after == math.inf

"""What load control counts and tells, when two things happen at one moment."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import pytest

from resilient import (
    adaptive_limit,
    bulkhead,
    cache,
    rate_limit,
    throttle,
)
from resilient.events import Event, LimitChanged, subscribe
from resilient.testing import record, virtual_time
from tests.worlds import in_threads


@pytest.mark.rule("F7", "F10")
@pytest.mark.parametrize(
    "make", [lambda **k: bulkhead(9, **k), lambda **k: rate_limit(9, **k), adaptive_limit, throttle]
)
def test_a_key_that_can_not_be_hashed_is_refused_by_name(make: Any) -> None:
    policy = make(key=lambda tenant: tenant)
    nonsense: Any = ["a"]
    with pytest.raises(TypeError, match="key must be hashable"):
        policy(str)(nonsense)
    assert policy.keys() == []


class AfterFirst:
    """A lock after whose first release *then* runs in another thread."""

    def __init__(self, lock: Any, then: Any) -> None:
        self.lock, self.then, self.done = lock, then, False

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        if not self.done:
            self.done = True
            in_threads(self.then)

    def acquire(self, blocking: bool = True) -> bool:
        return bool(self.lock.acquire(blocking))

    def release(self) -> None:
        self.lock.release()


@pytest.mark.rule("F6", "F10")
@pytest.mark.parametrize("how", ["take", "call"])
def test_a_rate_limits_call_whose_key_makes_room_at_that_moment_is_counted(how: str) -> None:
    policy: Any = rate_limit(1000, key=lambda tenant: tenant, max_keys=1)
    policy._lock = AfterFirst(policy._lock, lambda: policy.of("b").take())
    if how == "take":
        policy.of("a").take()
    else:
        policy(str)("a")
    assert policy.stats().calls == 2


@pytest.mark.rule("M2")
def test_a_change_that_another_thread_settles_is_told_at_once() -> None:
    class Closing:
        """A key: looking it up, which happens under the policy's lock, ends a call."""

        calls: ClassVar[list[Any]] = []

        def __hash__(self) -> int:
            while self.calls:
                self.calls.pop().close()
            return 1

        def __eq__(self, other: object) -> bool:
            return self is other

    with virtual_time() as time, record(LimitChanged) as told:
        policy = adaptive_limit(initial=2, key="tenant")
        one = policy.of(Closing())
        for _ in range(20):
            call = one.admit()
            time.advance(0.25)
            Closing.calls.append(call)
            one.stats()
            assert (told[-1].new if told else 2) == policy.stats().limit


@pytest.mark.rule("M2")
def test_the_events_of_a_cache_are_told_one_at_a_time() -> None:
    with virtual_time() as time:
        inside, go_on, joined = threading.Event(), threading.Event(), threading.Event()
        busy = threading.Lock()
        together: list[Event] = []
        failing: list[bool] = []

        def listen(event: Event) -> None:
            if not busy.acquire(blocking=False):
                together.append(event)
                joined.set()
                return
            try:
                if type(event).__name__ == "StaleServed":
                    inside.set()
                    go_on.wait(10)
            finally:
                busy.release()

        run, leave = threading.Event(), threading.Event()

        @cache(1, stale=100, jitter=0)
        def look(key: str) -> str:
            if key == "slow":
                run.set()
                leave.wait(10)
            elif failing:
                raise ValueError
            return key

        look("old")
        failing.append(True)
        time.advance(2)
        with subscribe(listen):
            threads = [threading.Thread(target=look, args=(key,)) for key in ("old", "slow")]
            for thread in threads:
                thread.start()
            assert inside.wait(10)
            assert run.wait(10)
            threads.append(threading.Thread(target=look, args=("slow",)))
            threads[-1].start()
            joined.wait(0.5)
            leave.set()
            go_on.set()
            for thread in threads:
                thread.join(10)
        assert not together

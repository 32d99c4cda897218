"""What load control counts and tells, when two things happen at one moment."""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import Any, ClassVar

import pytest

from resilient import (
    BulkheadFull,
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
        policy(repr)(nonsense)
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
        policy(repr)("a")
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


class Ending:
    """A key: when it is looked up for the *at*-th time, under the policy's lock, *call* ends."""

    at = 0
    call: Any = None

    def __hash__(self) -> int:
        self.at -= 1
        if not self.at:
            self.call.close(TimeoutError())
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.rule("F9", "M2")
@pytest.mark.parametrize("way", ["admit", "block", "queue"])
def test_an_exit_in_a_listener_gives_up_the_place_that_was_just_found(way: str) -> None:
    """The events of what ended meanwhile are told by whoever had the lock."""

    def leave(_: object) -> None:
        raise SystemExit(1)

    with virtual_time() as time:
        policy = adaptive_limit(initial=2, algorithm="aimd", queue=1, key="tenant")
        key = Ending()
        one = policy.of(key)
        held = [one.admit() for _ in range(2)] if way == "queue" else []
        others = [policy.of("other").admit() for _ in range(2)]
        time.advance(10)
        key.call, key.at = others[0], 2 if way == "queue" else 1
        with subscribe(leave, LimitChanged), pytest.raises(SystemExit):
            if way == "admit":
                one.admit()
            else:
                one.call(int)
        assert policy.of("other").stats().limit < 2
        assert (one.stats().in_flight, one.stats().queued) == (len(held), 0)


@pytest.mark.rule("F3", "L1")
@pytest.mark.parametrize("make", [bulkhead, lambda limit: adaptive_limit(initial=limit)])
def test_what_ended_while_the_lock_was_held_is_free_for_the_next_call(make: Any) -> None:
    policy = make(1)
    call = policy.admit()
    with policy._lock:
        call.close()
    policy.admit().close()
    assert (policy.stats().in_flight, policy.stats().rejected) == (0, 0)


@pytest.mark.rule("E1")
def test_a_rejection_leaves_nothing_to_collect() -> None:
    """A frame that raises an error of its own keeps it, and it keeps the frame."""
    policy = bulkhead(1)
    with policy.admit():
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                with contextlib.suppress(BulkheadFull):
                    policy.admit()
            assert gc.collect() == 0
        finally:
            gc.enable()

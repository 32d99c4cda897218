"""Calls that other threads had in flight when a process forked stayed so in the child for good.

A breaker's probe held it half-open there, and a key of a throttle was never idle again. And where
three threads forked at once, one gave up the locks that another had taken for its own child.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    BreakerState,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    rate_limit,
    singleflight,
    throttle,
)
from resilient._runtime import locks
from tests.worlds import in_threads

PATIENCE = 30.0

pytestmark = [
    pytest.mark.rule("F4"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform"),
]


def nothing() -> int:
    return 0


def in_a_child(body: Callable[[], object]) -> None:
    """Fork; *body*, in the child, must return without an error."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:
            import traceback  # noqa: PLC0415  # in a child that failed

            traceback.print_exc()
        finally:
            os._exit(code)
    stuck = threading.Timer(PATIENCE, os.kill, (pid, signal.SIGKILL))
    stuck.start()
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed, or hung"
    finally:
        stuck.cancel()


class Beside:
    """Another thread that calls *fn*, and is inside until the end of the block."""

    def __init__(self, wrapper: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        self._inside, self._over = threading.Event(), threading.Event()

        def stay() -> None:
            self._inside.set()
            assert self._over.wait(PATIENCE)

        self._thread = threading.Thread(target=wrapper(stay), daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._inside.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def half_open() -> Any:
    policy = breaker(consecutive_failures=1, cooldown=0, probe_lease=3600)
    policy.admit().close(ValueError())
    return policy


@pytest.mark.rule("B6", "B12")
def test_a_probe_of_another_thread_is_no_probe_of_the_child() -> None:
    policy = half_open()

    def child() -> None:
        assert policy.state is BreakerState.HALF_OPEN
        before = policy.stats()
        assert (before.in_flight, before.ignored, before.generation) == (0, 1, generation)
        assert policy(lambda: "probes")() == "probes"
        assert policy.stats().state is BreakerState.CLOSED
        stats = policy.stats()
        assert stats.calls == stats.successes + stats.failures + stats.ignored

    with Beside(policy):
        generation = policy.stats().generation
        in_a_child(child)
        assert policy.stats().in_flight == 1
    assert policy.state is BreakerState.CLOSED


@pytest.mark.rule("B12")
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_a_breakers_calls_of_other_threads_are_ignored_in_the_child(keyed: bool) -> None:
    policy = breaker(key=lambda *_args: "k") if keyed else breaker()
    own = (policy.of("k") if keyed else policy).admit()

    def child() -> None:
        stats = policy.stats()
        assert (stats.calls, stats.ignored, stats.in_flight) == (2, 2, 0)
        own.close(ValueError())  # it goes on, and counts for the parent
        policy(nothing)()
        stats = policy.stats()
        assert (stats.calls, stats.successes, stats.failures, stats.in_flight) == (3, 1, 0, 0)

    with Beside(policy):
        in_a_child(child)
    own.close()
    stats = policy.stats()
    assert (stats.calls, stats.successes, stats.ignored) == (2, 2, 0)


def test_a_decorated_call_that_forks_goes_on_in_the_child() -> None:
    stack: list[Any] = [
        breaker(), bulkhead(1), adaptive_limit(initial=1), throttle(), singleflight(key=lambda: 1),
        cache(60, key=lambda: 1),
    ]  # fmt: skip

    def forks() -> int:
        pid = os.fork()
        return pid or -1

    fn: Callable[[], int] = forks
    for policy in stack:
        fn = policy(fn)
    pid = fn()
    if pid == -1:
        good = False
        try:
            good = all(getattr(policy.stats(), "in_flight", 0) == 0 for policy in stack)
            good = good and fn() == -1  # which the cache has
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


LOADED: dict[str, Callable[..., Any]] = {
    "bulkhead": lambda **more: bulkhead(1, queue=3, **more),
    "adaptive_limit": lambda **more: adaptive_limit(initial=1, max=1, queue=3, **more),
    "throttle": throttle,
}


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
@pytest.mark.parametrize("name", LOADED)
def test_places_of_other_threads_are_free_in_the_child(name: str, keyed: bool) -> None:
    policy = LOADED[name](key=lambda *_args: "k", max_keys=1) if keyed else LOADED[name]()

    def child() -> None:
        assert policy(lambda: "passes")() == "passes"
        assert getattr(policy.stats(), "in_flight", 0) == getattr(policy.stats(), "queued", 0) == 0
        if keyed:  # its key is idle, and makes room
            policy.of("other").admit().close()
            assert policy.keys() == ["other"]

    waits = threading.Thread(target=policy(nothing), daemon=True)
    with Beside(policy):
        waits.start()
        while name != "throttle" and not policy.stats().queued:
            threading.Event().wait(0.0005)
        in_a_child(child)
    waits.join(PATIENCE)
    assert not waits.is_alive()


def test_what_was_learned_and_set_is_known_in_the_child() -> None:
    pool, limit = bulkhead(1, key=lambda: "k"), adaptive_limit(initial=7)
    pool.of("k").resize(3)

    def child() -> None:
        assert len([pool.of("k").admit() for _ in range(3)]) == 3
        assert limit.stats().limit == 7
        assert (pool.stats().calls, limit.stats().calls) == (4, 1)

    with Beside(pool):
        limit(nothing)()
        in_a_child(child)


def test_in_the_child_no_run_of_another_thread_is_waited_for() -> None:
    flight, kept = singleflight(key=lambda: 1), cache(60, key=lambda: 1)

    def child() -> None:
        assert flight(lambda: "runs")() == kept(lambda: "runs")() == "runs"
        assert flight.stats().in_flight == 0

    with Beside(flight), Beside(kept):
        in_a_child(child)


def test_threads_that_fork_at_once_hold_their_own_locks() -> None:
    """The locks that one gives up after its fork are not those that the next has just taken."""
    policy = rate_limit(1e9)
    taken: list[bool] = []
    barrier = threading.Barrier(3)

    def fork() -> None:  # as `os.fork` calls them
        for _ in range(50):
            barrier.wait(PATIENCE)
            locks._before()
            taken.append(policy._lock.locked() and locks._forking.locked())
            locks._after()

    in_threads(fork, fork, fork)
    assert taken == [True] * 150
    assert not policy._lock.locked()
    in_a_child(policy(nothing))

"""Two threads' runs that asked for each other's key at the same time both waited for ever.

Whether a wait would be for ever was found out first, and that it had begun was noted later.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from resilient import DeadlineExceeded, cache, deadline, singleflight
from resilient.events import FlightJoined, subscribe
from tests.worlds import in_threads

PATIENCE = 30.0


@pytest.mark.rule("S7")
def test_of_two_that_ask_at_the_same_time_one_is_told() -> None:
    policy = singleflight(key=lambda name, _then: name)
    began = {name: threading.Event() for name in "ab"}
    asked, told = threading.Event(), threading.Event()

    @policy
    def run(_name: str, then: Callable[[], Any]) -> Any:
        return then()

    def a() -> Any:
        began["a"].set()
        assert began["b"].wait(PATIENCE)
        return run("b", int)

    def b() -> Any:
        began["b"].set()
        assert asked.wait(PATIENCE)
        try:
            return run("a", int)
        finally:
            told.set()

    def listen(_: FlightJoined) -> None:  # between the question whether it may wait, and its wait
        asked.set()
        told.wait(PATIENCE)

    with subscribe(listen, FlightJoined):
        outcomes = in_threads(lambda: run("a", a), lambda: run("b", b))
    assert all(isinstance(one, RuntimeError) for one in outcomes)
    assert "'a'" in str(outcomes[1])
    assert "for ever" in str(outcomes[1])
    assert policy.stats().in_flight == 0
    assert run("a", lambda: "free") == run("b", lambda: "free") == "free"


@pytest.mark.rule("S7")
@pytest.mark.parametrize("rings", [2, 3, 5])
def test_a_ring_of_any_length_over_several_policies_is_refused(rings: int) -> None:
    def flight(number: int) -> Any:
        kind: Any = (
            cache(100, key=lambda _then: number)
            if number % 2
            else singleflight(key=lambda _then: number)
        )
        return kind(lambda then: then())

    flights = [flight(number) for number in range(rings)]
    for _ in range(20):
        barrier = threading.Barrier(rings)

        def one(number: int, barrier: threading.Barrier = barrier) -> Any:
            def ask() -> Any:
                barrier.wait(PATIENCE)
                return flights[(number + 1) % rings](int)

            return flights[number](ask)

        outcomes = in_threads(*[functools.partial(one, number) for number in range(rings)])
        assert any(isinstance(one, RuntimeError) for one in outcomes)


@pytest.mark.rule("S7")
@pytest.mark.real_clock
def test_of_two_threads_of_one_run_that_wait_one_may_leave() -> None:
    """The other one's wait still counts."""
    policy = singleflight(key=lambda name, _then: name)

    @policy
    def run(_name: str, then: Callable[[], Any]) -> Any:
        return then()

    both_wait, one_left = threading.Event(), threading.Event()
    joined: list[object] = []

    def outer() -> Any:
        context = copy_context()

        def leave_soon() -> None:
            with pytest.raises(DeadlineExceeded), deadline(0.01):
                run("inner", int)
            one_left.set()

        threads = [
            threading.Thread(target=copy_context().run, args=(leave_soon,), daemon=True),
            threading.Thread(target=context.run, args=(run, "inner", int), daemon=True),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        return "outer"

    def inner() -> Any:
        assert both_wait.wait(PATIENCE)
        assert one_left.wait(PATIENCE)
        with pytest.raises(RuntimeError, match="'outer', whose run waits for it"):
            run("outer", int)
        return "inner"

    def listen(event: FlightJoined) -> None:
        joined.append(event)
        if len(joined) == 2:
            both_wait.set()

    began = threading.Event()

    def begin_inner() -> Any:
        began.set()
        return inner()

    def begin_outer() -> Any:
        assert began.wait(PATIENCE)
        return run("outer", outer)

    with subscribe(listen, FlightJoined):
        assert in_threads(lambda: run("inner", begin_inner), begin_outer) == ["inner", "outer"]

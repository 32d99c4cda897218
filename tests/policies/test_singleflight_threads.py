"""Single-flight in plain threads: the first caller runs, the others wait."""

from __future__ import annotations

import contextvars
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import (
    DeadlineExceeded,
    SingleFlightStats,
    breaker,
    deadline,
    remaining,
    singleflight,
)
from resilient.events import FlightJoined
from resilient.testing import VirtualTime, record, virtual_time

PATIENCE = 30.0


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with virtual_time() as one:
        yield one


class Crew:
    """Threads whose results are kept, and a run that lasts until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.runs = 0
        self.outcomes: dict[str, Any] = {}
        self.threads: dict[str, threading.Thread] = {}

    def work(self) -> str:
        self.runs += 1
        self.begun.set()
        assert self.go_on.wait(PATIENCE), "nobody let it go on"
        return f"run {self.runs}"

    def start(self, name: str, fn: Callable[[], Any]) -> None:
        def body() -> None:
            try:
                self.outcomes[name] = fn()
            except BaseException as error:
                self.outcomes[name] = error

        self.threads[name] = thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()

    def join(self, *names: str) -> dict[str, Any]:
        for name in names or self.threads:
            self.threads[name].join(PATIENCE)
            assert not self.threads[name].is_alive(), f"{name} hangs"
        return self.outcomes


def waiting(time: VirtualTime, count: int) -> None:
    """Wait, in real time but briefly, until so many threads wait for a run."""
    pause = threading.Event()
    for _ in range(20_000):
        if len(time._waiting) == count:
            return
        pause.wait(0.0005)
    pytest.fail(f"{len(time._waiting)} threads wait, not {count}")


@pytest.mark.rule("S1", "S7", "S8")
def test_the_first_caller_runs_it_and_the_others_wait(time: VirtualTime) -> None:
    crew, flight = Crew(), singleflight("f")
    value = object()
    ran_in: list[str] = []

    def work() -> object:
        crew.work()
        ran_in.append(threading.current_thread().name)
        return value

    with record(FlightJoined) as events:
        crew.start("first", lambda: flight.do("k", work))
        assert crew.begun.wait(PATIENCE)
        for n in range(5):
            crew.start(f"waiter {n}", lambda: flight.do("k", work))
        waiting(time, 5)
        assert flight.stats().in_flight == 1
        crew.go_on.set()
        outcomes = crew.join()
    assert list(outcomes.values()) == [value] * 6
    assert ran_in == ["first"]
    assert flight.stats() == SingleFlightStats("f", 6, 1, 5, 0)
    assert {event.key for event in events} == {"k"}


@pytest.mark.rule("S1", "S6")
def test_an_error_reaches_every_thread(time: VirtualTime) -> None:
    crew, flight, error = Crew(), singleflight(), ValueError("mine")

    def work() -> None:
        crew.work()
        raise error

    crew.start("first", lambda: flight.do("k", work))
    assert crew.begun.wait(PATIENCE)
    for n in range(3):
        crew.start(f"waiter {n}", lambda: flight.do("k", work))
    waiting(time, 3)
    crew.go_on.set()
    assert all(outcome is error for outcome in crew.join().values())
    with pytest.raises(ValueError, match="mine"):
        flight.do("k", work)
    assert crew.runs == 2, "errors are not remembered"


@pytest.mark.rule("S1")
def test_many_threads_at_a_barrier_never_run_at_once(time: VirtualTime) -> None:
    del time
    flight, count = singleflight(), 8
    inside, most, runs = 0, 0, 0
    crew = Crew()
    barrier = threading.Barrier(count)

    def work() -> int:
        nonlocal inside, most, runs
        inside += 1
        most = max(most, inside)
        runs += 1
        number = runs
        threading.Event().wait(0.0005)
        inside -= 1
        return number

    def caller() -> list[int]:
        seen = []
        for _ in range(30):
            barrier.wait(PATIENCE)
            seen.append(flight.do("k", work))
        return seen

    for n in range(count):
        crew.start(str(n), caller)
    outcomes = crew.join()
    assert not [one for one in outcomes.values() if isinstance(one, BaseException)]
    assert most == 1
    stats = flight.stats()
    assert (stats.calls, stats.in_flight) == (count * 30, 0)
    assert stats.runs == runs
    assert stats.calls == stats.runs + stats.joined
    for seen in outcomes.values():
        assert sorted(seen) == seen, "nobody gets a result of before"


@pytest.mark.rule("S3", "S4", "S7")
def test_a_waiter_leaves_at_its_own_deadline_alone(time: VirtualTime) -> None:
    crew, flight = Crew(), singleflight("f")

    def limited(seconds: float) -> str:
        with deadline(seconds):
            return flight.do("k", crew.work)

    crew.start("first", lambda: limited(1))
    assert crew.begun.wait(PATIENCE)
    crew.start("short", lambda: limited(5))
    crew.start("long", lambda: limited(50))
    waiting(time, 2)
    time.advance(4.9)
    assert crew.threads["short"].is_alive()
    time.advance(0.1)
    outcomes = crew.join("short")
    assert isinstance(outcomes["short"], DeadlineExceeded)
    assert (outcomes["short"].policy, outcomes["short"].seconds) == ("f", 5)
    crew.go_on.set()
    outcomes = crew.join()
    assert (outcomes["first"], outcomes["long"]) == ("run 1", "run 1"), (
        "the first one can't leave before its end (D3)"
    )
    assert flight.stats().in_flight == 0


@pytest.mark.rule("S3")
def test_when_every_waiter_has_left_the_run_of_the_first_is_still_the_one_to_join(
    time: VirtualTime,
) -> None:
    crew, flight = Crew(), singleflight()

    def limited() -> str:
        with deadline(2):
            return flight.do("k", crew.work)

    crew.start("first", lambda: flight.do("k", crew.work))
    assert crew.begun.wait(PATIENCE)
    crew.start("short", limited)
    waiting(time, 1)
    time.advance(2)
    crew.join("short")
    crew.start("next", lambda: flight.do("k", crew.work))
    waiting(time, 1)
    crew.go_on.set()
    outcomes = crew.join()
    assert outcomes["first"] == outcomes["next"] == "run 1"


@pytest.mark.rule("S4", "S7")
def test_the_runs_deadline_is_the_latest_grows_and_does_not_shrink(time: VirtualTime) -> None:
    crew, flight = Crew(), singleflight()
    looks: list[float] = []
    look, looked = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        crew.begun.set()
        for _ in range(4):
            assert look.acquire(timeout=PATIENCE)
            looks.append(time.now() + remaining())
            looked.release()

    def glance() -> None:
        look.release()
        assert looked.acquire(timeout=PATIENCE)

    def limited(seconds: float | None) -> None:
        with deadline(seconds):
            flight.do("k", work)

    crew.start("first", lambda: limited(10))
    assert crew.begun.wait(PATIENCE)
    glance()
    crew.start("second", lambda: limited(30))
    waiting(time, 1)
    glance()
    time.advance(31)
    crew.join("second")
    glance()
    crew.start("third", lambda: limited(None))
    waiting(time, 1)
    glance()
    crew.join()
    assert looks == [10, 30, 31, math.inf], (
        "remaining() is never negative: the third look is after the end"
    )


@pytest.mark.rule("S7")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_leader_that_is_interrupted_does_not_hang_or_infect_the_waiters(
    time: VirtualTime, kind: type[BaseException]
) -> None:
    crew, flight = Crew(), singleflight("f")

    def work() -> str:
        result = crew.work()
        if crew.runs == 1:
            raise kind
        return result

    crew.start("first", lambda: flight.do("k", work))
    assert crew.begun.wait(PATIENCE)
    for n in range(3):
        crew.start(f"waiter {n}", lambda: flight.do("k", work))
    waiting(time, 3)
    crew.go_on.set()
    outcomes = crew.join()
    assert isinstance(outcomes.pop("first"), kind)
    assert all(isinstance(outcome, str) for outcome in outcomes.values())
    assert flight.stats().in_flight == 0


@pytest.mark.rule("S7")
def test_a_run_that_asks_for_its_own_key_is_an_error(time: VirtualTime) -> None:
    del time
    flight, other = singleflight("f"), singleflight("g")

    def direct() -> object:
        return flight.do("k", direct)

    def nested() -> object:
        return flight.do("k", lambda: other.do("x", nested))

    for fn in (direct, nested):
        with pytest.raises(RuntimeError, match="own key"):
            flight.do("k", fn)

    def count(n: int) -> int:
        return n if n == 0 else 1 + flight.do(n - 1, count, n - 1)

    assert flight.do(9, count, 9) == 9
    assert flight.do("k", lambda: 5) == 5


@pytest.mark.rule("S5")
def test_forget_in_threads(time: VirtualTime) -> None:
    old, new, flight = Crew(), Crew(), singleflight()
    old.start("first", lambda: flight.do("k", old.work))
    assert old.begun.wait(PATIENCE)
    old.start("waiter", lambda: flight.do("k", old.work))
    waiting(time, 1)
    flight.forget("k")
    new.start("new", lambda: flight.do("k", new.work))
    assert new.begun.wait(PATIENCE)
    old.go_on.set()
    assert old.join() == {"first": "run 1", "waiter": "run 1"}
    new.start("joins the new", lambda: flight.do("k", new.work))
    waiting(time, 1)
    assert flight.stats().in_flight == 1
    new.go_on.set()
    assert new.join() == {"new": "run 1", "joins the new": "run 1"}


@pytest.mark.rule("S7")
def test_the_run_sees_a_copy_of_the_first_callers_context(time: VirtualTime) -> None:
    del time
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    flight = singleflight()

    def work() -> str:
        seen = variable.get()
        variable.set("changed inside")
        return seen

    variable.set("mine")
    assert flight.do("k", work) == "mine"
    assert variable.get() == "mine"


@pytest.mark.rule("S1")
def test_copy_is_for_the_waiters(time: VirtualTime) -> None:
    crew, flight, value = Crew(), singleflight(copy=list), [1]

    def work() -> list[int]:
        crew.work()
        return value

    crew.start("first", lambda: flight.do("k", work))
    assert crew.begun.wait(PATIENCE)
    crew.start("waiter", lambda: flight.do("k", work))
    waiting(time, 1)
    crew.go_on.set()
    outcomes = crew.join()
    assert outcomes["first"] is value
    assert outcomes["waiter"] == value
    assert outcomes["waiter"] is not value


@pytest.mark.rule("D3", "S7")
def test_the_first_callers_result_counts_however_late(time: VirtualTime) -> None:
    flight, watch = singleflight(), breaker()

    @flight
    @watch
    def late() -> str:
        time.advance(50)
        return "done"

    with deadline(1):
        assert late() == "done"
    assert watch.stats().successes == 1


@pytest.mark.rule("S6")
def test_the_traceback_does_not_grow_with_the_threads(time: VirtualTime) -> None:
    def depth(error: BaseException) -> int:
        count, trace = 0, error.__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    longest = []
    for waiters in (1, 20):
        crew, flight, error = Crew(), singleflight(), ValueError("one object")

        def work(crew: Crew = crew, error: ValueError = error) -> None:
            crew.work()
            raise error

        crew.start("first", functools.partial(flight.do, "k", work))
        assert crew.begun.wait(PATIENCE)
        for n in range(waiters):
            crew.start(f"waiter {n}", functools.partial(flight.do, "k", work))
        waiting(time, waiters)
        crew.go_on.set()
        crew.join()
        longest.append(depth(error))
    assert abs(longest[0] - longest[1]) <= 3


@pytest.mark.rule("S7", "F4")
def test_threads_and_loops_do_not_share_flights(time: VirtualTime) -> None:
    crew, flight = Crew(), singleflight()

    async def on_the_loop() -> str:
        return "the loop's own"

    crew.start("first", lambda: flight.do("k", crew.work))
    assert crew.begun.wait(PATIENCE)
    assert time.run(lambda: flight.do("k", on_the_loop)) == "the loop's own"
    crew.go_on.set()
    assert crew.join() == {"first": "run 1"}
    assert flight.stats().joined == 0

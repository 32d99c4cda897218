"""Ctrl-C, or a signal handler that raised, in the middle of a policy's own step hung it for good.

It left a lock taken, a key that nobody could ask for any more, an outbox that told nothing. What it
may cost is the place of that one call.
"""

from __future__ import annotations

import ast
import threading
from asyncio import Handle
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import resilient
from resilient import (
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient._runtime import locks
from resilient._runtime.loops import Timers
from resilient.events import CallRejected, subscribe
from resilient.testing import virtual_time
from tests.interrupts import Interrupter
from tests.worlds import in_threads

ROOMS = ("_core", "_policies", "_runtime", "testing")
FEW = 40
"""Interrupts in one test; with ``--every-drill`` there is one at every place."""
PATIENCE = 30.0

pytestmark = [
    pytest.mark.rule("F9"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def interrupted(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs what *prepare* makes again and again, each time interrupted a little later; then it
    calls the other function that *prepare* makes, which looks what became of it.
    """
    every = request.config.getoption("every_drill")

    def play(prepare: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]) -> None:
        check: Callable[[], Any] = int

        def again() -> Callable[[], Any]:
            nonlocal check
            act, check = prepare()
            return act

        with Interrupter() as interrupter:
            places = interrupter.places(again)
            assert places, "nothing of the package ran"
            for at in range(1, places + 1, 1 if every else 1 + places // FEW):
                interrupter.run(again, at)
                assert not any(lock.locked() for lock in locks._locks.living()), at
                check()

    return play


class Beside:
    """A function that runs in another thread."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self.outcome: Any = None
        self._fn = fn
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._fn()
        except Exception as error:
            self.outcome = error

    def join(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it hangs"
        return self.outcome


def until(condition: Callable[[], object]) -> None:
    while not condition():
        threading.Event().wait(0.0005)


def nothing() -> int:
    return 0


def fail() -> None:
    raise ValueError


class Kind(NamedTuple):
    """A policy with room for *room* calls at once, or in a row."""

    make: Callable[..., Any]
    room: int


BRACKETS: dict[str, Kind] = {
    "bulkhead": Kind(lambda **more: bulkhead(3, **more), 3),
    "bulkhead with a queue": Kind(lambda **more: bulkhead(3, queue=1, max_wait=0, **more), 3),
    "adaptive_limit": Kind(lambda **more: adaptive_limit(initial=3, **more), 3),
    "rate_limit": Kind(lambda **more: rate_limit(3, per=3600, **more), 3),
    "many at once": Kind(lambda **more: rate_limit(30, per=3600, **more), 30),
    "throttle": Kind(throttle, 0),
    "breaker": Kind(lambda **more: breaker(consecutive_failures=2, cooldown=0, **more), 0),
    "slow": Kind(lambda **more: breaker(slow=1.0, on_result=bool, **more), 0),
}


def call(bracket: Any) -> None:
    bracket(nothing)()


def call_that_fails(bracket: Any) -> None:
    with suppress(ValueError):
        bracket(fail)()


def block(bracket: Any) -> None:
    with bracket:
        pass


def single(bracket: Any) -> None:
    call = bracket.admit()
    call.close(ValueError())


class Forever:
    def __await__(self) -> Generator[None]:
        yield


async def hang() -> None:
    await Forever()


def closed(bracket: Any) -> None:
    coroutine = bracket(hang)()
    coroutine.send(None)
    coroutine.close()


def lost(bracket: Any) -> None:
    bracket.admit()


def look(bracket: Any) -> None:
    bracket.stats()


@pytest.mark.parametrize("act", [call, call_that_fails, block, single, closed, lost, look])
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
@pytest.mark.parametrize("name", BRACKETS)
def test_it_costs_at_most_the_place_of_that_call(
    interrupted: Callable[..., None], name: str, keyed: bool, act: Callable[[Any], None]
) -> None:
    kind = BRACKETS[name]
    heard: list[object] = []

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = kind.make(key="k", max_keys=2) if keyed else kind.make()
        bracket = policy.of("a") if keyed else policy

        def check() -> None:
            assert in_threads(lambda: bracket(lambda: "passes")()) == ["passes"]
            stats = policy.stats()
            assert 0 <= getattr(stats, "in_flight", 0) <= 1
            calls: list[Any] = []
            with suppress(Rejected):
                while len(calls) < kind.room:
                    calls.append(bracket.admit())
            taken = 1 + (kind.make is BRACKETS["rate_limit"].make or name == "many at once")
            assert len(calls) >= kind.room - 1 - taken * (name in {"rate_limit", "many at once"})
            for one in calls:
                one.close()
            heard.clear()
            policy._emit("CallRejected", reason="full", retry_after=None)
            policy.stats()
            assert [event for event in heard if event.policy == policy.name]  # type: ignore[attr-defined]
            if keyed:  # the other keys are as ever, and make room for each other
                for other in "bcd":
                    assert policy.of(other)(lambda: "passes")() == "passes"
                assert len(policy.keys()) <= 3

        return lambda: act(bracket), check

    with subscribe(heard.append, CallRejected):
        interrupted(prepare)


@pytest.mark.parametrize("name", [name for name, kind in BRACKETS.items() if kind.room])
def test_a_rejection_that_is_interrupted_costs_nothing(
    interrupted: Callable[..., None], name: str
) -> None:
    kind = BRACKETS[name]
    heard: list[object] = []

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = kind.make()
        held = [policy.admit() for _ in range(kind.room)]

        def act() -> None:
            with suppress(Rejected):
                policy(nothing)()

        def check() -> None:
            heard.clear()
            with pytest.raises(Rejected):
                policy.admit()
            assert heard
            for one in held:
                one.close()
            if not isinstance(policy, type(rate_limit(1))):
                assert policy.stats().in_flight == 0
                assert len([policy.admit() for _ in range(kind.room)]) == kind.room

        return act, check

    with subscribe(heard.append, CallRejected):
        interrupted(prepare)


WITH_A_QUEUE: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: bulkhead(2, queue=9),
    "adaptive_limit": lambda: adaptive_limit(initial=2, queue=9),
}


@pytest.mark.parametrize("name", WITH_A_QUEUE)
def test_whoever_waits_gets_the_next_place(interrupted: Callable[..., None], name: str) -> None:
    """The place of the call whose end is interrupted may be lost, the other one may not."""

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = WITH_A_QUEUE[name]()
        first, second = policy.admit(), policy.admit()
        waiting = Beside(policy(lambda: "served"))
        until(lambda: policy.stats().queued)

        def check() -> None:
            second.close()
            assert waiting.join() == "served"
            assert policy.stats().in_flight <= 1

        return first.close, check

    interrupted(prepare)


def test_more_places_that_are_interrupted_are_there_or_not(
    interrupted: Callable[..., None],
) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = bulkhead(1, queue=9)
        held = policy.admit()
        waiting = Beside(policy(lambda: "served"))
        until(lambda: policy.stats().queued)

        def check() -> None:
            policy.resize(3)
            assert waiting.join() == "served"
            held.close()
            assert policy.stats().in_flight <= 1
            assert len([policy.admit() for _ in range(2)]) == 2

        return lambda: policy.resize(3), check

    interrupted(prepare)


def test_whoever_is_behind_an_interrupted_waiter_moves_up(
    interrupted: Callable[..., None],
) -> None:
    """Here the one that is interrupted waits itself, in front of another thread."""

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = bulkhead(1, queue=9)
        held = policy.admit()
        threads: list[Beside] = []
        over: list[bool] = []

        def end_the_call() -> None:
            until(lambda: policy.stats().queued or over)
            threads.append(Beside(policy(nothing)))
            until(lambda: policy.stats().queued == 2 or over)
            held.close()

        def act() -> None:
            threads.append(Beside(end_the_call))
            policy(nothing)()

        def check() -> None:
            over.append(True)
            policy.resize(2)  # for the place that may be lost
            threads[0].join()
            assert threads[1].join() == 0
            assert not policy.stats().queued
            assert policy.stats().in_flight <= 1

        return act, check

    interrupted(prepare)


def shared_by(policy: Any) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function under one key."""
    return policy(lambda fn: fn())  # type: ignore[no-any-return]  # decorated


FLIGHTS: dict[str, Callable[[], Any]] = {
    "singleflight": lambda: singleflight(key=lambda _fn: "k"),
    "cache": lambda: cache(3600, key=lambda _fn: "k"),
    "cache that is full": lambda: cache(3600, max_size=1, key=lambda _fn: "k"),
    "cache that refreshes": lambda: cache(
        3600, key=lambda _fn: "k", refresh_ahead=3599, jitter=0, stale=60
    ),
}


@pytest.mark.parametrize("name", FLIGHTS)
def test_no_key_is_dead(interrupted: Callable[..., None], name: str) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = FLIGHTS[name]()
        fn = shared_by(policy)

        def act() -> None:
            fn(lambda: "first")
            with suppress(ValueError):
                fn(fail)

        def check() -> None:
            assert Beside(lambda: fn(lambda: "second")).join() in {"first", "second"}
            if policy.kind == "cache":
                policy.invalidate("k")
                assert Beside(lambda: fn(lambda: "third")).join() == "third"
                assert policy.stats().size == 1
            flight = policy if policy.kind == "singleflight" else policy._flight
            assert not flight._threads.flying

        return act, check

    interrupted(prepare)


@pytest.mark.parametrize("name", ["singleflight", "cache"])
def test_whoever_shares_an_interrupted_run_goes_on(
    interrupted: Callable[..., None], name: str
) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = FLIGHTS[name]()
        fn = shared_by(policy)
        sharing: list[Beside] = []

        def body() -> str:
            sharing.append(Beside(lambda: fn(lambda: "anew")))
            flight = policy if policy.kind == "singleflight" else policy._flight
            (run,) = flight._threads.flying
            until(lambda: run.signals)
            return "shared"

        def check() -> None:
            for one in sharing:
                assert one.join() in {"shared", "anew"}
            assert Beside(lambda: fn(lambda: "later")).join() in {"shared", "anew", "later"}

        return lambda: fn(body), check

    interrupted(prepare)


@pytest.mark.parametrize("how", ["forget", "invalidate", "clear"])
def test_a_drop_that_is_interrupted_may_be_done_again(
    interrupted: Callable[..., None], how: str
) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = FLIGHTS["singleflight" if how == "forget" else "cache"]()
        fn = shared_by(policy)
        fn(lambda: "first")
        drop = policy.clear if how == "clear" else lambda: getattr(policy, how)("k")

        def check() -> None:
            drop()
            assert Beside(lambda: fn(lambda: "second")).join() == "second"

        return drop, check

    interrupted(prepare)


OTHERS: dict[str, Callable[[], Any]] = {
    "retry": lambda: retry(on=ValueError, attempts=2, wait=0),
    "retry with keys": lambda: retry(on=ValueError, attempts=2, wait=0, key=lambda: "k"),
    "timeout": lambda: timeout(10),
    "fallback": lambda: fallback(default=None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_go_on(interrupted: Callable[..., None], name: str) -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        policy = OTHERS[name]()

        def act() -> None:
            policy(nothing)()
            with suppress(ValueError):
                policy(fail)()

        def check() -> None:
            assert Beside(policy(lambda: "passes")).join() == "passes"
            policy.stats()

        return act, check

    interrupted(prepare)


def guarded_loops(node: ast.AST, function: str = "", *, guarded: bool = False) -> Iterator[str]:
    """The functions that have a loop with a condition inside a ``try`` or a ``with``."""
    for child in ast.iter_child_nodes(node):
        if guarded and isinstance(child, ast.While) and not isinstance(child.test, ast.Constant):
            yield function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from guarded_loops(child, child.name)
        else:
            inside = guarded or isinstance(child, ast.Try | ast.With | ast.AsyncWith)
            yield from guarded_loops(child, function, guarded=inside)


HARMLESS = {"_fly_sync", "go", "go_async", "leave_ended"}
"""They hold nothing that would have to be given back where they go round."""


def test_no_loop_goes_round_outside_its_try() -> None:
    """From 3.12 on the compiler does that to a ``while`` with a condition, and an interrupt that
    comes there is not caught: a lock would be held for good. There is hardly a way to hit it.
    """
    package = Path(resilient.__file__).parent
    for path in (path for room in ROOMS for path in (package / room).rglob("*.py")):
        assert set(guarded_loops(ast.parse(path.read_text()))) <= HARMLESS, path


class HandedOver:
    """Of an asyncio loop, what is to be called later."""

    def __init__(self) -> None:
        self.later: list[Callable[[], Any]] = []

    def call_later(self, _seconds: float, fn: Callable[[], Any]) -> Handle:
        self.later.append(fn)
        return Handle(fn, (), self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return False


class Told:
    """What waits for its time."""

    def __init__(self) -> None:
        self.told = False

    def _due(self, _now: float) -> None:
        self.told = True


def test_every_limit_of_a_loop_is_told_that_it_is_over(interrupted: Callable[..., None]) -> None:
    """Where the handler's exception is logged by the loop, which goes on."""

    def prepare() -> tuple[Callable[[], Any], Callable[[], Any]]:
        loop = HandedOver()
        timers = Timers(loop)  # type: ignore[arg-type]
        limits = [Told() for _ in range(3)]
        for limit in limits:
            timers.push(0.0, limit)

        def check() -> None:
            if timers._handle is not first:  # else it did not even begin
                while not all(limit.told for limit in limits):
                    assert timers._handle is not None
                    loop.later[-1]()

        first = timers._handle
        return loop.later[-1], check

    interrupted(prepare)


def test_time_may_be_virtual_again(interrupted: Callable[..., None]) -> None:
    def act() -> None:
        with virtual_time() as time:
            time.advance(1)

    interrupted(lambda: (act, act))

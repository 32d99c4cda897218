"""Every public strategy of tenacity under our engine does what it does under tenacity's own.

Both play the same script of fates, with the same dice; sleeps, attempts and outcomes must be equal.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import tenacity.asyncio
import tenacity.asyncio.retry
import tenacity.stop
import tenacity.wait

from resilient import CircuitOpen, DeadlineExceeded, Rejected, backoff, retry
from resilient.testing import virtual_time
from tests.worlds import World, drive, world_named

MOST = 7
TAKES = 0.25  # seconds that an attempt takes
Fates = list[Callable[[], object]]


def error(kind: type[Exception], text: str, cause: Exception | None = None) -> Callable[[], object]:
    def fate() -> object:
        raise kind(text) from cause

    return fate


FAILURES: Fates = [error(ValueError, text) for text in ("a", "bb", "ccc", "d", "ee", "f")]
MIXED: Fates = [
    error(ValueError, "please again"),
    lambda: None,
    error(KeyError, "again", OSError("the cause")),
    lambda: 0,
    error(ValueError, "no"),
    lambda: "good",
]
RESULTS: Fates = [lambda: None, lambda: None, lambda: 3, lambda: 4, lambda: "good"]
CAUSED: Fates = [
    error(KeyError, "x", OSError("the cause")),
    error(KeyError, "y", OSError("z")),
    error(KeyError, "no cause"),
]


class Played:
    """What came of a script: attempts, sleeps, the outcome, and what a strategy saw on the way."""

    def __init__(self, fates: Fates, event: threading.Event | None) -> None:
        self.fates, self.event = list(fates), event
        if event is not None:
            event.clear()
        self.calls = 0
        self.sleeps: list[float] = []
        self.outcome: tuple[str, str] | None = None

    def step(self) -> object:
        self.calls += 1
        if self.event is not None and self.calls == 3:
            self.event.set()
        return self.fates.pop(0)() if self.fates else "end"

    def end(self, outcome: object) -> None:
        kind = "raised" if isinstance(outcome, BaseException) else "returned"
        self.outcome = kind, repr(outcome)

    def told(self) -> tuple[int, list[object], tuple[str, str] | None]:
        return self.calls, [pytest.approx(sleep) for sleep in self.sleeps], self.outcome


def settings(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "retry": tenacity.retry_if_exception_type(Exception),
        "wait": tenacity.wait_none(),
        **case,
    }


def theirs(
    case: dict[str, Any], fates: Fates, *, is_async: bool, event: threading.Event | None
) -> Played:
    """Play on tenacity's engine."""
    played, now = Played(fates, event), 1000.0

    def let_pass(seconds: float) -> None:
        nonlocal now
        now += seconds

    def sleep(seconds: float) -> None:
        played.sleeps.append(seconds)
        let_pass(seconds)

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    def body() -> object:
        let_pass(TAKES)
        return played.step()

    async def abody() -> object:
        return body()

    arguments = settings(case)
    stop = arguments.pop("stop", None)
    limit = tenacity.stop_after_attempt(MOST)
    arguments["stop"] = limit if stop is None else stop | limit
    fake = types.SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenacity, "time", fake)
        random.seed(42)
        try:
            if is_async:
                engine: Any = tenacity.AsyncRetrying(sleep=asleep, reraise=True, **arguments)
                played.end(drive(_call(engine, abody)))
            else:
                played.end(tenacity.Retrying(sleep=sleep, reraise=True, **arguments)(body))
        except tenacity.RetryError as error:  # R8: ours returns the last result
            played.end(error.last_attempt.result())
        except Exception as error:
            played.end(error)
    return played


async def _call(engine: Any, fn: Any) -> object:
    return await engine(fn)


def ours(name: str, case: dict[str, Any], fates: Fates, event: threading.Event | None) -> Played:
    """Play on our engine, in the world *name*."""
    played = Played(fates, event)
    arguments = settings(case)
    policy = retry(
        on=arguments["retry"],
        wait=arguments["wait"],
        stop=arguments.get("stop"),
        attempts=MOST,
        budget=None,
    )
    ends: list[float] = []

    def body() -> object:
        if ends:
            played.sleeps.append(w.now() - ends[-1])
        w.time.advance(TAKES)  # type: ignore[attr-defined]  # worlds of virtual time
        ends.append(w.now())
        return played.step()

    async def scenario(_: World) -> None:
        random.seed(42)
        try:
            played.end(await w.call(policy(w.function(body))))
        except Exception as error:
            played.end(error)

    with world_named(name) as w:
        w.run(scenario)
    return played


EVENT = threading.Event()

WAITS: dict[str, list[Any]] = {
    "wait_none": [tenacity.wait_none()],
    "wait_fixed": [tenacity.wait_fixed(2.5)],
    "wait_random": [tenacity.wait_random(1, 3)],
    "wait_incrementing": [tenacity.wait_incrementing(start=1, increment=2, max=6)],
    "wait_exponential": [
        tenacity.wait_exponential(multiplier=0.5, max=5, min=1, exp_base=3),
        tenacity.wait_exponential(),
    ],
    "wait_exponential_jitter": [tenacity.wait_exponential_jitter(multiplier=0.5, max=6, jitter=2)],
    "wait_random_exponential": [tenacity.wait_random_exponential(multiplier=0.5, max=5)],
    "wait_full_jitter": [tenacity.wait_full_jitter(multiplier=2)],
    "wait_chain": [
        tenacity.wait_chain(
            tenacity.wait_fixed(1), tenacity.wait_random(2, 3), tenacity.wait_fixed(9)
        )
    ],
    "wait_combine": [
        tenacity.wait_combine(tenacity.wait_fixed(1), tenacity.wait_random(0, 2)),
        tenacity.wait_fixed(1) + tenacity.wait_random(0, 2) + tenacity.wait_exponential(),
        sum([tenacity.wait_fixed(1), tenacity.wait_incrementing(1, 1)]),
    ],
    "wait_exception": [tenacity.wait_exception(lambda e: len(str(e)))],
}
STOPS: dict[str, list[Any]] = {
    "stop_never": [tenacity.stop_never],
    "stop_after_attempt": [tenacity.stop_after_attempt(1), tenacity.stop_after_attempt(4)],
    "stop_after_delay": [
        tenacity.stop_after_delay(4.5),
        tenacity.stop_after_delay(4.75),
        tenacity.stop_after_delay(0),
    ],
    "stop_before_delay": [
        tenacity.stop_before_delay(4.5),
        tenacity.stop_before_delay(4.25),
        tenacity.stop_before_delay(100),
    ],
    "stop_when_event_set": [tenacity.stop_when_event_set(EVENT)],
    "stop_any": [
        tenacity.stop_any(tenacity.stop_after_attempt(5), tenacity.stop_after_delay(3)),
        tenacity.stop_after_attempt(2) | tenacity.stop_after_delay(30),
    ],
    "stop_all": [
        tenacity.stop_all(tenacity.stop_after_attempt(2), tenacity.stop_after_delay(3)),
        tenacity.stop_after_attempt(4) & tenacity.stop_before_delay(3),
        (tenacity.stop_after_attempt(4) & tenacity.stop_before_delay(3))
        | tenacity.stop_when_event_set(EVENT),
    ],
}
RETRIES: dict[str, list[Any]] = {
    "retry_always": [tenacity.retry_always],
    "retry_never": [tenacity.retry_never],
    "retry_if_exception": [tenacity.retry_if_exception(lambda e: "again" in str(e))],
    "retry_if_exception_type": [
        tenacity.retry_if_exception_type(),
        tenacity.retry_if_exception_type((ValueError, OSError)),
    ],
    "retry_if_not_exception_type": [tenacity.retry_if_not_exception_type(KeyError)],
    "retry_unless_exception_type": [tenacity.retry_unless_exception_type(KeyError)],
    "retry_if_exception_cause_type": [tenacity.retry_if_exception_cause_type(OSError)],
    "retry_if_result": [tenacity.retry_if_result(lambda result: result is None)],
    "retry_if_not_result": [tenacity.retry_if_not_result(lambda result: result == "good")],
    "retry_if_exception_message": [
        tenacity.retry_if_exception_message(match=".*again"),
        tenacity.retry_if_exception_message(message="please again"),
    ],
    "retry_if_not_exception_message": [
        tenacity.retry_if_not_exception_message(match="no"),
        tenacity.retry_if_not_exception_message(message="x"),
    ],
    "retry_any": [
        tenacity.retry_any(
            tenacity.retry_if_exception_type(ValueError), tenacity.retry_if_result(lambda r: not r)
        ),
        tenacity.retry_if_exception_type() | tenacity.retry_if_result(lambda r: r is None),
    ],
    "retry_all": [
        tenacity.retry_all(
            tenacity.retry_if_exception_type(ValueError),
            tenacity.retry_if_exception_message(match=".*again"),
        ),
        tenacity.retry_if_exception_type() & tenacity.retry_if_exception_message(match=".*again"),
        (tenacity.retry_if_exception_type(KeyError) & tenacity.retry_always)
        | tenacity.retry_if_result(lambda r: r is None),
    ],
}


async def is_none(value: object) -> bool:
    return value is None


async def says_again(error: BaseException) -> bool:
    return "again" in str(error)


ASYNC_RETRIES: dict[str, list[Any]] = {
    "retry_if_exception": [tenacity.asyncio.retry_if_exception(says_again)],
    "retry_if_result": [tenacity.asyncio.retry_if_result(is_none)],
    "retry_any": [
        tenacity.asyncio.retry_any(
            tenacity.asyncio.retry_if_exception(says_again),
            tenacity.asyncio.retry_if_result(is_none),
        ),
        tenacity.asyncio.retry_if_exception(says_again)
        | tenacity.retry_if_result(lambda r: r is None),
        tenacity.retry_if_exception_type(ValueError) | tenacity.asyncio.retry_if_result(is_none),
    ],
    "retry_all": [
        tenacity.asyncio.retry_all(
            tenacity.retry_if_exception_type(ValueError),
            tenacity.asyncio.retry_if_exception(says_again),
        ),
        tenacity.asyncio.retry_if_exception(says_again)
        & tenacity.retry_if_exception_type(ValueError),
    ],
}


def public(module: types.ModuleType, prefix: str) -> set[str]:
    """The strategies in *module*."""
    return {
        name
        for name in vars(module)
        if name.startswith(f"{prefix}_") and not name.endswith("_base")
    }


@pytest.mark.rule("R3")
def test_every_public_strategy_is_covered_here() -> None:
    assert public(tenacity, "wait") | public(tenacity.wait, "wait") == set(WAITS)
    assert public(tenacity, "stop") | public(tenacity.stop, "stop") == set(STOPS)
    assert public(tenacity, "retry") | public(_module("tenacity.retry"), "retry") == set(RETRIES)
    assert public(tenacity.asyncio, "retry") | public(
        _module("tenacity.asyncio.retry"), "retry"
    ) == set(ASYNC_RETRIES)


def _module(name: str) -> types.ModuleType:
    """A module that a function of the same name hides."""
    return sys.modules[name]


def rows(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(strategy, id=f"{name}-{number}")
        for name, strategies in table.items()
        for number, strategy in enumerate(strategies)
    ]


WORLD = pytest.mark.parametrize("name", ["threads", "asyncio", "trio"])


@pytest.mark.rule("R3")
@WORLD
@pytest.mark.parametrize("wait", rows(WAITS))
def test_waits_are_those_of_tenacity(name: str, wait: Any) -> None:
    case = {"wait": wait}
    expected = theirs(case, FAILURES, is_async=name != "threads", event=None)
    assert ours(name, case, FAILURES, None).told() == expected.told()
    assert expected.calls == MOST


@pytest.mark.rule("R3", "R1")
@WORLD
@pytest.mark.parametrize("stop", rows(STOPS))
def test_stops_are_those_of_tenacity(name: str, stop: Any) -> None:
    case = {"stop": stop, "wait": tenacity.wait_fixed(1)}
    expected = theirs(case, FAILURES, is_async=name != "threads", event=EVENT)
    assert ours(name, case, FAILURES, EVENT).told() == expected.told()


@pytest.mark.rule("R3", "R8")
@WORLD
@pytest.mark.parametrize(
    "fates", [FAILURES, MIXED, RESULTS, CAUSED], ids=["failures", "mixed", "results", "caused"]
)
@pytest.mark.parametrize("on", rows(RETRIES))
def test_what_is_retried_is_what_tenacity_retries(name: str, on: Any, fates: Fates) -> None:
    case = {"retry": on, "wait": tenacity.wait_incrementing(1, 1)}
    expected = theirs(case, fates, is_async=name != "threads", event=None)
    assert ours(name, case, fates, None).told() == expected.told()


@pytest.mark.rule("R3", "R8")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "fates", [FAILURES, MIXED, RESULTS, CAUSED], ids=["failures", "mixed", "results", "caused"]
)
@pytest.mark.parametrize("on", rows(ASYNC_RETRIES))
def test_the_async_strategies_decide_as_under_tenacity(name: str, on: Any, fates: Fates) -> None:
    case = {"retry": on, "wait": tenacity.wait_incrementing(1, 1)}
    expected = theirs(case, fates, is_async=True, event=None)
    assert ours(name, case, fates, None).told() == expected.told()


@pytest.mark.rule("R3")
@pytest.mark.parametrize("on", rows(ASYNC_RETRIES))
def test_the_async_strategies_are_for_async_functions_only(on: Any) -> None:
    policy = retry(on=on)
    with pytest.raises(TypeError, match=r"tenacity\.asyncio"):
        policy(lambda: 5)
    with pytest.raises(TypeError, match=r"tenacity\.asyncio"):
        policy.call(int)


@pytest.mark.rule("R3")
def test_an_async_strategy_may_really_wait(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async def slowly(_: BaseException) -> bool:
            await w.sleep(0.5)
            return True

        calls: list[float] = []

        def body() -> None:
            calls.append(w.now())
            if len(calls) < 3:
                raise ValueError

        await retry(on=tenacity.asyncio.retry_if_exception(slowly), wait=0)(w.function(body))()
        assert len(calls) == 3
        assert calls[2] > 0.8

    async_world.run(scenario)


@pytest.mark.rule("R3")
@WORLD
def test_strategies_see_the_state_that_tenacity_shows_them(name: str) -> None:
    seen: list[tuple[object, ...]] = []

    def show(what: str, state: tenacity.RetryCallState) -> None:
        outcome = state.outcome
        assert outcome is not None
        assert outcome.attempt_number == state.attempt_number
        since = state.seconds_since_start
        assert since is not None
        seen.append((
            what, state.attempt_number, repr(outcome.exception()), outcome.failed, round(since, 6),
            round(state.idle_for, 6), state.args, state.kwargs,
            round(state.upcoming_sleep, 6) if what == "stop" else None,
        ))  # fmt: skip

    class Wait(tenacity.wait.wait_base):
        def __call__(self, retry_state: tenacity.RetryCallState) -> float:
            show("wait", retry_state)
            return retry_state.attempt_number

    class Stop(tenacity.stop.stop_base):
        def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
            show("stop", retry_state)
            return retry_state.attempt_number == 4

    class On(_module("tenacity.retry").retry_base):  # type: ignore[misc]
        def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
            show("on", retry_state)
            return True

    case = {"retry": On(), "wait": Wait(), "stop": Stop()}
    theirs(case, FAILURES, is_async=name != "threads", event=None)
    expected = seen[:]
    seen.clear()
    ours(name, case, FAILURES, None)
    assert seen == expected
    assert len(seen) > 10


@pytest.mark.rule("R3", "R8")
def test_where_tenacity_judges_results_the_last_one_is_returned(world: World) -> None:
    async def scenario(w: World) -> None:
        last: list[int] = []
        policy = retry(on=tenacity.retry_if_result(lambda r: not r), wait=0)
        assert await w.call(policy(w.function(lambda: last))) is last
        assert policy.stats().gave_up["attempts"] == 1

    world.run(scenario)


@pytest.mark.rule("R3", "F9")
def test_an_interrupt_is_never_shown_to_a_strategy(world: World) -> None:
    async def scenario(w: World) -> None:
        def body() -> None:
            calls.append(1)
            raise KeyboardInterrupt

        calls: list[int] = []
        with contextlib.suppress(KeyboardInterrupt):
            await w.call(retry(on=tenacity.retry_always, wait=0)(w.function(body)))
        assert len(calls) == 1

    world.run(scenario)


@pytest.mark.rule("R2", "R3")
def test_a_tenacity_object_names_no_rejection() -> None:
    for error in (Rejected("p"), CircuitOpen("p", 1.0), DeadlineExceeded("p", 1.0, 1.0, False)):
        for on in (tenacity.retry_always, tenacity.retry_if_exception_type(type(error))):
            calls: list[int] = []

            def body(error: Exception = error, calls: list[int] = calls) -> None:
                calls.append(1)
                raise error

            with virtual_time(), pytest.raises(type(error)) as caught:
                retry(on=on, wait=0)(body)()
            assert caught.value is error
            assert len(calls) == 1


@pytest.mark.rule("R3")
def test_strategies_may_be_mixed_with_our_own_words() -> None:
    with virtual_time() as time:
        at: list[float] = []

        @retry(on=ValueError, wait=tenacity.wait_fixed(1), attempts=3)
        def first() -> None:
            at.append(time.now())
            raise ValueError

        @retry(
            on=tenacity.retry_if_exception_type(ValueError),
            wait=backoff(2, jitter="none"),
            attempts=2,
        )
        def second() -> None:
            at.append(time.now())
            raise ValueError

        for fn in (first, second):
            with pytest.raises(ValueError):
                fn()
    assert at == [0, 1, 2, 2, 4]


@pytest.mark.rule("R3", "F7")
def test_a_tuple_with_a_strategy_in_it_is_refused() -> None:
    with pytest.raises(TypeError, match=r"\|"):
        retry(on=(ValueError, tenacity.retry_always))

"""Retry in each world: when to try again, how long to wait, and why no more was tried."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import random
from typing import Any

import anyio
import pytest
import tenacity

from resilient import (
    CircuitOpen,
    DeadlineExceeded,
    Rejected,
    ResilienceError,
    RetryBudget,
    RetryStats,
    backoff,
    breaker,
    deadline,
    remaining,
    retry,
    timeout,
)
from resilient._core.retry import Reason
from resilient._runtime import clock
from resilient.events import RetryGaveUp, RetryScheduled
from resilient.testing import record, virtual_time
from tests.worlds import World, world_named

VIRTUAL = ("asyncio", "trio", "threads")
REASONS: tuple[Reason, ...] = ("attempts", "deadline", "budget", "not_retryable", "stop")


@pytest.fixture(params=VIRTUAL)
def exact(request: pytest.FixtureRequest) -> Any:
    """The worlds whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


class Script:
    """A function that does in turn what it is told: raises errors, returns anything else."""

    def __init__(self, w: World, *fates: object) -> None:
        self.w, self.fates = w, list(fates)
        self.at: list[float] = []

    def __call__(self) -> object:
        self.at.append(self.w.now())
        fate = self.fates.pop(0) if self.fates else ValueError("beyond the script")
        if isinstance(fate, BaseException):
            raise fate
        return fate


async def play(w: World, policy: Any, *fates: object) -> tuple[object, Script]:
    """Run a script under *policy*: what came of it, the errors too."""
    script = Script(w, *fates)
    try:
        return await w.call(policy(w.function(script))), script
    except Exception as error:
        return error, script


def errors(count: int, kind: type[Exception] = ValueError) -> list[Exception]:
    return [kind(f"error {n}") for n in range(1, count + 1)]


def notes(error: object) -> list[str]:
    return getattr(error, "__notes__", [])


# R1: attempts, stop, within.


@pytest.mark.rule("R1")
def test_attempts_count_the_first_call_and_are_three(world: World) -> None:
    async def scenario(w: World) -> None:
        for given, count in ((None, 3), (1, 1), (2, 2), (5, 5)):
            arguments: dict[str, Any] = {} if given is None else {"attempts": given}
            policy = retry(on=ValueError, wait=0, **arguments)
            raised = errors(9)
            result, script = await play(w, policy, *raised)
            assert len(script.at) == count
            assert result is raised[count - 1], "the last error itself"

    world.run(scenario)


@pytest.mark.rule("R1")
def test_with_stop_the_default_is_no_limit_of_attempts(world: World) -> None:
    async def scenario(w: World) -> None:
        stop = tenacity.stop_after_attempt(7)
        _, script = await play(w, retry(on=ValueError, wait=0, stop=stop, budget=None), *errors(9))
        assert len(script.at) == 7
        _, script = await play(w, retry(on=ValueError, wait=0, stop=stop, attempts=2), *errors(9))
        assert len(script.at) == 2
        _, script = await play(
            w,
            retry(on=ValueError, wait=0, stop=tenacity.stop_after_attempt(2), attempts=5),
            *errors(9),
        )
        assert len(script.at) == 2

    world.run(scenario)


@pytest.mark.rule("R1")
def test_within_leaves_the_default_of_attempts_as_it_is(world: World) -> None:
    async def scenario(w: World) -> None:
        _, script = await play(w, retry(on=ValueError, wait=0, within=90 * w.unit), *errors(9))
        assert len(script.at) == 3

    world.run(scenario)


@pytest.mark.rule("R1", "R5")
def test_without_a_limit_of_attempts_within_ends_it(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=1, within=4.5, attempts=None, budget=None)
        result, script = await play(w, policy, *errors(99))
        assert script.at == pytest.approx([0, 1, 2, 3, 4])
        assert isinstance(result, ValueError)
        assert "deadline" in notes(result)[0]
        assert w.now() == pytest.approx(4), "it does not sleep for nothing"
        assert policy.stats().gave_up["deadline"] == 1

    exact.run(scenario)


@pytest.mark.rule("R1")
def test_no_limit_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="stop or within"):
        retry(on=ValueError, attempts=None)
    retry(on=ValueError, attempts=None, within=1)


@pytest.mark.rule("R2")
def test_on_has_no_default() -> None:
    with pytest.raises(TypeError, match="on"):
        retry()  # type: ignore[call-arg]


# R2: what is repeated.


@pytest.mark.rule("R2", "F12")
@pytest.mark.parametrize(
    ("on", "error", "repeated"),
    [
        (ValueError, ValueError(), True),
        (ValueError, UnicodeError(), True),
        (ValueError, KeyError(), False),
        ((KeyError, ValueError), ValueError(), True),
        (lambda e: "again" in str(e), OSError("again"), True),
        (lambda e: "again" in str(e), OSError("no"), False),
        ((KeyError, lambda e: "again" in str(e)), OSError("again"), True),
        (ValueError, ExceptionGroup("g", [KeyError(), ExceptionGroup("h", [ValueError()])]), True),
        (ValueError, ExceptionGroup("g", [KeyError()]), False),
        (ExceptionGroup, ExceptionGroup("g", [KeyError()]), True),
        (Exception, Rejected("p"), False),
        (ResilienceError, Rejected("p"), False),
        (lambda _: True, Rejected("p"), False),
        (Rejected, CircuitOpen("p"), True),
        (CircuitOpen, CircuitOpen("p"), True),
        (CircuitOpen, Rejected("p"), False),
        ((ValueError, CircuitOpen), CircuitOpen("p"), True),
        ((ValueError, (CircuitOpen, KeyError)), CircuitOpen("p"), True),
        (Exception, DeadlineExceeded("p", 1.0, 1.0, False), False),
        (DeadlineExceeded, DeadlineExceeded("p", 1.0, 1.0, False), False),
        (lambda _: True, DeadlineExceeded("p", 1.0, 1.0, False), False),
        (TimeoutError, DeadlineExceeded("p", 1.0, 1.0, True), True),
        (
            Exception,
            ExceptionGroup("g", [Rejected("p"), DeadlineExceeded("p", 1.0, 1.0, False)]),
            False,
        ),
        (Exception, ExceptionGroup("g", [Rejected("p"), KeyError()]), True),
    ],
)
def test_what_is_repeated(world: World, on: Any, error: Exception, repeated: bool) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=on, wait=0, attempts=2, budget=None)
        result, script = await play(w, policy, error, "good")
        assert len(script.at) == (2 if repeated else 1)
        if repeated:
            assert result == "good"
        else:
            assert result is error
            assert not notes(error), "an error that is not retryable passes without a note"
            assert policy.stats().gave_up["not_retryable"] == 1

    world.run(scenario)


@pytest.mark.rule("R2", "R6")
def test_a_rejection_is_repeated_after_its_retry_after(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=(ValueError, CircuitOpen), wait=1, attempts=4, budget=None)
        _, script = await play(
            w, policy, CircuitOpen("p", 5.0), ValueError(), CircuitOpen("p", None), "good"
        )
        assert script.at == pytest.approx([0, 5, 6, 7])

    exact.run(scenario)


@pytest.mark.rule("R2", "B5")
def test_a_retry_over_a_breaker_waits_for_its_probe(exact: World) -> None:
    async def scenario(w: World) -> None:
        watch = breaker(consecutive_failures=1, cooldown=8)
        policy = retry(on=(ValueError, CircuitOpen), wait=0.5, attempts=4, budget=None)
        script = Script(w, ValueError("down"), "good")
        assert await w.call(policy(watch(w.function(script)))) == "good"
        assert script.at == pytest.approx([0, 8])
        assert policy.stats().attempts == 3

    exact.run(scenario)


@pytest.mark.rule("F12")
def test_a_predicate_that_raises_repeats_nothing_and_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def broken(_: Exception) -> bool:
            raise ZeroDivisionError("broken")

        policy = retry(on=broken, wait=0)
        for _ in range(2):
            error = KeyError("mine")
            result, script = await play(w, policy, error)
            assert result is error
            assert len(script.at) == 1

    world.run(scenario)
    assert len([row for row in caplog.records if row.name == "resilient"]) == 1


@pytest.mark.rule("F9")
@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_what_is_no_exception_is_never_repeated(world: World, kind: type[BaseException]) -> None:
    if kind is asyncio.CancelledError and world.name == "trio":
        pytest.skip("asyncio's own")

    async def scenario(w: World) -> None:
        policy = retry(on=lambda _: True, wait=0)
        error, calls = kind(), []

        def body() -> None:
            calls.append(1)
            raise error

        with pytest.raises(kind) as caught:
            await w.call(policy(w.function(body)))
        assert caught.value is error
        assert len(calls) == 1
        assert policy.stats().gave_up == dict.fromkeys(REASONS, 0)

    world.run(scenario)


@pytest.mark.rule("F9", "F12")
def test_a_group_that_is_no_exception_is_never_repeated(world: World) -> None:
    async def scenario(w: World) -> None:
        error = BaseExceptionGroup("g", [ValueError(), KeyboardInterrupt()])
        calls = []

        def body() -> None:
            calls.append(1)
            raise error

        with pytest.raises(BaseExceptionGroup) as caught:
            await w.call(retry(on=(ValueError, ExceptionGroup), wait=0)(w.function(body)))
        assert caught.value is error
        assert len(calls) == 1

    world.run(scenario)


# R3: waits of our own (tenacity's have their own file).


@pytest.mark.rule("R3")
def test_wait_may_be_a_number_a_function_or_a_backoff(exact: World) -> None:
    async def scenario(w: World) -> None:
        asked: list[tuple[int, BaseException | None]] = []

        def ask(attempt: int, error: BaseException | None) -> float:
            asked.append((attempt, error))
            return attempt * 2

        raised = errors(3)
        cases: list[tuple[Any, list[float]]] = [
            (2, [0, 2, 4, 6]),
            (0, [0, 0, 0, 0]),
            (dt.timedelta(seconds=3), [0, 3, 6, 9]),
            (backoff(1, jitter="none"), [0, 1, 3, 7]),
            (backoff(1, factor=10, max=20, jitter="none"), [0, 1, 11, 31]),
            (lambda n, _: dt.timedelta(seconds=n), [0, 1, 3, 6]),
            (ask, [0, 2, 6, 12]),
        ]
        for wait, times in cases:
            began = w.now()
            _, script = await play(
                w, retry(on=ValueError, wait=wait, attempts=4, budget=None), *raised, "good"
            )
            assert [at - began for at in script.at] == pytest.approx(times)
        assert asked == [(1, raised[0]), (2, raised[1]), (3, raised[2])]

    exact.run(scenario)


@pytest.mark.rule("R3", "T2")
def test_jitter_draws_from_the_seed_of_virtual_time() -> None:
    def run() -> list[float]:
        with virtual_time(seed=7) as time:
            at: list[float] = []

            @retry(on=ValueError, attempts=5, budget=None, wait=backoff(1.0))
            def fail() -> None:
                at.append(time.now())
                raise ValueError

            with pytest.raises(ValueError):
                fail()
            return at

    first = run()
    assert first == run()
    dice, now, times = random.Random(7), 0.0, [0.0]
    for n in range(4):
        now += dice.random() * 2**n
        times.append(now)
    assert first == pytest.approx(times)


@pytest.mark.rule("R3", "F8")
@pytest.mark.parametrize("broken", ["raises", -1, math.nan, "1", None])
def test_a_wait_function_that_fails_does_not_replace_the_calls_error(
    world: World, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def wait(_attempt: int, _error: BaseException | None) -> Any:
            if broken == "raises":
                raise ZeroDivisionError
            return broken

        error = ValueError("mine")
        policy = retry(on=ValueError, wait=wait)
        result, script = await play(w, policy, error)
        assert result is error
        assert len(script.at) == 1
        assert policy.stats().gave_up["stop"] == 1

    world.run(scenario)
    assert any(row.name == "resilient" for row in caplog.records)


# R4: the budget.


@pytest.mark.rule("R4")
def test_the_default_budget_is_ten_retries_and_a_fifth_of_the_calls(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=0, attempts=2)
        for _ in range(40):
            await play(w, policy, *errors(2))
        stats = policy.stats()
        assert stats.calls == 40
        assert stats.retries == 10 + 40 * 0.2
        assert stats.gave_up["budget"] == 40 - stats.retries
        assert stats.gave_up["attempts"] == stats.retries

    exact.run(scenario)


@pytest.mark.rule("R4")
def test_each_policy_has_a_budget_of_its_own_unless_it_is_shared(exact: World) -> None:
    async def scenario(w: World) -> None:
        shared = RetryBudget(ratio=0, per_second=0.2)
        a, b = (retry(on=ValueError, wait=0, attempts=9, budget=shared) for _ in range(2))
        for policy in (a, b):
            await play(w, policy, *errors(9))
        assert a.stats().retries + b.stats().retries == 2
        assert shared.left == 0
        alone = retry(on=ValueError, wait=0, attempts=9)
        await play(w, alone, *errors(9))
        assert alone.stats().retries == 8
        none = retry(on=ValueError, wait=0, attempts=50, budget=None)
        await play(w, none, *errors(50))
        assert none.stats().retries == 49

    exact.run(scenario)


@pytest.mark.rule("R4")
def test_each_policy_deposits_into_a_shared_budget_for_its_own_calls(exact: World) -> None:
    async def scenario(w: World) -> None:
        shared = RetryBudget(ratio=0.5, per_second=0)
        a, b = (retry(on=ValueError, wait=0, attempts=9, budget=shared) for _ in range(2))
        assert shared.left == 0
        await play(w, a, "good")
        assert shared.left == pytest.approx(0.5)
        await play(w, b, "good")
        assert shared.left == pytest.approx(1)
        await play(w, b, *errors(9))
        assert (a.stats().retries, b.stats().retries) == (0, 1)
        assert shared.left == pytest.approx(0.5)

    exact.run(scenario)


@pytest.mark.rule("R4")
def test_the_budget_is_asked_only_when_a_retry_would_otherwise_happen(exact: World) -> None:
    async def scenario(w: World) -> None:
        budget = RetryBudget(ratio=0, per_second=1)
        cases: list[dict[str, Any]] = [
            {"attempts": 1},
            {"stop": tenacity.stop_after_attempt(1)},
            {"wait": 100, "within": 50},
            {"on": KeyError},
        ]
        usual: dict[str, Any] = {"on": ValueError, "budget": budget, "wait": 0}
        for arguments in cases:
            await play(w, retry(**{**usual, **arguments}), *errors(3))
            assert budget.left == 10
        with deadline(5):
            await play(w, retry(on=ValueError, budget=budget, wait=5), *errors(3))
        assert budget.left == 10
        await play(w, retry(on=ValueError, budget=budget, wait=0), "good")
        assert budget.left == 10

    exact.run(scenario)


@pytest.mark.rule("R4")
def test_a_used_up_budget_gives_up_before_sleeping(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(
            "db", on=ValueError, wait=5, attempts=9, budget=RetryBudget(ratio=0, per_second=0.1)
        )
        raised = errors(9)
        result, script = await play(w, policy, *raised)
        assert result is raised[1]
        assert script.at == pytest.approx([0, 5])
        assert w.now() == pytest.approx(5)
        assert "budget" in notes(result)[0]

    exact.run(scenario)


@pytest.mark.rule("R4")
def test_with_a_key_there_is_one_balance_for_each(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(
            on=ValueError,
            wait=0,
            attempts=9,
            budget=RetryBudget(ratio=0, per_second=0.1),
            key="tenant",
        )
        calls: list[str] = []

        def body(tenant: str) -> None:
            calls.append(tenant)
            raise ValueError

        if w.is_async:

            @policy
            async def fetch(tenant: str) -> None:
                body(tenant)
        else:
            fetch = policy(body)  # type: ignore[arg-type]  # the sync form of the same name
        for tenant in ("a", "b", "a"):
            with pytest.raises(ValueError):
                await w.call(fetch, tenant)
        assert [calls.count(tenant) for tenant in "ab"] == [3, 2]
        with pytest.raises(ValueError):
            await w.call(fetch, tenant="b")
        assert calls.count("b") == 3

    exact.run(scenario)


@pytest.mark.rule("R4", "F10")
def test_a_key_must_name_a_parameter() -> None:
    with pytest.raises(TypeError, match="tenant"):
        retry(on=ValueError, key="tenant")(lambda user: user)


@pytest.mark.rule("R4")
def test_a_budget_by_hand() -> None:
    with virtual_time() as time:
        budget = RetryBudget(ratio=0.5, per_second=0.2, ttl=10)
        assert budget.left == 2
        assert [budget.withdraw() for _ in range(3)] == [True, True, False]
        budget.deposit()
        assert not budget.withdraw()
        budget.deposit()
        assert budget.left == pytest.approx(1)
        assert budget.withdraw()
        assert not budget.withdraw()
        time.advance(10)
        assert budget.left == 2
        time.advance(10_000)
        assert budget.left == 2, "the reserve never piles up"


# R5: the deadline.


@pytest.mark.rule("R5")
@pytest.mark.parametrize(("left", "tries"), [(2.999, 1), (3.0, 1), (3.001, 2), (6.5, 3)])
def test_a_wait_that_would_reach_the_deadline_is_not_begun(
    exact: World, left: float, tries: int
) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=3, attempts=5, budget=None)
        raised = errors(5)
        with deadline(left):
            result, script = await play(w, policy, *raised)
        assert result is raised[tries - 1], "the last real error, not DeadlineExceeded"
        assert len(script.at) == tries
        assert w.now() == pytest.approx(3 * (tries - 1)), "at once instead of sleeping"
        assert policy.stats().gave_up["deadline"] == 1

    exact.run(scenario)


@pytest.mark.rule("R5", "R7")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_within_that_interrupts_an_attempt_is_raised_from_the_last_error(name: str) -> None:
    async def scenario(w: World) -> None:
        first = ValueError("first")
        tries = []

        def body() -> Any:
            tries.append(1)
            if len(tries) == 1:
                raise first
            return w.sleep(60)

        policy = retry("db", on=ValueError, wait=1, within=3)
        with pytest.raises(DeadlineExceeded) as caught:
            await policy(w.function(body))()
        assert caught.value.__cause__ is first
        assert (caught.value.policy, caught.value.seconds, caught.value.started) == ("db", 3, True)
        assert w.now() == pytest.approx(3)

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("R7")
def test_within_that_interrupts_the_first_attempt_has_no_error_to_show(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry("db", on=TimeoutError, wait=0, within=1 * w.unit)
        calls = []

        def body() -> Any:
            calls.append(1)
            return w.sleep(60)

        with pytest.raises(DeadlineExceeded) as caught:
            await policy(w.function(body))()
        assert len(calls) == 1, "its own limit is nothing to repeat"
        assert not isinstance(caught.value.__cause__, Exception)

    async_world.run(scenario)


@pytest.mark.rule("R7")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("where", ["attempt", "backoff"])
def test_when_an_outer_deadline_interrupts_the_last_error_is_in_the_chain(
    name: str, where: str
) -> None:
    async def scenario(w: World) -> None:
        first = ValueError("first")
        tries = []

        def body() -> Any:
            tries.append(1)
            if len(tries) == 1:
                raise first
            return w.sleep(60)

        policy = retry("db", on=ValueError, wait=1 if where == "attempt" else 30)
        with pytest.raises(DeadlineExceeded) as caught:
            async with anyio.create_task_group() as group:
                try:
                    async with deadline(3 if where == "attempt" else 90, name="outer") as outer:
                        if where == "backoff":

                            async def shorten() -> None:
                                outer.reschedule(2)

                            group.start_soon(shorten)
                        await policy(w.function(body))()
                except DeadlineExceeded as error:
                    error_seen = error
            raise error_seen  # type: ignore[possibly-undefined]  # if it is, the test shall fail
        chain: list[BaseException] = []
        final = caught.value
        link: BaseException | None = final
        while link is not None and len(chain) < 20:
            chain.append(link)
            link = link.__cause__ or link.__context__
        assert first in chain
        if where == "backoff":
            assert (final.policy, final.started) == ("db", False)
            assert w.now() == pytest.approx(2)
        else:
            assert (final.policy, final.started) == ("outer", True)
            assert w.now() == pytest.approx(3)

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("R5")
def test_within_starts_anew_with_each_call(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=1, within=2.5, attempts=None, budget=None)
        for _ in range(3):
            _, script = await play(w, policy, *errors(9))
            assert len(script.at) == 3
            await w.sleep(10)

    exact.run(scenario)


@pytest.mark.rule("R5", "D1")
def test_within_is_a_deadline_that_the_function_sees(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, within=5 * w.unit)
        left = await w.call(policy(w.function(remaining)))
        assert 0 < left <= 5 * w.unit
        assert remaining() == math.inf

    world.run(scenario)


@pytest.mark.rule("R5", "D4")
def test_in_plain_threads_within_is_looked_at_between_attempts() -> None:
    with virtual_time() as time:
        raised, calls = errors(5), []

        @retry(on=ValueError, wait=1, within=3, attempts=5, budget=None)
        def work() -> None:
            calls.append(time.now())
            time.advance(1.2)
            raise raised[len(calls) - 1]

        with pytest.raises(ValueError) as caught:
            work()
        assert caught.value is raised[1]
        assert calls == pytest.approx([0, 2.2])


@pytest.mark.rule("R2", "R5")
def test_a_timeout_inside_is_repeated_and_an_outer_deadline_is_not(async_world: World) -> None:
    async def scenario(w: World) -> None:
        calls = []

        def body() -> Any:
            calls.append(1)
            return w.sleep(60)

        policy = retry(on=TimeoutError, wait=0, attempts=3, budget=None)
        fn = policy(timeout(0.3 * w.unit, name="inner")(w.function(body)))
        with pytest.raises(DeadlineExceeded) as caught:
            await fn()
        assert (len(calls), caught.value.policy) == (3, "inner")
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(0.3 * w.unit, name="outer"):
                await policy(w.function(body))()
        assert (len(calls), caught.value.policy) == (4, "outer")

    async_world.run(scenario)


# R6: floors.


class After(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@pytest.mark.rule("R6")
@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (5, 5),
        (5.5, 5.5),
        (0.5, 1),
        (0, 1),
        (None, 1),
        (-3, 1),
        (math.nan, 1),
        (math.inf, 1),
        ("7", 1),
        (True, 1),
        ([], 1),
    ],
)
def test_retry_after_is_a_floor_under_the_wait(exact: World, value: object, wait: float) -> None:
    async def scenario(w: World) -> None:
        _, script = await play(w, retry(on=After, wait=1), After(value), "good")
        assert script.at == pytest.approx([0, wait])

    exact.run(scenario)


@pytest.mark.rule("R6", "F12")
def test_in_a_group_the_largest_retry_after_counts(exact: World) -> None:
    async def scenario(w: World) -> None:
        group = ExceptionGroup("g", [After(3), ExceptionGroup("h", [After(7), After("x")])])
        _, script = await play(w, retry(on=After, wait=1), group, "good")
        assert script.at == pytest.approx([0, 7])

    exact.run(scenario)


@pytest.mark.rule("R6", "R5")
def test_a_retry_after_beyond_the_deadline_gives_up_at_once(exact: World) -> None:
    async def scenario(w: World) -> None:
        error = After(60)
        policy = retry(on=After, wait=1)
        with deadline(30):
            result, script = await play(w, policy, error, "good")
        assert result is error
        assert (len(script.at), w.now()) == (1, 0)

    exact.run(scenario)


# R7: how it ends.


@pytest.mark.rule("R7", "F8")
def test_giving_up_raises_the_error_itself_with_one_note(exact: World) -> None:
    async def scenario(w: World) -> None:
        raised = errors(3)
        result, _ = await play(w, retry("db", on=ValueError, wait=2), *raised)
        assert result is raised[2]
        (note,) = notes(result)
        assert note.startswith("db: ")
        assert "3 attempts" in note
        assert "4 s" in note
        assert "no attempts are left" in note
        assert not notes(raised[0])
        assert result.__cause__ is None

    exact.run(scenario)


@pytest.mark.rule("R7")
def test_the_note_is_replaced_and_never_repeated(world: World) -> None:
    async def scenario(w: World) -> None:
        error = ValueError("one object, raised again and again")
        error.add_note("somebody's own")
        policy, other = (
            retry("db", on=ValueError, wait=0, attempts=2, budget=None),
            retry("outer", on=ValueError, attempts=1),
        )
        for _ in range(3):
            result, _ = await play(w, policy, error, error)
            assert result is error
        assert len(notes(error)) == 2
        assert notes(error)[0] == "somebody's own"
        await play(w, other, error)
        assert len(notes(error)) == 3
        assert "1 attempt in" in notes(error)[2]
        nested = Script(w, *[error] * 9)
        with pytest.raises(ValueError):
            await w.call(other(policy(w.function(nested))))
        assert len(notes(error)) == 3

    world.run(scenario)


@pytest.mark.rule("R7")
def test_an_error_that_turns_out_not_retryable_passes_without_a_note(world: World) -> None:
    async def scenario(w: World) -> None:
        final = KeyError("final")
        policy = retry(on=ValueError, wait=0)
        result, script = await play(w, policy, ValueError(), final)
        assert result is final
        assert not notes(final)
        assert len(script.at) == 2
        assert policy.stats().gave_up["not_retryable"] == 1

    world.run(scenario)


@pytest.mark.rule("R7")
@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"not_retryable", "attempts", "stop", "deadline", "budget"}, "not_retryable"),
        ({"attempts", "stop", "deadline", "budget"}, "attempts"),
        ({"stop", "deadline", "budget"}, "stop"),
        ({"deadline", "budget"}, "deadline"),
        ({"budget"}, "budget"),
    ],
)
def test_of_several_reasons_the_first_in_order_is_the_one(
    exact: World, rules: set[str], reason: str
) -> None:
    async def scenario(w: World) -> None:
        policy = retry(
            on=KeyError if "not_retryable" in rules else ValueError,
            attempts=1 if "attempts" in rules else 5,
            stop=tenacity.stop_after_attempt(1) if "stop" in rules else None,
            within=1 if "deadline" in rules else None,
            wait=2,
            budget=RetryBudget(0, 0) if "budget" in rules else None,
        )
        with record(RetryGaveUp) as events:
            _, script = await play(w, policy, *errors(3))
        assert len(script.at) == 1
        assert policy.stats().gave_up == {one: int(one == reason) for one in REASONS}
        assert [event.reason for event in events] == ([] if reason == "not_retryable" else [reason])

    exact.run(scenario)


@pytest.mark.rule("R7", "E1")
def test_raising_the_same_error_again_does_not_grow_its_traceback(world: World) -> None:
    async def scenario(w: World) -> None:
        def depth(error: BaseException) -> int:
            count, trace = 0, error.__traceback__
            while trace is not None:
                count, trace = count + 1, trace.tb_next
            return count

        depths = []
        for attempts in (2, 8):
            error = ValueError("fresh")
            policy = retry(on=ValueError, wait=0, attempts=attempts, budget=None)
            result, _ = await play(w, policy, *(ValueError() for _ in range(attempts - 1)), error)
            assert result is error
            depths.append(depth(error))
        assert depths[0] == depths[1]

    world.run(scenario)


@pytest.mark.rule("R7")
def test_an_exception_that_takes_no_attributes_is_raised_all_the_same(world: World) -> None:
    class Bare(Exception):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    async def scenario(w: World) -> None:
        error = Bare()
        result, _ = await play(w, retry(on=Bare, attempts=1), error)
        assert result is error

    world.run(scenario)


# R8: results.


@pytest.mark.rule("R8")
def test_an_unwanted_result_is_tried_again_and_returned_in_the_end(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, on_result=lambda result: result is None, wait=1)
        result, script = await play(w, policy, None, None, "good")
        assert (result, script.at) == ("good", pytest.approx([0, 1, 2]))  # type: ignore[comparison-overlap]  # approx() is no float to mypy
        unwanted: list[list[int]] = [[], [], []]
        policy = retry(on=ValueError, on_result=lambda result: not result, wait=1)
        result, _ = await play(w, policy, *unwanted)
        assert result is unwanted[2]
        assert policy.stats().gave_up["attempts"] == 1
        result, script = await play(w, policy, [], ValueError(), [], [])
        assert (result, len(script.at)) == ([], 3)

    exact.run(scenario)


@pytest.mark.rule("R8", "R3")
def test_after_an_unwanted_result_the_wait_function_gets_no_error(exact: World) -> None:
    async def scenario(w: World) -> None:
        asked: list[tuple[int, BaseException | None]] = []
        error = ValueError()

        def wait(attempt: int, last: BaseException | None) -> float:
            asked.append((attempt, last))
            return 0

        policy = retry(
            on=ValueError, on_result=lambda result: result is None, wait=wait, attempts=4
        )
        with record(RetryScheduled) as events:
            await play(w, policy, None, error, None, 5)
        assert asked == [(1, None), (2, error), (3, None)]
        assert [event.error for event in events] == [None, error, None]

    exact.run(scenario)


@pytest.mark.rule("R8", "F12")
def test_a_result_predicate_that_raises_returns_the_result(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, on_result=lambda result: result.nothing, wait=0)
        result, script = await play(w, policy, 5, 6)
        assert result == 5
        assert len(script.at) == 1

    world.run(scenario)


# R8: what is not returned is discarded.


def bad(result: object) -> bool:
    return str(result).startswith("bad")


@pytest.mark.rule("R8")
def test_each_unwanted_result_that_is_not_returned_is_discarded_before_the_next_attempt(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        story: list[tuple[str, float]] = []
        policy = retry(
            on=ValueError,
            on_result=bad,
            wait=1,
            discard=lambda result: story.append((result, w.now())),
        )
        result, script = await play(w, policy, "bad 1", "bad 2", "bad 3")
        assert result == "bad 3"
        assert script.at == pytest.approx([0, 1, 2])
        assert [one for one, _ in story] == ["bad 1", "bad 2"]
        assert [at for _, at in story] == pytest.approx([1, 2])
        story.clear()
        for fates, gone in (
            (["bad 1", "good"], ["bad 1"]),
            (["good"], []),
            ([ValueError(), "bad 2", KeyError()], ["bad 2"]),
            (["bad 1", ValueError(), ValueError()], ["bad 1"]),
        ):
            await play(w, policy, *fates)
            assert [one for one, _ in story] == gone
            story.clear()

    exact.run(scenario)


@pytest.mark.rule("R8")
def test_a_result_that_is_returned_is_not_discarded_whatever_ended_the_attempts(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        gone: list[object] = []
        rules: list[dict[str, Any]] = [
            {"attempts": 1},
            {"budget": RetryBudget(0, 0)},
            {"stop": tenacity.stop_after_attempt(1)},
            {"wait": 5, "within": 4},
            {"wait": lambda attempt, error: 1 / 0},
        ]
        for rule in rules:
            policy = retry(**{
                "on": ValueError, "on_result": bad, "wait": 0, "discard": gone.append, **rule
            })  # fmt: skip
            result, script = await play(w, policy, "bad 1", "good")
            assert (result, len(script.at), gone) == ("bad 1", 1, [])

    exact.run(scenario)


@pytest.mark.rule("R8", "R9", "F9")
def test_a_result_whose_back_off_is_cut_short_is_discarded(async_world: World) -> None:
    async def scenario(w: World) -> None:
        gone: list[object] = []

        async def discard(result: object) -> None:
            with anyio.CancelScope(shield=True):
                await w.sleep(1)
            gone.append(result)

        policy = retry(on=(), on_result=bad, wait=500 * w.unit, discard=discard)
        with anyio.move_on_after(1 * w.unit) as scope:
            await policy(w.function(Script(w, "bad 1", "good")))()
        assert scope.cancelled_caught
        assert gone == ["bad 1"]

    async_world.run(scenario)


@pytest.mark.rule("R8", "F11")
def test_a_result_whose_back_off_outlives_a_deadline_that_was_moved_is_discarded(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        gone: list[object] = []
        policy = retry(on=(), on_result=bad, wait=500 * w.unit, discard=gone.append)
        limit = deadline(900 * w.unit)

        async def move() -> None:
            await w.sleep(1)
            limit.reschedule(1 * w.unit)

        async with anyio.create_task_group() as group:
            group.start_soon(move)
            with pytest.raises(DeadlineExceeded) as caught:
                async with limit:
                    await policy(w.function(Script(w, "bad 1", "good")))()
        assert caught.value.policy == policy.name
        assert not caught.value.started
        assert gone == ["bad 1"]

    async_world.run(scenario)


@pytest.mark.rule("R8")
def test_a_result_is_returned_if_the_wait_took_all_the_time_and_then_it_is_not_discarded() -> None:
    with virtual_time() as time, pytest.MonkeyPatch.context() as patch:
        gone: list[object] = []
        patch.setattr(clock, "sleep", lambda seconds: time.advance(2 * seconds))
        policy = retry(on=(), on_result=bad, wait=1, within=1.5, discard=gone.append)
        assert policy.call(lambda: "bad") == "bad"
        assert gone == []


@pytest.mark.rule("R8")
def test_an_async_discard_is_awaited_and_so_is_what_a_plain_one_returns(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        gone: list[object] = []

        async def discard(result: object) -> None:
            await w.sleep(1)
            gone.append(result)

        for one in (discard, lambda result: discard(result)):
            policy = retry(on=(), on_result=bad, wait=0, discard=one)
            assert (await play(w, policy, "bad 1", "good"))[0] == "good"
        assert gone == ["bad 1"] * 2

    async_world.run(scenario)


@pytest.mark.rule("R8")
def test_an_async_discard_on_a_sync_function_is_refused_with_advice() -> None:
    async def discard(result: object) -> None: ...

    policy = retry(on=(), on_result=bad, discard=discard)
    for attempt in (policy, policy.call):
        with pytest.raises(TypeError, match=r"^discard .* plain function"):
            attempt(lambda: 5)
    assert policy.stats().calls == 0


@pytest.mark.rule("R8", "F8")
def test_a_discard_that_raises_is_logged_once_and_changes_no_outcome(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def broken(result: object) -> None:
            raise RuntimeError("broken")

        def later(result: object) -> object:
            return w.sleep(0) if w.is_async else asyncio.sleep(0)

        policy = retry(on=ValueError, on_result=bad, wait=0, discard=broken)
        for _ in range(2):
            assert (await play(w, policy, "bad 1", "bad 2", "good"))[0] == "good"
        error = ValueError("mine")
        result, _ = await play(w, policy, "bad 1", "bad 2", error)
        assert result is error
        policy = retry(on=ValueError, on_result=bad, wait=0, discard=later)
        assert (await play(w, policy, "bad 1", "good"))[0] == "good"

    world.run(scenario)
    rows = [row.getMessage() for row in caplog.records]
    assert len(rows) == (1 if world.is_async else 2), "a sync function can't await"
    assert all("the discard function" in row for row in rows)


class Exit(BaseException):
    """One of the caller's own."""


@pytest.mark.rule("R8", "F9")
def test_an_exit_of_discard_passes(world: World) -> None:
    async def scenario(w: World) -> None:
        def leave(result: object) -> None:
            raise Exit

        policy = retry(on=ValueError, on_result=bad, wait=0, discard=leave)
        with pytest.raises(Exit):
            await play(w, policy, "bad 1", "good")

    world.run(scenario)


@pytest.mark.rule("R8", "R3")
def test_results_that_a_strategy_of_tenacity_does_not_want_are_discarded(world: World) -> None:
    async def scenario(w: World) -> None:
        gone: list[object] = []
        policy = retry(on=tenacity.retry_if_result(bad), wait=0, discard=gone.append)
        assert (await play(w, policy, "bad 1", "bad 2", "good"))[0] == "good"
        assert gone == ["bad 1", "bad 2"]

    world.run(scenario)


@pytest.mark.rule("R8", "R10")
def test_in_a_loop_the_result_is_the_blocks_own(world: World) -> None:
    async def scenario(w: World) -> None:
        gone: list[object] = []
        policy = retry(on=(), on_result=bad, wait=0, discard=gone.append)
        if w.is_async:
            async for attempt in policy:
                with attempt:
                    attempt.again()
        else:
            for attempt in policy:
                with attempt:
                    attempt.again()
        assert gone == []
        assert policy.stats().attempts == 3

    world.run(scenario)


# R9: cancellation, and nothing shared.


@pytest.mark.rule("R9", "F9")
def test_backoff_ends_at_once_on_cancellation(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=500 * w.unit)
        script = Script(w, *errors(3))
        with anyio.move_on_after(1 * w.unit) as scope:
            await policy(w.function(script))()
        assert scope.cancelled_caught
        assert len(script.at) == 1
        assert 0.5 < w.now() < 100

    async_world.run(scenario)


@pytest.mark.rule("R9", "F11")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_foreign_cancellation_of_the_backoff_is_never_converted(name: str) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=50)
        with anyio.CancelScope() as theirs:
            async with deadline(60):
                async with anyio.create_task_group() as group:

                    async def cancel() -> None:
                        await w.sleep(1)
                        theirs.cancel()

                    group.start_soon(cancel)
                    await policy(w.function(Script(w, *errors(3))))()
        assert theirs.cancelled_caught
        assert w.now() == pytest.approx(1)

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("R9", "F4")
def test_calls_at_once_share_nothing(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(
            "db", on=ValueError, wait=lambda n, _: 0.1 * n * w.unit, attempts=4, budget=None
        )

        async def one(failures: int) -> tuple[int, object]:
            script = Script(w, *errors(failures), failures)
            try:
                return len(script.at), await policy(w.function(script))()
            finally:
                assert len(script.at) == min(failures + 1, 4)

        results = await w.together(*((lambda n=n: one(n)) for n in (0, 1, 2, 3, 4, 0, 3)))
        assert [type(result) for result in results] == [tuple] * 4 + [ValueError] + [tuple] * 2
        assert "4 attempts" in notes(results[4])[0]
        stats = policy.stats()
        assert (stats.calls, stats.attempts, stats.recovered) == (7, 7 + 12, 4)

    async_world.run(scenario)


# R11, R12.


@pytest.mark.rule("R11")
@pytest.mark.parametrize("around", [None, 50.0])
def test_a_first_success_reads_the_clock_once_and_takes_no_lock(
    around: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    real = clock.now

    class NoLock:
        def __enter__(self) -> None:
            pytest.fail("a lock was taken")

        def __exit__(self, *_: object) -> None: ...

        acquire = release = __enter__

    def counted() -> float:
        reads.append(1)
        return real()

    monkeypatch.setattr(clock, "now", counted)
    built: list[str] = []
    policy = retry(on=ValueError, wait=backoff(1), budget=RetryBudget())
    monkeypatch.setattr(policy, "_lock", NoLock())
    budget = policy._settings.budget
    assert budget is not None
    monkeypatch.setattr(budget, "_lock", NoLock())
    monkeypatch.setattr(
        "resilient._policies.retry.fast_path.RetryState", lambda *_: built.append("a run")
    )

    @policy
    def sync() -> int:
        return 5

    @policy
    async def coro() -> int:
        return 6

    with deadline(around):
        for _ in range(3):
            reads.clear()
            assert sync() == 5
            assert len(reads) <= 1
            reads.clear()
            with pytest.raises(StopIteration) as stop:
                coro().send(None)
            assert stop.value.value == 6
            assert len(reads) <= 1
    assert not built


@pytest.mark.rule("R12")
def test_stats_count_calls_attempts_retries_recoveries_and_every_reason(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry("db", on=ValueError, wait=0, budget=None)
        assert policy.stats() == RetryStats("db", 0, 0, 0, 0, dict.fromkeys(REASONS, 0))
        await play(w, policy, "good")
        await play(w, policy, ValueError(), "good")
        await play(w, policy, ValueError(), ValueError(), "good")
        await play(w, policy, *errors(3))
        await play(w, policy, KeyError())
        stats = policy.stats()
        reasons: dict[Reason, int] = {
            **dict.fromkeys(REASONS, 0),
            "attempts": 1,
            "not_retryable": 1,
        }
        assert stats == RetryStats("db", 5, 10, 5, 2, reasons)
        assert stats.attempts == stats.calls + stats.retries
        with pytest.raises(TypeError):
            stats.gave_up["attempts"] = 5  # type: ignore[index]
        await play(w, policy, *errors(3))
        assert stats.gave_up["attempts"] == 1, "a snapshot does not move"

    world.run(scenario)


@pytest.mark.rule("M1", "R12")
def test_events_say_what_is_scheduled_and_what_was_given_up(exact: World) -> None:
    async def scenario(w: World) -> None:
        raised = errors(3)
        began = clock.now()
        with record(RetryScheduled, RetryGaveUp) as events:
            await play(w, retry("db", on=ValueError, wait=2), *raised)
        first, second, last = events
        assert isinstance(first, RetryScheduled)
        assert isinstance(second, RetryScheduled)
        assert isinstance(last, RetryGaveUp)
        assert (first.attempt, first.wait, first.error, first.at - began) == (1, 2, raised[0], 0)
        assert (second.attempt, second.wait, second.error, second.at - began) == (  # type: ignore[comparison-overlap]  # approx() is no float to mypy
            2,
            2,
            raised[1],
            pytest.approx(2),
        )
        assert (last.reason, last.attempts, last.error, last.at - began) == (  # type: ignore[comparison-overlap]  # approx() is no float to mypy
            "attempts",
            3,
            raised[2],
            pytest.approx(4),
        )
        assert {(event.policy, event.kind) for event in events} == {("db", "retry")}

    exact.run(scenario)


@pytest.mark.rule("F1")
def test_a_sync_function_that_returns_a_coroutine_is_refused_and_not_repeated() -> None:
    calls: list[int] = []

    async def fetch() -> None: ...

    def opened() -> Any:
        calls.append(1)
        return fetch()

    with pytest.raises(TypeError, match="async def"):
        retry(on=Exception, wait=0)(opened)()
    assert len(calls) == 1


@pytest.mark.rule("F2")
def test_call_runs_one_call_without_decorating(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry("db", on=ValueError, wait=0)
        script = Script(w, ValueError(), "good")
        assert await w.call(policy.call, w.function(script)) == "good"
        assert policy.stats().calls == 1

    world.run(scenario)


@pytest.mark.rule("R9")
def test_without_a_wait_others_run_all_the_same(async_world: World) -> None:
    """A function that fails at once and never waits must not keep the loop for ever."""

    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=0, attempts=1000, budget=None)
        tries = turns = 0

        async def fails() -> None:
            nonlocal tries
            tries += 1
            raise ValueError

        async def other() -> None:
            nonlocal turns
            while tries < 1000:
                turns += 1
                await w.sleep(0)

        await w.together(policy(fails), other)
        assert turns > 10

    async_world.run(scenario)


@pytest.mark.rule("F1", "R2")
def test_a_coroutine_that_comes_at_a_later_attempt_is_refused_as_at_the_first() -> None:
    async def work() -> None: ...

    answers: list[Any] = [ValueError(), work()]

    @retry(on=(ValueError, TypeError), wait=0, budget=None)
    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(TypeError, match="async def"):
        ask()


@pytest.mark.rule("F9", "R7")
def test_an_interruption_of_a_later_attempt_has_the_last_error_in_its_chain(world: World) -> None:
    async def scenario(w: World) -> None:
        first = ValueError("first")
        answers: list[BaseException] = [first, KeyboardInterrupt()]

        def fails() -> None:
            raise answers.pop(0)

        policy = retry(on=ValueError, wait=0, budget=None)
        with pytest.raises(KeyboardInterrupt) as caught:
            await w.call(policy(w.function(fails)))
        assert caught.value.__context__ is first
        assert (policy.stats().retries, policy.stats().recovered) == (1, 0)

    world.run(scenario)

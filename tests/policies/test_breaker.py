"""The breaker as its users see it: B1 to B8, B10, B12 and B13."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    Breaker,
    BreakerState,
    CircuitOpen,
    DeadlineExceeded,
    Rejected,
    backoff,
    breaker,
    deadline,
)
from resilient.events import CallRejected, Event
from resilient.testing import record
from tests.worlds import World

S = BreakerState


def fail(*_: object) -> None:
    raise ValueError


def state(policy: Breaker) -> BreakerState:
    """Its state now: a type checker would take the attribute for what it was."""
    return policy.state


def counts(policy: Any) -> dict[str, int]:
    stats = policy.stats()
    names = ("calls", "successes", "failures", "slow", "ignored", "rejected", "in_flight", "opened")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


def run(policy: Any, *outcomes: bool) -> None:
    """One call for each outcome, true for good."""
    for good in outcomes:
        policy.admit().close(None if good else ValueError())


async def use(w: World, policy: Breaker, *outcomes: bool) -> None:
    """The same through a decorated function of this world."""
    fn = policy(w.function(lambda good: None if good else fail()))
    for good in outcomes:
        try:
            await w.call(fn, good)
        except ValueError:
            assert not good


def opened(w: World, **settings: Any) -> Breaker:
    """A breaker that has just opened, for one unit."""
    policy = breaker("db", **{"consecutive_failures": 1, "cooldown": 1.0 * w.unit, **settings})
    run(policy, False)
    assert state(policy) is S.OPEN
    return policy


async def half_open(w: World, **settings: Any) -> Breaker:
    """A breaker whose next call is a probe."""
    policy = opened(w, **settings)
    await w.sleep(1.2)
    return policy


# B1


@pytest.mark.rule("B1")
@pytest.mark.parametrize("late", [None, ValueError()], ids=["success", "failure"])
def test_a_result_from_an_older_generation_changes_nothing_but_totals(
    world: World, late: Exception | None
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=2, failure_rate=0.5, minimum=2, cooldown=1.0 * w.unit)
        old = [policy.admit() for _ in range(4)]
        run(policy, False, False)
        assert state(policy) is S.OPEN
        generation = policy.stats().generation
        old[0].close(late)
        assert (state(policy), policy.stats().generation) == (S.OPEN, generation)
        await w.sleep(1.2)
        probe = policy.admit()
        old[1].close(late)
        assert state(policy) is S.HALF_OPEN, "no probe of ours"
        probe.close()
        for call in old[2:]:
            call.close(late)
        stats = policy.stats()
        assert (stats.state, stats.failure_rate) == (S.CLOSED, None), "the window is empty"
        assert stats.calls == 7
        assert (stats.successes, stats.failures) == ((5, 2) if late is None else (1, 6))
        run(policy, False)
        assert state(policy) is S.CLOSED, "the run of failures is one"

    world.run(scenario)


@pytest.mark.rule("B1", "B10")
def test_every_change_of_state_begins_a_generation(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=1.0 * w.unit)
        generations = [policy.stats().generation]

        def note() -> None:
            generations.append(policy.stats().generation)

        run(policy, False)
        note()
        await w.sleep(1.2)
        probe = policy.admit()
        note()
        probe.close()
        note()
        for turn in (
            policy.force_open,
            policy.disable,
            policy.metrics_only,
            policy.reset,
            policy.reset,
        ):
            turn()
            note()
        assert generations == list(range(1, 10))

    world.run(scenario)


# B2

VERDICTS: list[tuple[str, Callable[[], object], dict[str, Any], str]] = [
    ("a result", lambda: 1, {}, "successes"),
    ("an error that is named", fail, {"on": ValueError}, "failures"),
    ("an error that is not: it answered", fail, {"on": OSError}, "successes"),
    ("an error that is ignored", fail, {"ignore": ValueError}, "ignored"),
    ("a predicate", fail, {"on": lambda error: isinstance(error, ValueError)}, "failures"),
    ("one of a tuple", fail, {"on": (OSError, (ValueError,))}, "failures"),
    ("ignored by a predicate", fail, {"ignore": (OSError, lambda error: True)}, "ignored"),
    ("an unwanted result", lambda: 503, {"on_result": lambda result: result >= 500}, "failures"),
    ("a wanted result", lambda: 200, {"on_result": lambda result: result >= 500}, "successes"),
    ("a rejection", lambda: raising(Rejected("inner")), {"on": Rejected}, "ignored"),
    (
        "an open circuit inside",
        lambda: raising(CircuitOpen("inner")),
        {"on": lambda _: True},
        "ignored",
    ),
    (
        "it did not start",
        lambda: raising(DeadlineExceeded("in", 1.0, 1.0, False)),
        {"on": TimeoutError},
        "ignored",
    ),
    (
        "it was cut short",
        lambda: raising(DeadlineExceeded("in", 1.0, 1.0, True)),
        {"on": OSError},
        "failures",
    ),
    (
        "it was cut short, whatever on says",
        lambda: raising(DeadlineExceeded("in", 1.0, 1.0, True)),
        {"on": ()},
        "failures",
    ),
    (
        "it was cut short, and that is ignored",
        lambda: raising(DeadlineExceeded("in", 1.0, 1.0, True)),
        {"ignore": TimeoutError},
        "ignored",
    ),
    (
        "a plain TimeoutError of others",
        lambda: raising(TimeoutError()),
        {"on": ValueError},
        "successes",
    ),
]


def raising(error: Exception) -> None:
    raise error


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("what", "body", "settings", "verdict"), VERDICTS, ids=[row[0] for row in VERDICTS]
)
def test_an_outcome_is_a_failure_a_success_or_ignored(
    world: World, what: str, body: Callable[[], object], settings: dict[str, Any], verdict: str
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(
            window_calls=1, consecutive_failures=None, failure_rate=1.0, cooldown=1000.0, **settings
        )
        with contextlib.suppress(ValueError, Rejected, TimeoutError):
            await w.call(policy(w.function(body)))
        expected = {"calls": 1, verdict: 1}
        if verdict == "failures":
            expected["opened"] = 1
        assert counts(policy) == expected

    world.run(scenario)


@pytest.mark.rule("B2")
def test_ignored_calls_neither_break_nor_extend_a_run_nor_count_in_the_window(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=3, failure_rate=0.6, minimum=5, ignore=KeyError)

        def ignored() -> None:
            with pytest.raises(KeyError):
                with policy:
                    raise KeyError

        run(policy, False, False)
        ignored()
        ignored()
        assert policy.stats().failure_rate is None, "two calls"
        assert state(policy) is S.CLOSED
        run(policy, False)
        assert state(policy) is S.OPEN, "three in a row"

    world.run(scenario)


# B3, B4: the watches.


@pytest.mark.rule("B3")
def test_a_run_opens_whatever_the_window_and_minimum(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(
            consecutive_failures=3, minimum=1000, failure_rate=1.0, window=1.0 * w.unit
        )
        await use(w, policy, False, False, True, False, False)
        assert state(policy) is S.CLOSED
        await w.sleep(2)
        await use(w, policy, False)
        assert state(policy) is S.OPEN

    world.run(scenario)


@pytest.mark.rule("B3")
def test_the_rate_is_judged_from_minimum_on_after_a_success_too(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=None, failure_rate=0.5, minimum=4)
        await use(w, policy, False, False, True)
        assert policy.stats().failure_rate is None
        assert state(policy) is S.CLOSED
        await use(w, policy, True)
        assert state(policy) is S.OPEN
        below = breaker(consecutive_failures=None, failure_rate=0.5, minimum=4)
        await use(w, below, True, False, True, True, False)
        assert (below.state, below.stats().failure_rate) == (S.CLOSED, 0.4)

    world.run(scenario)


@pytest.mark.rule("B3")
def test_slow_is_longer_than_and_a_slow_failure_counts_in_both(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(
            slow=1.0 * w.unit, slow_rate=1.0, failure_rate=1.0, consecutive_failures=None, minimum=3
        )

        def body(units: float, good: bool) -> Any:
            async def wait() -> None:
                await w.sleep(units)
                if not good:
                    raise ValueError

            return wait()

        fn = policy(w.function(body))
        if w.name != "uvloop":  # there nothing lasts exactly as long
            await w.call(fn, 1.0, True)
            assert policy.stats().slow == 0
        with pytest.raises(ValueError):
            await w.call(fn, 1.5, False)
        await w.call(fn, 1.5, True)
        stats = policy.stats()
        assert (stats.slow, stats.failures, stats.successes) == (
            2,
            1,
            1 if w.name == "uvloop" else 2,
        )
        await w.call(fn, 1.5, True)
        if w.name == "uvloop":
            assert state(policy) is S.OPEN
        else:
            assert policy.stats().slow_rate == 0.75

    world.run(scenario)


@pytest.mark.rule("B3")
def test_slow_calls_alone_open_it_and_each_way_of_calling_measures_them(world: World) -> None:
    async def scenario(w: World) -> None:
        for way in ("function", "block", "call"):
            policy = breaker(slow=1.0 * w.unit, minimum=2, cooldown=1000.0)
            for _ in range(2):
                if way == "function":
                    await w.call(policy(w.function(lambda: w.sleep(1.5))))
                elif way == "block":
                    async with policy:
                        await w.sleep(1.5)
                else:
                    call = policy.admit()
                    await w.sleep(1.5)
                    call.close()
            assert counts(policy) == {"calls": 2, "successes": 2, "slow": 2, "opened": 1}, way

    world.run(scenario)


@pytest.mark.rule("B4")
def test_a_time_window_keeps_what_is_younger_and_drops_what_is_older_than_a_tenth_more(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(
            consecutive_failures=None, window=10.0 * w.unit, minimum=2, failure_rate=0.5
        )
        await use(w, policy, False)
        await w.sleep(5 if w.name == "uvloop" else 9.9)
        await use(w, policy, True)
        assert state(policy) is S.OPEN
        policy.reset()
        await use(w, policy, False)
        await w.sleep(11.1)
        await use(w, policy, True, True)
        assert state(policy) is S.CLOSED

    world.run(scenario)


@pytest.mark.rule("B4")
def test_a_count_window_is_exact_and_caps_the_minimum(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=None, window_calls=4, minimum=100, failure_rate=0.75)
        await use(w, policy, False, False, True)
        assert policy.stats().failure_rate is None
        await use(w, policy, True, True, True)
        assert policy.stats().failure_rate == 0.0, "the failures are the fifth and sixth last"
        await w.sleep(5)
        await use(w, policy, False, False, False)
        assert state(policy) is S.OPEN

    world.run(scenario)


# B5


@pytest.mark.rule("B5")
def test_open_rejects_with_what_is_left_and_admits_when_that_has_passed(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = opened(w, cooldown=5.0 * w.unit)
        fn = policy(w.function(lambda: "probe"))
        await w.sleep(0.5)
        with pytest.raises(CircuitOpen) as refused:
            await w.call(fn)
        error = refused.value
        assert (error.policy, error.reason) == ("db", "open")
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 4.51 * w.unit
        await w.sleep(error.retry_after / w.unit)
        if w.name == "uvloop":
            await w.sleep(0.1)  # its clock is coarser than ours
        assert await w.call(fn) == "probe"
        assert state(policy) is S.CLOSED

    world.run(scenario)


@pytest.mark.rule("B5")
def test_nothing_but_calls_moves_it_so_that_it_reads_open_until_one_comes(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = opened(w)
        await w.sleep(4)
        assert state(policy) is policy.stats().state is S.OPEN
        assert policy.stats().retry_after == 0.0
        call = policy.admit()
        assert state(policy) is policy.stats().state is S.HALF_OPEN
        assert policy.stats().retry_after is None
        call.close()

    world.run(scenario)
    assert "nothing but calls moves" in " ".join(str(inspect.getdoc(Breaker.state)).split())
    assert "reads as OPEN until a call comes" in " ".join(
        str(inspect.getdoc(Breaker.stats)).split()
    )


@pytest.mark.rule("B5")
@pytest.mark.parametrize("cooldown", [0.1, 0.3, 1.1, 4.2, 1e-9, 86400.1])
def test_a_call_after_retry_after_is_admitted_however_the_numbers_round(cooldown: float) -> None:
    from resilient.testing import virtual_time  # noqa: PLC0415

    with virtual_time() as time:
        for elapsed in (0.0, 0.1, 1 / 3, 0.7, 0.99):
            policy = breaker(consecutive_failures=1, cooldown=cooldown)
            time.advance(0.1)
            run(policy, False)
            opened_at = time.reading()
            time.advance(elapsed * cooldown)
            if time.reading() >= opened_at + cooldown:
                continue  # rounded up, on a machine that has been up for months
            with pytest.raises(CircuitOpen) as refused:
                policy.admit()
            assert refused.value.retry_after is not None
            assert refused.value.retry_after <= cooldown
            time.advance(refused.value.retry_after)
            policy.admit().close()


@pytest.mark.rule("B5")
def test_a_cooldown_of_nothing_admits_the_next_call_as_a_probe(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = opened(w, cooldown=0)
        probe = policy.admit()
        assert state(policy) is S.HALF_OPEN
        probe.close()

    world.run(scenario)


# B6, B7


@pytest.mark.rule("B6")
def test_half_open_lets_its_probes_through_counting_running_and_finished_ones(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = await half_open(w, probes=3, failure_rate=1.0)
        first, second = policy.admit(), policy.admit()
        first.close()
        third = policy.admit()
        for _ in range(2):
            with pytest.raises(CircuitOpen) as refused:
                policy.admit()
            assert (refused.value.reason, refused.value.retry_after) == ("half_open", None)
        second.close()
        with pytest.raises(CircuitOpen):
            policy.admit()
        assert state(policy) is S.HALF_OPEN
        third.close(ValueError())
        assert state(policy) is S.CLOSED, "all are in, and one of three failed"

    world.run(scenario)


@pytest.mark.rule("B6")
@pytest.mark.parametrize(
    ("settings", "outcomes"),
    [
        ({"failure_rate": 0.5, "probes": 4}, [False, True, False]),
        ({"failure_rate": 0.5, "probes": 1}, [False]),
        ({"failure_rate": None, "probes": 4}, [True, False]),
        ({"failure_rate": 1.0, "probes": 2}, [False, False]),
    ],
    ids=["half of four", "one", "no rate", "all"],
)
def test_it_reopens_at_the_first_result_that_makes_the_verdict_certain(
    world: World, settings: dict[str, Any], outcomes: list[bool]
) -> None:
    async def scenario(w: World) -> None:
        policy = await half_open(w, **settings)
        for good in outcomes[:-1]:
            run(policy, good)
            assert state(policy) is S.HALF_OPEN
        run(policy, outcomes[-1])
        assert (state(policy), policy.stats().opened) == (S.OPEN, 2)

    world.run(scenario)


@pytest.mark.rule("B6")
def test_slow_probes_reopen_it_too(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = await half_open(w, slow=1.0 * w.unit, probes=2, slow_rate=0.5)
        async with policy:
            await w.sleep(1.5)
        assert state(policy) is S.OPEN

    world.run(scenario)


@pytest.mark.rule("B6")
def test_an_ignored_probe_returns_its_place(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = await half_open(w)
        call = policy.admit()
        call.ignore()
        call.close(ValueError())
        assert state(policy) is S.HALF_OPEN
        assert await w.call(policy.call, w.function(lambda: "next")) == "next"
        assert state(policy) is S.CLOSED

    world.run(scenario)


@pytest.mark.rule("B7")
def test_a_probe_that_does_not_report_is_a_failure_and_its_late_result_counts_nothing(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = await half_open(w, probe_lease=6.0 * w.unit, cooldown=1.0 * w.unit)
        lost = policy.admit()
        await w.sleep(1)
        with pytest.raises(CircuitOpen) as refused:
            policy.admit()
        assert refused.value.reason == "half_open"
        await w.sleep(5.5)
        assert state(policy) is S.HALF_OPEN, "nothing but calls moves it"
        with pytest.raises(CircuitOpen) as refused:
            policy.admit()
        assert refused.value.reason == "open", "it is recorded before the call is judged"
        assert counts(policy) == {"calls": 2, "failures": 2, "rejected": 2, "opened": 2}
        lost.close()
        assert counts(policy) == {"calls": 2, "failures": 2, "rejected": 2, "opened": 2}
        assert state(policy) is S.OPEN

    world.run(scenario)


# B8


@pytest.mark.rule("B8")
def test_the_kth_opening_in_a_row_waits_the_kth_delay_and_closing_begins_anew(world: World) -> None:
    async def scenario(w: World) -> None:
        delays = backoff(1.0 * w.unit, factor=3.0, jitter="none")
        policy = breaker(consecutive_failures=1, cooldown=delays)
        for k, units in ((1, 1), (2, 3), (3, 9)):
            run(policy, False)
            left = policy.stats().retry_after
            assert left is not None
            assert (0 if w.name == "uvloop" else units * 0.99) < left <= delays.delay(k)
            await w.sleep(units + 0.2)
        run(policy, True)
        assert state(policy) is S.CLOSED
        run(policy, False)
        left = policy.stats().retry_after
        assert left is not None
        assert left <= delays.delay(1)

    world.run(scenario)


@pytest.mark.rule("B8")
def test_a_plain_number_is_a_constant_cooldown(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=2.0 * w.unit)
        for _ in range(4):
            run(policy, False)
            left = policy.stats().retry_after
            assert left is not None
            assert (0 if w.name == "uvloop" else 1.99) < left <= 2.0 * w.unit
            await w.sleep(2.1)

    world.run(scenario)


# B10


@pytest.mark.rule("B10")
def test_forced_open_rejects_whatever_the_time(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker("db", cooldown=0)
        policy.force_open()
        for _ in range(2):
            with pytest.raises(CircuitOpen) as refused:
                await w.call(policy(w.function(lambda: 1)))
            assert (refused.value.reason, refused.value.retry_after) == ("forced_open", None)
            await w.sleep(3)
        assert counts(policy) == {"rejected": 2}
        assert policy.stats().retry_after is None
        policy.reset()
        assert await w.call(policy(w.function(lambda: 1))) == 1

    world.run(scenario)


@pytest.mark.rule("B10")
def test_disabled_admits_and_records_nothing_of_its_calls_not_even_the_call(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=1000.0)
        before = policy.admit()
        policy.disable()
        during = policy.admit()
        await use(w, policy, False, False, True)
        with pytest.raises(ValueError):
            with policy as call:
                call.fail()
                raise ValueError
        assert state(policy) is S.DISABLED
        assert counts(policy) == {"calls": 1, "in_flight": 1}, "the one from before"
        before.close(ValueError())
        assert counts(policy) == {"calls": 1, "failures": 1}
        policy.reset()
        during.close(ValueError())
        assert state(policy) is S.CLOSED
        assert counts(policy) == {"calls": 1, "failures": 1}

    world.run(scenario)


@pytest.mark.rule("B10")
def test_metrics_only_admits_and_records_but_never_opens(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=2, minimum=4)
        policy.metrics_only()
        await use(w, policy, False, False, False, True)
        assert state(policy) is S.METRICS_ONLY
        assert counts(policy) == {"calls": 4, "failures": 3, "successes": 1}
        assert policy.stats().failure_rate == 0.75

    world.run(scenario)


@pytest.mark.rule("B10", "M1")
def test_reset_closes_with_an_empty_window_and_while_closed_forgets_and_tells_nobody(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=3, minimum=3, failure_rate=0.9)
        await use(w, policy, True, False, False)
        assert policy.stats().failure_rate is not None
        running = policy.admit()
        policy.reset()
        assert state(policy) is S.CLOSED
        run(policy, False, False)
        generation = policy.stats().generation
        with record(Event) as told:
            policy.reset()
        assert not told
        assert policy.stats().generation == generation + 1
        assert policy.stats().failure_rate is None
        run(policy, False, False)
        running.close(ValueError())
        assert state(policy) is S.CLOSED

    world.run(scenario)


@pytest.mark.rule("B10", "B5")
@pytest.mark.parametrize("initial", [state for state in S if state is not S.HALF_OPEN])
def test_it_begins_as_it_was_told(world: World, initial: BreakerState) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(initial=initial, cooldown=2.0 * w.unit)
        assert state(policy) is initial
        if initial in {S.OPEN, S.FORCED_OPEN}:
            with pytest.raises(CircuitOpen):
                policy.admit()
        else:
            policy.admit().close()
        await w.sleep(2.2)
        if initial is S.OPEN:
            policy.admit().close()
            assert state(policy) is S.CLOSED, "its cooldown began with it"
        else:
            assert state(policy) is initial

    world.run(scenario)


# B12, B13


@pytest.mark.rule("B12")
def test_calls_are_successes_failures_ignored_and_in_flight_and_rejections_are_apart(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=4, minimum=100, cooldown=1000.0)
        running = [policy.admit() for _ in range(3)]
        await use(w, policy, True, True, False)
        with policy as call:
            call.ignore()
        policy.admit()  # lost
        identity(policy)
        assert counts(policy) == {
            "calls": 8,
            "successes": 2,
            "failures": 1,
            "ignored": 2,
            "in_flight": 3,
        }
        run(policy, False, False, False)
        for _ in range(5):
            with pytest.raises(CircuitOpen):
                policy.admit()
        identity(policy)
        running[0].close()
        identity(policy)
        assert counts(policy) == {
            "calls": 11, "successes": 3, "failures": 4, "ignored": 2, "in_flight": 2,
            "rejected": 5, "opened": 1,
        }  # fmt: skip

    world.run(scenario)


def identity(policy: Breaker) -> None:
    stats = policy.stats()
    assert stats.calls == stats.successes + stats.failures + stats.ignored + stats.in_flight


@pytest.mark.rule("B12")
def test_rejections_never_enter_the_window(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(
            consecutive_failures=None,
            failure_rate=0.5,
            minimum=2,
            cooldown=1.0 * w.unit,
            window_calls=4,
        )
        await use(w, policy, False, False)
        for _ in range(20):
            with pytest.raises(CircuitOpen):
                policy.admit()
        await w.sleep(1.2)
        await use(w, policy, True)
        await use(w, policy, True, True)
        assert (state(policy), policy.stats().failure_rate) == (S.CLOSED, 0.0)

    world.run(scenario)


@pytest.mark.rule("B13", "F6")
def test_stats_have_these_fields_and_they_are_true(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(
            "db",
            consecutive_failures=None,
            slow=1.0 * w.unit,
            minimum=4,
            failure_rate=0.5,
            slow_rate=1.0,
        )
        assert list(type(policy.stats()).__dataclass_fields__) == [
            "name", "state", "generation", "calls", "successes", "failures", "slow",
            "ignored", "rejected", "in_flight",
            "failure_rate", "slow_rate", "opened", "retry_after",
        ]  # fmt: skip
        async with policy:
            await w.sleep(1.5)
        await use(w, policy, False, True)
        stats = policy.stats()
        assert (stats.failure_rate, stats.slow_rate, stats.retry_after) == (None, None, None), (
            "below minimum"
        )
        await use(w, policy, True)
        stats = policy.stats()
        assert (stats.name, stats.state, stats.generation) == ("db", S.CLOSED, 1)
        assert (stats.calls, stats.successes, stats.failures, stats.slow) == (4, 3, 1, 1)
        assert (stats.failure_rate, stats.slow_rate) == (0.25, 0.25)
        await use(w, policy, False, False)
        stats = policy.stats()
        assert (stats.state, stats.opened, stats.generation) == (S.OPEN, 1, 2)
        assert stats.retry_after is not None
        assert 0 < stats.retry_after <= 1.2

    world.run(scenario)


@pytest.mark.rule("B13")
def test_without_a_watch_for_slow_calls_there_is_no_slow_rate(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(minimum=1)
        async with policy:
            await w.sleep(12)
        stats = policy.stats()
        assert (stats.failure_rate, stats.slow_rate, stats.slow) == (0.0, None, 0)

    world.run(scenario)


# A breaker looks at no deadline of its own (D5).


@pytest.mark.rule("D5", "B2")
def test_a_breaker_does_not_look_at_the_deadline(world: World) -> None:
    async def scenario(w: World) -> None:
        policy, ran = breaker(), []
        try:
            with deadline(1000.0) as limit:
                limit.reschedule(0)
                await w.call(policy(w.function(lambda: ran.append(1))))
        except DeadlineExceeded:
            pytest.fail("a body that finished is no error")
        assert ran == [1]
        assert policy.stats().successes == 1

    world.run(scenario)


@pytest.mark.rule("B11")
def test_no_lock_is_held_while_the_function_runs(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = await half_open(w)

        def body() -> tuple[BreakerState, int]:
            with pytest.raises(CircuitOpen):
                policy.admit()
            return policy.state, policy.stats().in_flight

        assert await w.call(policy(w.function(body))) == (S.HALF_OPEN, 1)

    world.run(scenario)


@pytest.mark.rule("B11")
def test_many_calls_at_once_are_all_counted(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=None, failure_rate=1.0)

        @policy
        async def call(number: int) -> None:
            await anyio.lowlevel.checkpoint()
            if number % 4 == 0:
                raise ValueError

        await w.together(*((lambda n=n: call(n)) for n in range(100)))
        assert counts(policy) == {"calls": 100, "successes": 75, "failures": 25}
        assert not math.isnan(policy.stats().failure_rate or 0)

    async_world.run(scenario)


@pytest.mark.rule("B5", "B11", "B12", "M3")
@pytest.mark.parametrize("slow", [None, 5.0])
@pytest.mark.parametrize("heard", [False, True])
def test_a_decorated_function_is_rejected_as_a_block_is(
    world: World, slow: float | None, heard: bool
) -> None:
    """Without a listener a rejection takes no lock; what it says and counts is the same."""

    async def scenario(w: World) -> None:
        policy = breaker("db", consecutive_failures=1, cooldown=3600.0, slow=slow)
        ran: list[int] = []
        fn = policy(w.function(lambda: ran.append(1)))
        policy.admit().close(ValueError())
        with record(CallRejected) if heard else contextlib.nullcontext([]) as told:
            with pytest.raises(CircuitOpen) as by_call:
                await w.call(fn)
            with pytest.raises(CircuitOpen) as by_block:
                policy.admit()
        for error in (by_call.value, by_block.value):
            assert (error.policy, error.reason) == ("db", "open")
            assert str(error.why) == "1 failure in a row"
            assert error.retry_after is not None
            assert 3590 < error.retry_after <= 3600
        stats = policy.stats()
        assert (ran, stats.calls, stats.failures, stats.rejected) == ([], 1, 1, 2)
        assert len(told) == 2 * heard
        policy.force_open()
        with pytest.raises(CircuitOpen) as forced:
            await w.call(fn)
        assert (forced.value.reason, forced.value.retry_after) == ("forced_open", None)
        policy.reset()
        await w.call(fn)
        assert (ran, policy.stats().rejected) == ([1], 3)

    world.run(scenario)

"""The rules of the adaptive limit, L7; and experiments: where it settles, and what it saves."""

from __future__ import annotations

import math
import sys
from collections import Counter
from statistics import fmean
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from resilient._core.adaptive_limit import (
    ALGORITHMS,
    AdaptiveLimitConfig,
    AdaptiveLimitCore,
    Outcome,
    Ticket,
)
from resilient._core.adaptive_limit.algorithms import aimd, gradient, vegas
from resilient._core.adaptive_limit.places import REMEMBERED, Priorities
from resilient._core.adaptive_limit.sampling import (
    CALLS,
    FEW_DROPS,
    GENTLE,
    LONG,
    LONGEST,
    TRUSTED,
    VERIFIED,
    Baseline,
    Reading,
    Sampler,
)
from resilient._core.waiters import Waiter
from tests.core.overload import (
    SERVICE,
    WORKERS,
    Change,
    core_of,
    overload,
    unloaded_p99,
)

SAMPLE, DROP, IGNORED = Outcome.SAMPLE, Outcome.DROP, Outcome.IGNORED
CAPACITY = WORKERS / SERVICE
ALL = sorted(ALGORITHMS)


def reading(
    mean: float = 1.0, *, error: float = 0.0, peak: int = 10, dropped: float = 0
) -> Reading:
    return Reading(mean, error, peak, dropped)


def fill(core: AdaptiveLimitCore, now: float) -> list[Ticket]:
    """As many calls as there are places."""
    tickets: list[Ticket] = []
    while core.try_acquire(0.0, now):
        tickets.append(Ticket(core, now))
    return tickets


def begin(core: AdaptiveLimitCore, now: float, priority: float = 0.0) -> Ticket:
    assert core.try_acquire(priority, now)
    return Ticket(core, now)


def end(ticket: Ticket, now: float, outcome: Outcome = SAMPLE) -> tuple[int, int] | None:
    ticket.ended_at, ticket.outcome = now, outcome
    return ticket.state.release(ticket, now)


def rounds(
    core: AdaptiveLimitCore,
    at_once: int,
    lasts: float,
    *,
    now: float = 0.0,
    times: int = 10,
    outcome: Outcome = SAMPLE,
) -> float:
    """Calls that begin and end together, as many as may of *at_once*; when the last have ended."""
    for _ in range(times):
        tickets = [Ticket(core, now) for _ in range(at_once) if core.try_acquire(0.0, now)]
        now += lasts
        for ticket in tickets:
            end(ticket, now, outcome)
    return now


# Experiments: a FIFO server of 20 workers and 10 ms, so that the knee is at 20 calls.


@pytest.mark.rule("L7")
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.5])
def test_at_three_times_the_capacity_the_gradient_settles_within_a_quarter_of_the_knee(
    spread: float,
) -> None:
    logs = [
        overload(core_of(), rate=3 * CAPACITY, seconds=7, spread=spread, seed=seed)
        for seed in range(1, 4)
    ]
    limit = fmean(log.limit(2, 7) for log in logs)
    assert 0.75 * WORKERS <= limit <= 1.25 * WORKERS, limit
    for log in logs:
        assert log.goodput(2, 7) >= 0.9 * CAPACITY
        assert log.p99(2, 7) <= 3 * unloaded_p99(spread)
        assert log.goodput(0, 2) >= 0.8 * CAPACITY, "while it finds itself"


def test_where_calls_vary_wildly_most_of_the_capacity_is_used_still() -> None:
    logs = [
        overload(core_of(), rate=3 * CAPACITY, seconds=7, spread=1.0, seed=seed)
        for seed in range(1, 4)
    ]
    assert fmean(log.goodput(2, 7) for log in logs) >= 0.7 * CAPACITY
    assert max(log.p99(2, 7) for log in logs) <= 3 * unloaded_p99(1.0)


def test_without_a_limit_nothing_would_be_in_time() -> None:
    """What the server does of itself: a queue that grows by 2 s in each second."""
    core = core_of(initial=100_000, least=100_000, most=100_000)
    log = overload(core, rate=3 * CAPACITY, seconds=3)
    assert not log.rejected
    assert log.goodput(1, 3) >= 0.9 * CAPACITY
    assert log.p99(1, 3) > 1.0, "a hundred times what it takes without load"


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_it_follows_when_half_of_the_workers_go_and_come_back(spread: float) -> None:
    changes = [Change(3, workers=WORKERS // 2), Change(12)]
    log = overload(core_of(), rate=2 * CAPACITY, seconds=18, spread=spread, changes=changes)
    assert WORKERS <= log.limit(1, 3) <= 1.5 * WORKERS
    assert WORKERS / 2 <= log.limit(8, 12) <= 1.5 * WORKERS / 2, "the knee is at 10"
    assert log.goodput(4, 12) >= 0.9 * CAPACITY / 2
    assert WORKERS <= log.limit(15, 18) <= 1.5 * WORKERS
    assert log.goodput(13, 18) >= 0.9 * CAPACITY
    for span in ((1, 3), (5, 12), (14, 18)):
        assert log.p99(*span) <= 3 * unloaded_p99(spread)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_it_follows_when_calls_take_twice_as_long_and_half_again(spread: float) -> None:
    """The knee stays where it is; what changes is the latency without load."""
    core = core_of()
    changes = [Change(3, service=2 * SERVICE), Change(20)]
    log = overload(core, rate=2 * CAPACITY, seconds=36, spread=spread, changes=changes)
    for span, service in (((1, 3), SERVICE), ((13, 20), 2 * SERVICE), ((31, 36), SERVICE)):
        assert 0.75 * WORKERS <= log.limit(*span) <= 1.5 * WORKERS, span
        assert log.goodput(*span) >= 0.9 * WORKERS / service, span
        assert log.p99(*span) <= 3 * unloaded_p99(spread, service), span
    assert core.unloaded == pytest.approx(SERVICE, rel=0.25)


@pytest.mark.parametrize(
    ("algorithm", "least", "most"),
    [("gradient", 1.0, 1.25), ("vegas", 1.0, 1.5), ("aimd", 1.5, 2.25)],
)
def test_gradient_settles_at_the_knee_vegas_a_little_above_and_aimd_at_twice_of_it(
    algorithm: str, least: float, most: float
) -> None:
    log = overload(core_of(algorithm), rate=3 * CAPACITY, seconds=10)
    assert least * WORKERS <= log.limit(3, 10) <= most * WORKERS
    assert log.goodput(3, 10) >= 0.9 * CAPACITY


@pytest.mark.parametrize("algorithm", ALL)
def test_below_the_capacity_nothing_is_rejected_once_it_has_found_itself(algorithm: str) -> None:
    core = core_of(algorithm)
    log = overload(core, rate=0.7 * CAPACITY, seconds=10)
    assert log.goodput(3, 10) >= 0.98 * 0.7 * CAPACITY
    assert len(log.rejected) <= 0.01 * len(log.served), "at most the first bursts"


@pytest.mark.rule("L7")
@pytest.mark.parametrize(
    ("algorithm", "initial"), [("gradient", 100), ("aimd", 100), ("vegas", 20)]
)
def test_callers_who_lose_patience_are_drops_and_the_others_are_served(
    algorithm: str, initial: int
) -> None:
    core = core_of(algorithm, initial=initial)
    log = overload(core, rate=3 * CAPACITY, seconds=7, patience=1.5 * SERVICE)
    assert log.goodput(3, 7) >= 0.9 * CAPACITY


def test_in_an_overload_the_less_important_are_shed_first() -> None:
    log = overload(
        core_of(),
        rate=3 * CAPACITY,
        seconds=10,
        spread=0.3,
        priority=lambda chance: 10.0 if chance.random() < 0.25 else 0.0,
    )
    served, shed = Counter(one.priority for one in log.served), Counter(log.rejected)
    assert shed[10.0] <= 0.01 * served[10.0], "the important ones ask for three quarters of it"
    assert shed[0.0] > served[0.0] > 0, "the others have what is left"
    assert log.goodput(2, 10) >= 0.9 * CAPACITY


def test_a_crowd_of_important_callers_leaves_nothing_for_the_others() -> None:
    log = overload(
        core_of(),
        rate=6 * CAPACITY,
        seconds=5,
        priority=lambda chance: float(chance.random() < 0.5),
    )
    served = Counter(one.priority for one in log.between(1, 5))
    assert served[0.0] <= 0.01 * served[1.0]


# L7: what is a sample.


@pytest.mark.rule("L7")
@pytest.mark.parametrize("algorithm", ALL)
def test_cancelled_calls_are_no_samples(algorithm: str) -> None:
    core = core_of(algorithm)
    now = rounds(core, 20, 5.0, times=20, outcome=IGNORED)
    assert (core.latency, core.unloaded, core.limit, core.in_flight) == (None, None, 20, 0)
    now = rounds(core, 20, 0.25, now=now)
    limit = core.limit
    assert core.latency == 0.25
    rounds(core, 20, 60.0, now=now, outcome=IGNORED)
    assert (core.latency, core.unloaded, core.limit) == (0.25, 0.25, limit)


TRAFFIC: dict[str, dict[str, Any]] = {
    "closed": {"callers": 50},
    "open": {"rate": 300.0},
    "open, by chance": {"rate": 300.0, "spread": 0.5},
}


@pytest.mark.rule("L10")
@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("traffic", TRAFFIC)
@pytest.mark.parametrize("healthy", [30.0, 0.0])
def test_overload_is_never_taken_for_the_latency_without_load(
    healthy: float, traffic: str, algorithm: str
) -> None:
    core, lasts = core_of(algorithm), 0.1
    changes = [Change(0.0, 100, lasts), Change(healthy, 5, lasts)]
    log = overload(core, seconds=healthy + 300, changes=changes, **TRAFFIC[traffic])
    assert core.unloaded == pytest.approx(lasts, rel=0.5), "a window of ten calls is no more exact"
    assert log.limit(healthy + 200, healthy + 300) <= 3 * 5
    assert log.goodput(healthy + 100, healthy + 300) >= 0.8 * 5 / lasts


@pytest.mark.rule("L10")
@pytest.mark.parametrize("algorithm", ALL)
def test_a_service_that_is_slower_by_itself_is_not_sent_less(algorithm: str) -> None:
    core = core_of(algorithm)
    changes = [Change(0.0, 1000, 0.05), Change(30.0, 1000, 0.5)]
    log = overload(core, seconds=200, changes=changes, callers=50)
    assert core.unloaded == 0.5
    assert log.goodput(60, 200) >= 0.9 * 50 / 0.5


@pytest.mark.rule("L10")
@pytest.mark.parametrize("algorithm", ALL)
def test_after_an_overload_all_is_served_again(algorithm: str) -> None:
    core = core_of(algorithm)
    changes = [Change(0.0, 1000, 0.1), Change(30.0, 5, 0.1), Change(200.0, 1000, 0.1)]
    log = overload(core, seconds=300, changes=changes, callers=50)
    assert log.goodput(250, 300) >= 0.9 * 50 / 0.1


@pytest.mark.rule("L7")
@pytest.mark.parametrize("algorithm", ALL)
def test_rejected_calls_are_no_samples(algorithm: str) -> None:
    core, other = core_of(algorithm), core_of(algorithm)
    for one in (core, other):
        now = 0.0
        for _ in range(50):
            tickets = fill(one, now)
            if one is core:
                assert not any(one.try_acquire(0.0, now) for _ in range(100))
            now += 0.25
            for ticket in tickets:
                end(ticket, now)
    assert (core.limit, core.latency) == (other.limit, other.latency)
    assert core.limit > 20


def test_the_latency_that_is_told_follows_the_windows_slowly() -> None:
    core = core_of()
    now = rounds(core, 20, 0.25, times=2)
    assert core.latency == 0.25
    rounds(core, 20, 0.5, now=now, times=2)
    assert core.latency == pytest.approx(0.25 + 0.3 * 0.25)


@pytest.mark.rule("L7")
def test_calls_that_take_no_time_are_samples() -> None:
    core = core_of()
    for now in range(20):
        end(begin(core, float(now)), float(now))
    assert (core.latency, core.unloaded) == (0.0, 0.0)


@pytest.mark.rule("L7")
@pytest.mark.parametrize("algorithm", ALL)
def test_a_limit_of_which_less_than_half_is_used_does_not_grow(algorithm: str) -> None:
    core = core_of(algorithm)
    now = rounds(core, 9, 0.25, times=200)
    assert core.limit == 20
    rounds(core, 10, 0.25, now=now, times=200)
    assert core.limit > 20, "half of it is enough"


@pytest.mark.rule("L7")
@pytest.mark.parametrize("algorithm", ALL)
def test_it_shrinks_also_where_less_than_half_of_it_is_used(algorithm: str) -> None:
    core = core_of(algorithm, initial=100)
    now = rounds(core, 20, 0.25)
    rounds(core, 20, 2.0, now=now, times=2)
    assert core.limit < 100


@pytest.mark.rule("L7")
@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize(("lasts", "outcome"), [(0.01, SAMPLE), (5.0, SAMPLE), (5.0, DROP)])
def test_it_stays_in_its_bounds(algorithm: str, lasts: float, outcome: Outcome) -> None:
    core = core_of(algorithm, initial=10, least=8, most=12)
    now, seen = rounds(core, 8, 0.25, times=3), {10}
    for _ in range(300):
        now = rounds(core, 8, lasts, now=now, times=1, outcome=outcome)
        seen.add(core.limit)
    assert min(seen) >= 8
    assert max(seen) <= 12
    assert len(seen) > 1, "and moves in them"


@settings(max_examples=40)
@given(
    algorithm=st.sampled_from(ALL),
    calls=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1e-9, 0.01, 0.3, 2.0, 60.0]),
            st.integers(1, 30),
            st.sampled_from([*Outcome, SAMPLE, SAMPLE]),
            st.sampled_from([0.0, 0.0, 0.5, 30.0, -100.0]),
        ),
        max_size=60,
    ),
)
def test_whatever_comes_it_stays_in_its_bounds_and_loses_no_place(
    algorithm: str, calls: list[tuple[float, int, Outcome, float]]
) -> None:
    core, now = core_of(algorithm, least=2, most=40), 1000.0
    for lasts, many, outcome, rest in calls:
        tickets = [Ticket(core, now) for _ in range(many) if core.try_acquire(0.0, now)]
        assert tickets, "with nobody in, somebody may come"
        assert core.in_flight == len(tickets) <= core.limit
        now += lasts
        for ticket in tickets:
            moved = end(ticket, now, outcome)
            assert moved is None or moved[0] != moved[1] == core.limit
        assert core.idle()
        assert 2 <= core.limit <= 40
        assert core.unloaded is None or 0 <= core.unloaded < math.inf
        now += rest


# The algorithms.


@pytest.mark.rule("L7")
def test_for_aimd_a_time_out_is_a_drop() -> None:
    assert aimd(20, reading(1.0), 1.0) == 21
    assert aimd(20, reading(1.0, dropped=0.01), 1.0) == 18
    core, other = core_of("aimd"), core_of("aimd")
    for one in (core, other):
        now = 0.0
        for _ in range(20):
            tickets = [Ticket(one, now) for _ in range(20) if one.try_acquire(0.0, now)]
            now += 0.25
            for ticket in tickets[1:]:
                end(ticket, now)
            end(tickets[0], now, DROP if one is core else SAMPLE)
    assert core.limit < 20 < other.limit, "one among twenty"


@pytest.mark.rule("L7")
@pytest.mark.parametrize(("lasts", "grows"), [(0.499, True), (0.5, True), (0.501, False)])
def test_for_aimd_more_than_twice_the_latency_without_load_is_a_drop(
    lasts: float, grows: bool
) -> None:
    assert aimd(20, reading(2 * lasts), 0.5) == (21 if 2 * lasts <= 1.0 else 18)
    core = core_of("aimd")
    now = rounds(core, 20, 0.25, times=10)
    assert core.unloaded == 0.25
    before = core.limit
    rounds(core, before, lasts, now=now, times=3)
    assert (core.limit > before) is grows


def test_the_gradient_shrinks_by_the_ratio_of_the_latencies_and_grows_by_a_short_queue() -> None:
    assert gradient(16, reading(1.0), 1.0) == 18
    assert gradient(1, reading(1.0), 1.0) == 2, "at least by one"
    assert gradient(16, reading(2.0), 1.0) == pytest.approx(16 + 0.3 * (8 + 2 - 16))
    assert gradient(16, reading(100.0), 1.0) == gradient(16, reading(2.0), 1.0), "at most by half"
    assert gradient(16, reading(2.0, error=0.6), 1.0) == 18, "noise alone shrinks nothing"
    shrinks = 16 + 0.3 * (16 / 1.5 + 2 - 16)
    assert gradient(16, reading(2.0, error=0.25), 1.0) == pytest.approx(shrinks), "two errors off"


def test_drops_cut_the_gradient_from_what_was_in_flight() -> None:
    assert gradient(100, reading(1.0, dropped=0.1), 1.0) > 100, "a tenth of them says nothing"
    assert gradient(100, reading(1.0, dropped=0.2, peak=50), 1.0) == pytest.approx(35)
    assert gradient(40, reading(1.0, dropped=0.2, peak=50), 1.0) == pytest.approx(28)


def test_vegas_keeps_a_short_queue() -> None:
    def step(mean: float) -> float:
        return vegas(100, reading(mean), 1.0) - 100

    assert step(0.9) == step(1.0) == 12, "no queue: six steps of log10(limit)"
    assert step(1.02) == 12, "two in the queue: no more than a step"
    assert step(1.04) == 2, "four"
    assert step(1.06) == 0, "six: three steps"
    assert step(1.1) == 0, "ten"
    assert step(1.13) == 0, "twelve: six steps"
    assert step(1.145) == -2, "thirteen: more than that"
    assert step(1.2) == -2, "seventeen"
    assert vegas(100, reading(0.0), 0.0) == 112, "calls that take no time"
    assert vegas(100, reading(1.0, dropped=0.1), 1.0) == 112, "a tenth of them says nothing"
    assert vegas(100, reading(1.0, dropped=0.2), 1.0) == 98
    assert vegas(2, reading(1.0), 1.0) == 8, "a step is one at least"


# Windows.


def test_a_window_ends_with_ten_calls_and_twice_as_many_as_were_in_flight() -> None:
    sampler = Sampler(0.0)
    sampler.peak = 8
    for number in range(1, 17):
        assert sampler.read(0.5, 0.01) is None, number
        sampler.add(0.01, SAMPLE, 0.1)
    found = sampler.read(0.5, 0.01)
    assert found is not None
    assert (found.peak, found.dropped) == (8, 0.0)
    sampler.clear(0.5)
    assert sampler.peak == 0
    for number in range(1, 11):
        assert sampler.read(0.9, 0.01) is None, number
        sampler.add(0.02, SAMPLE, 0.6)
    found = sampler.read(0.9, 0.01)
    assert found is not None
    assert found.mean == pytest.approx(0.02)


def filled(count: int, outcome: Outcome = SAMPLE, *, peak: int = 8) -> Sampler:
    """A window that began at 10 s."""
    sampler = Sampler(0.0)
    sampler.peak = peak
    for _ in range(count):
        sampler.add(0.25, outcome, 10.25)
    return sampler


@pytest.mark.parametrize(
    ("sampler", "latency", "until"),
    [
        (filled(16), 0.25, 0.5),
        (filled(16), 0.75, 1.5),
        (filled(16), 99.0, LONGEST),
        (filled(15), 0.25, LONG),
        (filled(10), 0.75, 1.5),
        (filled(9), 0.25, LONGEST),
        (filled(FEW_DROPS, DROP), 0.25, LONG),
        (filled(FEW_DROPS - 1, DROP), 0.25, LONGEST),
    ],
    ids=[
        "full", "full of long calls", "full of calls that last for ever", "nearly full",
        "nearly full of long calls", "a few", "a few drops", "fewer",
    ],
)  # fmt: skip
def test_a_window_lasts_from_its_first_call_for_two_calls_or_as_long_as_is_bearable(
    sampler: Sampler, latency: float, until: float
) -> None:
    assert sampler.read(10.0 + until - 0.001, latency) is None
    assert sampler.read(10.0 + until, latency) is not None


def test_a_window_without_a_call_never_ends() -> None:
    assert Sampler(0.0).read(1e6, 0.25) is None


def test_a_reading_is_the_mean_its_error_and_the_share_of_drops() -> None:
    sampler = Sampler(0.0)
    for latency in (1.0, 3.0) * 8:
        sampler.add(latency, DROP if latency > 2 else SAMPLE, 0.0)
    assert sampler.read(5.0, 1.0) == Reading(2.0, 0.25, 0, 0.5)


@pytest.mark.rule("L7")
@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_few_calls_may_be_wrong_by_all_they_say(count: int) -> None:
    """So that a limit with hardly any traffic is not taken down by one slow call at a time."""
    sampler = Sampler(0.0)
    for _ in range(count):
        sampler.add(2.0, SAMPLE, 5.0)
        assert sampler.read(5.0, 1.0) is None
    assert sampler.read(3.0 + LONGEST, 1.0) == Reading(2.0, 2.0, 0, 0.0)
    for name, algorithm in ALGORITHMS.items():
        if name == "gradient":
            assert algorithm(20.0, Reading(2.0, 2.0, 1, 0.0), 0.5) >= 20


# The latency without load.


def test_it_falls_faster_than_it_rises() -> None:
    baseline = Baseline(0.0, 1)
    assert baseline.learn(reading(1.0), 20.0, 0.0) is None
    assert baseline.unloaded == 1.0
    baseline.learn(reading(0.5), 20.0, 1.0)
    assert baseline.unloaded == pytest.approx(0.95)
    baseline.learn(reading(1.05, error=0.2), 20.0, 2.0)
    assert baseline.unloaded == pytest.approx(0.952), "as long as chance may make it"
    baseline.learn(reading(2.0, error=0.2), 20.0, 3.0)
    assert baseline.unloaded == pytest.approx(0.952), "there is a queue"


def test_a_latency_that_is_never_seen_again_is_measured_anew_with_fewer_in_flight() -> None:
    core = core_of(most=20)
    now = rounds(core, 20, 0.25, times=4)
    began = now
    while core.unloaded == 0.25 and now - began < 60:
        tickets = fill(core, now)
        now += 1.0 if len(tickets) > 12 else 0.5  # twice as slow, and a queue of its own
        for ticket in tickets:
            end(ticket, now)
    assert core.unloaded == 0.5
    assert TRUSTED <= now - began <= 3 * TRUSTED
    assert core.try_acquire(0.0, now)


def test_calls_that_began_before_the_measuring_say_nothing_of_it() -> None:
    baseline = Baseline(0.0, 1)
    baseline.learn(reading(0.25), 20.0, 0.0)
    assert baseline.takes(0.0)
    baseline.learn(reading(0.5), 20.0, TRUSTED)
    assert baseline.cap == 5.0, "half of what was in flight, not of the limit"
    assert not baseline.takes(TRUSTED + 0.499), "it began with the others still in"
    assert baseline.takes(TRUSTED + 0.5)
    assert baseline.learn(reading(0.4), 20.0, TRUSTED + 1) == math.inf
    assert (baseline.unloaded, baseline.measuring) == (0.4, False)


@pytest.mark.rule("L10")
def test_what_is_in_flight_is_halved_until_that_makes_calls_no_quicker() -> None:
    baseline = Baseline(0.0, 1)
    baseline.learn(reading(0.25), 100.0, 0.0)
    bounds, caps, now = [], [], TRUSTED
    baseline.learn(reading(4.0, peak=64), 100.0, now)
    while baseline.measuring:
        caps.append(baseline.cap)
        now += 10.0
        bounds.append(baseline.learn(reading(max(0.5, baseline.cap / 16)), 100.0, now))
    assert caps == [32.0, 16.0, 8.0, GENTLE]
    assert bounds == [math.inf, math.inf, math.inf, 4 * GENTLE]
    assert baseline.unloaded == 0.5


@pytest.mark.rule("L10")
def test_the_first_latency_is_proven_where_the_limit_is_in_use_and_again_in_time() -> None:
    baseline = Baseline(0.0, 1)
    for peak, now, measures in (
        (10, 0.0, False), (10, TRUSTED, False), (11, TRUSTED, True), (5, TRUSTED + 1, False),
        (20, TRUSTED + VERIFIED, False), (20, TRUSTED + 1 + VERIFIED, True),
    ):  # fmt: skip
        baseline.learn(reading(0.25, peak=peak), 20.0, now)
        assert baseline.measuring is measures, (peak, now)
    assert baseline.learn(reading(0.25), 20.0, 100.0) == math.inf
    assert baseline.unloaded == 0.25


@pytest.mark.rule("L10")
def test_a_latency_that_was_proven_is_known_again_at_once() -> None:
    baseline = Baseline(0.0, 1)
    baseline.learn(reading(0.5), 10.0, 0.0)
    for now in (TRUSTED, 2 * TRUSTED + 2):
        baseline.learn(reading(2.0, peak=32), 40.0, now)
        caps = 0
        while baseline.measuring:
            caps += 1
            baseline.learn(reading(0.5), 40.0, now + caps)
        assert caps == (2 if now == TRUSTED else 1), "it is halved again only to prove it"


@pytest.mark.rule("L9")
def test_never_fewer_than_the_least_limit_may_be_in_flight_not_even_to_measure() -> None:
    baseline = Baseline(0.0, 4)
    baseline.learn(reading(0.25), 7.0, 0.0)
    baseline.learn(reading(1.0, peak=7), 7.0, TRUSTED)
    assert baseline.cap == 4.0
    assert baseline.learn(reading(0.5), 7.0, TRUSTED + 9) is not None
    assert not baseline.measuring
    core = core_of(initial=7, least=4)
    core._baseline.cap = 4.0
    assert len(fill(core, 0.0)) == 4


@pytest.mark.parametrize(("known", "after"), [(0.25, TRUSTED), (2.0, 2.0 * CALLS)])
def test_it_is_measured_anew_after_a_while_that_slow_calls_make_longer(
    known: float, after: float
) -> None:
    baseline = Baseline(0.0, 1)
    baseline.learn(reading(known), 20.0, 0.0)
    baseline.learn(reading(2 * known), 20.0, after - 0.01)
    assert not baseline.measuring
    baseline.learn(reading(2 * known), 20.0, after)
    assert baseline.measuring


@pytest.mark.parametrize("algorithm", ALL)
def test_the_measuring_itself_moves_no_limit(algorithm: str) -> None:
    core = core_of(algorithm, initial=16)
    rounds(core, 16, 0.25, times=2)
    limit, now, tickets = core.limit, 100.0, [begin(core, 100.0) for _ in range(16)]
    for ticket in tickets:
        end(ticket, now + 1.0)
    limit, tickets = core.limit, fill(core, now + 2.0)
    assert len(tickets) == 8, "half of what was in flight"
    for ticket in tickets:
        end(ticket, now + 4.0)
    while core.unloaded != 2.0:
        end(begin(core, now + 4.0), now + 6.0)
    assert core.limit == limit


def test_its_totals_are_what_its_shell_has_counted() -> None:
    core = core_of()
    assert core.totals() == {"calls": 0, "rejected": 0}
    core.calls.add(3)
    next(core.rejected.increment)
    assert core.totals() == {"calls": 3, "rejected": 1}


# Who waits, and for how long.


def impatient(room: int = 1000) -> AdaptiveLimitCore:
    rule = AdaptiveLimitConfig(10, 1, 1000, gradient, room, patience=1.0)
    return AdaptiveLimitCore(rule, 0.0, [])


@pytest.mark.rule("P1")
def test_a_limit_that_is_used_up_doubles_until_a_window_says_no() -> None:
    core = core_of(initial=5)
    now, limits = 0.0, [core.limit]
    while now < 2.0:
        now += 0.25 if core.in_flight <= 40 else 1.0
        for ticket in fill(core, now):
            end(ticket, now + (0.25 if core.in_flight <= 40 else 1.0))
        if core.limit != limits[-1]:
            limits.append(core.limit)
    assert limits[:4] == [5, 10, 20, 40]
    quiet = core_of(initial=5)
    rounds(quiet, 4, 0.25, times=20)
    assert quiet.limit < 10, "it was never used up"


@pytest.mark.rule("P1")
def test_callers_wait_all_their_patience_while_nothing_is_wrong_and_a_quarter_of_it_else() -> None:
    core = impatient()
    tickets = fill(core, 0.0)
    assert core.patience(50.0) == 1.0, "nothing is known yet"
    for ticket in tickets:
        end(ticket, 0.1)
    for at in (0.1, 0.2):
        for ticket in fill(core, at):
            end(ticket, at + 0.1)
    assert core.unloaded == pytest.approx(0.1)
    ticket = fill(core, 9.0)[0]
    assert core.patience(9.0) == 1.0, "a pause is no silence"
    assert core.patience(9.49) == 1.0
    assert core.patience(9.51) == 0.25, "none of those in flight has ended"
    end(ticket, 9.6)
    assert core.patience(9.6) == 0.25, "calls take longer than usual"
    core = impatient(room=0)
    overload(core, rate=3 * CAPACITY, seconds=5)
    assert core.patience(5.0) == 0.25, "a window has said no: the limit knows its bounds"


@pytest.mark.rule("P1")
def test_who_would_wait_too_long_is_not_let_wait_but_for_a_few() -> None:
    core = impatient()
    for at in (0.0, 0.1):
        for ticket in fill(core, at):
            end(ticket, at + 0.1)
    fill(core, 0.2)
    places = core.in_flight
    waiting = 0
    while core.arrive(Waiter(), 0.2):
        waiting += 1
    assert waiting == 10 * places, "each would have its place within a second"
    core = impatient(room=5)
    fill(core, 0.0)
    assert [core.arrive(Waiter(), 0.0) for _ in range(6)] == [True] * 5 + [False]
    core = impatient()
    for ticket in fill(core, 0.0):
        end(ticket, 9.0)
    for ticket in fill(core, 9.0):
        end(ticket, 20.0)
    fill(core, 20.0)
    assert [core.arrive(Waiter(), 20.0) for _ in range(9)] == [True] * 8 + [False]


# Priorities.


def share(seen: Priorities, priority: float, now: float = 0.0) -> float:
    seen.see(priority, now)
    return seen.share(priority)


def test_the_lowest_may_use_half_the_highest_all_and_those_between_their_share() -> None:
    seen = Priorities()
    assert share(seen, 3.0) == 1.0, "alone it is the highest"
    assert share(seen, 7.0) == 1.0
    assert share(seen, 3.0) == 0.5
    assert share(seen, 4.0) == 0.625
    assert share(seen, -1.0) == 0.5
    assert share(seen, 3.0) == 0.75


def test_priorities_are_forgotten_after_ten_to_twenty_seconds() -> None:
    seen = Priorities()
    share(seen, 9.0, 0.0)
    assert share(seen, 1.0, REMEMBERED - 0.01) == 0.5
    assert share(seen, 1.0, REMEMBERED) == 0.5
    assert share(seen, 1.0, 2 * REMEMBERED) == 1.0
    share(seen, 9.0, 2 * REMEMBERED)
    assert share(seen, 1.0, 5 * REMEMBERED) == 1.0, "at once, after a long rest"
    seen = Priorities()
    share(seen, 9.0, 0.0)
    assert share(seen, 1.0, 2 * REMEMBERED) == 1.0, "twenty are over"


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6, unique=True)
)
@example([-sys.float_info.max, 0.0, sys.float_info.max])
@example([0.0, math.ulp(0.0)])
def test_a_share_is_one_half_to_one_and_in_the_order_of_the_priorities(many: list[float]) -> None:
    seen = Priorities()
    for priority in many:
        seen.see(priority, 0.0)
    shares = [seen.share(priority) for priority in sorted(many)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[0] == (0.5 if len(many) > 1 else 1.0)


def test_the_lowest_may_use_one_place_at_least() -> None:
    core = core_of(initial=1)
    begin(core, 0.0, 5.0)
    assert not core.try_acquire(0.0, 0.0)
    core.give_up(taken(core), 0.0)
    assert core.try_acquire(0.0, 0.0)


def taken(core: AdaptiveLimitCore) -> Waiter:
    """A waiter that was given a place of *core*."""
    waiter = Waiter()
    waiter.given = True
    return waiter


# The queue.


def test_who_waits_is_served_by_priority_and_in_the_order_of_arrival_among_equals() -> None:
    woken = list[Waiter]()
    core = core_of(initial=1, room=9, woken=woken)
    ticket = begin(core, 0.0, 2.0)
    waiters = [Waiter(priority) for priority in (0, 1, 2, 1, 2, 0)]
    for waiter in waiters:
        assert core.arrive(waiter, 0.0)
    assert not woken
    served = []
    for _ in waiters:
        end(ticket, 0.0, IGNORED)
        (waiter,) = woken
        woken.clear()
        assert waiter.given
        served.append(waiters.index(waiter))
        ticket = Ticket(core, 0.0)
    assert served == [2, 4, 1, 3, 0, 5]
    end(ticket, 0.0, IGNORED)
    assert core.idle()


def test_a_more_important_newcomer_takes_the_place_of_the_last_of_the_least_important() -> None:
    woken = list[Waiter]()
    core = core_of(initial=1, room=3, woken=woken)
    ticket = begin(core, 0.0, 9.0)
    early, middle, late = Waiter(1), Waiter(2), Waiter(1)
    assert all(core.arrive(waiter, 0.0) for waiter in (early, middle, late))
    assert not core.arrive(Waiter(1), 0.0), "an equal is not shed"
    assert not core.arrive(Waiter(0), 0.0)
    assert core.arrive(Waiter(2), 0.0)
    assert (list(woken), late.shed, late.given) == ([late], True, False)
    core.give_up(late, 0.0)
    assert core.in_flight == 1
    assert len(core.queue) == 3
    assert core.arrive(Waiter(3), 0.0)
    assert early.shed
    assert not core.arrive(Waiter(2), 0.0), "those who are left are as important"
    end(ticket, 0.0, IGNORED)
    assert woken.pop().priority == 3


def test_who_names_no_priority_has_that_of_nought() -> None:
    assert Waiter().priority == 0


def test_who_does_not_wait_sheds_nobody() -> None:
    core = core_of(initial=1, room=1)
    begin(core, 0.0)
    waiter = Waiter(0)
    assert core.arrive(waiter, 0.0)
    assert not core.arrive(Waiter(5), 0.0, patient=False)
    assert not waiter.shed
    assert not core_of(initial=1).queue
    bare = core_of(initial=1)
    begin(bare, 0.0)
    assert not bare.arrive(Waiter(5), 0.0), "without a queue there is nobody to shed"


def test_a_waiter_that_goes_gives_the_next_what_it_was_given() -> None:
    woken = list[Waiter]()
    core = core_of(initial=1, room=3, woken=woken)
    ticket = begin(core, 0.0)
    first, second, third = (Waiter() for _ in range(3))
    for waiter in (first, second, third):
        core.arrive(waiter, 0.0)
    core.give_up(second, 0.0)
    end(ticket, 0.0, IGNORED)
    assert first.given
    core.give_up(first, 0.0)
    assert third.given
    core.give_up(third, 0.0)
    assert core.idle()
    assert list(woken) == [first, third]


def test_a_limit_that_grows_serves_several_at_once() -> None:
    woken = list[Waiter]()
    core = core_of(initial=20, room=400, woken=woken)
    for _ in range(20):
        begin(core, 0.0)
    for _ in range(400):
        core.arrive(Waiter(), 0.0)
    grew = []
    for began in (0.0, 1.0):
        for _ in range(20):
            moved = end(Ticket(core, began), began + 1.0)
            if moved is not None:
                grew.append(moved)
            assert core.in_flight == core.limit, "nobody waits while a place is free"
    assert len(woken) == 40 + core.limit - 20
    assert grew[0][0] == 20
    assert grew[-1][1] == core.limit > 21


class PlacesMachine(RuleBasedStateMachine):
    """The places and the queue against a list: who is in, who waits, who is shed.

    No call is a sample, so that the limit stands still; and so does time, so that every priority is
    remembered.
    """

    running: Bundle[Ticket] = Bundle("running")
    waiting: Bundle[Waiter] = Bundle("waiting")
    LIMIT, ROOM = 4, 3
    RANKS = st.sampled_from([0.0, 1.0, 2.0])

    def __init__(self) -> None:
        super().__init__()
        self.woken = list[Waiter]()
        self.core = core_of(initial=self.LIMIT, room=self.ROOM, woken=self.woken)
        self.inside, self.queue, self.seen = 0, list[Waiter](), set[float]()
        self.shed, self.served = list[Waiter](), list[Waiter]()

    def may(self, priority: float) -> bool:
        low, high = min(self.seen), max(self.seen)
        part = 1.0 if low == high else 0.5 + 0.5 * (priority - low) / (high - low)
        return self.inside < max(1, int(self.LIMIT * part))

    def serve(self) -> None:
        while self.queue:
            best = max(one.priority for one in self.queue)
            waiter = next(one for one in self.queue if one.priority == best)
            if not self.may(best):
                return
            self.queue.remove(waiter)
            self.served.append(waiter)
            self.inside += 1

    def come(self, priority: float) -> bool:
        self.seen.add(priority)
        self.serve()
        free = self.may(priority)
        self.inside += free
        return free

    @rule(target=running, priority=RANKS)
    def enters(self, priority: float) -> Ticket | MultipleResults[Ticket]:
        free = self.come(priority)
        assert self.core.try_acquire(priority, 0.0) is free
        return Ticket(self.core, 0.0) if free else multiple()

    @rule(target=waiting, priority=RANKS, patient=st.booleans())
    def arrives(self, priority: float, patient: bool) -> Waiter | MultipleResults[Waiter]:
        waiter = Waiter(priority)
        free = self.come(priority)
        stays = free
        if not free and patient:
            lowest = min((one.priority for one in self.queue), default=math.inf)
            if len(self.queue) == self.ROOM and lowest < priority:
                gone = [one for one in self.queue if one.priority == lowest][-1]
                self.queue.remove(gone)
                self.shed.append(gone)
            stays = len(self.queue) < self.ROOM
            if stays:
                self.queue.append(waiter)
        assert self.core.arrive(waiter, 0.0, patient=patient) is stays
        assert waiter.given is free
        return waiter if stays else multiple()

    @rule(ticket=consumes(running))
    def ends(self, ticket: Ticket) -> None:
        assert self.core.release(ticket, 0.0) is None
        self.inside -= 1
        self.serve()

    @rule(waiter=consumes(waiting))
    def goes(self, waiter: Waiter) -> None:
        self.core.give_up(waiter, 0.0)
        self.core.give_up(waiter, 0.0)  # one whose loop was closed goes twice
        if waiter in self.queue:
            self.queue.remove(waiter)
        elif waiter not in self.shed:
            self.inside -= 1
            if waiter in self.served:
                self.served.remove(waiter)
        self.serve()

    @invariant()
    def they_agree(self) -> None:
        assert self.core.in_flight == self.inside <= self.LIMIT
        assert list(self.core.queue) == sorted(self.queue, key=lambda one: -one.priority)
        assert len(self.queue) <= self.ROOM
        assert [one for one in self.woken if one.shed] == self.shed
        assert [one for one in self.woken if one.given] == self.served
        assert not any(one.given or one.shed for one in self.queue)
        assert self.core.idle() is (self.inside == 0 and not self.queue)


def test_places_and_queue_are_what_a_list_would_make_of_them() -> None:
    run_state_machine_as_test(
        PlacesMachine, settings=settings(max_examples=80, stateful_step_count=40)
    )


def test_one_that_has_learned_nothing_does_not_differ_from_a_new_one() -> None:
    core = core_of()
    rounds(core, 5, 0.1, times=1, outcome=IGNORED)
    assert core.untouched()
    rounds(core, 20, 0.25, times=2)
    assert not core.untouched()

"""The rules of the throttle, L8."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from resilient._core.matching import Verdict
from resilient._core.throttle import ThrottleConfig, ThrottleCore

OK, BAD, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED
WINDOW = 10.0
NEVER = math.nextafter(1.0, 0.0)
"""A draw that is rejected by no probability below one."""


def core_of(
    *,
    k: float = 2.0,
    window: float = WINDOW,
    minimum: int = 10,
    most: float = 0.9,
    now: float = 0.0,
) -> ThrottleCore:
    return ThrottleCore(ThrottleConfig(k, window, minimum, most), now)


def calls(core: ThrottleCore, *verdicts: Verdict, now: float = 0.0) -> None:
    """Calls that are let through, whatever the probability."""
    for verdict in verdicts:
        assert core.admit(now, NEVER)
        core.settle(verdict, now)


# The probability.


@pytest.mark.rule("L8")
@pytest.mark.parametrize(
    ("k", "good", "bad", "probability"),
    [
        (2.0, 50, 50, 0.0),
        (2.0, 40, 60, 20 / 101),
        (2.0, 10, 90, 80 / 101),
        (2.0, 1, 99, 0.9),
        (2.0, 0, 10, 0.9),
        (1.0, 50, 50, 50 / 101),
        (1.0, 100, 0, 0.0),
        (1.5, 40, 60, 40 / 101),
        (10.0, 10, 90, 0.0),
    ],
)
def test_the_probability_is_what_the_formula_says(
    k: float, good: int, bad: int, probability: float
) -> None:
    core = core_of(k=k)
    calls(core, *[OK] * good, *[BAD] * bad)
    assert core.probability(0.0) == pytest.approx(probability)


@pytest.mark.rule("L8")
@pytest.mark.parametrize("most", [0.1, 0.5, 0.9, 0.999])
def test_it_is_never_above_the_most(most: float) -> None:
    core = core_of(most=most)
    calls(core, *[BAD] * 10_000)
    assert core.probability(0.0) == most
    assert core.admit(0.5, most), "whoever draws that much passes"
    assert not core.admit(0.5, math.nextafter(most, 0.0))


@pytest.mark.parametrize("minimum", [1, 10, 50])
def test_below_the_minimum_nothing_is_rejected(minimum: int) -> None:
    core = core_of(minimum=minimum)
    calls(core, *[BAD] * (minimum - 1))
    assert core.probability(0.0) == 0.0
    assert core.admit(0.0, 0.0)
    core.settle(BAD, 0.0)
    assert core.probability(0.0) > 0.0
    assert not core.admit(0.0, 0.0)


@pytest.mark.rule("L8")
def test_what_it_rejects_is_no_request() -> None:
    core = core_of()
    calls(core, *[OK] * 40, *[BAD] * 60)
    before = core.probability(0.0)
    assert not any(core.admit(0.5, 0.0) for _ in range(1000))
    assert core.probability(0.5) == before
    assert core.in_window(0.5) == (60, 100)
    assert core.requests.read() == 100


@pytest.mark.rule("L8")
def test_a_cancelled_call_is_neither_request_nor_accept() -> None:
    core = core_of()
    calls(core, *[OK] * 40, *[BAD] * 60)
    before = core.probability(0.0)
    calls(core, *[IGNORED] * 500)
    assert core.probability(0.0) == before
    assert (core.requests.read(), core.accepts.read(), core.in_flight) == (100, 40, 0)


def test_calls_that_have_not_ended_are_no_requests_yet() -> None:
    core = core_of()
    for _ in range(50):
        assert core.admit(0.0, NEVER)
    assert core.in_window(0.0) == (0, 0)
    assert (core.in_flight, core.idle()) == (50, False)
    for _ in range(50):
        core.settle(BAD, 1.0)
    assert core.in_window(1.0) == (50, 50)
    assert core.idle()


def test_its_totals_are_of_its_whole_life() -> None:
    core = core_of()
    calls(core, *[OK] * 2, *[BAD] * 3, IGNORED)
    next(core.rejected.increment)
    next(core.calls.increment)
    core.in_window(3 * WINDOW)
    assert core.totals() == {"requests": 5, "accepts": 2, "rejected": 1}


# At least one a second.


@pytest.mark.rule("L8")
@pytest.mark.parametrize("gap", [0.125, 0.25, 0.5])
def test_at_least_one_call_a_second_passes_however_the_dice_fall(gap: float) -> None:
    core = core_of(most=0.999, minimum=1)
    calls(core, *[BAD] * 100)
    passed = []
    for step in range(1, int(60 / gap) + 1):
        if core.admit(step * gap, 0.0):
            core.settle(BAD, step * gap)
            passed.append(step * gap)
    assert passed == [float(second) for second in range(1, 61)]


@pytest.mark.rule("L8")
def test_a_call_that_comes_after_a_second_without_one_passes() -> None:
    core = core_of()
    calls(core, *[BAD] * 100)
    assert not core.admit(math.nextafter(1.0, 0.0), 0.0)
    assert core.admit(1.0, 0.0)
    core.settle(IGNORED, 1.0)
    assert not core.admit(1.5, 0.0), "also one that was cancelled has passed"
    assert core.admit(5.0, 0.0)
    assert not core.admit(5.0, 0.0)


# After an outage.


@pytest.mark.rule("L8")
@pytest.mark.parametrize("rate", [16, 128, 1024])
@pytest.mark.parametrize("k", [1.0, 2.0])
def test_after_an_outage_of_a_minute_all_are_admitted_again_within_one_window(
    rate: int, k: float
) -> None:
    """With the worst of dice: whoever may be rejected, is."""
    core, now = core_of(k=k), 0.0

    def run(seconds: float, verdict: Verdict) -> list[float]:
        nonlocal now
        rejected = []
        for _ in range(int(seconds * rate)):
            now += 1 / rate
            if core.admit(now, 0.0):
                core.settle(verdict, now)
            else:
                rejected.append(now)
        return rejected

    assert not run(20, OK)
    assert run(60, BAD)
    over = now
    calls(core, BAD, now=over)  # the last of them fails at the very end
    rejected = run(30, OK)
    assert max(rejected, default=over) - over < WINDOW
    assert core.probability(now) == 0.0


@dataclass
class Feeding:
    """The throttle of the book, which counts what it rejects itself as a request.

    Otherwise it is as kind as ours: never above the most, and one a second.
    """

    k: float = 2.0
    most: float = 0.9
    requests: deque[float] = field(default_factory=deque)
    accepts: deque[float] = field(default_factory=deque)
    passed_at: float = 0.0

    def probability(self, now: float) -> float:
        for times in (self.requests, self.accepts):
            while times and times[0] <= now - WINDOW:
                times.popleft()
        requests, accepts = len(self.requests), len(self.accepts)
        return min(self.most, max(0.0, (requests - self.k * accepts) / (requests + 1)))

    def call(self, now: float, u: float, good: bool) -> bool:
        probability = self.probability(now)
        self.requests.append(now)
        if u < probability and now - self.passed_at < 1:
            return False
        self.passed_at = now
        if good:
            self.accepts.append(now)
        return True


@pytest.mark.rule("L8")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_that_counts_its_own_rejections_is_slower_to_recover(seed: int) -> None:
    """20 calls a second; down from 20 s to 80 s. When does the last rejection come?"""
    core, other = core_of(), Feeding()
    dice, last = random.Random(seed), {"ours": 80.0, "theirs": 80.0}
    lost = {"ours": 0, "theirs": 0}
    for step in range(20 * 140):
        now, u = step / 20, dice.random()
        up = not 20 <= now < 80
        passed = core.admit(now, u)
        if passed:
            core.settle(OK if up else BAD, now)
        for who, through in (("ours", passed), ("theirs", other.call(now, u, up))):
            if not through and now >= 80:
                last[who] = now
                lost[who] += 1
    assert last["ours"] < 80 + WINDOW
    assert last["theirs"] >= 80 + 1.4 * WINDOW
    assert lost["theirs"] > 1.5 * lost["ours"], "and rejects more, of a dependency that is well"


@pytest.mark.rule("L8")
def test_while_half_of_the_calls_fail_nothing_is_rejected() -> None:
    core = core_of()
    for step in range(2000):
        now = step / 32
        assert core.admit(now, 0.01), "an odd number of calls leaves one more failure"
        core.settle(BAD if step % 2 else OK, now)


@pytest.mark.rule("L8")
def test_while_a_tenth_is_accepted_four_fifths_are_rejected() -> None:
    """It does not feed on itself: what is rejected does not make it reject more."""
    core, dice, passed = core_of(), random.Random(1), 0
    for step in range(100 * 200):
        now = step / 100
        if core.admit(now, dice.random()):
            core.settle(OK if dice.random() < 0.1 else BAD, now)
            passed += now >= 20
    assert passed / (100 * 180) == pytest.approx(0.2, abs=0.03)


# Time.


def test_the_window_forgets_what_is_older_than_it_is_and_keeps_nine_tenths_of_it() -> None:
    core = core_of()
    calls(core, *[BAD] * 50)
    assert core.in_window(0.9 * WINDOW) == (50, 50)
    assert core.in_window(WINDOW) == (0, 0)
    assert core.probability(WINDOW) == 0.0
    calls(core, *[OK] * 30, *[BAD] * 50, now=20.0)
    assert core.in_window(20.0 + 0.9 * WINDOW) == (50, 80)
    assert core.in_window(20.0 + WINDOW) == (0, 0)


@pytest.mark.rule("L8")
@pytest.mark.parametrize("behind", [0.5, 1.0, 30.0])
def test_readings_a_little_out_of_order_are_those_of_other_threads(behind: float) -> None:
    core = core_of(now=100.0)
    calls(core, *[BAD] * 50, now=100.0)
    assert core.admit(101.0, 0.0)
    core.settle(BAD, 101.0 - behind)
    assert core.in_window(100.25) == (51, 51)
    assert not core.admit(101.75, 0.0), "less than a second after the last"
    assert core.admit(102.0, 0.0)


# Against a list.


class ThrottleMachine(RuleBasedStateMachine):
    """The contract's throttle remembers every call with its time."""

    @initialize(
        k=st.sampled_from([1.0, 2.0, 3.5]),
        minimum=st.sampled_from([1, 3]),
        most=st.sampled_from([0.5, 0.9]),
    )
    def begin(self, k: float, minimum: int, most: float) -> None:
        self.told = ThrottleConfig(k, WINDOW, minimum, most)
        self.core, self.now = ThrottleCore(self.told, 0.0), 0.0
        self.ended: list[tuple[float, bool]] = []
        self.passed_at, self.out = 0.0, 0

    def possible(self) -> set[float]:
        """What the probability may be: what is between 0.9 and 1 of the window old may be gone."""
        kept = [one for one in self.ended if self.now - one[0] < WINDOW]
        may_go = sum(self.now - at >= 0.9 * WINDOW for at, _ in kept)
        found = set()
        for gone in range(may_go + 1):
            window = kept[gone:]
            requests, accepts = len(window), sum(good for _, good in window)
            share = max(0.0, (requests - self.told.k * accepts) / (requests + 1))
            found.add(min(self.told.max_reject, share) if requests >= self.told.minimum else 0.0)
        return found

    @rule(seconds=st.sampled_from([0.0, 0.25, 0.5, 1.0, 5.0, 9.0, 10.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(u=st.sampled_from([0.0, 0.2, 0.5, 0.7, 0.89, 0.9, NEVER]))
    def comes(self, u: float) -> None:
        chances = self.possible()
        passed = self.core.admit(self.now, u)
        if self.now - self.passed_at >= 1 or u >= max(chances):
            assert passed
        elif u < min(chances):
            assert not passed
        if passed:
            self.passed_at = self.now
            self.out += 1

    @rule(verdict=st.sampled_from([OK, BAD, BAD, IGNORED]))
    def ends(self, verdict: Verdict) -> None:
        if self.out:
            self.core.settle(verdict, self.now)
            self.out -= 1
            if verdict is not IGNORED:
                self.ended.append((self.now, verdict is OK))

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "core"):
            return
        assert min(abs(self.core.probability(self.now) - one) for one in self.possible()) < 1e-12
        assert self.core.requests.read() == len(self.ended)
        assert self.core.accepts.read() == sum(good for _, good in self.ended)
        assert self.core.in_flight == self.out


def test_it_does_what_a_list_of_all_calls_says() -> None:
    run_state_machine_as_test(
        ThrottleMachine, settings=settings(max_examples=80, stateful_step_count=40)
    )


@given(
    st.lists(st.tuples(st.sampled_from([OK, BAD, IGNORED]), st.floats(0, 3)), max_size=60),
    st.floats(0.01, 0.99),
)
def test_the_probability_is_never_below_zero_nor_above_the_most(
    rows: list[tuple[Verdict, float]], most: float
) -> None:
    core, now = core_of(minimum=1, most=most), 0.0
    for verdict, later in rows:
        now += later
        assert core.admit(now, NEVER)
        core.settle(verdict, now)
        assert 0.0 <= core.probability(now) <= most

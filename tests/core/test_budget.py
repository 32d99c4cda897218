"""The retry budget, R4.

The model is a set of possible budgets: where the contract leaves open when a deposit expires
(between ttl and 1.1 ttl), it goes on with each possibility, and drops those that what is seen
denies. Times are eighths of a second and the ratio is a quarter, so that sums are exact.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from resilient._core.budget import LATE, MOST_BUCKETS, MOST_TOKENS, BudgetConfig, BudgetCore

TTL, EDGE = 10.0, 11.0
Lots = tuple[tuple[float, float], ...]  # (made at, what is left of it), oldest first
Given = tuple[float, ...]  # when the reserve gave


def spent(lots: Lots) -> Lots:
    """*lots* after a withdrawal of 1, from the oldest first."""
    due, rest = 1.0, []
    for at, amount in lots:
        part = min(due, amount)
        due -= part
        rest.append((at, amount - part))
    return tuple((at, amount) for at, amount in rest if amount)


class BudgetMachine(RuleBasedStateMachine):
    @initialize(reserve=st.sampled_from([0, 1, 3]))
    def begin(self, reserve: int) -> None:
        self.now, self.reserve = 64.0, reserve
        self.core = BudgetCore(
            BudgetConfig(ratio=0.25, per_second=reserve / TTL, ttl=TTL), self.now
        )
        self.possible: set[tuple[Lots, Given]] = {((), ())}

    @rule(
        seconds=st.sampled_from([0.125, 1.0, 5.0, 9.875, TTL, EDGE, 11.125])
        | st.integers(0, 40).map(lambda n: n / 8)
    )
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        after = set()
        for lots, given_out in self.possible:
            back = tuple(at for at in given_out if self.now - at < TTL)
            kept = tuple(lot for lot in lots if self.now - lot[0] <= EDGE)
            may_go = sum(self.now - at >= TTL for at, _ in kept)
            after |= {(kept[gone:], back) for gone in range(may_go + 1)}
        self.possible = after

    @rule(calls=st.sampled_from([1, 1, 3, 5]))
    def deposit(self, calls: int) -> None:
        for _ in range(calls):
            self.core.deposit(self.now)
        more = ((self.now, 0.25),) * calls
        self.possible = {(lots + more, given_out) for lots, given_out in self.possible}

    @rule()
    def withdraw(self) -> None:
        took = self.core.withdraw(self.now)
        after = set()
        for lots, given_out in self.possible:
            if sum(amount for _, amount in lots) >= 1:
                expected, state = True, (spent(lots), given_out)
            elif len(given_out) < self.reserve:
                expected, state = True, (lots, (*given_out, self.now))
            else:
                expected, state = False, (lots, given_out)
            after |= {state} if expected is took else set()
        assert after, f"withdraw() said {took}"
        self.possible = after

    @rule()
    def look(self) -> None:
        left = self.core.left(self.now)
        assert left >= 0
        self.possible = {
            (lots, given_out)
            for lots, given_out in self.possible
            if sum(amount for _, amount in lots) + self.reserve - len(given_out) == left
        }
        assert self.possible, f"{left} are left"
        if self.core.untouched(self.now):
            assert ((), ()) in self.possible

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.look()


@pytest.mark.rule("R4")
def test_it_is_one_of_the_budgets_that_the_contract_allows() -> None:
    run_state_machine_as_test(
        BudgetMachine, settings=settings(max_examples=300, stateful_step_count=40)
    )


@pytest.mark.rule("R4")
@settings(max_examples=200)
@given(times=st.lists(st.floats(0, 50)), per_second=st.sampled_from([0.1, 0.25, 0.3, 0.55, 1.0]))
def test_in_any_ttl_the_reserve_gives_at_most_its_own(
    times: list[float], per_second: float
) -> None:
    core = BudgetCore(BudgetConfig(ratio=0.0, per_second=per_second, ttl=TTL), 0.0)
    took = [at for at in sorted(times) if core.withdraw(at)]
    assert all(sum(at <= other < at + TTL for other in took) <= per_second * TTL for at in took)


@pytest.mark.rule("R4", "T2")
@settings(max_examples=200)
@given(
    script=st.lists(
        st.tuples(
            st.sampled_from([-40.0, -3.0, -0.5, 0.25, 2.0, 12.0]),
            st.sampled_from(["deposit", "withdraw", "left"]),
        )
    ),
)
def test_however_far_readings_are_out_of_order_it_is_never_negative_and_as_new_in_the_end(
    script: list[tuple[float, str]],
) -> None:
    now, core = 100.0, BudgetCore(BudgetConfig(ratio=0.25, per_second=0.3, ttl=TTL), 100.0)
    deposits, high = 0, now
    for seconds, what in script:
        now += seconds
        high = max(high, now)
        getattr(core, what)(now)
        deposits += what == "deposit"
        assert 0 <= core.left(now) <= 3 + 0.25 * deposits
    assert core.left(high + 1.1 * TTL + 1) == 3
    assert core.untouched(high + 1.1 * TTL + 1)


# Each law once, in plain words.


def budget(
    ratio: float = 0.0, per_second: float = 0.0, ttl: float = TTL, now: float = 0.0
) -> BudgetCore:
    return BudgetCore(BudgetConfig(ratio, per_second, ttl), now)


def withdrawals(core: BudgetCore, now: float) -> int:
    """How many it gives in one instant."""
    number = 0
    while core.withdraw(now):
        number += 1
        assert number < 1000
    return number


@pytest.mark.rule("R4")
def test_a_call_deposits_the_ratio_and_a_retry_takes_one() -> None:
    core = budget(ratio=0.25)
    for _ in range(9):
        core.deposit(0.0)
    assert core.left(0.0) == 2.25
    assert withdrawals(core, 0.0) == 2
    assert core.left(0.0) == 0.25


@pytest.mark.rule("R4")
def test_three_deposits_of_a_third_are_one_retry_whatever_their_float_sum() -> None:
    core = budget(ratio=1 / 3)
    for now in (0.0, 1.0, 2.0):
        core.deposit(now)
    assert withdrawals(core, 2.0) == 1
    assert 0 <= core.left(2.0) < 1e-6


@pytest.mark.rule("R4")
def test_a_deposit_lives_for_ttl_and_not_for_more_than_eleven_tenths_of_it() -> None:
    core = budget(ratio=1.0)
    core.deposit(0.0)
    core.deposit(0.5)
    assert core.left(10.499) == 2
    assert core.left(11.001) <= 1
    assert core.left(11.501) == 0


@pytest.mark.rule("R4")
def test_a_deposit_lives_as_long_when_it_is_the_first_after_a_silence() -> None:
    core = budget(ratio=1.0)
    core.deposit(300.0)
    core.deposit(300.9)
    assert (core.left(310.0), core.left(310.899), core.left(311.0)) == (2, 2, 0)


@pytest.mark.rule("R4")
def test_the_oldest_deposit_is_spent_first() -> None:
    core = budget(ratio=1.0)
    core.deposit(0.0)
    core.deposit(5.0)
    assert core.withdraw(5.0)
    assert core.left(12.0) == 1  # the younger one is still there
    assert core.left(16.5) == 0


@pytest.mark.rule("R4")
def test_deposits_are_spent_before_the_reserve() -> None:
    core = budget(ratio=1.0, per_second=0.1)
    core.deposit(0.0)
    assert core.withdraw(0.0)
    assert core.left(0.0) == 1
    assert core.withdraw(0.0)
    assert not core.withdraw(0.0)


@pytest.mark.rule("R4")
def test_what_the_reserve_gave_comes_back_one_ttl_later() -> None:
    core = budget(per_second=0.2)
    assert core.withdraw(0.0)
    assert core.withdraw(4.0)
    assert not core.withdraw(9.999)
    assert withdrawals(core, 10.0) == 1
    assert withdrawals(core, 14.0) == 1


@pytest.mark.rule("R4")
def test_the_reserve_never_piles_up() -> None:
    core = budget(per_second=0.3)
    assert core.left(1e6) == 3
    assert withdrawals(core, 1e6) == 3


@pytest.mark.rule("R4")
def test_a_reserve_of_less_than_one_gives_one_in_a_longer_time() -> None:
    core = budget(per_second=0.05)
    assert withdrawals(core, 0.0) == 1
    assert withdrawals(core, 19.999) == 0
    assert withdrawals(core, 20.0) == 1


@pytest.mark.rule("R4")
def test_a_reserve_that_rounding_makes_a_little_less_than_whole_is_whole() -> None:
    assert 0.29 * 100 < 29
    assert budget(per_second=0.29, ttl=100.0).left(0.0) == 29
    assert budget(per_second=0.25, ttl=10.0).left(0.0) == 2


@pytest.mark.rule("R4")
def test_without_a_reserve_there_are_only_deposits() -> None:
    core = budget(ratio=0.5)
    assert (core.left(0.0), core.withdraw(0.0)) == (0, False)
    assert core.untouched(0.0)
    core.deposit(0.0)
    assert not core.withdraw(0.0)
    assert not core.untouched(0.0)
    core.deposit(0.0)
    assert core.withdraw(0.0)


@pytest.mark.rule("R4", "F10")
def test_a_budget_with_a_debt_is_not_untouched_though_a_deposit_makes_up_for_it() -> None:
    core = budget(ratio=1.0, per_second=0.5)
    assert core.untouched(0.0)
    assert core.withdraw(0.0)
    core.deposit(0.0)
    assert core.left(0.0) == 5
    assert not core.untouched(0.0)
    assert core.untouched(11.0)


@pytest.mark.rule("R4")
def test_buckets_do_not_pile_up_when_nobody_withdraws() -> None:
    core = budget(ratio=1.0)
    for now in range(1000):
        core.deposit(float(now))
    assert len(core._buckets) == MOST_BUCKETS
    assert core.left(999.0) in {10, 11}
    assert core.left(2000.0) == 0


@pytest.mark.rule("R4")
def test_calls_of_one_stretch_of_time_share_a_bucket() -> None:
    core = budget(ratio=1.0)
    end = core.present.until
    for now in (0.0, 0.4, math.nextafter(end, 0.0)):
        core.deposit(now)
    assert len(core._buckets) == 1
    core.deposit(end)
    core.deposit(end)
    assert len(core._buckets) == 2


@pytest.mark.rule("R4", "T2")
def test_a_reading_a_little_out_of_order_goes_to_the_present_bucket() -> None:
    core = budget(ratio=1.0, now=10.0)
    core.deposit(9.0)
    core.deposit(10.5)
    core.deposit(-50.0)
    assert len(core._buckets) == 1
    assert core.left(9.5) == 3
    assert (core.left(20.5), core.left(21.0)) == (3, 0)


@pytest.mark.rule("R4", "T2")
def test_readings_a_little_out_of_order_give_nothing_back_early() -> None:
    core = budget(per_second=0.1)
    assert core.withdraw(10.0)
    assert not core.withdraw(9.5)
    assert not core.withdraw(9.0)
    assert not core.withdraw(-50.0)
    assert not core.withdraw(19.75)
    assert core.withdraw(20.0)


@pytest.mark.rule("R4", "T2")
def test_a_deposit_that_a_late_reading_comes_upon_lives_as_long() -> None:
    core = budget(ratio=1.0, now=10.0)
    core.deposit(11.0)
    assert core.left(10.0) == 1
    assert core.left(20.95) == 1
    assert core.left(22.0) == 0


@pytest.mark.rule("R4", "R11")
def test_what_is_there_is_handed_out_as_tokens_and_no_more() -> None:
    core = budget(ratio=0.5)
    for _ in range(7):
        core.deposit(0.0)
    assert core.withdraw(0.25)
    assert core.since <= 0.5 < core.quiet_until
    assert [next(core.tokens, LATE) is LATE for _ in range(4)] == [False, False, True, True]
    assert core.left(0.5) == 0.5
    assert not core.withdraw(0.5)


@pytest.mark.rule("R4", "B11")
def test_who_takes_a_token_too_late_finds_none() -> None:
    core = budget(ratio=1.0)
    for _ in range(5):
        core.deposit(0.0)
    assert core.withdraw(0.0)
    old = core.tokens
    assert core.left(0.0) == 4, "which takes them back"
    assert next(old, LATE) is LATE
    assert core.left(0.0) == 4


@pytest.mark.rule("R4")
def test_no_more_tokens_are_out_than_a_few() -> None:
    core = budget(ratio=1.0)
    for _ in range(1000):
        core.deposit(0.0)
    assert core.withdraw(0.0)
    assert len(list(core.tokens)) == MOST_TOKENS - 1


@pytest.mark.rule("R4")
def test_tokens_end_when_a_bucket_begins_or_expires() -> None:
    core = budget(ratio=1.0)
    core.deposit(0.0)
    core.deposit(0.0)
    assert core.withdraw(0.0)
    assert core.quiet_until == core.present.until
    core.deposit(core.present.until)
    assert core.quiet_until == -math.inf, "the next withdrawal has to look"


@settings(max_examples=200)
@given(
    script=st.lists(
        st.tuples(st.sampled_from([0.0, 0.125, 0.5, 2.0, 9.875]), st.integers(0, 6)), max_size=30
    ),
    ratio=st.sampled_from([0.25, 1.0]),
)
@pytest.mark.rule("R4")
def test_a_token_is_a_withdrawal(script: list[tuple[float, int]], ratio: float) -> None:
    """Two budgets that are told the same: one gives tokens where it can, the other asks always."""
    short, long, now = budget(ratio=ratio, per_second=0.2), budget(ratio=ratio, per_second=0.2), 0.0
    for seconds, what in script:
        now += seconds
        if what < 4:
            short.deposit(now)
            long.deposit(now)
            continue
        quick = short.since <= now < short.quiet_until and next(short.tokens, LATE) is not LATE
        assert (quick or short.withdraw(now)) == long.withdraw(now)
    assert short.left(now) == long.left(now)

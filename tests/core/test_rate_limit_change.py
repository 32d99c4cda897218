"""A rate limit that is changed: at once, and nothing is forgiven (L11)."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.rate_limit import FINE, NANO, RateLimitConfig
from resilient._core.waiters import Waiter
from tests.core.test_rate_limit import RATES, ROUNDING, Bucket, core_of, exact, ticks

LEAST = Fraction(1, 2**60)
"""Of a call: a debt is rounded up by less, at each change."""


class Changing(Bucket):
    """A bucket, in fractions, whose terms change: what is missing from it stays missing."""

    def change(self, rate: Fraction, burst: int, at: Fraction) -> None:
        self.has(0, at)
        missing = self.burst - self.tokens
        self.rate, self.burst, self.tokens = rate, burst, burst - missing


@pytest.mark.rule("L11")
@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    terms=st.lists(
        st.tuples(st.sampled_from(RATES), st.none() | st.integers(1, 9)), min_size=2, max_size=4
    ),
    start=st.integers(0, 10**7),
)
def test_it_goes_on_as_a_bucket_of_fractions_that_is_changed(
    seed: int, terms: list[tuple[tuple[float, float], int | None]], start: int
) -> None:
    """Two hundred steps each: callers that take, that wait, that go, time, and changes."""
    dice = random.Random(seed)
    (limit, burst), now = terms[0], ticks(start)
    core, woken = core_of(*limit, burst, now)
    model = Changing(exact(*limit), core.config.burst, Fraction(now))
    line: list[Waiter] = []
    changes = 0

    def check(passed: bool, cost: int, most: int) -> None:
        """*passed* is right: never before the model would, and no later than rounding allows."""
        at, wanted = Fraction(now), min(cost, most)
        if passed:
            assert model.has(wanted, at), "something was forgiven"
            model.spend(cost)
        else:
            most_late = changes * LEAST
            assert not model.has(wanted, at) or model.tokens < wanted + most_late, "it might pass"

    for _ in range(200):
        step = dice.random()
        if step < 0.3:
            length = dice.expovariate(float(model.rate)) * dice.choice((0.1, 1, 1, 10))
            now += ticks(max(1, round(length * 2**9)))
        elif step < 0.5:
            cost = dice.randint(1, core.config.burst)
            wait = core.wait(now, cost)
            passed = core.take(now, cost)
            if not line:
                assert passed is (wait == 0)
                check(passed, cost, core.config.burst)
            else:
                assert not passed
        elif step < 0.65 and len(line) < 6:
            waiter = Waiter(cost=dice.randint(1, core.config.burst))
            core.queue.join(waiter)
            line.append(waiter)
        elif step < 0.7 and line:
            gone = dice.choice(line)
            line.remove(gone)
            core.give_up(gone)
        elif step < 0.8:
            limit, burst = dice.choice(terms)
            woken.clear()
            core.change(core.config.changed(*limit, burst), now)
            model.change(exact(*limit), core.config.burst, Fraction(now))
            changes += 1
            assert list(woken) == line[:1], "the first must know"
        elif line:
            first = line[0]
            left = core.try_pass(first, now, over=False)
            assert first.given is (left == 0)
            check(first.given, first.cost, core.config.burst)
            if first.given:
                del line[0]
            elif left < 1e6:
                soon = now + left
                model.has(0, Fraction(now))
                missing = min(first.cost, model.burst) - model.tokens
                assert Fraction(soon) - Fraction(now) >= missing / model.rate - ROUNDING
        assert list(core.queue) == line


@pytest.mark.rule("L11")
@pytest.mark.parametrize(
    ("change", "at_once", "then"),
    [
        ((10.0, None, None), 0, 0.1),
        ((None, 0.5, None), 0, 0.5),
        ((None, None, 7), 2, 1.0),
        ((2.0, None, 8), 3, 0.5),
        ((None, None, 3), 0, 3.0),
    ],
    ids=str,
)
def test_what_is_used_stays_used(
    change: tuple[float | None, float | None, int | None], at_once: int, then: float
) -> None:
    core, _ = core_of(1.0, burst=5)
    assert core.take(0.0, 5)
    core.change(core.config.changed(*change), 0.0)
    assert [core.take(0.0) for _ in range(at_once + 1)] == [True] * at_once + [False]
    assert core.wait(0.0) == then


@pytest.mark.rule("L11")
def test_a_full_bucket_is_full_afterwards() -> None:
    core, _ = core_of(1.0, burst=2, now=7.0)
    core.change(core.config.changed(None, None, 5), 9.0)
    assert core.full(9.0)
    assert core.take(9.0, 5)
    assert not core.take(9.0)


@pytest.mark.rule("L11")
def test_a_burst_that_was_never_given_follows_the_rate() -> None:
    config = RateLimitConfig.of(2.0, 1.0, None)
    assert config.changed(3.5, None, None) == RateLimitConfig.of(3.5, 1.0, None, FINE)
    assert config.changed(3.5, None, None).burst == 4
    given = config.changed(None, None, 9)
    assert (given.burst, given.changed(0.5, 60.0, None).burst) == (9, 9)


@pytest.mark.rule("L11")
def test_who_wants_more_than_the_new_burst_passes_when_the_bucket_is_full_and_owes_the_rest() -> (
    None
):
    core, woken = core_of(1.0, burst=5)
    assert core.take(0.0, 5)
    dear, cheap = Waiter(cost=5), Waiter(cost=1)
    for waiter in (dear, cheap):
        core.queue.join(waiter)
    core.change(core.config.changed(None, None, 2), 1.0)
    assert list(woken) == [dear]
    assert core.try_pass(dear, 1.0, over=False) == 4.0
    assert core.wait(1.0, 2) == 4.0 + 5.0 + 1.0
    assert core.try_pass(dear, 5.0, over=False) == 0
    assert core.try_pass(cheap, 5.0, over=False) == 4.0
    assert core.try_pass(cheap, 9.0, over=False) == 0
    assert core.wait(9.0, 2) == 2.0


@pytest.mark.rule("L11")
def test_a_wait_that_was_over_just_before_a_slower_rate_is_over_no_more() -> None:
    core, _ = core_of(1.0, burst=1)
    assert core.take(0.0)
    first, second = Waiter(), Waiter()
    for waiter in (first, second):
        core.queue.join(waiter)
    assert core.try_pass(first, 0.0, over=False) == 1.0
    core.change(core.config.changed(0.1, None, None), 0.5)
    assert core.try_pass(first, 0.75, over=True) == 4.75
    assert core.try_pass(first, 0.75, over=True) == 0, "it was told, and waited"
    core.change(core.config.changed(1.0, None, None), 0.75)
    core.give_up(second)
    third = Waiter()
    core.queue.join(third)
    assert core.try_pass(third, 0.75, over=True) == 0, "who came afterwards was told right"


@pytest.mark.rule("L11")
@pytest.mark.parametrize("others", [RATES, [(1e9, 1.0), (1e-6, 1.0), (3.7e12, 1.0)]], ids=str)
def test_a_hundred_thousand_changes_add_up_to_nothing(others: list[tuple[float, float]]) -> None:
    core, _ = core_of(7.0, 0.3, burst=4)
    assert core.take(0.0, 4)
    configs = [core.config.changed(rate, per, None) for rate, per in others]
    for count in range(100_000):
        core.change(configs[count % len(configs)], 0.0)
    core.change(core.config.changed(7.0, 0.3, None), 0.0)
    full_at = 4 * 0.3 / 7
    assert not core.full(full_at - 2 / NANO)
    assert core.full(full_at + 2 / NANO)

"""Deposits of before a step back of the clock kept later ones alive. A debt looked untouched."""

from __future__ import annotations

import pytest

from resilient._core.budget import BudgetConfig, BudgetCore
from resilient._runtime import clock
from tests.issues.clocks import Hand


@pytest.mark.rule("R4", "T2")
@pytest.mark.parametrize("looks", [True, False])
def test_deposits_expire_also_if_the_clock_has_stepped_back(looks: bool) -> None:
    before, after = Hand(1e6), Hand(50.0)
    with clock.install(before):
        budget = BudgetCore(BudgetConfig(ratio=1.0, per_second=0.0, ttl=10.0), clock.now())
        before.at += 100
        budget.deposit(clock.now())
        with clock.install(after):
            budget.deposit(clock.now())
            if looks:
                assert budget.left(clock.now()) == 2
                after.at += 9.9
                assert budget.left(clock.now()) == 2
            after.at += 11
            assert budget.left(clock.now()) == 0


@pytest.mark.rule("R4")
def test_readings_out_of_order_give_nothing_back_early() -> None:
    budget = BudgetCore(BudgetConfig(ratio=1.0, per_second=0.1, ttl=10.0), 0.0)
    assert budget.withdraw(10.0)
    assert not budget.withdraw(9.5)
    assert not budget.withdraw(19.75)
    assert budget.withdraw(20.0)


@pytest.mark.rule("F10", "R4")
def test_a_budget_with_a_deposit_and_a_debt_is_not_untouched() -> None:
    budget = BudgetCore(BudgetConfig(ratio=1.0, per_second=1.0, ttl=10.0), 0.0)
    assert budget.withdraw(0.0)
    budget.deposit(0.0)
    assert budget.left(0.0) == 10
    assert not budget.untouched(0.0)

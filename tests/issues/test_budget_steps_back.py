"""Deposits of before a step back of the clock kept later ones alive. A debt looked untouched."""

from __future__ import annotations

import pytest

from resilient._core.budget import BudgetCore, BudgetRule


@pytest.mark.rule("R4", "T2")
def test_deposits_expire_also_if_the_clock_has_stepped_back() -> None:
    budget = BudgetCore(BudgetRule(ratio=1.0, per_second=0.0, ttl=10.0), 0.0)
    budget.deposit(100.0)
    budget.deposit(50.0)
    assert budget.left(50.0) == 2
    assert budget.left(61.0) == 0


@pytest.mark.rule("R4", "T2")
def test_deposits_expire_also_if_nobody_looked_between_step_and_end() -> None:
    budget = BudgetCore(BudgetRule(ratio=1.0, per_second=0.0, ttl=10.0), 0.0)
    budget.deposit(100.0)
    budget.deposit(50.0)
    assert budget.left(101.0) == 0


@pytest.mark.rule("R4")
def test_readings_out_of_order_give_nothing_back_early() -> None:
    budget = BudgetCore(BudgetRule(ratio=1.0, per_second=0.1, ttl=10.0), 0.0)
    assert budget.withdraw(10.0)
    assert not budget.withdraw(9.5)
    assert not budget.withdraw(19.75)
    assert budget.withdraw(20.0)


@pytest.mark.rule("F10", "R4")
def test_a_budget_with_a_deposit_and_a_debt_is_not_untouched() -> None:
    budget = BudgetCore(BudgetRule(ratio=1.0, per_second=1.0, ttl=10.0), 0.0)
    assert budget.withdraw(0.0)
    budget.deposit(0.0)
    assert budget.left(0.0) == 10
    assert not budget.untouched(0.0)

"""Deposits that had expired were dated anew, and so came back, when the clock stepped back."""

from __future__ import annotations

import pytest

from resilient._core.budget import BudgetCore, BudgetRule


@pytest.mark.rule("R4", "T2")
def test_what_expired_does_not_come_back_when_the_clock_steps_back() -> None:
    budget = BudgetCore(BudgetRule(ratio=1.0, per_second=0.0, ttl=10.0), 0.0)
    budget.deposit(5.0)
    assert budget.left(16.0) == 0
    assert budget.left(3.0) == 0
    budget.deposit(3.0)
    assert budget.left(3.0) == 1

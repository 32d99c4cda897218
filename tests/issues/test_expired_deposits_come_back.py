"""Deposits that had expired were dated anew, and so came back, when the clock stepped back."""

from __future__ import annotations

import pytest

from resilient._core.budget import BudgetConfig, BudgetCore
from resilient._runtime import clock
from tests.issues.clocks import Hand


@pytest.mark.rule("R4", "T2")
def test_what_expired_does_not_come_back_when_the_clock_steps_back() -> None:
    before, after = Hand(1e6), Hand(3.0)
    with clock.install(before):
        budget = BudgetCore(BudgetConfig(ratio=1.0, per_second=0.0, ttl=10.0), clock.now())
        before.at += 5
        budget.deposit(clock.now())
        before.at += 11
        assert budget.left(clock.now()) == 0
        with clock.install(after):
            assert budget.left(clock.now()) == 0
            budget.deposit(clock.now())
            assert budget.left(clock.now()) == 1

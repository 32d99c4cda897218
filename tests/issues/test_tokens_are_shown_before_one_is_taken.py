"""A withdrawal put its tokens out before it took its own: other threads could take them all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import RetryBudget
from resilient._core.budget import BudgetConfig, BudgetCore
from resilient.testing import virtual_time


class Crowded(BudgetCore):
    """A core whose tokens are all taken by others as soon as they can be seen."""

    @property
    def tokens(self) -> Any:
        return self._shown

    @tokens.setter
    def tokens(self, tokens: Any) -> None:
        self._shown = tokens
        list(tokens)


@pytest.mark.rule("R4", "B11")
def test_who_issues_tokens_has_one_whatever_others_do() -> None:
    core = Crowded(BudgetConfig(ratio=1.0, per_second=0.0, ttl=10.0), 0.0)
    for _ in range(3):
        core.deposit(0.0)
    assert core.withdraw(0.0)
    assert not core.withdraw(0.0)
    assert core.left(0.0) == 0


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.rule("R4", "B11")
@pytest.mark.usefixtures("switching")
def test_threads_take_what_was_deposited_and_not_one_more() -> None:
    threads, each, deposits = 8, 1000, 5000
    with virtual_time():
        budget = RetryBudget(ratio=1.0, per_second=0.0)
        for _ in range(deposits):
            budget.deposit()
        start, taken = threading.Barrier(threads), list[int]()

        def take() -> None:
            start.wait()
            taken.append(sum(budget.withdraw() for _ in range(each)))

        crew = [threading.Thread(target=take) for _ in range(threads)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        assert len(taken) == threads, "one of them raised"
        assert sum(taken) == deposits
        assert budget.left == 0

"""Renewing the living breakers drew from the seeded dice: one seed gave several hours."""

from __future__ import annotations

import random

import pytest

from resilient import backoff, breaker
from resilient.testing import virtual_time


@pytest.mark.rule("T2", "T3")
def test_the_dice_of_a_fresh_virtual_time_do_not_depend_on_who_else_lives() -> None:
    bystanders = [breaker() for _ in range(3)]
    with virtual_time(seed=3, fresh=True):
        assert backoff(1.0).delay(1) == random.Random(3).random()
    assert bystanders

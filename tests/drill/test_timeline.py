"""When what happens, and when calls arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest

from resilient.drill.timeline import Timeline, arrivals, settled_at


@pytest.mark.parametrize(
    ("at", "phase"),
    [
        (0, "healthy"),
        (4.9, "healthy"),
        (5, "fault"),
        (11.9, "fault"),
        (12, "recovery"),
        (99, "recovery"),
    ],
)
def test_a_run_is_healthy_then_broken_then_comes_back(at: float, phase: str) -> None:
    assert Timeline(20).phase(at) == phase


def test_a_run_of_twenty_seconds_is_the_one_of_the_documentation() -> None:
    line = Timeline(20)
    assert (line.fault_at, line.heal_at, line.ends_at) == (5, 12, 20)
    assert settled_at(line.heal_at, line.ends_at) == 16


def test_the_grace_is_half_of_what_is_left_and_ten_seconds_at_most() -> None:
    assert settled_at(10, 14) == 12
    assert settled_at(100, 200) == 110
    assert settled_at(30, 20) == 30, "a service that came back after the end"


def test_arrivals_are_those_of_the_seed() -> None:
    assert list(arrivals(50, 4, 1)) == list(arrivals(50, 4, 1))
    assert list(arrivals(50, 4, 1)) != list(arrivals(50, 4, 2))


def test_arrivals_come_in_order_at_about_the_rate_and_not_evenly() -> None:
    found = list(arrivals(100, 100, 1))
    assert found == sorted(found)
    assert found[0] > 0
    assert found[-1] < 100
    assert len(found) == pytest.approx(10_000, rel=0.05)
    gaps = [b - a for a, b in pairwise(found)]
    assert max(gaps) > 5 * sum(gaps) / len(gaps)

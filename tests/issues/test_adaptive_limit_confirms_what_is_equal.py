"""A latency that is exactly what it was known to be did not count as seen: so the limit was halved,
to measure it anew, every five seconds."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from resilient._core.adaptive_limit import Outcome, Ticket
from tests.core.overload import core_of


@pytest.mark.rule("L7")
@pytest.mark.parametrize("lasts", [0.0, 0.25])
def test_calls_that_all_take_the_same_are_measured_once_and_then_once_a_minute(
    lasts: float,
) -> None:
    core, now, halved = core_of(initial=20, most=20), 0.0, list[float]()
    while now < 125.0:
        tickets: list[Ticket] = []
        while core.try_acquire(0.0, now):
            tickets.append(Ticket(core, now))
        if len(tickets) < 20:
            halved.append(now)
        now += lasts
        for ticket in tickets:
            ticket.ended_at, ticket.outcome = now, Outcome.SAMPLE
            core.release(ticket, now)
        now += 0.25
    assert core.unloaded == lasts
    begins = [at for at, before in pairwise([*halved, math.inf]) if before - at > 10]
    assert len(begins) == 2, "one that proves the first latency, and one a minute later"
    assert len(halved) <= 2 * (2 + 2), "two rounds each, or three, where the first must drain"

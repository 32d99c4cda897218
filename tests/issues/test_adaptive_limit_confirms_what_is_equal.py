"""A latency that is exactly what it was known to be did not count as seen: so the limit was halved,
to measure it anew, every five seconds."""

from __future__ import annotations

import pytest

from resilient._core.adaptive_limit import Outcome, Ticket
from tests.core.overload import core_of


@pytest.mark.rule("L7")
@pytest.mark.parametrize("lasts", [0.0, 0.25])
def test_calls_that_all_take_the_same_are_never_measured_anew(lasts: float) -> None:
    core, now = core_of(initial=20, most=20), 0.0
    while now < 60.0:
        tickets: list[Ticket] = []
        while core.try_acquire(0.0, now):
            tickets.append(Ticket(core, now))
        assert len(tickets) == 20, now
        now += lasts
        for ticket in tickets:
            ticket.ended_at, ticket.outcome = now, Outcome.SAMPLE
            core.release(ticket, now)
        now += 0.25
    assert core.unloaded == lasts

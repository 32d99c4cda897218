"""The clock stepped back: a limit that was measuring stayed halved and learned nothing until the
clock had come to where it was; and calls that were under way seemed to have taken no time."""

from __future__ import annotations

import pytest

from resilient._core.adaptive_limit import AdaptiveLimitCore, Outcome, Ticket
from tests.core.overload import core_of


def serve(core: AdaptiveLimitCore, now: float, lasts: float, back: float = 0.0) -> float:
    """As many calls as there are places."""
    tickets: list[Ticket] = []
    while core.enter(0.0, now):
        tickets.append(Ticket(core, now))
    now += lasts - back
    for ticket in tickets:
        ticket.ended_at, ticket.outcome = now, Outcome.SAMPLE
        core.leave(ticket, now)
    return now


@pytest.mark.rule("L7", "T2")
def test_a_limit_that_measures_while_the_clock_steps_back_gets_on_with_it() -> None:
    core, now = core_of(), 1e6
    while core.unloaded is None or core.in_flight or now < 1e6 + 1:
        now = serve(core, now, 0.25)
    limit = core.limit
    while True:  # slower than ever seen: until it begins to measure
        now = serve(core, now, 1.0)
        places = 0
        while core.enter(0.0, now):
            places += 1
        for _ in range(places):
            core.leave(Ticket(core, now), now)
        if places <= core.limit // 2:
            break
        assert now < 1e6 + 60
    now -= 9e5
    for _ in range(10):
        now = serve(core, now, 1.0)
    assert core.unloaded == 1.0
    assert core.limit > 1
    assert limit > 20


@pytest.mark.rule("L7", "T2")
def test_a_call_during_which_the_clock_stepped_back_is_no_sample() -> None:
    core = core_of()
    now = serve(core, 1000.0, 0.25, back=500.0)
    assert (core.unloaded, core.latency) == (None, None)
    for _ in range(20):
        now = serve(core, now, 0.25)
    unloaded = core.unloaded
    serve(core, now, 0.25, back=300.0)
    assert core.unloaded == unloaded == 0.25

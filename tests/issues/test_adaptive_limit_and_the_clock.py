"""The clock stepped back: a limit that was measuring stayed halved and learned nothing until the
clock had come to where it was; and calls that were under way seemed to have taken no time."""

from __future__ import annotations

import pytest

from resilient._core.adaptive_limit import AdaptiveLimitCore, Outcome, Ticket
from resilient._runtime import clock
from tests.core.overload import core_of
from tests.issues.clocks import Hand

FAR = 2.0**20


def begin(core: AdaptiveLimitCore) -> list[Ticket]:
    """As many calls as there are places."""
    tickets: list[Ticket] = []
    while core.try_acquire(0.0, clock.now()):
        tickets.append(Ticket(core, clock.now()))
    return tickets


def end(core: AdaptiveLimitCore, tickets: list[Ticket]) -> None:
    for ticket in tickets:
        ticket.ended_at, ticket.outcome = clock.now(), Outcome.SAMPLE
        core.release(ticket, clock.now())


def serve(core: AdaptiveLimitCore, time: Hand, lasts: float) -> None:
    tickets = begin(core)
    time.at += lasts
    end(core, tickets)


@pytest.mark.rule("L7", "T2")
def test_a_limit_that_measures_while_the_clock_steps_back_gets_on_with_it() -> None:
    before, after = Hand(FAR), Hand(1000.0)
    with clock.install(before):
        core = core_of(now=clock.now())
        while core.unloaded is None or core.in_flight or before.at < FAR + 1:
            serve(core, before, 0.25)
        limit = core.limit
        while not core._baseline.measuring:  # slower than ever seen
            serve(core, before, 1.0)
            assert before.at < FAR + 60
        with clock.install(after):
            for _ in range(10):
                serve(core, after, 1.0)
    assert core.unloaded == 1.0
    assert core.limit > 1
    assert limit > 20


@pytest.mark.rule("L7", "T2")
def test_a_call_during_which_the_clock_stepped_back_lasted_as_long_as_by_both() -> None:
    before, after = Hand(FAR), Hand(1000.0)
    with clock.install(before):
        core = core_of(now=clock.now())
        for _ in range(20):
            serve(core, before, 0.25)
        tickets = begin(core)
        before.at += 0.125
        with clock.install(after):
            after.at += 0.125
            end(core, tickets)
            for _ in range(20):
                serve(core, after, 0.25)
        for _ in range(20):  # and once more: `before` reads less than what has passed since
            serve(core, before, 0.25)
    assert core.unloaded == core.latency == 0.25

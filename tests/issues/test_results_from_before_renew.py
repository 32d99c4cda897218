"""A result from before a change of state and `renew` passed for one of the new generation 1."""

from __future__ import annotations

import pytest

from resilient._core.breaker import BreakerState
from tests.core.breakers import BAD, OK, admit, call, calls, core_of, stats


@pytest.mark.rule("B1", "B12", "T3")
def test_a_renewed_breaker_takes_no_result_from_before() -> None:
    core = core_of(minimum=1)
    permit = admit(core)
    core.force_state(BreakerState.FORCED_OPEN, "force_open", 0.0, 0.0)
    core.reset(0.0, 0.0, BreakerState.CLOSED)
    assert core.settle(permit, BAD, 0.0, 0.0) is None
    assert core.state is BreakerState.CLOSED
    assert (stats(core).failures, stats(core).in_flight) == (0, 0)


@pytest.mark.rule("B12", "T3")
def test_a_renewed_breaker_takes_no_result_of_an_old_probe() -> None:
    core = core_of(probes=2, failure_rate=0.5)
    calls(core, BAD, BAD)
    late = admit(core, 2.0)
    call(core, BAD, now=2.0)  # opens again, while the other probe runs
    core.reset(3.0, 0.0, BreakerState.CLOSED)
    core.settle(late, OK, 3.0, 0.0)
    assert (stats(core, 3.0).successes, stats(core, 3.0).in_flight) == (0, 0)

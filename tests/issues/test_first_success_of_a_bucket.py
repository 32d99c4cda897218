"""A success that is the first result after a bucket's end was booked into the bucket before.

There it left the window too early; after an idle window it was not even counted.
"""

from __future__ import annotations

import pytest

from resilient._core.breaker import BreakerState
from tests.core.breakers import BAD, OK, call, calls, core_of, stats


@pytest.mark.rule("B3", "B4")
def test_a_success_after_an_idle_window_is_in_the_window() -> None:
    core = core_of(window=10.0, minimum=2)
    call(core, OK, now=100.0)
    assert call(core, BAD, now=100.0) is not None  # one of two
    assert core.state is BreakerState.OPEN


@pytest.mark.rule("B4")
def test_a_success_stays_for_a_whole_window_though_it_begins_a_bucket() -> None:
    core = core_of(window=10.0, minimum=4, failure_rate=1.0)
    calls(core, OK, OK, OK, OK, now=0.0)
    calls(core, OK, OK, OK, OK, now=10.9)  # eleven buckets later
    assert stats(core, 11.0).failure_rate == 0.0

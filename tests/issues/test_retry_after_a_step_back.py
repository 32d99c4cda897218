"""After the clock had stepped back, rounding kept a call out that came when it had been told to."""

from __future__ import annotations

import pytest

from resilient._core.breaker import BreakerCore
from resilient._runtime import clock
from tests.core.breakers import BAD, admit, call, core_of, refusal
from tests.issues.clocks import Hand


def opened() -> BreakerCore:
    core = core_of(clock.now(), minimum=1, cooldown=lambda k, u: 1.0)
    call(core, BAD, now=clock.now())
    return core


@pytest.mark.rule("B5", "T2")
def test_retry_after_holds_when_the_clock_steps_back() -> None:
    before, after = Hand(1e6 + 0.3), Hand(3.06)
    with clock.install(before):
        core = opened()
        with clock.install(after):
            now = clock.now()
            left = refusal(core, now).retry_after
            assert left is not None
            assert left == pytest.approx(1.0)
            admit(core, now + left)


@pytest.mark.rule("B5", "T2")
def test_it_holds_by_the_clock_that_stepped_back_as_well() -> None:
    before, after = Hand(1e6 + 0.3), Hand(3.06)
    with clock.install(before):
        core = opened()
        with clock.install(after):
            left = refusal(core, clock.now()).retry_after
            assert left is not None
            after.at += left / 2
            assert refusal(core, clock.now()).retry_after == pytest.approx(0.5)
            after.at += left / 2 + 1e-9
            admit(core, clock.now())

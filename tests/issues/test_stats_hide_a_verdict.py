"""Reading the stats rolled the window, and let the next success pass without being judged."""

from __future__ import annotations

import pytest

from resilient._core.breaker import BreakerCore
from tests.core.breakers import BAD, OK, admit, calls, core_of, stats


def five_of_six() -> BreakerCore:
    """At 11.5 the 20 successes of 0.0 have left: 5 of 6 calls failed, not yet judged."""
    core = core_of(window=10.0, minimum=2)
    calls(core, *[OK] * 20, now=0.0)
    calls(core, *[BAD] * 5, OK, now=5.0)
    return core


@pytest.mark.rule("B3")
def test_a_success_is_judged_also_when_somebody_looked_before() -> None:
    core = five_of_six()
    stats(core, 11.5)
    permit = admit(core, 11.5)
    assert permit.until <= 11.5


@pytest.mark.rule("B3", "F10")
def test_a_success_is_judged_also_when_somebody_asked_for_its_health() -> None:
    core = five_of_six()
    core.healthy(11.5)
    permit = admit(core, 11.5)
    assert permit.until <= 11.5

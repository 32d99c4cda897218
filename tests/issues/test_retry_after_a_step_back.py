"""After the clock had stepped back, rounding kept a call out that came when it had been told to."""

from __future__ import annotations

import pytest

from tests.core.breakers import BAD, admit, call, core_of, refusal


@pytest.mark.rule("B5", "T2")
def test_retry_after_holds_when_the_clock_steps_back() -> None:
    core = core_of(1e6 + 0.3, minimum=1, cooldown=lambda k, u: 1.0)
    call(core, BAD, now=1e6 + 0.3)
    left = refusal(core, 3.06).retry_after
    assert left is not None
    admit(core, 3.06 + left)

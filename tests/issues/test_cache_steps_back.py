"""When the clock stepped back, an entry had what was left of it when the last one was kept."""

from __future__ import annotations

import pytest

from resilient import cache
from resilient.testing import virtual_time


@pytest.mark.rule("T2")
def test_an_entry_has_what_was_left_of_it_when_the_clock_steps_back() -> None:
    runs: list[int] = []
    fn = cache(100.0, jitter=0)(lambda: runs.append(1))
    with virtual_time() as time:
        fn()
        time.advance(90)
        fn()
    fn()
    with virtual_time() as time:  # at most a second later
        fn()
        assert len(runs) == 1
        time.advance(10)
        fn()
        assert len(runs) == 2

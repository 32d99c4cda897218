"""Priorities whose distance no float holds made a share of NaN, and a ValueError out of nowhere."""

from __future__ import annotations

import sys

import pytest

from resilient import Overloaded, adaptive_limit

HIGHEST = sys.float_info.max


@pytest.mark.rule("L7")
def test_the_lowest_and_the_highest_float_are_priorities_like_others() -> None:
    limit = adaptive_limit(initial=2, priority=lambda rank, *_: rank)
    inside: list[float] = []

    @limit
    def call(rank: float, *then: float) -> None:
        inside.append(rank)
        if then:
            call(*then)

    with pytest.raises(Overloaded):
        call(HIGHEST, -HIGHEST)
    assert inside == [HIGHEST]
    call(HIGHEST, HIGHEST)
    assert limit.stats().in_flight == 0

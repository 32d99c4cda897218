"""A group of a cancellation and a time-out counted as a drop: a group that is no `Exception` is a
cancellation, and no sample (F12, L7)."""

from __future__ import annotations

import asyncio

import pytest

from resilient import adaptive_limit


@pytest.mark.rule("L7", "F9", "F12")
def test_a_cancellation_with_a_time_out_beside_it_is_no_sample() -> None:
    limit = adaptive_limit(algorithm="aimd")
    group = BaseExceptionGroup("both", [asyncio.CancelledError(), TimeoutError()])

    def fails() -> None:
        raise group

    for _ in range(50):
        with pytest.raises(BaseExceptionGroup):
            limit.call(fails)
    assert limit.stats().latency is None
    assert limit.stats().calls == 50

"""Streams that were left early piled up in a keyed breaker whose other calls were healthy."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from resilient import breaker


@pytest.mark.rule("F3", "B12")
def test_a_healthy_block_settles_what_was_left_before_it() -> None:
    guard = breaker(key=lambda key: key)

    def stream() -> Generator[None]:
        with guard.of(1):
            yield

    for _ in range(10):
        left = stream()
        next(left)
        left.close()
        with guard.of(1):
            pass
        assert not guard._ended
    assert (guard.stats().ignored, guard.stats().successes, guard.stats().in_flight) == (10, 10, 0)

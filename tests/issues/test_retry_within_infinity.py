"""``attempts=None`` with ``within=inf`` was taken for a limit: it retries for ever."""

from __future__ import annotations

import math

import pytest

from resilient import retry


@pytest.mark.rule("F7", "R1")
def test_no_attempts_and_an_infinite_within_are_no_limit() -> None:
    with pytest.raises(ValueError, match="attempts"):
        retry(on=OSError, attempts=None, within=math.inf)

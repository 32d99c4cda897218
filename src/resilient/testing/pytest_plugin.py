"""The pytest plugin: a test that takes ``virtual_time`` gets one, with every policy fresh."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient.testing.virtual import VirtualTime
from resilient.testing.virtual import virtual_time as virtual_time_block


@pytest.fixture
def virtual_time() -> Iterator[VirtualTime]:
    """Virtual time for this test; every policy starts as new and is left as new."""
    with virtual_time_block(fresh=True) as time:
        yield time

"""A counter without a lock: B11."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.tally import Tally


@pytest.mark.rule("B11")
@given(st.lists(st.sampled_from(["up", "read", "zero"])))
def test_it_says_how_often_it_was_raised_however_often_it_is_read(script: list[str]) -> None:
    tally, count = Tally(), 0
    for what in script:
        if what == "up":
            tally.up()
            count += 1
        elif what == "zero":
            tally.zero()
            count = 0
        else:
            assert tally.read() == count
    assert tally.read() == count


def test_reading_and_starting_anew() -> None:
    tally = Tally()
    assert [tally.read(), tally.read()] == [0, 0]
    tally.up()
    tally.up()
    assert [tally.read(), tally.read()] == [2, 2]
    tally.zero()
    assert [tally.read(), tally.read()] == [0, 0]
    tally.up()
    assert tally.read() == 1


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.rule("B11")
@pytest.mark.usefixtures("switching")
def test_threads_lose_no_count() -> None:
    tally = Tally()

    def raise_it() -> None:
        for _ in range(10_000):
            tally.up()

    threads = [threading.Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [tally.read() for _ in range(100)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert tally.read() == 40_000

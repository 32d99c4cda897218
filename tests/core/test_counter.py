"""A counter without a lock: B11."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient._core.counter import Counter


@pytest.mark.rule("B11")
@given(st.lists(st.sampled_from(["up", "more", "read", "zero"])))
def test_it_says_how_often_it_was_raised_however_often_it_is_read(script: list[str]) -> None:
    counter, count = Counter(), 0
    for what in script:
        if what == "up":
            next(counter.increment)
            count += 1
        elif what == "more":
            counter.add(3)
            count += 3
        elif what == "zero":
            counter.reset()
            count = 0
        else:
            assert counter.read() == count
    assert counter.read() == count


def test_reading_and_starting_anew() -> None:
    counter = Counter()
    assert [counter.read(), counter.read()] == [0, 0]
    next(counter.increment)
    next(counter.increment)
    assert [counter.read(), counter.read()] == [2, 2]
    counter.reset()
    assert [counter.read(), counter.read()] == [0, 0]
    next(counter.increment)
    assert counter.read() == 1


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
    counter = Counter()

    def raise_it() -> None:
        for _ in range(10_000):
            next(counter.increment)

    threads = [threading.Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [counter.read() for _ in range(100)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert counter.read() == 40_000

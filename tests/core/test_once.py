"""Once: yes to the first who asks."""

from __future__ import annotations

import gc

from resilient._core.once import Once


def test_the_first_who_asks_is_told_yes_and_nobody_else() -> None:
    once = Once()
    assert [once(), once(), once()] == [True, False, False]


def test_things_are_told_apart_by_identity_and_need_not_be_hashable() -> None:
    once, one, other = Once(), [1], [1]
    assert [once(one), once(other), once(one), once(other)] == [True, True, False, False]


def test_a_thing_that_is_gone_is_not_taken_for_another() -> None:
    once = Once()
    for _ in range(100):
        assert once([])
        gc.collect(0)

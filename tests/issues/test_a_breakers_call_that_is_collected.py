"""The collector ended and told a breaker's call where its thread held another policy's lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resilient import breaker, bulkhead
from resilient.events import StateChanged, subscribe
from tests.worlds import in_threads


class Key:
    """To hash it, under the lock of a keyed policy, does what the collector may do there."""

    def __init__(self, then: Any) -> None:
        self.then = then

    def __hash__(self) -> int:
        self.then()
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.rule("M2", "F3")
def test_a_listener_may_ask_the_policy_under_whose_lock_the_collector_came() -> None:
    policy: Any = breaker(failure_rate=None, consecutive_failures=1)
    other: Any = bulkhead(1, key="k")
    heard: list[object] = []

    def guarded() -> Iterator[None]:
        with policy as call:
            call.fail()
            yield

    def use() -> None:
        running = [guarded()]
        next(running[0])
        other.of(Key(lambda: None)).admit().close()
        other(lambda k: k)(Key(running.clear))

    with subscribe(lambda event: heard.append((event, other.stats())), StateChanged):
        assert in_threads(use) == [None]
        policy.stats()
    assert len(heard) == 1

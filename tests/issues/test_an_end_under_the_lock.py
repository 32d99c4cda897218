"""A call that the collector ended in the middle of a step told the events of that step there.

A listener that asked the policy something then waited for the lock that its own thread held.
"""

from __future__ import annotations

import pytest

from resilient import bulkhead
from resilient.events import CallRejected, subscribe


@pytest.mark.rule("M2", "F3")
def test_a_call_that_ends_while_its_own_thread_has_the_lock_tells_nothing_there() -> None:
    policy = bulkhead(1)
    call = policy.admit()
    heard: list[bool] = []

    def listen(_: CallRejected) -> None:
        heard.append(policy._lock.locked())

    with subscribe(listen, CallRejected):
        with policy._lock:  # a step runs, and makes the collector run
            policy._emit("CallRejected", reason="full", retry_after=None)
            call.close()
            assert heard == []
        assert policy.stats().in_flight == 0
    assert heard == [False]

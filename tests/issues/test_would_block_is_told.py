"""A single-flight that rejected a call told nobody, and its stats did not add up."""

from __future__ import annotations

import threading

import pytest

from resilient import Rejected, singleflight
from resilient.events import CallRejected
from resilient.testing import record, virtual_time


@pytest.mark.rule("M1", "F11")
def test_a_call_that_would_block_is_an_event() -> None:
    flight = singleflight("f")
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go_on.wait(30)

    async def main() -> None:
        with pytest.raises(Rejected):
            flight.do("k", slow)

    thread = threading.Thread(target=flight.do, args=("k", slow))
    thread.start()
    assert begun.wait(30)
    try:
        with virtual_time() as time, record(CallRejected) as events:
            time.run(main)
    finally:
        go_on.set()
        thread.join(30)
    assert [(event.policy, event.kind, event.reason) for event in events] == [
        ("f", "singleflight", "would_block")
    ]

"""A waiter whose leader was interrupted counted as joined, and then as joined or run again."""

from __future__ import annotations

import threading

import pytest

from resilient import singleflight
from resilient.testing import VirtualTime


@pytest.mark.rule("S8")
def test_each_call_is_a_run_or_a_joining_and_not_both(virtual_time: VirtualTime) -> None:
    time, flight = virtual_time, singleflight()
    begun, pause = threading.Event(), threading.Event()
    runs: list[int] = []

    def work() -> int:
        runs.append(1)
        if len(runs) > 1:
            return 5
        begun.set()
        while not time._waiting:
            pause.wait(0.0005)
        raise KeyboardInterrupt

    def first() -> None:
        with pytest.raises(KeyboardInterrupt):
            flight.do("k", work)

    results: list[int] = []
    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert begun.wait(30)
    threads.append(threading.Thread(target=lambda: results.append(flight.do("k", work))))
    threads[1].start()
    for thread in threads:
        thread.join(30)
    assert results == [5]
    stats = flight.stats()
    assert stats.calls == 2
    assert stats.calls == stats.runs + stats.joined

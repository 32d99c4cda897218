"""What a server has counted, and the request that it works on."""

from __future__ import annotations

from resilient._core.counter import Counter
from resilient.integrations.http import ServerStats

TOTALS = (
    "requests", "ended", "not_started", "shed", "rejected", "deadline_exceeded", "disconnected",
    "ignored_headers",
)  # fmt: skip


class Counts:
    """The totals of one middleware; without a lock."""

    def __init__(self) -> None:
        self._counters = {name: Counter() for name in TOTALS}

    def add(self, name: str) -> None:
        """Count one more."""
        next(self._counters[name].increment)

    def stats(self, name: str) -> ServerStats:
        """A snapshot: ends are read before beginnings."""
        ended = self._counters["ended"].read()
        found = {total: counter.read() for total, counter in self._counters.items()}
        del found["ended"]
        return ServerStats(name, in_flight=found["requests"] - ended, **found)

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

    def add_answer(self, status: int, *, started: bool) -> None:
        """Count an answer of ours: whether the handler had *started* tells two of them apart."""
        if status != 504:  # noqa: PLR2004  # that of a limit that has passed
            self.add("rejected")
        else:
            self.add("deadline_exceeded" if started else "not_started")

    def stats(self, name: str) -> ServerStats:
        """A snapshot: ends are read before beginnings."""
        ended = self._counters["ended"].read()
        found = {total: counter.read() for total, counter in self._counters.items()}
        del found["ended"]
        return ServerStats(name, in_flight=found["requests"] - ended, **found)

"""A clock that is set by hand, for tests of clocks that are changed."""

from __future__ import annotations

from resilient._runtime import clock


class Hand:
    """It reads what it is set to."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        self.at += seconds

    def wait(self, event: clock.Event, until: float) -> None:
        raise AssertionError("nobody waits here")

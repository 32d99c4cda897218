"""Time: the only module of the package that reads it.

Everybody asks ``clock.now()`` through the module, so that `install` changes the
time of every policy at once, of those that were built before as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

LONGEST_WAIT = 3600.0


class Event(Protocol):
    """A `threading.Event`, or what can be waited for as one."""

    def set(self) -> None:
        """Let who waits go on."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return when it is set, or after *timeout* seconds; whether it is."""
        ...


class Clock(Protocol):
    """Where time comes from, and how plain threads let it pass."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let *seconds* pass in this thread."""

    def wait(self, event: Event, until: float) -> None:
        """Return when *event* is set or the clock reads *until*."""


class MonotonicClock:
    """The machine's own."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def wait(self, event: Event, until: float) -> None:
        """Wait in pieces: the longest a lock can wait is less than for ever."""
        while (left := until - time.monotonic()) > 0 and not event.wait(min(left, LONGEST_WAIT)):
            pass


_clock: Clock = MonotonicClock()
now: Callable[[], float] = time.monotonic
changed: list[Callable[[], None]] = []
"""Called when another clock was installed: the only way in which time steps back for long."""


def sleep(seconds: float) -> None:
    """Let *seconds* pass in this thread."""
    _clock.sleep(seconds)


def wait(event: Event, until: float) -> None:
    """Return when *event* is set or the clock reads *until*."""
    _clock.wait(event, until)


@contextmanager
def install(clock: Clock) -> Iterator[None]:
    """Let all time come from *clock* inside the block."""
    global _clock, now  # the seam itself: one reference for all
    before = _clock, now
    _clock, now = clock, clock.now
    _tell()
    try:
        yield
    finally:
        _clock, now = before
        _tell()


def _tell() -> None:
    for tell in changed:
        tell()

"""Time: the only module of the package that reads it.

Everybody asks ``clock.now()`` through the module, so that `install` changes the
time of every policy at once, of those that were built before as well.

Time never goes back. A clock that is installed, and the one that comes back afterwards, is read
so much later that it never reads less than the one before it did: time stands still at the
change, and goes on. Only the readings of several threads may arrive out of order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

LONGEST_WAIT = 3600.0
"""Seconds that a thread sleeps or waits at a stretch. Every platform has a longest wait, 49 days
on some; loops see to theirs themselves, since each wakes once a day or in a hundred years.
"""


class Event(Protocol):
    """A `threading.Event`, or what can be waited for as one."""

    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Clock(Protocol):
    """Where time comes from, and how plain threads let it pass."""

    def now(self) -> float: ...
    def sleep(self, seconds: float, event: Event | None = None, /) -> None:
        """Let *seconds* pass in this thread, or fewer if *event* is set."""

    def wait(self, event: Event, until: float) -> None:
        """Return when *event* is set or the clock reads *until*."""


class MonotonicClock:
    """The machine's own."""

    now = staticmethod(time.monotonic)

    def sleep(self, seconds: float, event: Event | None = None, /) -> None:
        """Sleep in parts: a platform's longest sleep is shorter than a wait may be."""
        if event is not None:
            self.wait(event, time.monotonic() + seconds)
            return
        while seconds > LONGEST_WAIT:
            time.sleep(LONGEST_WAIT)
            seconds -= LONGEST_WAIT
        time.sleep(seconds)

    def wait(self, event: Event, until: float) -> None:
        """Wait in parts, for the same reason."""
        while (left := until - time.monotonic()) > 0 and not event.wait(min(left, LONGEST_WAIT)):
            pass


class _Late:
    """A clock read *shift* seconds later than it is."""

    def __init__(self, clock: Clock, shift: float) -> None:
        self._clock, self._shift = clock, shift
        self.sleep = clock.sleep

    def now(self) -> float:
        return self._clock.now() + self._shift

    def wait(self, event: Event, until: float) -> None:
        self._clock.wait(event, until - self._shift)


_clock: Clock = MonotonicClock()
_installed: Clock = _clock
now: Callable[[], float] = time.monotonic
wall: Callable[[], float] = time.time
"""Seconds since the epoch, for the dates that others send: no limit or wait is measured by it."""


def sleep(seconds: float, event: Event | None = None) -> None:
    """Let *seconds* pass in this thread, or fewer if *event* is set."""
    if event is None:
        _clock.sleep(seconds)
    else:
        _clock.sleep(seconds, event)


def wait(event: Event, until: float) -> None:
    """Return when *event* is set or the clock reads *until*."""
    _clock.wait(event, until)


@contextmanager
def install(clock: Clock, *, forgotten: bool = False) -> Iterator[None]:
    """Let all time come from *clock* inside the block; it goes on from the last reading.

    If what passed inside is *forgotten*, since nothing will remember it, the clock before goes on
    as if nothing had been: each shift costs the readings a little of their precision.
    """
    global _clock, _installed, now  # the seam itself: one reference for all
    before = _clock, _installed, now
    try:
        _use(clock)
        yield
    finally:
        if forgotten:
            _clock, _installed, now = before
        else:
            try:
                _use(before[1])
            except BaseException:  # an interrupt: time must not stay what it was
                _use(before[1])
                raise


def _use(clock: Clock) -> None:
    global _clock, _installed, now  # see above
    last, seam = now(), clock
    behind = last - clock.now()
    if behind > 0:
        while clock.now() + behind < last:  # rounding
            behind = math.nextafter(behind, math.inf)
        seam = _Late(clock, behind)
    read = seam.now
    _clock, _installed, now = seam, clock, read  # no call, where an interrupt might come

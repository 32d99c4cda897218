"""Plain threads that take turns: one runs at a time, and the clock passes when all of them wait.

So sync calls overlap, in virtual time, and every run of a script is the same. It works because
nothing of the package waits but by its clock.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilient._runtime import clock

if TYPE_CHECKING:
    from resilient.testing.virtual import VirtualTime


class Interrupted(BaseException):
    """What a script raises in a thread whose caller leaves, as a signal handler might."""


class Worker:
    """One call in a thread of its own."""

    def __init__(self, turns: Turns, body: Callable[[], None], at: float) -> None:
        self.until: float = at
        self.event: Any = _NEVER  # a `Signal`, or never
        self.leaves_at = math.inf
        self.done = False
        self._turns, self._body = turns, body
        self._go = threading.Semaphore(0)
        context = contextvars.copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def ready_at(self) -> float:
        """When it can go on."""
        return -math.inf if self.event.is_set() else min(self.until, self.leaves_at)

    def go_on(self) -> None:
        """Let it run until it waits again; called by the player."""
        if self.thread.ident is None:
            self.thread.start()
        self._go.release()
        self._turns.back.acquire()

    def pause(self, until: float, event: clock.Event) -> None:
        """Wait, and let others run; called by the thread itself."""
        self.until, self.event = until, event
        self._turns.back.release()
        self._go.acquire()
        if not self.event.is_set() and self.leaves_at <= self._turns.now() < until:
            self.leaves_at = math.inf
            raise Interrupted

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._body()
        finally:
            self.done = True
            self._turns.back.release()


class _Never:
    """An event that is never set."""

    def set(self) -> None: ...
    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002  # as of an event
        return False


_NEVER = _Never()


class Turns:
    """The clock of threads that take turns; a seam's `Clock`.

    Instants are its own readings: the clock that is installed may be read later than it is.
    """

    def __init__(self, time: VirtualTime) -> None:
        self._time, self.now = time, time.reading
        self.back = threading.Semaphore(0)
        self._workers: list[Worker] = []
        self._running: Worker | None = None

    def add(self, body: Callable[[], None], after: float) -> None:
        """Let a thread run *body*, *after* so many seconds."""
        self._workers.append(Worker(self, body, self.now() + after))

    def leave(self, after: float) -> None:
        """Interrupt what the running thread waits for, *after* so many seconds."""
        assert self._running is not None
        self._running.leaves_at = self.now() + after

    def play(self, longest: float) -> None:
        """Let all of them run to their end. Those that have none within *longest* seconds wait for
        ever: they are interrupted, so that no thread is left.
        """
        until = self.now() + longest
        self._play(until)
        for worker in self._workers:
            worker.leaves_at = until
        self._play(until)

    def _play(self, until: float) -> None:
        while self._workers:
            worker = min(self._workers, key=Worker.ready_at)  # the first one of several
            if worker.ready_at() > until:
                return
            self._time.advance(max(0.0, worker.ready_at() - self.now()))
            self._running = worker
            worker.go_on()
            self._running = None
            if worker.done:
                worker.thread.join()
                self._workers.remove(worker)

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        """See `clock.Clock`."""
        self.wait(_NEVER if event is None else event, self.now() + seconds)

    def wait(self, event: clock.Event, until: float) -> None:
        """See `clock.Clock`."""
        assert self._running is not None, "nothing waits but the calls of the script"
        self._running.pause(until, event)

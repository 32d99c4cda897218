"""A signal for one waiting thread that may be given from anywhere, the collector included.

`threading.Event` holds a lock of its own while it is set and while it begins to wait: a
finalizer that sets it, called by the collector inside that very wait, would wait for itself. Here
both are one step of a bare lock.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Signal:
    """Given, or not yet; one thread waits for it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Whether it is given."""
        return not self._lock.locked()

    def set(self) -> None:
        """Give it."""
        with suppress(RuntimeError):  # it was given already
            self._lock.release()

    def clear(self) -> None:
        """Take it back."""
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Return when it is given, or after *timeout* seconds; whether it is."""
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self.set()
        return True

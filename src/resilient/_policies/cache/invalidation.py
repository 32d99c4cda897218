"""How caches of the same thing tell each other that a key is no longer true."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, final

from resilient._runtime.locks import new_lock


class Invalidation(Protocol):
    """A channel between caches: one for each thing that is cached.

    A cache publishes the keys that it is told to invalidate, after it has dropped them itself,
    and drops those that it hears. It may hear its own.
    """

    def publish(self, key: Hashable, /) -> None:
        """Tell every subscriber, here or elsewhere, that *key* is no longer true."""

    def subscribe(self, callback: Callable[[Hashable], None], /) -> None:
        """Have *callback* called with every key that is published, from any thread.

        A cache is held weakly by its callback.
        """


@final
class InProcessInvalidation:
    """The channel between the caches of one process."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._callbacks: list[Callable[[Hashable], None]] = []

    def publish(self, key: Hashable, /) -> None:
        """Tell every subscriber, in this thread."""
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback(key)

    def subscribe(self, callback: Callable[[Hashable], None], /) -> None:
        """Have *callback* called with every key that is published."""
        with self._lock:
            self._callbacks.append(callback)

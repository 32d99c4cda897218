"""How caches of the same thing tell each other that a key is no longer true."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, final

from resilient._policies.common.shared import Shared
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
class InProcessInvalidation(Shared):
    """The channel between the caches of one process."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._callbacks: list[Callable[[Hashable], None]] = []

    def publish(self, key: Hashable, /) -> None:
        """Tell every subscriber, in this thread.

        If some raise, the others hear of it all the same; then the first of these errors is raised.
        """
        first: Exception | None = None
        for callback in self._living():
            try:
                callback(key)
            except Exception as error:  # noqa: BLE001  # raised below
                first = first or error
        if first is not None:
            raise first

    def subscribe(self, callback: Callable[[Hashable], None], /) -> None:
        """Have *callback* called with every key that is published."""
        self._living()
        with self._lock:
            self._callbacks.append(callback)

    def _living(self) -> list[Callable[[Hashable], None]]:
        """The subscribers, without the caches that are gone meanwhile."""
        with self._lock:
            self._callbacks = [one for one in self._callbacks if not getattr(one, "gone", False)]
            return list(self._callbacks)

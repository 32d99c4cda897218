"""What the tests of caches share: a function that counts its runs, and the end of a refresh."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.worlds import World

PATIENCE = 30.0


class Source:
    """A function of a world that counts its runs.

    The n-th run, from 0, returns ``"value n"`` or what *fate* says of n; an exception is raised.
    """

    def __init__(
        self, w: World, fate: Callable[[int], object] | None = None, *, lasts: float = 0
    ) -> None:
        self.w, self.lasts = w, lasts
        self.fate = fate or (lambda number: f"value {number}")
        self.runs = self.cancelled = 0
        self.fn: Callable[..., Any] = w.function(lambda *args, **kwargs: self._run())

    async def _run(self) -> object:
        number, self.runs = self.runs, self.runs + 1
        if self.lasts:
            try:
                await self.w.sleep(self.lasts)
            except BaseException:
                self.cancelled += 1
                raise
        fate = self.fate(number)
        if isinstance(fate, BaseException):
            raise fate
        return fate


def broken_after(good: int, error: Exception) -> Callable[[int], object]:
    """A fate: the first *good* runs bring values, all others *error*."""
    return lambda number: f"value {number}" if number < good else error


async def settled(w: World) -> None:
    """Return when the refreshes that were begun are over."""
    if w.is_async:
        await w.sleep(0.5)
        return
    for thread in threading.enumerate():
        if thread.name.startswith("resilient.cache"):
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a refresh hangs"

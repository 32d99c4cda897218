"""A counter that many threads may raise without a lock.

``next()`` of an `itertools.repeat` is one step of the interpreter, so that no raise is
lost while there is a GIL. It counts its own rest down without making a number (an
`itertools.count` makes one each time, which costs more), and tells the rest without
being changed: reading disturbs nobody.
"""

from __future__ import annotations

import sys
from itertools import repeat
from operator import length_hint
from typing import Final

MOST: Final = sys.maxsize


class Counter:
    """Counts what passes: ``next(counter.increment)`` counts one, `read` says how much."""

    __slots__ = ("_start", "increment")

    def __init__(self) -> None:
        self.increment = repeat(None, MOST)
        self._start = MOST

    def add(self, n: int) -> None:
        """Count *n* at once. Under a lock."""
        self._start += n

    def read(self) -> int:
        """How many were counted since the start, or since `reset`."""
        return self._start - length_hint(self.increment)

    def reset(self) -> None:
        """Start as new."""
        self._start = length_hint(self.increment)

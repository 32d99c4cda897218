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


class Tally:
    """Counts what passes; `read` says how much.

    ``next(tally.ticks)`` counts one, for those who can't afford the call of `up`.
    """

    __slots__ = ("_zero", "ticks")

    def __init__(self) -> None:
        self.ticks = repeat(None, MOST)
        self._zero = MOST

    def up(self) -> None:
        """Count one."""
        next(self.ticks)

    def add(self, n: int) -> None:
        """Count *n* at once. Under a lock."""
        self._zero += n

    def read(self) -> int:
        """How many were counted since the start, or since `zero`."""
        return self._zero - length_hint(self.ticks)

    def zero(self) -> None:
        """Start as new."""
        self._zero = length_hint(self.ticks)

"""A counter that many threads may raise without a lock.

``next()`` of an `itertools.count` is one step of the interpreter, so that no
raise is lost while there is a GIL. Reading takes a number away as well; the
tally remembers how many, and readers must take turns (the policy's lock).
"""

from __future__ import annotations

from itertools import count


class Tally:
    """Counts calls of `up`; `read` says how many there were."""

    __slots__ = ("_numbers", "_read", "up")

    def __init__(self) -> None:
        self._read = 0
        self._numbers = count()
        self.up = self._numbers.__next__

    def read(self) -> int:
        """How often `up` was called. One reader at a time."""
        value = next(self._numbers) - self._read
        self._read += 1
        return value

    def zero(self) -> None:
        """Start as new."""
        value = self.read()
        self._read += value

"""The chain of limits: which of them counts, and who must cancel.

1. A limit knows the one around it, also across tasks: the chain is the context that is inherited.
   What counts is the earliest of the chain (D1). A shield ends it: it hides those above.
2. A block cancels its own task only. What an open block of the same task around it sets, that
   block sees to; what is inherited from another task, the outermost block of this one does.
3. If the time of several has come at once, the outermost of the task cancels (D2).
4. A limit that is over still counts for those who inherited it (D1), but of several in a row only
   the one that ends first: it alone stays in the chain. Nobody is the cause of a cancellation any
   more that is over, so above a shield none of them stays (D9). Whoever enters a block unlinks
   them, so that a chain is hardly longer than the blocks that are open.
5. Times are readings of the clock ``_read`` of each limit, which is trio's own under trio: so they
   are compared by what is left.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

Read = Callable[[], float]


class Life(enum.Enum):
    """Where a limit is in its life.

    Three are ways not to have begun: a READ_ONLY one cancels nobody; of a PARTLY_SPENT one a part
    of the limit is used. FIRED is open, with its body cancelled by it. A SHIELD is no block: it
    hides those above it.
    """

    NEW = "has not begun"
    READ_ONLY = "has not begun, and cancels nobody"
    PARTLY_SPENT = "has not begun, but was spent in part"
    OPEN = "is open"
    FIRED = "has expired"
    ENDED = "is over"
    SHIELD = "hides the others"


OPEN, FIRED, ENDED, SHIELD = Life.OPEN, Life.FIRED, Life.ENDED, Life.SHIELD
"""Bound once: on 3.11 a descriptor looks each member up."""
UNBEGUN: Final = (Life.NEW, Life.READ_ONLY, Life.PARTLY_SPENT)
ALIVE: Final = (OPEN, FIRED)


class Limit:
    """One limit, and those around it."""

    __slots__ = ("_at", "_life", "_outer", "_read", "_task")

    _read: Read
    _outer: Any  # the limit around it, of its own class; None outside of any

    def __init__(self) -> None:
        self._life = Life.NEW
        self._at = math.inf
        self._outer = None
        self._task: Any = None  # whom it cancels: an asyncio or a trio task; in plain code nobody

    def _chain(self) -> Iterator[Self]:
        """It, and those above it, as far as they count."""
        one: Self | None = self
        while one is not None and one._life is not SHIELD:
            yield one
            one = one._outer

    def _above(self) -> Iterator[Self]:
        """Those around it, as far as they count."""
        return iter(()) if self._outer is None else self._outer._chain()

    def _left(self, now: float | None = None, read: Read | None = None) -> float:
        """Seconds until the earliest limit, negative when it has passed. *now* is a reading of the
        clock *read*, which saves another look at it.
        """
        least, one = self._own_left(now, read), self._outer
        while one is not None and one._life is not SHIELD:
            left = one._own_left(now, read)
            if left < least:  # noqa: PLR1730  # min() costs two attribute look-ups
                least = left
            one = one._outer
        return least

    def _binding(self) -> Self:
        """Whose limit is the earliest: its own, or one's around it."""
        best, least = self, self._own_left()
        for one in self._above():
            left = one._own_left()
            if left < least:
                best, least = one, left
        return best

    def _at_by(self, read: Read) -> float:
        """The instant of the earliest limit, as a reading of the clock *read*."""
        return self._binding()._own_at(read)

    def _cancels_for(self, other: Limit) -> bool:
        """Whether it is an open block of the same task, which sees to its own limit."""
        return self._task is other._task and self._life in ALIVE

    def _enforced_at(self) -> float:
        """When it must cancel: at its own limit, or at one inherited from another task."""
        at = self._at
        for one in self._above():
            if one._cancels_for(self):
                break
            if one._at != math.inf:
                at = min(at, one._own_at(self._read))
        return at

    def _due_at(self, now: float) -> Self | None:
        """Who must cancel at *now*, when its own time has come; none if it has been done."""
        first, outer = self, self._outer
        while outer is not None and outer._cancels_for(self):
            if outer._life is FIRED:
                return None
            if outer._enforced_at() <= now:
                first = outer
            outer = outer._outer
        return first if first._life is OPEN else None

    def _own_left(self, now: float | None = None, read: Read | None = None) -> float:
        return self._at - (now if now is not None and self._read == read else self._read())

    def _own_at(self, read: Read) -> float:
        return self._at if self._read == read else read() + self._at - self._read()


L = TypeVar("L", bound=Limit)


def tidied(limit: L | None) -> L | None:
    """*limit*, or the first above it that counts; those that say nothing more are taken out of its
    chain.

    Of two threads that do so at once, one may put back what the other took out; no more.
    """
    one = first = first_that_counts(limit)
    while one is not None and (above := one._outer) is not None:
        if above._life not in ALIVE:
            find = first_that_lives if one._life is SHIELD else first_that_counts
            one._outer = above = find(above)
        one = above
    return first


def first_that_counts(limit: L | None) -> L | None:
    """*limit*; but for it and those right above it that are over, the earliest of them, or the
    first that is not over if none of them has an end.
    """
    earliest: L | None = None
    while limit is not None and limit._life is ENDED:
        if limit._at != math.inf:
            if earliest is None:
                earliest = limit
            elif earliest._read != limit._read:  # which of them is earlier may change
                break
            elif limit._at < earliest._at:
                earliest = limit
        limit = limit._outer
    if earliest is None:
        return limit
    earliest._outer = limit
    return earliest


def first_that_lives(limit: L | None) -> L | None:
    """*limit*, or the first above it that may still be the cause of a cancellation."""
    while limit is not None and limit._life in {ENDED, SHIELD}:
        limit = limit._outer
    return limit

"""The living policies, oldest first, held weakly."""

from __future__ import annotations

import itertools
import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects in the order in which they were added, for as long as somebody else holds them.

    Every step is one operation of a dict: no lock is needed, also when the garbage
    collector takes an object away in the middle of a look.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._refs: dict[int, weakref.ref[T]] = {}

    def add(self, item: T) -> None:
        """List *item*."""
        number = next(self._numbers)
        refs = self._refs
        refs[number] = weakref.ref(item, lambda _: refs.pop(number, None))

    def living(self) -> list[T]:
        """Those that are still there."""
        found = (ref() for ref in list(self._refs.values()))
        return [item for item in found if item is not None]

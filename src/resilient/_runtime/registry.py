"""The living policies, oldest first, held weakly."""

from __future__ import annotations

import itertools
import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class _Ref(weakref.ref[T]):
    """A weak reference with its place in the list; a closure for each would be bigger."""

    __slots__ = ("number",)
    number: int


class Registry(Generic[T]):
    """Objects in the order in which they were added, for as long as somebody else holds them.

    Every step is one operation of a dict: no lock is needed, also when the garbage
    collector takes an object away in the middle of a look.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._refs: dict[int, _Ref[T]] = {}
        self._callback = self._forget  # one for all

    def add(self, item: T) -> None:
        """List *item*."""
        ref = _Ref(item, self._callback)
        ref.number = next(self._numbers)
        self._refs[ref.number] = ref

    def _forget(self, ref: weakref.ref[T]) -> None:
        # A `_Ref`; but at exit no global is left that could tell.
        self._refs.pop(ref.number, None)  # type: ignore[attr-defined]

    def living(self) -> list[T]:
        """Those that are still there."""
        found = (ref() for ref in list(self._refs.values()))
        return [item for item in found if item is not None]

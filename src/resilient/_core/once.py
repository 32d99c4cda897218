"""What is to be done once, however many threads come to it at the same time."""

from __future__ import annotations


class Once:
    """Says yes to the first who asks, for each thing it is asked of.

    To look and to note it is one step, `dict.setdefault`, and takes no lock: so none is held while
    the first one does what is to be done once. A thing is known by its identity, since a callable
    need not be hashable; and it is kept, or another could come to have that identity.
    """

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: dict[int, list[object]] = {}

    def __call__(self, thing: object = None) -> bool:
        mine = [thing]
        return self._asked.setdefault(id(thing), mine) is mine

"""What clients of ours were answered, for a server of ours that has to say so to its own caller."""

from __future__ import annotations

from typing import NamedTuple
from weakref import finalize


class Met(NamedTuple):
    """An answer that is a failure."""

    status: int
    retry_after: float | None


_met: dict[int, Met] = {}
"""By the identity of what the library's own error is known by, for as long as that lives."""


def note(known_by: object, met: Met) -> None:
    """Remember what was met: *known_by* is the answer, or what else the library's error has of it,
    or that error itself, where a library has no answers.
    """
    if id(known_by) not in _met:  # one answer may come again and again
        finalize(known_by, _met.pop, id(known_by), None).atexit = False
    _met[id(known_by)] = met


def met_by(error: BaseException) -> Met | None:
    """What a client of ours met, if that is what *error*, the library's own, is about."""
    found = (getattr(error, name, None) for name in ("response", "headers"))  # aiohttp: the latter
    return next((_met[id(one)] for one in (error, *found) if id(one) in _met), None)

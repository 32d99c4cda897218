"""Errors of two families: ours, and the library's, so that handlers of either catch them (W13).

One that goes through the clients of two libraries is of three.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)
Families = tuple[type[Exception], ...]
"""Our own type, and those of the libraries."""


def of_both(error: E, other: type[Exception]) -> E:
    """*error* as an *other* as well: with the same fields, message, ``repr`` and history."""
    if isinstance(error, other):
        return error
    families = getattr(error, "_families", (type(error),))
    twin: E = _rebuild((*families, other), error.args)
    twin.__dict__.update(error.__dict__)
    twin.__traceback__, twin.__context__ = error.__traceback__, error.__context__
    twin.__cause__, twin.__suppress_context__ = error.__cause__, error.__suppress_context__
    return twin


def _rebuild(families: Families, args: tuple[Any, ...]) -> Any:
    both = _both(families)
    twin = both.__new__(both)
    for other in families[1:]:
        other.__init__(twin, "")  # what the library keeps in an error of its own, e.g. the request
    twin.args = args
    return twin


@cache
def _both(families: Families) -> Any:
    """The class that is all of them."""
    kind = families[0]

    def reduce(error: Exception) -> tuple[Any, ...]:
        return _rebuild, (families, error.args), error.__dict__

    return type(
        kind.__name__,
        families,
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__init__": kind.__init__,
            "__reduce__": reduce,
            "_families": families,
        },
    )

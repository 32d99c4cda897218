"""Errors of two families: ours, and the library's, so that handlers of either catch them (W13)."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)


def of_both(error: E, other: type[Exception]) -> E:
    """*error* as an *other* as well: with the same fields, message, ``repr`` and history."""
    if isinstance(error, other):
        return error
    twin = _rebuild(type(error), other, error.args)
    twin.__dict__.update(error.__dict__)
    twin.__traceback__, twin.__context__ = error.__traceback__, error.__context__
    twin.__cause__, twin.__suppress_context__ = error.__cause__, error.__suppress_context__
    return twin


def _rebuild(kind: type[E], other: type[Exception], args: tuple[Any, ...]) -> E:
    both = _both(kind, other)  # type: ignore[arg-type]  # classes can be hashed
    twin: E = both.__new__(both)
    other.__init__(twin, "")  # what the library keeps in an error of its own, such as the request
    twin.args = args
    return twin


@cache
def _both(kind: Any, other: Any) -> Any:
    """The class that is both."""

    def reduce(error: Exception) -> tuple[Any, ...]:
        return _rebuild, (kind, other, error.args), error.__dict__

    return type(
        kind.__name__,
        (kind, other),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__init__": kind.__init__,
            "__reduce__": reduce,
        },
    )

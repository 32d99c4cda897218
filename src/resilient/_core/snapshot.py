"""A mapping in a snapshot: read-only, and yet a dict, since `json` knows no other mapping."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError("a snapshot is read-only: change a copy of it, dict(...)")


class ReadOnlyDict(dict[K, V]):
    """A dict that refuses every change. A copy of it, pickled or deep, refuses them as well."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = cast("Any", _refuse)
    update = setdefault = pop = popitem = clear = cast("Any", _refuse)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

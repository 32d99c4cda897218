"""What all its users share, and what can't leave its process."""

from __future__ import annotations

from typing import NoReturn, Self


class Shared:
    """A copy of it is the thing itself, as with a logger, and nothing pickles it (F15)."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} can't be pickled, since its state is that of one process: "
            "build one in each process, such as at the top of a module"
        )


set_once = object.__setattr__
"""How the package sets an attribute that users see."""


class Fixed(Shared):
    """Shared, and without attributes to assign: what is private is for the package (F17)."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise AttributeError(
                f"{self!r}: {name} can't be assigned. Give it what it should know when you build "
                "it; what may change later has methods"
            )
        set_once(self, name, value)

"""What a factory says where Python itself would only count its arguments (F17)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from resilient._core.checks import check_name

P = ParamSpec("P")
R = TypeVar("R")


def factory(example: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a factory say what to write if it is given a function to decorate, or its name first.

    *example* is a short call of it.
    """
    what, _, inside = example.removesuffix(")").partition("(")
    comma = ", " if inside else ""

    def of(make: Callable[P, R]) -> Callable[P, R]:
        code = make.__code__
        positional = code.co_varnames[: code.co_argcount]

        @functools.wraps(make)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if positional == ("name",):
                if args:
                    check_name("name", args[0], instead=f"@{example}")
            elif len(args) > len(positional):
                first: object = args[0]
                if isinstance(first, str):
                    raise TypeError(
                        f"name must be given by its name, not as {first!r} alone: "
                        f'write {what}({inside}{comma}name="{first}")'
                    )
                if callable(first):
                    raise TypeError(
                        f"{what}() takes no function, such as {first!r}: "
                        f"write @{example}, with parentheses"
                    )
            return make(*args, **kwargs)

        return cast("Callable[P, R]", checked)

    return of

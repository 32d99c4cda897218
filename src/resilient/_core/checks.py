"""Bad arguments: refused with the name, the value and the allowed range.

NaN is never in a range, so that every check is written as "is it inside?".
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
from collections.abc import Callable
from types import FunctionType
from typing import Final, NoReturn, TypeVar

from resilient._core.functions import is_coroutine_function, is_generator_function, is_policy

T = TypeVar("T")
Seconds = float | dt.timedelta


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Raise the `ValueError` of a value outside its range."""
    raise ValueError(f"{name} must be {allowed}, not {value!r}")


def refuse_type(name: str, value: object, allowed: str) -> NoReturn:
    """Raise the `TypeError` of a value of the wrong kind."""
    raise TypeError(f"{name} must be {allowed}, not {value!r}{_instead(value)}")


def _instead(value: object) -> str:
    """What to write where a class, or a factory of ours, was given for what it makes."""
    module = str(getattr(value, "__module__", ""))
    if (isinstance(value, type) and module != "builtins") or (
        isinstance(value, FunctionType) and module.startswith("resilient.")
    ):
        return f": write {value.__name__}(...), with parentheses and its arguments"
    return ""


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float = math.inf,
    below: float | None = None,
    finite: bool = True,
) -> float:
    """A real number in a range. More than *above* or at least *least*; less than *below* or at most
    *most*.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse_type(name, value, f"a number {_range(above, least, most, below)}")
    try:
        value = float(value)
    except OverflowError:
        refuse(name, value, "a number that a float can hold")
    low = value > above if above is not None else least is None or value >= least
    high = value <= most if below is None else value < below
    if not (low and high) or (finite and math.isinf(value)):
        allowed = _range(above, least, most, below)
        refuse(name, value, f"a {'finite ' if finite else ''}number {allowed}")
    return value


def check_seconds(
    name: str, value: object, *, above: float | None = None, finite: bool = True
) -> float:
    """A length of time, in seconds or as a `timedelta`: at least 0, or more than *above*. On the
    way of a call: the text of an error is built for an error alone.
    """
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse_type(name, value, f"seconds or a timedelta, {_range(above, 0, math.inf)}")
    return check_number(name, value, above=above, least=0, finite=finite)


def check_int(name: str, value: object, *, least: int = 1) -> int:
    """A whole number of at least *least*."""
    if isinstance(value, bool) or not isinstance(value, int):
        refuse_type(name, value, f"a whole number of at least {least}")
    if value < least:
        refuse(name, value, f"a whole number of at least {least}")
    return value


def check_name(name: str, value: object, *, instead: str) -> str | None:
    """A policy's name, or ``None``. *instead* is what to write where a function came for it."""
    if value is None or isinstance(value, str):
        return value
    if callable(value):
        raise TypeError(
            f"{name} must be a string, not {value!r}: write {instead}, with parentheses"
        )
    refuse_type(name, value, "a string or None")


def check_callable(
    name: str, value: object, allowed: str = "a function or None"
) -> Callable[..., object] | None:
    """A function, or ``None``. *allowed* says it in the words of the argument."""
    if value is not None and not callable(value):
        refuse_type(name, value, allowed)
    if is_policy(value):
        raise TypeError(
            f"{name} must be {allowed}, not {value!r}: a policy is no function, it decorates one"
        )
    return value


AT_ONCE: Final = "a function that answers at once, no coroutine function and no generator"


def check_sync(
    name: str, value: object, allowed: str = "a function or None"
) -> Callable[..., object] | None:
    """A function that answers at once, or ``None``; see `check_callable`."""
    check_callable(name, value, allowed)
    if is_coroutine_function(value) or is_generator_function(value):
        refuse_type(name, value, AT_ONCE)
    return value  # type: ignore[return-value]  # callable


def check_per_call(
    name: str, value: object, check: Callable[[object], T], allowed: str
) -> T | Callable[..., T]:
    """What passes *check*, or a function of a call's arguments; *allowed* says so in words."""
    wanted = f"{allowed} or a function of the call's arguments"
    if callable(value):
        return check_sync(name, value, wanted)  # type: ignore[return-value]  # what it gives is checked
    if isinstance(value, str):
        refuse_type(name, value, wanted)
    return check(value)


def check_takes(name: str, fn: Callable[..., object], count: int, allowed: str) -> None:
    """Refuse a function that can't be called with *count* arguments."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # a builtin that does not tell
    try:
        signature.bind(*range(count))
    except TypeError:
        refuse_type(name, fn, allowed)


def _range(
    above: float | None, least: float | None, most: float, below: float | None = None
) -> str:
    low = high = ""
    if above is not None:
        low = f"above {above:g}"
    elif least is not None:
        low = f"of at least {least:g}"
    if below is not None:
        high = f"below {below:g}"
    elif not math.isinf(most):
        high = f"at most {most:g}"
    return " and ".join(part for part in (low, high) if part)

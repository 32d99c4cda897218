"""Whether a function answers at once. One that doesn't is no predicate: its coroutine is true."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CoroutineType
from typing import TypeVar

T = TypeVar("T")


def is_coroutine_function(fn: object) -> bool:
    """Whether calling *fn* makes a coroutine. Functions, partials, objects with an async
    ``__call__``.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or (
        not inspect.isroutine(fn)
        and not isinstance(fn, type)
        and inspect.iscoroutinefunction(call_of(fn))
    )


def is_generator_function(fn: object) -> bool:
    """Whether calling *fn* makes a generator, sync or async: its body runs after the call."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return any(
        inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one)
        for one in (fn, call_of(fn))
    )


def is_policy(thing: object) -> bool:
    """Whether it is a policy of ours. It can be called, but it is no function: it decorates one."""
    return hasattr(type(thing), "_wrap_sync")


def call_of(fn: object) -> object:
    """What runs when *fn*, an object, is called."""
    return getattr(type(fn), "__call__", None)  # noqa: B004  # the method itself is wanted


def per_call(value: object, check: Callable[[object], T]) -> Callable[..., T]:
    """How to read a setting off a call's arguments: *value* itself, which has been checked, or what
    *check* makes of the answer of *value*, a function of the user's.
    """
    if callable(value):
        return lambda *args, **kwargs: check(at_once(value(*args, **kwargs)))
    return lambda *_args, **_kwargs: value  # type: ignore[return-value]  # it has been checked


def copied(copy: Callable[[T], T], value: T) -> T:
    """What *copy*, a function of the user's, makes of *value*. What comes later is no copy, unless
    the value is of that kind.
    """
    made = copy(value)
    return made if type(made) is type(value) else at_once(made)


def at_once(answer: T) -> T:
    """*answer*, unless it comes later: an awaitable is true whatever comes of it."""
    if hasattr(type(answer), "__await__"):
        shown = repr(answer)
        if isinstance(answer, CoroutineType):
            answer.close()  # else Python would complain that nobody awaited it
        raise TypeError(f"a function that answers at once is wanted, and this gave {shown}")
    return answer

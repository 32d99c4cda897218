"""``key=``: from a call's arguments to its key."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any, final

from resilient._core.checks import check_sync
from resilient._core.functions import at_once

Key = Callable[..., Hashable] | str
Arguments = tuple[object, ...]
KeyOf = Callable[..., Hashable]
"""Called as the function is; what it returns has yet to be hashed."""


def check_key(key: object) -> Key | None:
    """``key=`` as a policy was given it."""
    if isinstance(key, str):
        return key
    return check_sync(
        "key", key, "a function of the call's arguments, the name of a parameter, or None"
    )


def key_of(key: Key, fn: Callable[..., object]) -> KeyOf:
    """How to read the key off a call of *fn*.

    Raises:
        TypeError: *fn* has no parameter of that name.
    """
    if isinstance(key, str):
        return _by_name(key, fn)
    return key


def hashable(key: Hashable) -> Hashable:
    """*key*, or the `TypeError` that names the argument. A coroutine is none, though hashable."""
    try:
        hash(key)
    except TypeError as error:
        raise TypeError(
            f"key must be hashable, not {key!r}: return a string, a number or a tuple of these"
        ) from error
    return at_once(key)


@final
class Scope:
    """A function, as the keys of its calls are kept under it: no other function has the same."""

    __slots__ = ("__weakref__", "_fn")

    def __init__(self, fn: Callable[..., object]) -> None:
        self._fn = fn


class Scopes:
    """The functions under one policy with ``key=``: each for as long as it has a wrapper, or
    something is kept of it. *lock* is the policy's.
    """

    __slots__ = ("_lock", "_scopes")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._scopes: weakref.WeakValueDictionary[object, Scope] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._scopes)

    def find(self, fn: Callable[..., object]) -> Scope:
        """The scope of *fn*, without the wrappers of policies; made if there is none."""
        known: object = fn
        try:
            hash(fn)
        except TypeError:
            known = id(fn)  # its scope keeps it, so that no other has this id
        with self._lock:
            scope = self._scopes.get(known)
            if scope is None:
                scope = self._scopes[known] = Scope(fn)
        return scope

    def keys(self, key: Hashable) -> list[Hashable]:
        """What *key* may be kept as: by itself, and under each function."""
        scopes = [ref() for ref in self._scopes.valuerefs()]  # one step: functions come and go
        return [key, *((scope, key) for scope in scopes if scope is not None)]


def user_key(key: Hashable) -> Hashable:
    """*key* as its user knows it: without the function under which it is kept."""
    return key[1] if type(key) is tuple and len(key) == 2 and type(key[0]) is Scope else key  # noqa: PLR2004  # the two of `Scopes.keys`


def arguments_key(
    fn: Callable[..., object], args: Arguments, kwargs: Mapping[str, Any]
) -> Hashable:
    """The key of a call as it is written: the function, and the arguments with their types.

    1, True and "1" differ, in tuples as well; the order of keyword arguments does not matter.

    Raises:
        TypeError: one of them can't be hashed.
    """
    key = (
        fn,
        tuple(map(_typed, args)),
        tuple((name, _typed(kwargs[name])) for name in sorted(kwargs)),
    )
    try:
        hash(key)
    except TypeError as error:
        raise TypeError(
            f"the arguments of {fn!r} can't be hashed ({error}): "
            "pass key= to say which calls are the same"
        ) from error
    return key


def _typed(value: object) -> object:
    if type(value) is tuple:
        return tuple, tuple(map(_typed, value))
    if type(value) is frozenset:
        return frozenset, frozenset(map(_typed, value))
    return type(value), value


def _by_name(name: str, fn: Callable[..., object]) -> KeyOf:
    signature = inspect.signature(fn)
    names = list(signature.parameters)
    parameter = signature.parameters.get(name)
    if parameter is None or parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        raise TypeError(f"key must name a parameter of {fn!r}, one of {names}, not {name!r}")
    index = names.index(name)
    positional = parameter.kind is not parameter.KEYWORD_ONLY
    by_keyword = parameter.kind is not parameter.POSITIONAL_ONLY

    def find(*args: Any, **kwargs: Any) -> Hashable:
        if positional and len(args) > index:
            return args[index]  # type: ignore[no-any-return]  # a caller hashes it, or says why not
        if by_keyword and name in kwargs:
            return kwargs[name]  # type: ignore[no-any-return]  # the same
        if parameter.default is parameter.empty:
            signature.bind(*args, **kwargs)  # raises what the call itself would
        return parameter.default  # type: ignore[no-any-return]  # the same

    return find

"""One way to wrap a function: what may be decorated, and how the wrapper looks from outside."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from types import CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from resilient._core.functions import is_coroutine_function, is_generator_function, is_policy

P = ParamSpec("P")
R = TypeVar("R")
AnyFunction = Callable[..., Any]


class AwaitableReturned(TypeError):  # noqa: N818  # named for what happened, as all our errors
    """A sync function returned an awaitable: what comes of it can't be guarded."""


class Guarding(Protocol):
    """A policy as the wrapping sees it; see `PolicyBase`."""

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction: ...
    def _wrap_async(self, fn: AnyFunction) -> AnyFunction: ...
    def _default_name(self, name: str) -> None: ...


def decorate(policy: Guarding, fn: Callable[P, R]) -> Callable[P, R]:
    """Guard every call of *fn*; the wrapper looks like it and carries the policy."""
    if isinstance(fn, staticmethod):
        return cast("Callable[P, R]", staticmethod(decorate(policy, fn.__func__)))
    if isinstance(fn, type):
        raise TypeError(
            f"{_name(fn)} is a class: decorate its methods, or write policy.call({fn.__name__}, "
            "...) where one is made"
        )
    bare = bare_wrapper(policy, fn)
    policy._default_name(_name(fn))
    if isinstance(fn, (FunctionType, MethodType)):
        functools.update_wrapper(bare, fn)
    else:  # an object's own attributes stay with it
        functools.update_wrapper(bare, fn, updated=())
        bare.__name__ = bare.__qualname__ = _name(fn)
        bare.__doc__ = inspect.getdoc(fn)
    bare.guards = fn  # type: ignore[attr-defined]  # update_wrapper took over that of fn
    bare.policy = policy  # type: ignore[attr-defined]  # policy_of() is the typed way
    return cast("Callable[P, R]", bare)


def bare_wrapper(policy: Guarding, fn: AnyFunction) -> AnyFunction:
    """A bare wrapper, sync or async as *fn* is: enough for one call."""
    if (
        type(fn) is FunctionType
        and not fn.__code__.co_flags & _GENERATOR
        and not fn.__dict__  # as of most: no wrapper, and not marked as a coroutine function
    ):
        is_async = bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
    else:
        check_function(fn)
        is_async = is_coroutine_function(fn)
    bare = policy._wrap_async(fn) if is_async else policy._wrap_sync(fn)
    bare.__wrapped__ = bare.guards = fn  # type: ignore[attr-defined]  # for signatures, and for `innermost`
    return bare


def innermost(fn: AnyFunction) -> AnyFunction:
    """The function below the wrappers of policies. The same, however often it is wrapped for a
    call.
    """
    if isinstance(fn, MethodType):
        inner = innermost(fn.__func__)
        return fn if inner is fn.__func__ else MethodType(inner, fn.__self__)
    own: dict[str, Any] = getattr(fn, "__dict__", {})
    guards = own.get("guards")
    if guards is not None and own.get("__wrapped__") is guards:  # not copied by functools.wraps
        return innermost(cast("AnyFunction", guards))
    return fn


def plain_type(fn: AnyFunction, result: object) -> type | None:
    """Refuse *result*, which the sync *fn* returned, if it is an awaitable. Return its type: a
    wrapper need not ask again before another type comes; ``None`` if it must always ask.

    Raises:
        AwaitableReturned: it is. A coroutine is closed; anything else is left as it is, since
            others may hold it.
    """
    kind: type | None = type(result)
    if kind is GeneratorType:
        kind = None  # those of `types.coroutine` are awaitable
    elif not hasattr(kind, "__await__"):
        return kind
    if not inspect.isawaitable(result):
        return kind
    if isinstance(result, CoroutineType):
        result.close()
        what = "a coroutine, which was not run"
    else:
        what = f"an awaitable, {type(result).__qualname__}, whose outcome comes after the call"
    raise AwaitableReturned(
        f"{_name(fn)} is no coroutine function but returned {what}: write `async def` and await it "
        "inside, so that the whole call is guarded"
    )


def not_awaitable(fn: AnyFunction, result: R) -> R:
    """*result*, unless it is an awaitable that the sync *fn* returned: see `plain_type`."""
    plain_type(fn, result)
    return result


_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def check_function(fn: object) -> None:
    """Refuse what can't be guarded by a call around it, and say what to write."""
    if not callable(fn):
        raise TypeError(f"a policy guards functions, not {fn!r}: {_instead_of(fn)}")
    if is_policy(fn):
        raise TypeError(
            f"a policy guards functions, not another one, {fn!r}: write pipeline(...) of both"
        )
    inner: object = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    if is_generator_function(inner):
        raise TypeError(
            f"{_name(fn)} is a generator function: its body runs after the call is over. "
            "Guard the call that opens the stream, or use `with policy.admit():` inside"
        )
    if _made_by_contextmanager(inner):
        raise TypeError(
            f"{_name(fn)} was made by contextmanager: its body runs after the call is over. "
            "Put `with policy.admit():` inside it"
        )


def _instead_of(thing: object) -> str:
    """What to write where a function is wanted, and *thing* came."""
    if isinstance(thing, classmethod):
        return "write @classmethod above, the policy below it"
    if isinstance(thing, (property, functools.cached_property)):
        return "write the property above, the policy below it"
    if inspect.isawaitable(thing):
        if inspect.iscoroutine(thing):
            thing.close()  # else Python would complain that nobody awaited it
        name = getattr(thing, "__name__", "fn")
        return f"write call({name}, ...), without calling it, so that the whole call is guarded"
    return "was a factory used without its parentheses?"


def _made_by_contextmanager(fn: object) -> bool:
    return getattr(fn, "__globals__", None) is vars(contextlib) and hasattr(fn, "__wrapped__")


def _name(fn: object) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__

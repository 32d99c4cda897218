"""One way to wrap a function: what may be decorated, and how the wrapper looks from outside."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from types import CoroutineType, FunctionType, MethodType
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar, cast

from resilient._core.functions import is_coroutine_function, is_generator_function

P = ParamSpec("P")
R = TypeVar("R")
AnyFunction = Callable[..., Any]


class CoroutineReturned(TypeError):  # noqa: N818  # named for what happened, as all our errors
    """A sync function returned a coroutine: nothing was run."""


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


def refuse_coroutine(fn: AnyFunction, result: object) -> NoReturn:
    """End the coroutine that the sync *fn* returned, and say what to write."""
    cast("CoroutineType[object, object, object]", result).close()
    raise CoroutineReturned(
        f"{_name(fn)} is no coroutine function but returned a coroutine, which was not run: "
        "write `async def` and await it inside, so that the whole call is guarded"
    )


def refuse_if_coroutine(fn: AnyFunction, result: R) -> R:
    """*result*, unless it is a coroutine that the sync *fn* returned."""
    if type(result) is CoroutineType:
        refuse_coroutine(fn, result)
    return result


_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def check_function(fn: object) -> None:
    """Refuse what can't be guarded by a call around it, and say what to write."""
    if not callable(fn):
        raise TypeError(f"a policy guards functions, not {fn!r}: {_instead_of(fn)}")
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

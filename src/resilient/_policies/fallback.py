"""Fallback: something instead of an error."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast, final, overload

from resilient._core.chaining import cause_of, set_cause
from resilient._core.checks import check_callable, check_name, check_takes
from resilient._core.counter import Counter
from resilient._core.functions import is_coroutine_function
from resilient._core.matching import Judge, Verdict
from resilient._policies.common.factory import factory
from resilient._policies.common.widening import Widening
from resilient._runtime import notify
from resilient._runtime.decorate import (
    AnyFunction,
    AwaitableReturned,
    not_awaitable,
    plain_type,
)
from resilient._runtime.notify import log_predicate_error
from resilient._typing import ErrorSpec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Missing(enum.Enum):
    """Stands for an argument that was not given."""

    MISSING = enum.auto()


MISSING: Final = _Missing.MISSING


@dataclass(frozen=True, slots=True)
class FallbackStats:
    """Totals of a fallback.

    It was ``used`` for so many calls; ``failed`` of these, because the handler raised.
    """

    name: str
    calls: int
    used: int
    failed: int


@final
class Fallback(Widening[T_co]):
    """Gives a value, or asks a function, where a call fails; `fallback` makes it."""

    kind = "fallback"

    def __init__(
        self, name: str | None, handler: Callable[[Any], Any] | None, default: Any, judge: Judge
    ) -> None:
        super().__init__(name)
        self._handler, self._default, self._judge = handler, default, judge
        self._is_async = is_coroutine_function(handler)
        self._calls, self._used, self._failures = Counter(), Counter(), Counter()
        self._register()

    def stats(self) -> FallbackStats:
        """A snapshot; see `FallbackStats`."""
        failed, used = self._failures.read(), self._used.read()
        return FallbackStats(self.name, self._calls.read(), used, failed)

    def _reset(self) -> None:
        for total in (self._calls, self._used, self._failures):
            total.reset()

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        if self._is_async:
            raise TypeError(
                f"handler {self._handler!r} is an async def, which {fn!r}, a sync function, can't "
                "await: write a plain function"
            )
        started, handler = self._calls.increment, self._handler
        plain: type | None = None  # the type that it returned last

        def falling_back(*args: Any, **kwargs: Any) -> Any:
            nonlocal plain
            next(started)
            try:
                result = fn(*args, **kwargs)
                if type(result) is not plain:
                    plain = plain_type(fn, result)
            except Exception as error:
                if not self._wanted(error):
                    raise
                if handler is None:
                    return self._default
                try:
                    return not_awaitable(handler, handler(error))
                except Exception as failure:
                    self._failed(failure, error)
                    raise
            return result

        return falling_back

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        started, handler = self._calls.increment, self._handler

        async def falling_back(*args: Any, **kwargs: Any) -> Any:
            next(started)
            try:
                return await fn(*args, **kwargs)
            except Exception as error:
                if not self._wanted(error):
                    raise
                if handler is None:
                    return self._default
                try:
                    result = handler(error)
                    return await result if inspect.isawaitable(result) else result
                except Exception as failure:
                    self._failed(failure, error)
                    raise

        return falling_back

    def _wanted(self, error: Exception) -> bool:
        if self._judge.error(error) is not Verdict.FAILURE:
            return False
        next(self._used.increment)
        if notify.listening:
            self._emit("FallbackUsed", error=error)
            self._outbox.deliver()
        return True

    def _failed(self, failure: Exception, error: Exception) -> None:
        next(self._failures.increment)
        if not any(one is failure for one in _chain(error)):  # a handler may unwrap the error
            set_cause(failure, error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """*error*, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = cause_of(error)


def _known(error: BaseException) -> Verdict | None:
    """A function that was decorated the wrong way must be seen."""
    return Verdict.IGNORED if isinstance(error, AwaitableReturned) else None


@overload
def fallback(
    handler: Callable[[Any], Awaitable[T]],
    *,
    on: ErrorSpec = Exception,
    name: str | None = None,
) -> Fallback[T]: ...
@overload
def fallback(
    handler: Callable[[Any], T], *, on: ErrorSpec = Exception, name: str | None = None
) -> Fallback[T]: ...
@overload
def fallback(*, default: T, on: ErrorSpec = Exception, name: str | None = None) -> Fallback[T]: ...
@factory("fallback(default=...)")
def fallback(
    handler: Callable[[Any], Any] | Literal[_Missing.MISSING] = MISSING,
    *,
    default: Any = MISSING,
    on: ErrorSpec = Exception,
    name: str | None = None,
) -> Fallback[Any]:
    """Give something else where a call fails: a value, or what a function makes of the error.

    Args:
        handler: a function of the error, sync, or async for async functions. What it raises is
            raised from the call's own error.
        default: the value, the same object each time. Exactly one of the two.
        on: which errors it is for. Cancellation and exits are none, whatever it says.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    It is for any error that *on* names, also for a `Rejected` or a `DeadlineExceeded` of a policy
    inside. It does not look at the deadline: a handler that calls others does.

    Raises:
        TypeError: both or none of the two are given; or, at decoration, an async handler for a
            sync function.
    """
    if isinstance(handler, str):
        raise TypeError(
            f"handler must be a function of the error, not {handler!r}: "
            f'write fallback(default=..., name="{handler}")'
        )
    if (handler is MISSING) == (default is MISSING):
        raise TypeError("fallback() takes a handler or a default, exactly one of them")
    return Fallback(
        check_name("name", name, instead="@fallback(default=...)"),
        None if handler is MISSING else _handler(handler),
        default,
        Judge(
            on,
            classify_first=_known,
            classified_types=(AwaitableReturned,),
            log=log_predicate_error,
            on_predicate_error=Verdict.SUCCESS,
        ),
    )


def _handler(handler: object) -> Callable[[Any], Any]:
    if handler is None:
        raise TypeError("handler must be a function of the error; for a value write default=")
    found = cast("Callable[[Any], Any]", check_callable("handler", handler))
    check_takes(
        "handler",
        found,
        1,
        "a function of the error (to decorate, write @fallback(default=...), with parentheses)",
    )
    return found

"""Fallback: something instead of an error.

It is long by its overloads: what is given widens the result, in five ways.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, final, overload

from resilient._core.chaining import cause_of, set_cause
from resilient._core.checks import (
    check_callable,
    check_name,
    check_sync,
    check_takes,
    refuse_type,
)
from resilient._core.counter import Counter
from resilient._core.functions import is_coroutine_function, is_generator_function
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


Source = Literal["handler", "default", "instead"]
"""The argument that says what is given: one of three."""


@dataclass(frozen=True, slots=True)
class FallbackStats:
    """Totals of a fallback.

    It was ``used`` for so many calls; ``failed`` of these, because the handler, or the function
    *instead*, raised.
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
        self,
        name: str | None,
        source: Source,
        given: Any,
        judge: Judge,
        on_result: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(name)
        self._source, self._given = source, given
        self._judge, self._on_result = judge, on_result
        self._is_async = source != "default" and is_coroutine_function(given)
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
                f"{self._source} {self._given!r} is an async def, which {fn!r}, a sync function, "
                "can't await: write a plain function"
            )
        started, on_result = self._calls.increment, self._on_result
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
                return self._give(error, args, kwargs)
            if on_result is not None and self._unwanted(on_result, result):
                return self._give(None, args, kwargs)
            return result

        return falling_back

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        started, on_result = self._calls.increment, self._on_result

        async def falling_back(*args: Any, **kwargs: Any) -> Any:
            next(started)
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                if not self._wanted(error):
                    raise
                return await self._give_async(error, args, kwargs)
            if on_result is not None and self._unwanted(on_result, result):
                return await self._give_async(None, args, kwargs)
            return result

        return falling_back

    # When it is used.

    def _wanted(self, error: Exception) -> bool:
        if self._judge.error(error) is not Verdict.FAILURE:
            return False
        self._tell(error)
        return True

    def _unwanted(self, on_result: Callable[[Any], object], result: Any) -> bool:
        if self._judge.result(on_result, result) is not Verdict.FAILURE:
            return False
        self._tell(None)
        return True

    def _tell(self, error: Exception | None) -> None:
        next(self._used.increment)
        if notify.listening:
            self._emit("FallbackUsed", error=error)
            self._outbox.deliver()

    # What it gives, after *error* or an unwanted result.

    def _give(self, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = self._given
        if self._source == "default":
            return given
        try:
            result = given(error) if self._source == "handler" else given(*args, **kwargs)
            return not_awaitable(given, result)
        except Exception as failure:
            self._failed(failure, error)
            raise
        finally:
            del error  # or it would keep itself alive by its traceback, if it is raised again

    async def _give_async(
        self, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = self._given
        if self._source == "default":
            return given
        try:
            result = given(error) if self._source == "handler" else given(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        except Exception as failure:
            self._failed(failure, error)
            raise
        finally:
            del error

    def _failed(self, failure: Exception, error: Exception | None) -> None:
        next(self._failures.increment)
        if error is not None and not any(one is failure for one in _chain(error)):
            set_cause(failure, error)  # unless the error was unwrapped, and that raised


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
    on_result: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Fallback[T]: ...
@overload
def fallback(
    handler: Callable[[Any], T],
    *,
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Fallback[T]: ...
@overload
def fallback(
    *,
    default: T,
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Fallback[T]: ...
@overload
def fallback(
    *,
    instead: Callable[..., Awaitable[T]],
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Fallback[T]: ...
@overload
def fallback(
    *,
    instead: Callable[..., T],
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Fallback[T]: ...
@factory("fallback(default=...)")
def fallback(
    handler: Callable[[Any], Any] | Literal[_Missing.MISSING] = MISSING,
    *,
    default: Any = MISSING,
    instead: Callable[..., Any] | Literal[_Missing.MISSING] = MISSING,
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Fallback[Any]:
    """Give something else where a call fails: a value, what a function makes of the error, or what
    another function returns.

    Exactly one of *handler*, *default* and *instead* says what you get. A function may be sync, or
    async for async functions. What it raises is raised from the call's own error.

    Args:
        handler: a function of the error, which is ``None`` after an unwanted result.
        default: the value, the same object each time.
        instead: a function that is called with the call's own arguments: another provider, or a
            replica, with policies of its own. Of a method it gets the object first.
        on: which errors it is for. Cancellation and exits are none, whatever it says.
        on_result: a predicate on the result; true makes it as bad as an error that *on* names. If
            it raises, that is logged once, and you get the result. What the fallback itself gives
            is not judged.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    It is for any error that *on* names, also for a `Rejected` or a `DeadlineExceeded` of a policy
    inside. It does not look at the deadline: a function that calls others does.

    Raises:
        TypeError: not exactly one of the three is given; or, at decoration, an async function is to
            stand in for a sync one.
    """
    if isinstance(handler, str):
        raise TypeError(
            f"handler must be a function of the error, not {handler!r}: "
            f'write fallback(default=..., name="{handler}")'
        )
    sources: tuple[Source, ...] = ("handler", "default", "instead")
    asked = zip(sources, (handler, default, instead), strict=True)
    given: list[tuple[Source, Any]] = [one for one in asked if one[1] is not MISSING]
    if len(given) != 1:
        raise TypeError("fallback() takes exactly one of handler, default and instead")
    source, what = given[0]
    if source != "default":
        _check_function(source, what)
    return Fallback(
        check_name("name", name, instead="@fallback(default=...)"),
        source,
        what,
        Judge(
            on,
            classify_first=_known,
            classified_types=(AwaitableReturned,),
            log=log_predicate_error,
            on_predicate_error=Verdict.SUCCESS,
        ),
        check_sync("on_result", on_result),
    )


def _check_function(source: Source, function: object) -> None:
    takes = "of the error" if source == "handler" else "of the call's own arguments"
    if not callable(function):
        refuse_type(source, function, f"a function {takes} (for a value write default=)")
    check_callable(source, function, f"a function {takes}")
    if is_generator_function(function):
        refuse_type(source, function, f"a function {takes}, and no generator function")
    if source == "handler":
        parentheses = "(to decorate, write @fallback(default=...), with parentheses)"
        check_takes(source, function, 1, f"a function {takes} {parentheses}")

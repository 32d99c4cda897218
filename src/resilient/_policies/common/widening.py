"""A policy whose calls may return something else than their function does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, overload

from resilient._policies.common.policy import PolicyBase

P = ParamSpec("P")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class Widening(PolicyBase, Generic[T_co]):
    """The types of such a policy: *T_co* is what else a call may return.

    A coroutine of these has no ``Any`` in its type: an overload that is given one answers ``Any``
    in mypy, and so would the policy that is stacked on top.
    """

    @overload  # type: ignore[override]  # no other policy changes what a function returns
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[object, None, R | T_co]]: ...
    @overload
    def __call__(
        self, fn: Callable[P, Awaitable[R]], /
    ) -> Callable[P, Coroutine[object, None, R | T_co]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R | T_co]: ...
    def __call__(self, fn: Callable[P, Any], /) -> Callable[P, Any]:
        """Guard every call of *fn*; see `PolicyBase.__call__`."""
        return super().__call__(fn)

    @overload  # type: ignore[override]  # the same
    def call(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, None, R | T_co]: ...
    @overload
    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R | T_co: ...
    def call(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run one call of *fn*; see `PolicyBase.call`."""
        return super().call(fn, *args, **kwargs)

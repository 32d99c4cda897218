"""`fresh` and `record`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, overload

from resilient._policies.common import policy
from resilient._policies.retry import budget
from resilient.events import Event, subscribe

E = TypeVar("E", bound=Event)


@contextmanager
def fresh() -> Iterator[None]:
    """Let every living policy start as new, and leave it as new.

    State, window, keys, budget and totals go; listeners stay. A call that is under way
    when a policy is renewed counts nothing any more.
    """
    reset_all()
    try:
        yield
    finally:
        reset_all()


@overload
def record() -> AbstractContextManager[list[Event]]: ...
@overload
def record(*types: type[E]) -> AbstractContextManager[list[E]]: ...
@contextmanager
def record(*types: type[Any]) -> Iterator[list[Any]]:
    """Keep the events of *types* (of all, if none is given).

    Yields the list, which grows while the block lasts.
    """
    events: list[Any] = []
    with subscribe(events.append, *types):
        yield events


def reset_all() -> None:
    """Let every living policy start as new."""
    for one in policy.registry.living():
        one._reset()
    for shared in budget.registry.living():
        shared._reset()

"""`fresh` and `record`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, overload

from resilient._policies.common import policy
from resilient._policies.retry import budget
from resilient._runtime import rng
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
    """Let every living policy start as new. All draw the same number for it, so that what one draws
    does not depend on which others there are.
    """
    first = rng.draw()
    with rng.install(lambda: first):
        for one in policy.registry.living():
            one._reset()
        for shared in budget.registry.living():
            shared._reset()


@contextmanager
def seeded(seed: int, *, fresh: bool) -> Iterator[None]:
    """Let every policy without an ``rng`` draw by *seed*, and start as new if *fresh* is set."""
    if fresh:
        with rng.install(_source(seed)):
            reset_all()
    with rng.install(_source(seed)):
        yield


def _source(seed: int) -> Callable[[], float]:
    return random.Random(seed).random  # noqa: S311  # jitter, no secrets

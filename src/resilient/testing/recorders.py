"""`fresh` and `record`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from resilient._policies import base
from resilient._policies.retry import budget
from resilient.events import Event, subscribe

E = TypeVar("E", bound=Event)


@contextmanager
def fresh() -> Iterator[None]:
    """Let every living policy start as new, and leave it as new.

    State, window, keys, budget and totals go; listeners stay. A call that is under way
    when a policy is renewed counts nothing any more.
    """
    _renew()
    try:
        yield
    finally:
        _renew()


@contextmanager
def record(*types: type[E]) -> Iterator[list[E]]:
    """Keep the events of *types* (of all, if none is given).

    Yields the list, which grows while the block lasts.
    """
    events: list[E] = []
    with subscribe(events.append, *types):
        yield events


def _renew() -> None:
    for policy in base.living.living():
        policy.renew()
    for shared in list(budget.living):
        shared.renew()

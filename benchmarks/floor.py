"""What is called, and what one would write by hand around it: the measure of all ratios."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from benchmarks.timing import FLOOR, Entry, World


def answer() -> int:
    """A dependency that is there."""
    return 1


async def answer_async() -> int:
    """A dependency that is there."""
    return 1


def by_hand(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The wrapper that one would write by hand."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except ValueError:
            raise

    return wrapper


def by_hand_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The wrapper that one would write by hand."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await fn(*args, **kwargs)
        except ValueError:
            raise

    return wrapper


def bare(world: World) -> Entry:
    """The call without anything around it."""
    return Entry("bare", lambda: answer if world == "sync" else answer_async, by_hand=True)


def floor(world: World) -> Entry:
    """The call in a wrapper by hand."""
    return Entry(
        FLOOR,
        lambda: by_hand(answer) if world == "sync" else by_hand_async(answer_async),
        by_hand=True,
    )

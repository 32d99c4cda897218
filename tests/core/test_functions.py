"""Whether a function answers at once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from resilient._core.functions import at_once, is_coroutine_function, is_generator_function


async def later() -> None: ...


def plain() -> None: ...


def items() -> Iterator[int]:
    yield 1


async def items_later() -> AsyncIterator[int]:
    yield 1


class Later:
    async def __call__(self) -> None: ...


class Items:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.rule("F1")
@pytest.mark.parametrize(
    "wrap", [lambda fn: fn, functools.partial, lambda fn: functools.partial(functools.partial(fn))]
)
def test_it_is_told_through_partials_and_objects(wrap: Any) -> None:
    assert [is_coroutine_function(wrap(fn)) for fn in (later, Later(), plain, items, Later)] == [
        True, True, False, False, False,
    ]  # fmt: skip
    made = [is_generator_function(wrap(fn)) for fn in (items, items_later, Items(), plain, later)]
    assert made == [True, True, True, False, False]


@pytest.mark.rule("F12")
def test_an_answer_that_comes_later_is_none() -> None:
    assert at_once(3) == 3
    coroutine = later()
    with pytest.raises(TypeError, match="answers at once"):
        _ = at_once(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

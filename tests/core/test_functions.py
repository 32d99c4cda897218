"""Whether a function answers at once."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import math
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from resilient._core.cache import CacheConfig, CacheCore, Entry
from resilient._core.checks import check_int, check_per_call, check_sync, check_takes
from resilient._core.functions import (
    at_once,
    copied,
    is_coroutine_function,
    is_generator_function,
    per_call,
)
from resilient._core.retry import retry_after_of
from resilient._core.snapshot import ReadOnlyDict


async def later() -> None: ...


def plain() -> None: ...


def items() -> Iterator[int]:
    yield 1


async def items_later() -> AsyncIterator[int]:
    yield 1


class Later:
    async def __call__(self) -> None: ...


class Awaited:
    def __await__(self) -> Iterator[None]:
        yield


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


@pytest.mark.rule("F7")
def test_what_answers_later_or_takes_something_else_is_refused_by_name() -> None:
    for fn in (later, items):
        with pytest.raises(TypeError, match="stop must be a function that answers at once"):
            check_sync("stop", fn)
    assert check_sync("stop", plain) is plain
    check_takes("wait", print, 3, "anything")
    check_takes("wait", type("Silent", (), {"__signature__": 1})(), 3, "anything")
    with pytest.raises(TypeError, match="wait must be a function of two"):
        check_takes("wait", plain, 2, "a function of two")


@pytest.mark.rule("F12")
def test_an_answer_that_is_no_coroutine_and_comes_later_is_none_either() -> None:
    with pytest.raises(TypeError, match="answers at once"):
        at_once(Awaited())


@pytest.mark.rule("F7", "L4", "L7")
def test_a_setting_may_be_a_function_of_the_call_s_arguments() -> None:
    whole = functools.partial(check_int, "cost")
    for setting in (3, plain):
        assert check_per_call("cost", setting, whole, "a whole number") is setting
    for wrong, said in (("3", "a whole number or a function"), (later, "a function that answers")):
        with pytest.raises(TypeError, match=f"cost must be {said}"):
            check_per_call("cost", wrong, whole, "a whole number")
    assert per_call(3, whole)("anything", at="all") == 3
    assert per_call(len, whole)("four") == 4
    for fn, error in ((len, ValueError), (str, TypeError), (lambda _: Awaited(), TypeError)):
        with pytest.raises(error):
            per_call(fn, whole)("")


@pytest.mark.rule("F6")
def test_a_mapping_of_a_snapshot_refuses_changes_and_pickles() -> None:
    found = ReadOnlyDict(a=1)
    with pytest.raises(TypeError, match="read-only"):
        found["a"] = 2
    assert pickle.loads(pickle.dumps(found)) == {"a": 1}


@pytest.mark.rule("R6")
def test_a_timedelta_says_when_to_come_back_as_well() -> None:
    error = ValueError()
    error.retry_after = dt.timedelta(seconds=2)  # type: ignore[attr-defined]  # as a client does
    assert retry_after_of(error) == 2.0


@pytest.mark.rule("C3")
def test_what_has_ended_goes_first_and_what_never_ends_goes_by_use() -> None:
    core = CacheCore(CacheConfig(10.0, 2, 1.0, 0.0, 0.0, None))
    for key, negative, now in (("live", False, 0.0), ("none", True, 0.0), ("new", False, 5.0)):
        core.keep(key, Entry(key, negative=negative), now, 0.5)
    assert sorted(map(str, core.entries)) == ["live", "new"]
    core = CacheCore(CacheConfig(10.0, 1, None, math.inf, 0.0, None))
    for key in ("first", "second"):
        core.keep(key, Entry(key, negative=False), 0.0, 0.5)
    assert list(core.entries) == ["second"]


@pytest.mark.rule("C9", "F1")
def test_what_comes_later_is_no_copy_unless_the_value_is_of_that_kind() -> None:
    class Later:
        def __await__(self) -> Iterator[None]:
            yield

    value = Later()
    assert copied(lambda one: one, value) is value
    assert copied(str, 1) == "1"  # type: ignore[arg-type, comparison-overlap]
    with pytest.raises(TypeError, match="answers at once"):
        copied(lambda _: Later(), 1)  # type: ignore[arg-type, return-value]

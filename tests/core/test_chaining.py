"""What an error came of: R7, F8."""

from __future__ import annotations

import itertools

import pytest

from resilient._core.chaining import (
    add_note,
    comes_of_close,
    context_of,
    forget,
    link,
    set_cause,
    set_context,
)


class FrozenError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(f"{name} can't be set")


def chained(*errors: Exception) -> list[Exception]:
    for error, context in itertools.pairwise(errors):
        set_context(error, context)
    return list(errors)


def chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__context__
    return links


@pytest.mark.rule("R7")
def test_it_goes_to_the_end_of_the_chain() -> None:
    a, b = chained(FrozenError("a"), FrozenError("b"))
    x, y = chained(KeyError("x"), KeyError("y"))
    link(a, x)
    assert chain(a) == [a, b, x, y]
    link(a, x)
    link(a, y)
    assert chain(a) == [a, b, x, y]
    link(a, None)
    assert chain(a) == [a, b, x, y]


@pytest.mark.rule("R7")
def test_what_both_have_in_common_comes_last_and_once() -> None:
    common = KeyError("handled")
    a, b, _ = chained(KeyError("a"), KeyError("b"), common)
    x, y, _ = chained(KeyError("x"), KeyError("y"), common)
    link(a, x)
    assert chain(a) == [a, b, x, y, common]
    assert common.__context__ is None


@pytest.mark.rule("R7")
def test_no_chain_becomes_a_circle() -> None:
    a, b = chained(KeyError("a"), KeyError("b"))
    link(b, a)
    link(a, a)
    assert (chain(a), b.__context__) == ([a, b], None)


@pytest.mark.rule("R7")
def test_a_circle_is_left_alone() -> None:
    a, b, _ = chained(first := KeyError("a"), KeyError("b"), first)
    x = KeyError("x")
    link(a, x)
    assert (a.__context__, b.__context__) == (b, a)
    link(x, a)
    assert chain(x) == [x, a, b]


@pytest.mark.rule("S6")
def test_what_a_caller_was_handling_is_taken_out_wherever_it_is() -> None:
    handled, older = chained(KeyError("handled"), KeyError("older"))
    leaf, cause, end = KeyError("leaf"), KeyError("cause"), KeyError("end")
    group = ExceptionGroup("all", [leaf])
    set_context(group, end)
    set_cause(group, cause)
    for one in (leaf, cause, end):
        set_context(one, handled)
    forget(group, handled)
    assert [context_of(one) for one in (leaf, cause, end, group)] == [None, None, None, end]
    assert chain(handled) == [handled, older]


@pytest.mark.rule("S6")
def test_without_it_nothing_changes() -> None:
    handled, older = chained(KeyError("handled"), KeyError("older"))
    a, b, _ = chained(first := KeyError("a"), KeyError("b"), first)
    forget(handled, None)
    forget(handled, handled)
    forget(a, handled)
    assert (chain(handled), chain(a)) == ([handled, older], [a, b])


class TacitError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(f"no {name}")


@pytest.mark.rule("F8", "R7")
def test_a_note_takes_the_place_of_the_one_that_begins_alike() -> None:
    error, tacit = KeyError(), TacitError()
    for note in ("fetch: 1", "fetch: 2"):
        add_note(error, note, "fetch: ")
        add_note(tacit, note, "fetch: ")
    add_note(error, "other")
    add_note(error, "other")
    assert error.__notes__ == ["fetch: 2", "other", "other"]
    assert not hasattr(tacit, "__notes__")


@pytest.mark.rule("F3")
def test_what_comes_of_a_close_is_that_and_what_its_clean_up_raised() -> None:
    a, b = chained(KeyError("a"), KeyError("b"))
    assert not comes_of_close(a)
    closed = GeneratorExit()
    assert comes_of_close(closed)
    set_context(b, closed)
    assert comes_of_close(a)
    set_context(b, a)
    assert not comes_of_close(a), "a circle"

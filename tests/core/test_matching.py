"""Which errors count: F12, and the order of B2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.matching import BrokenPredicateError, Judge, Matcher, Verdict, each

OK, BAD, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED


def unknown(error: BaseException) -> Verdict | None:
    return None


def judge(
    on: object = ValueError,
    ignore: object = (),
    known: Callable[[BaseException], Verdict | None] = unknown,
    told: list[tuple[object, Exception]] | None = None,
    **how: Any,
) -> Judge:
    return Judge(
        on,
        ignore,
        classify_first=known,
        log=lambda *what: None if told is None else told.append(what),
        **how,
    )


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def says_no(error: Exception) -> bool:
    return "no" in str(error)


class OwnGroup(ExceptionGroup[Exception]):
    """A group type that somebody names."""


@pytest.mark.rule("B2", "F12")
@pytest.mark.parametrize(
    ("on", "error", "verdict"),
    [
        (ValueError, ValueError(), BAD),
        (ValueError, UnicodeError(), BAD),
        (ValueError, KeyError(), OK),
        (says_no, KeyError("no"), BAD),
        (says_no, KeyError("yes"), OK),
        ((KeyError, says_no), ValueError("no"), BAD),
        ((KeyError, says_no), KeyError("yes"), BAD),
        ((OSError, (TypeError, (says_no,))), ValueError("no"), BAD),
        ((OSError, (TypeError, (says_no,))), TypeError(), BAD),
        ((OSError, TypeError), ValueError("no"), OK),
        ((), ValueError(), OK),
    ],
)
def test_a_tuple_matches_if_one_member_does(on: object, error: Exception, verdict: Verdict) -> None:
    assert judge(on).error(error) is verdict


@pytest.mark.rule("B2")
def test_ignore_is_asked_before_on() -> None:
    assert judge(Exception, ValueError).error(ValueError()) is IGNORED
    assert judge(Exception, ValueError).error(KeyError()) is BAD
    assert judge(Exception, says_no).error(KeyError("no")) is IGNORED


@pytest.mark.rule("B2", "F12")
@pytest.mark.parametrize(
    ("known", "on", "ignore", "verdict"),
    [
        (IGNORED, Exception, (), IGNORED),  # a call that was not made, whatever `on` says
        (BAD, (), (), BAD),  # a time limit of ours
        (BAD, (), Exception, IGNORED),  # unless `ignore` names it
        (None, Exception, (), BAD),
        (None, (), (), OK),
    ],
)
def test_what_is_known_of_an_error_has_its_place(
    known: Verdict | None, on: object, ignore: object, verdict: Verdict
) -> None:
    assert judge(on, ignore, lambda error: known).error(ValueError()) is verdict


@pytest.mark.rule("B2")
def test_what_is_known_to_be_ignored_asks_no_predicate() -> None:
    told: list[tuple[object, Exception]] = []
    assert judge(Exception, broken, lambda error: IGNORED, told).error(ValueError()) is IGNORED
    assert told == []


@pytest.mark.rule("F12")
@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (group(KeyError(), ValueError()), BAD),  # one leaf is a failure
        (group(KeyError(), group(ValueError())), BAD),
        (group(OSError(), OSError()), IGNORED),  # every leaf is ignored
        (group(OSError(), group(OSError())), IGNORED),
        (group(OSError(), ValueError()), BAD),
        (group(OSError(), KeyError()), OK),  # the dependency answered
        (group(KeyError()), OK),
    ],
)
def test_a_group_is_judged_leaf_by_leaf(error: Exception, verdict: Verdict) -> None:
    assert judge(ValueError, OSError).error(error) is verdict


@pytest.mark.rule("F12")
def test_a_leaf_that_is_ignored_matches_nothing() -> None:
    assert judge(Exception, OSError).error(group(OSError())) is IGNORED
    assert judge(OSError, ConnectionError).error(group(ConnectionError(), KeyError())) is OK


@pytest.mark.rule("F12")
def test_predicates_are_asked_leaf_by_leaf() -> None:
    asked: list[Exception] = []
    first, second = KeyError(), ValueError()
    judge(asked.append).error(group(first, group(second)))
    assert len(asked) == 2
    assert {id(error) for error in asked} == {id(first), id(second)}


@pytest.mark.rule("F12")
def test_only_a_specification_that_names_a_group_type_sees_the_group() -> None:
    assert judge(ExceptionGroup).error(group(KeyError())) is BAD
    assert judge(BaseExceptionGroup).error(group(KeyError())) is BAD
    assert judge(OwnGroup).error(group(KeyError())) is OK
    assert judge((OSError, OwnGroup)).error(OwnGroup("own", [KeyError()])) is BAD
    assert judge(Exception, OwnGroup).error(OwnGroup("own", [KeyError()])) is IGNORED
    assert judge(Exception, KeyError).error(OwnGroup("own", [KeyError()])) is IGNORED


@pytest.mark.rule("F12")
@settings(max_examples=200)
@given(
    st.recursive(
        st.sampled_from([ValueError, OSError, KeyError]).map(lambda kind: kind()),
        lambda errors: st.lists(errors, min_size=1, max_size=3).map(lambda some: group(*some)),
    )
)
def test_a_group_says_what_its_leaves_say_however_they_are_nested(error: Exception) -> None:
    found = list(each(error))
    verdicts = {
        judge(ValueError, OSError).error(leaf) for leaf in found if isinstance(leaf, Exception)
    }
    assert not any(isinstance(leaf, ExceptionGroup) for leaf in found)
    expected = BAD if BAD in verdicts else OK if OK in verdicts else IGNORED
    assert judge(ValueError, OSError).error(error) is expected


def broken(error: object) -> bool:
    raise ZeroDivisionError("broken")


@pytest.mark.rule("F12")
def test_a_predicate_that_raises_makes_a_failure_and_is_told_once() -> None:
    told: list[tuple[object, Exception]] = []
    one = judge(broken, told=told)
    assert one.error(ValueError()) is BAD
    assert one.error(group(KeyError())) is BAD
    assert one.result(broken, 5) is BAD
    assert [(predicate, str(fault)) for predicate, fault in told] == [(broken, "broken")]


@pytest.mark.rule("F12")
def test_a_predicate_of_ignore_that_raises_makes_a_failure_too() -> None:
    assert judge((), broken).error(ValueError()) is BAD


@pytest.mark.rule("F12")
def test_a_judge_may_say_that_a_broken_predicate_is_something_else() -> None:
    assert judge(broken, on_predicate_error=OK).error(ValueError()) is OK


@pytest.mark.rule("F9", "F12")
def test_what_is_no_exception_passes_through_a_predicate() -> None:
    def interrupted(error: Exception) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(interrupted).error(ValueError())


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("answer", "verdict"), [(True, BAD), ("yes", BAD), (False, OK), (None, OK)]
)
def test_a_result_is_a_failure_if_the_predicate_says_so(answer: object, verdict: Verdict) -> None:
    asked: list[object] = []

    def unwanted(result: object) -> object:
        asked.append(result)
        return answer

    assert judge().result(unwanted, 42) is verdict
    assert asked == [42]


def test_a_broken_predicate_says_which_and_why() -> None:
    with pytest.raises(BrokenPredicateError) as raised:
        Matcher("on", broken).leaf(ValueError())
    assert raised.value.args[0] is broken
    assert isinstance(raised.value.args[1], ZeroDivisionError)
    assert raised.value.__cause__ is raised.value.args[1]


ALLOWED = "an exception type, a predicate, or a tuple of these"


@pytest.mark.rule("F7", "F12")
@pytest.mark.parametrize("spec", ["ValueError", None, 5, [ValueError], int, (ValueError, object)])
def test_what_is_neither_type_nor_predicate_is_refused(spec: Any) -> None:
    with pytest.raises(TypeError) as refused:
        Judge(ValueError, spec, classify_first=unknown, log=lambda *what: None)
    member = spec[1] if isinstance(spec, tuple) else spec
    assert str(refused.value) == f"ignore must be {ALLOWED}, not {member!r}"


@pytest.mark.rule("F7", "F9")
@pytest.mark.parametrize("spec", [BaseException, KeyboardInterrupt, (ValueError, (GeneratorExit,))])
def test_cancellation_and_exits_can_not_be_named(spec: Any) -> None:
    with pytest.raises(ValueError, match=f"^on must be {ALLOWED}, of Exceptions: ") as refused:
        judge(spec)
    assert str(refused.value).endswith("are never counted, not " + repr(named(spec)))


def named(spec: Any) -> object:
    """The innermost last member."""
    return named(spec[-1]) if isinstance(spec, tuple) else spec


@pytest.mark.rule("F12")
def test_what_is_known_is_asked_of_each_leaf() -> None:
    def known(error: BaseException) -> Verdict | None:
        return IGNORED if isinstance(error, OSError) else None

    assert judge(Exception, known=known).error(OSError()) is IGNORED
    assert judge(Exception, known=known).error(group(OSError(), KeyError())) is BAD
    assert judge((), known=known).error(group(OSError(), KeyError())) is OK


@pytest.mark.rule("F12")
def test_each_error_is_a_leaf_of_a_group_or_the_error_itself() -> None:
    alone, one, two = KeyError(), ValueError(), OSError()
    assert list(each(alone)) == [alone]
    assert list(each(group(one, group(two)))) == [one, two]


@pytest.mark.rule("F12", "B2")
def test_the_very_types_that_are_sure_are_judged_at_once_and_as_ever() -> None:
    plain = judge((ValueError, OSError, OwnGroup, ExceptionGroup), classified_types=(TimeoutError,))
    assert plain.certain_failures == (ValueError, OSError), "groups are asked leaf by leaf"
    assert plain.error(ValueError()) is BAD
    assert plain.error(UnicodeError()) is BAD, "a subtype, too"
    assert plain.error(KeyError()) is OK, "neither named nor doubtful"
    known = judge(OSError, (), lambda _: IGNORED, classified_types=(TimeoutError,))
    assert known.error(TimeoutError()) is IGNORED, "its caller knows better of this OSError"
    assert known.error(ConnectionError()) is BAD
    assert judge(TimeoutError, classified_types=(TimeoutError,)).certain_failures == (), (
        "its caller may know better"
    )
    assert judge(ValueError, KeyError, classified_types=()).certain_failures == (), (
        "ignore is asked first"
    )
    assert judge(ValueError, says_no, classified_types=()).certain_failures == ()
    assert judge(ValueError).certain_failures == (), (
        "by default its caller knows something of every type"
    )


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        (ConnectionError, OSError, True),
        (OSError, ConnectionError, True),
        ((KeyError, OSError), (ValueError, ConnectionError), True),
        (KeyError, (ValueError, OSError), False),
        (lambda error: True, ValueError, True),
        (ValueError, lambda error: True, True),
    ],
)
def test_two_specifications_share_an_error_unless_their_types_are_unrelated(
    one: object, other: object, share: bool
) -> None:
    assert judge(one).may_share(judge(other)) is share

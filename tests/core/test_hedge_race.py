"""The attempts of one hedged call, and what they come to: H1 to H3."""

from __future__ import annotations

import asyncio

import pytest

from resilient._core.hedge import Race
from resilient._core.matching import Verdict

OK, BAD, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED


def race_of(launched: int, max_hedges: int = 2) -> Race:
    race = Race(max_hedges)
    for number in range(1, launched + 1):
        race.launch()
        assert race.begin() == number
    return race


@pytest.mark.rule("H4")
@pytest.mark.parametrize("most", [1, 3])
def test_so_many_more_than_the_first_may_be_launched(most: int) -> None:
    race = race_of(0, most)
    for _ in range(most + 1):
        assert race.may_launch
        race.launch()
    assert not race.may_launch


@pytest.mark.rule("H4")
def test_one_that_may_not_begin_leaves_its_place_to_another() -> None:
    race = race_of(1, 1)
    race.launch()
    assert not race.may_launch
    race.refused()
    race.ended()
    assert race.may_launch
    assert not race.is_decided
    race.launch()
    assert (race.begin(), race.begun, race.may_launch) == (2, 2, False)
    wide = race_of(3, 3)
    wide.refused()
    assert wide.launched == 2


def test_it_is_decided_when_no_attempt_runs_or_one_has_decided_it() -> None:
    race = race_of(2)
    assert not race.is_decided
    race.ended()
    assert not race.is_decided
    race.ended()
    assert (race.is_decided, race.over) == (True, False)
    race = race_of(2)
    race.returned("result")
    assert race.is_decided


@pytest.mark.rule("H1")
def test_the_first_result_wins_and_is_handed_out_once() -> None:
    race = race_of(2)
    race.raised(1, OSError(), BAD)
    assert not race.has_result
    assert race.returned("fast") is True
    assert race.returned("slow") is False
    assert (race.has_result, race.over, race.has_exit) == (True, True, False)
    assert race.take_result() == "fast"
    assert race.take_results() == []


@pytest.mark.rule("H2")
def test_each_attempt_that_fails_is_owed_a_replacement_once() -> None:
    race = race_of(3)
    assert race.owed() == 0
    race.raised(1, OSError(), BAD)
    race.raised(2, OSError(), BAD)
    assert (race.owed(), race.owed()) == (2, 0)
    race.raised(3, OSError(), BAD)
    assert race.owed() == 1
    assert not race.over


@pytest.mark.rule("H3")
def test_an_attempt_that_was_rejected_is_not_replaced_and_ends_nothing() -> None:
    race, error = race_of(2), OSError()
    race.raised(2, error, IGNORED)
    assert (race.owed(), race.over) == (0, False)
    assert race.take_error() is error


@pytest.mark.rule("H3")
@pytest.mark.parametrize("order", [(1, 2, 3), (2, 1, 3), (3, 2, 1)])
def test_if_all_fail_the_error_is_that_of_the_first_attempt(order: tuple[int, ...]) -> None:
    race, errors = race_of(3), {number: OSError(number) for number in (1, 2, 3)}
    for number in order:
        race.raised(number, errors[number], BAD)
        race.ended()
    assert race.is_decided
    assert race.take_error() is errors[1]


@pytest.mark.rule("H2", "H3", "F16")
def test_an_unwanted_result_is_owed_a_replacement_and_that_of_the_first_is_kept() -> None:
    race = race_of(3)
    assert race.unwanted(2, "second") is False
    assert race.unwanted(1, "first") is True
    assert (race.owed(), race.over) == (2, False)
    race.raised(3, OSError(), BAD)
    assert race.has_result
    assert race.take_result() == "first"
    assert race.take_results() == []


@pytest.mark.rule("H3", "F16")
def test_if_the_first_fails_and_others_are_unwanted_its_error_is_that_of_the_call() -> None:
    race, error = race_of(2), OSError()
    race.raised(1, error, BAD)
    race.unwanted(2, "second")
    assert not race.has_result
    assert race.take_error() is error


@pytest.mark.rule("H1", "F16")
def test_a_good_result_comes_before_an_unwanted_one_which_is_left() -> None:
    race = race_of(2)
    race.unwanted(1, "bad")
    race.returned("good")
    assert race.unwanted(1, "too late") is False
    assert race.take_result() == "good"
    assert race.take_results() == ["bad"]


@pytest.mark.rule("H2", "F16")
def test_what_ends_the_call_comes_before_an_unwanted_result() -> None:
    race, error = race_of(2), KeyError()
    race.unwanted(1, "bad")
    race.raised(2, error, OK)
    assert not race.has_result
    assert race.take_results() == ["bad"]
    assert race.take_error() is error


@pytest.mark.rule("H2")
def test_an_error_that_is_not_to_be_replaced_ends_the_call() -> None:
    race, error = race_of(2), KeyError()
    race.raised(1, OSError(), BAD)
    race.raised(2, error, OK)
    assert (race.over, race.has_result) == (True, False)
    race.end_by(ValueError())
    assert race.returned("late") is False
    assert race.take_error() is error


@pytest.mark.rule("H1")
def test_what_comes_after_a_result_does_not_end_the_call() -> None:
    race = race_of(2)
    race.returned("result")
    race.raised(2, KeyError(), OK)
    assert race.has_result


@pytest.mark.rule("F9")
def test_an_exit_comes_before_a_cancellation_and_that_before_all_else() -> None:
    race = race_of(2)
    race.returned("result")
    cancelled, first, second = asyncio.CancelledError(), SystemExit(1), SystemExit(2)
    race.cancel_by(cancelled)
    assert (race.has_result, race.has_exit) == (False, False)
    race.exit_by(first)
    race.exit_by(second)
    assert (race.has_result, race.has_exit) == (False, True)
    assert race.take_error() is first

    race = race_of(2)
    race.raised(1, OSError(), BAD)
    race.end_by(KeyError())
    race.cancel_by(cancelled)
    assert race.take_error() is cancelled


def test_an_exit_decides_the_race_though_nothing_else_has() -> None:
    race = race_of(2)
    race.exit_by(SystemExit())
    assert race.is_decided
    assert race.returned("late") is False


def test_an_error_that_was_taken_is_forgotten() -> None:
    race = race_of(1)
    race.raised(1, OSError(), BAD)
    race.exit_by(SystemExit())
    race.take_error()
    assert not race.has_exit
    race.raised(1, error := KeyError(), BAD)
    assert race.take_error() is error

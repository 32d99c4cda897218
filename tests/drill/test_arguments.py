"""The command line: what is taken, and what is said to what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilient.drill.arguments import parse
from resilient.drill.plan import Address, Plan, Tuning, complaint
from resilient.drill.scenarios import SAYS, Scenario
from resilient.drill.timeline import Timeline


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        parse(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_without_words_it_is_the_partition_with_the_defaults_of_the_issue() -> None:
    plan = parse([])
    assert plan.scenarios == (Scenario.PARTITION,)
    assert (plan.rate, plan.seconds, plan.deadline) == (100, 20, 0.5)
    assert (plan.target, plan.json, plan.metrics) == (None, None, None)
    assert not plan.plain


def test_every_word_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = (
        f"slow --rate 50 --seconds 10 --deadline 1 --seed 3 --target http://localhost/ "
        f"--json {file} --plain --metrics 0 --without breaker"
    )
    assert parse(words.split()) == Plan(
        scenarios=(Scenario.SLOW,), rate=50, seconds=10, deadline=1, seed=3,
        target="http://localhost/", json=file, plain=True, metrics=0,
        without=frozenset({"breaker"}),
    )  # fmt: skip


def test_all_is_each_scenario_in_turn() -> None:
    assert parse(["all"]).scenarios == tuple(Scenario)


def test_a_seed_is_drawn_where_none_is_given() -> None:
    assert len({parse([]).seed for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rate 1001", "--rate: '1001' is not a number from 5 to 1000 (calls per second)"),
        ("--rate nan", "--rate: 'nan' is not a number"),
        ("--rate fast", "--rate: 'fast' is not a number"),
        ("--seconds inf", "--seconds: 'inf' is not a number from 2 to 600"),
        ("--deadline 0", "--deadline: '0' is not a number from 0.1 to 5"),
        ("--seed -1", "--seed: '-1' is not a whole number from 0 to 4294967295"),
        ("--seed x", "--seed: 'x' is not a whole number"),
        ("--metrics 65536", "--metrics: '65536' is not a whole number from 0 to 65535"),
        ("--target ftp://host/", "'ftp://host/' is no URL of a service; write it like http://"),
        ("--target http:///path", "is no URL of a service"),
        ("--target http://me:secret@host/", "user and a password is not supported"),
        ("--target http://host:99999/", "--target: Port out of range"),
        ("--json .", "is a directory; name a file in it"),
        ("--json /there/is/none.json", "there is no directory '/there/is'; make it first"),
        ("earthquake", "invalid choice: 'earthquake'"),
        ("--without service", "invalid choice: 'service'"),
        ("--rate 10 --seconds 4", "makes only 14 calls during the fault; 40 are needed: --rate 29"),
        (
            "--seconds 10 --deadline 3",
            "too short for --deadline 3: it takes at least 5 deadlines (15 s)",
        ),
    ],
)
def test_what_can_not_be_done_is_refused_with_a_sentence(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(words.split(), capsys)


def test_the_rate_that_the_complaint_names_is_enough() -> None:
    assert complaint(29, 4, 0.5) is None


def test_the_help_names_each_scenario_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert all(says in out for says in SAYS.values())
    assert "--without" not in out, "a self-test of the drill, and nobody else's business"


@pytest.mark.parametrize(
    ("url", "expected", "moved"),
    [
        ("http://host", Address("http", "host", 80, "host", "/"), "http://127.0.0.1:9/"),
        (
            "https://host/a?b=c",
            Address("https", "host", 443, "host", "/a?b=c"),
            "https://127.0.0.1:9/a?b=c",
        ),
        ("http://[::1]:81/x", Address("http", "::1", 81, "[::1]:81", "/x"), "http://127.0.0.1:9/x"),
    ],
)
def test_an_address_is_taken_apart_and_moved(url: str, expected: Address, moved: str) -> None:
    assert Address.of(url) == expected
    assert expected.at(9) == moved


@pytest.mark.parametrize(("deadline", "seconds"), [(0.5, 20), (0.5, 600), (0.1, 30), (5, 60)])
def test_a_long_run_has_the_breaker_of_the_library(deadline: float, seconds: float) -> None:
    tuning = Tuning.of(deadline, seconds)
    assert (tuning.cooldown, tuning.longest_cooldown) == pytest.approx((1.0, 3.0))


@pytest.mark.parametrize(("deadline", "seconds"), [(0.4, 2), (1, 5), (5, 25), (0.5, 20), (5, 600)])
def test_a_short_run_is_a_time_lapse_in_which_the_client_can_come_back(
    deadline: float, seconds: float
) -> None:
    tuning = Tuning.of(deadline, seconds)
    assert 0 < tuning.cooldown < tuning.longest_cooldown
    assert tuning.timeout + tuning.longest_cooldown < 0.81 * Timeline(seconds).grace


@pytest.mark.parametrize("deadline", [0.1, 0.5, 5.0])
def test_two_attempts_fit_into_the_deadline_and_both_are_patient(deadline: float) -> None:
    tuning = Tuning.of(deadline, 20)
    assert 2 * tuning.timeout < deadline
    assert tuning.timeout > 3 * 1.5 * deadline / 25, "a healthy answer takes half as long again"
    assert tuning.timeout + 10 / 5 <= 3, "ten failures in a row, at the lowest rate"


def test_what_a_scenario_does_depends_on_whose_service_it_is() -> None:
    ours, theirs = parse(["crash"]), parse(["crash", "--target", "http://host/"])
    assert "SIGKILL" in ours.says(Scenario.CRASH)
    assert "reset" in theirs.says(Scenario.CRASH)

"""The drill as its users run it: real processes, one short run for each scenario.

Each takes ten seconds. So only the partition is drilled by default, and all with `--every-drill`.
"""

from __future__ import annotations

import functools

import pytest

from resilient.drill.scenarios import Scenario
from tests.drill.drilling import SHORT, Drilled, passing, together

pytestmark = pytest.mark.real_clock

PAIRS = (("partition", "without"), ("crash", "hang"), ("slow", "flaky"))
EVERY = pytest.mark.every_drill
SCENARIOS = [each if each == "partition" else pytest.param(each, marks=EVERY) for each in Scenario]
WORDS = {
    **{str(each): (str(each), *SHORT) for each in Scenario},
    "without": ("partition", *SHORT, "--without", "breaker"),
}


@functools.cache
def pair(names: tuple[str, ...]) -> dict[str, Drilled]:
    """Two drills at the same time: so each of them is also a test that they do not disturb."""
    done = dict(zip(names, together(*(WORDS[name] for name in names)), strict=True))
    return {
        name: done[name] if name == "without" else passing(WORDS[name], done[name])
        for name in names
    }


def drilled(name: str) -> Drilled:
    names = next(names for names in PAIRS if name in names)
    return pair(names)[name]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_resilient_client_passes_each_scenario(scenario: Scenario) -> None:
    done = drilled(scenario)
    assert done.code == 0, str(done)
    assert done.result["passed"]
    assert all(done.verdicts().values())
    assert f"{scenario}: PASS" in done.out


@pytest.mark.parametrize(
    "scenario",
    ["partition", pytest.param("hang", marks=EVERY), pytest.param("slow", marks=EVERY)],
)
def test_the_others_show_that_something_was_broken(scenario: str) -> None:
    done = drilled(scenario)
    assert not done.verdicts("bare")["longest call"], str(done)
    if scenario != "slow":  # there its three attempts may just end in time
        assert not done.verdicts("usual")["longest call"], str(done)


def test_the_usual_client_sends_more_when_there_is_trouble() -> None:
    done = drilled("partition")
    assert not done.verdicts("usual")["requests sent for a call"], str(done)


@EVERY
def test_the_bare_client_meets_the_503s() -> None:
    done = drilled("flaky")
    assert not done.verdicts("bare")["success during the fault"], str(done)
    assert set(done.client("bare")["errors"]) == {"ServiceUnavailable"}


@EVERY
def test_a_crash_is_seen_as_broken_connections() -> None:
    assert set(drilled("crash").client("bare")["errors"]) <= {
        "ConnectError", "ReadError", "RemoteProtocolError", "WriteError",
    }  # fmt: skip


def test_a_drill_without_its_breaker_fails() -> None:
    done = drilled("without")
    assert done.code == 1, str(done)
    assert not done.verdicts()["breaker opened after"]
    assert "breaker(" in done.out
    assert "(taken out)" in done.out
    assert "partition: FAIL (breaker opened after" in done.out


def test_calls_sent_into_a_partition_are_counted_though_none_reaches_the_service() -> None:
    done = drilled("partition")
    in_fault = done.client("bare")["seconds"][2]
    assert in_fault["sent"] > 0, str(done)
    assert in_fault["reached"] == 0


def test_the_settings_of_each_client_are_printed() -> None:
    out = drilled("partition").out
    assert "breaker(cooldown=backoff(0.133, factor=1.5, max=0.4, jitter=0.2))" in out
    assert "asyncio.timeout(1)" in out
    assert "httpx2.AsyncClient(" in out


@EVERY
def test_the_same_seed_makes_the_same_arrivals_for_every_client() -> None:
    calls = {
        drilled(s).client(c)["calls"] for s in Scenario for c in ("bare", "usual", "resilient")
    }
    assert len(calls) == 1

"""What every test has: the rule marker, the worlds, and no real sleeping."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from resilient._runtime import clock
from tests.worlds import WORLDS, World, world_named

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")
pytest_plugins = ["pytester"]
OFTEN = 100
"""So many tests later the collector passes over what is there by then."""
REFUSED = {"resilient", "tests", "benchmarks", "tenacity"}
"""Whose `time.sleep` fails: ours, and that of a library that we wait with."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-drill", action="store_true", help="drill each scenario, and interrupt every step"
    )
    parser.addoption("--attacks", type=int, default=1, help="so many times the attacks")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("every_drill") and not item.config.getoption("every_drill"):
        pytest.skip("only with --every-drill, as in .ci/run")


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Coverage measures this process and the workers, but no process that a test starts."""
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On uvloop, whose time is real, play a test only where the loop matters."""
    items[:] = [item for item in items if not on_uvloop(item) or item.get_closest_marker("loop")]


def pytest_collection_finish() -> None:
    """Let the collector pass over what is there before the first test: thousands of items, which
    every `gc.collect()` of a test would look at.
    """
    gc.collect()
    gc.freeze()


played = itertools.count(1)


def pytest_runtest_logfinish() -> None:
    """And over what tests leave behind for the whole run, such as modules, reports and caches."""
    if next(played) % OFTEN == 0:
        gc.collect()
        gc.freeze()


def on_uvloop(item: pytest.Item) -> bool:
    """Whether the fixture `world` or `async_world` is uvloop for this test."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return "uvloop" in (params.get("world"), params.get("async_world"))


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Each of the four worlds in turn; but see `pytest_collection_modifyitems`."""
    with world_named(request.param) as one:
        yield one


@pytest.fixture(params=[name for name in WORLDS if name != "threads"])
def async_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Each world with a loop: for what a plain thread can't do."""
    with world_named(request.param) as one:
        yield one


@pytest.fixture(autouse=True)
def unshifted_time() -> Iterator[None]:
    """After each test the real clock is read as it is.

    Time never goes back for a policy, and so a year in one test would cost the next ones the last
    digits of their seconds.
    """
    before = clock._clock, clock._installed, clock.now
    yield
    clock._clock, clock._installed, clock.now = before


@pytest.fixture(autouse=True)
def no_real_sleep(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sleeping fails, but for the tests that are about the real clock.

    Others may sleep: `subprocess` does so while it waits for a process to end.
    """
    if request.node.get_closest_marker("real_clock"):
        return
    sleep = time.sleep

    def refuse(seconds: float) -> None:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] not in REFUSED:
            return sleep(seconds)
        raise AssertionError(
            f"time.sleep({seconds}) by {caller} in a test: use virtual time, or mark it real_clock"
        )

    monkeypatch.setattr(time, "sleep", refuse)

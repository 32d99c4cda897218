"""However a drill ends, none of its processes remains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.drill.drilling import children, start, state

pytestmark = pytest.mark.real_clock

HANG = ("hang", "--seconds", "8", "--rate", "20", "--deadline", "0.5", "--seed", "1")
GONE = {"Z", "-"}
PATIENCE = 20.0


def wait_until(done: Callable[[], bool], why: str) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until, why
        time.sleep(0.05)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    with start(*HANG) as process:
        yield process
        process.kill()


@pytest.fixture
def pids(running: subprocess.Popen[str]) -> list[int]:
    """The children of a drill that has begun."""
    assert running.stdout is not None
    assert any(line.split()[:1] == ["second"] for line in running.stdout)
    found = children(running.pid)
    assert len(found) == 9, "for each client a service, a proxy and its traffic"
    return found


@pytest.fixture
def stopped(pids: list[int]) -> list[int]:
    """The children of a drill whose services are stopped just now."""
    wait_until(lambda: sum(state(pid) == "T" for pid in pids) == 3, "no service was stopped")
    return pids


def test_a_ctrl_c_ends_it_cleanly_and_a_second_one_does_not_disturb(
    running: subprocess.Popen[str], stopped: list[int]
) -> None:
    os.kill(running.pid, signal.SIGINT)
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert err.strip() == "resilient drill: ended by SIGINT"
    assert "Traceback" not in out
    assert [pid for pid in stopped if state(pid) not in GONE] == []


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_it_starts_leaves_nothing(by: signal.Signals, code: int) -> None:
    with start(*HANG) as running:
        assert running.stdout is not None
        assert "starting" in running.stdout.readline()
        wait_until(lambda: len(children(running.pid)) > 1, "nothing was started")
        pids = children(running.pid)
        os.kill(running.pid, by)
        running.communicate(timeout=PATIENCE)
    assert running.returncode == code
    wait_until(lambda: all(state(pid) in GONE for pid in pids), "left behind")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a stopped child")
def test_children_do_not_outlive_a_drill_that_is_killed(
    running: subprocess.Popen[str], stopped: list[int]
) -> None:
    running.kill()
    wait_until(lambda: all(state(pid) in GONE for pid in stopped), "left behind")


def test_a_child_that_dies_ends_the_drill_with_its_name(
    running: subprocess.Popen[str], pids: list[int]
) -> None:
    os.kill(pids[0], signal.SIGKILL)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 2
    assert "process ended with -9" in err
    assert [pid for pid in pids if state(pid) not in GONE] == []


def test_a_reader_that_goes_away_ends_it(running: subprocess.Popen[str], pids: list[int]) -> None:
    assert running.stdout is not None
    running.stdout.close()
    assert running.wait(timeout=PATIENCE) == 2
    assert running.stderr is not None
    assert "Traceback" not in running.stderr.read()
    assert [pid for pid in pids if state(pid) not in GONE] == []

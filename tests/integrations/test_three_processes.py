"""Three processes in a row, over real connections: the figures that `examples/three_services`
prints with ``--figures``.

On a machine that is too busy a process waits for a processor. What the processes of this test have
waited while a figure was taken is added to its limit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from examples.three_services import figures, load
from examples.three_services.edge import TIMEOUT
from examples.three_services.leaf import Mood
from examples.three_services.services import ROOT, Three, three_services

from tests.drill.drilling import children, state

pytestmark = pytest.mark.real_clock
EVERY = pytest.mark.every_drill
COOLDOWN = 1.0
UNFAIR = 6
"""By how much more the memory may grow where the machine was too busy to serve all of the load.
Errors of gRPC's async calls lie about until the collector comes by, and a process keeps the memory
of its worst moment.
"""
T = TypeVar("T")


class Played:
    """The three, on a loop that runs while something is asked of them."""

    def __init__(self, runner: asyncio.Runner, three: Three) -> None:
        self._runner, self.three = runner, three

    def measure(self, work: Coroutine[Any, Any, T]) -> tuple[T, float]:
        """What *work* finds, and the seconds that were spent waiting for a processor meanwhile."""

        async def timed() -> tuple[T, float]:
            before = await figures.busy(self.three)
            found = await work
            return found, await figures.busy(self.three) - before

        return self._runner.run(timed())


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with asyncio.Runner() as runner:
        services = three_services(COOLDOWN)
        three = runner.run(services.__aenter__())
        try:
            yield Played(runner, three)
        finally:
            runner.run(services.__aexit__(None, None, None))


@pytest.mark.rule("W11", "W22")
def test_the_leaf_sees_what_is_left_at_the_edge(played: Played) -> None:
    off, excuse = played.measure(figures.deadline_off(played.three))
    assert abs(off) <= figures.OFF + excuse


@pytest.mark.rule("W23", "W26", "W43")
def test_a_leaf_that_hangs_opens_the_breaker_and_is_found_well_again(played: Played) -> None:
    found, excuse = played.measure(figures.outage(played.three))
    assert {answer.status for answer, _ in found.hung} == {504}
    assert found.failures == figures.FAILURES
    for _, seconds in found.hung:
        assert seconds <= TIMEOUT + figures.LATE + excuse, "until nothing is in flight"
    for answer in found.refused:
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert min(answer.seconds for answer in found.refused) < figures.QUICK + excuse
    assert found.recovered <= COOLDOWN + figures.LATE + excuse


@pytest.mark.rule("W25", "W8")
@pytest.mark.parametrize("mood", figures.FAILING)
def test_three_attempts_in_three_layers_are_three_calls(played: Played, mood: Mood) -> None:
    found, _ = played.measure(figures.layers(played.three, mood))
    assert found.status == 500
    assert found.calls == 3
    assert found.asked == (0 if mood is Mood.REFUSES else 3)


@EVERY
@pytest.mark.rule("W14")
def test_load_leaves_nothing_behind(played: Played) -> None:
    seconds = 20
    found, _ = played.measure(load.load(played.three, seconds, warm_up=seconds / 10))
    assert sum(found.statuses.values()) == seconds * load.RATE
    assert set(found.statuses) <= {200, 503, 504}, "late or refused on a busy machine, never broken"
    assert set(found.tasks.values()) == {0}
    assert set(found.sockets.values()) == {0}
    is_fair = found.statuses[200] == sum(found.statuses.values())
    assert max(found.memory.values()) < figures.GROWTH * (1 if is_fair else UNFAIR)


@EVERY
@pytest.mark.parametrize("way", ["examples/three_services", "-m examples.three_services"])
def test_the_story_ends_all_that_it_has_started(way: str) -> None:
    """Also if it is interrupted in the middle, as by Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, *way.split()], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    ) as story:  # fmt: skip
        assert story.stdout is not None
        for line in story.stdout:
            if "The leaf is well" in line:
                break
        started = children(story.pid)
        story.send_signal(signal.SIGINT)
        said = story.communicate(timeout=30)[0]
    assert story.returncode == 130
    assert said.endswith("All three have ended.\n")
    assert len(started) == 3
    assert [state(pid) for pid in started] == ["-"] * 3

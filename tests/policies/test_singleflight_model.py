"""Single-flight against a model: who gets which run, whoever comes, leaves or is cut,
and whenever.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import DeadlineExceeded, deadline, singleflight
from resilient.testing import virtual_time
from tests.worlds import World, world_named

LASTS = 2.5  # how long a run lasts: no caller acts at a moment in which one ends


@dataclass(frozen=True)
class Caller:
    """Comes at a moment; is cancelled, or cut by a deadline, after a while (or not)."""

    key: str
    comes: int
    cancelled_after: float
    limit: float


@dataclass
class Flight:
    """The model of one run."""

    number: int
    began: float
    until: float
    waiting: set[int] = field(default_factory=set)


def model(
    callers: list[Caller], forgotten: list[tuple[int, str]]
) -> tuple[list[str], list[tuple[float, str]]]:
    """What each caller gets, and how each run ends, by the rules S1 to S5."""
    outcomes = ["?"] * len(callers)
    joinable: dict[str, Flight] = {}
    flights: list[Flight] = []
    fates: dict[int, tuple[float, str]] = {}
    moments = sorted({
        *(caller.comes for caller in callers), *(at for at, _ in forgotten),
        *(caller.comes + min(caller.cancelled_after, caller.limit) for caller in callers),
        *(caller.comes + LASTS for caller in callers),
    } - {math.inf})  # fmt: skip

    def drop(flight: Flight) -> None:
        for key in [key for key, one in joinable.items() if one is flight]:
            del joinable[key]

    for now in moments:
        for flight in flights:
            if flight.number not in fates and now == flight.began + LASTS:
                fates[flight.number] = now, "ended"
                for index in flight.waiting:
                    outcomes[index] = f"run {flight.number}"
                flight.waiting.clear()
                drop(flight)
        for index, caller in enumerate(callers):
            for flight in flights:
                if index in flight.waiting and now == caller.comes + min(
                    caller.cancelled_after, caller.limit
                ):
                    outcomes[index] = (
                        "cancelled" if caller.cancelled_after <= caller.limit else "deadline"
                    )
                    flight.waiting.remove(index)
                    if not flight.waiting:
                        fates[flight.number] = now, "cancelled"
                        drop(flight)
        for at, key in forgotten:
            if at == now:
                joinable.pop(key, None)
        for index, caller in enumerate(callers):
            if caller.comes == now:
                flight = joinable.get(caller.key) or Flight(len(flights), now, math.inf)
                if flight.number == len(flights):
                    flights.append(flight)
                    joinable[caller.key] = flight
                flight.waiting.add(index)
    return outcomes, [fates[flight.number] for flight in flights]


def play(
    name: str, callers: list[Caller], forgotten: list[tuple[int, str]]
) -> tuple[list[str], list[tuple[float, str]]]:
    """What really happens."""
    outcomes = ["?"] * len(callers)
    ends: dict[int, tuple[float, str]] = {}

    async def scenario(w: World) -> None:
        flight = singleflight()
        count = itertools.count()

        async def run() -> str:
            number = next(count)
            how = "cancelled"
            try:
                await w.sleep(LASTS)
                how = "ended"
            finally:
                ends[number] = round(w.now(), 6), how
            return f"run {number}"

        async def call(index: int, caller: Caller) -> None:
            await w.sleep(caller.comes)
            with anyio.move_on_after(caller.cancelled_after) as scope:
                try:
                    async with deadline(caller.limit):
                        outcomes[index] = await flight.do(caller.key, run)
                except DeadlineExceeded:
                    outcomes[index] = "deadline"
            if scope.cancelled_caught:
                outcomes[index] = "cancelled"

        async def forget(at: int, key: str) -> None:
            await w.sleep(at)
            flight.forget(key)

        async with anyio.create_task_group() as group:
            for index, caller in enumerate(callers):
                group.start_soon(call, index, caller)
            for at, key in forgotten:
                group.start_soon(forget, at, key)
        await w.sleep(0.5)
        stats = flight.stats()
        assert stats.in_flight == 0
        assert stats.calls == len(callers) == stats.runs + stats.joined

    with world_named(name) as world:
        world.run(scenario)
    return outcomes, [ends[number] for number in sorted(ends)]


never = st.just(math.inf)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Caller], list[tuple[int, str]]]:
    """Callers and forgettings that never act at the same moment, so that there is one right
    answer.
    """
    count = draw(st.integers(1, 5))
    moments = draw(st.permutations(range(8)))
    leaving = [
        0.25 + 0.05 * n for n in range(count)
    ]  # nobody leaves at a moment in which another comes, leaves or a run ends

    def leaves(n: int, later: float) -> st.SearchStrategy[float]:
        return never | st.integers(0, 4).map(lambda whole: whole + leaving[n] + later)

    callers = [
        Caller(
            draw(st.sampled_from("ab")),
            moments[n],
            draw(leaves(n, 0)),
            draw(leaves(n, 0.01)),
        )
        for n in range(count)
    ]
    forgotten = draw(
        st.lists(
            st.sampled_from([(moment, key) for moment in moments[count:] for key in "ab"]),
            max_size=2,
        )
    )
    return callers, forgotten


@pytest.mark.rule("S1", "S2", "S3", "S4", "S5", "S8")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@settings(max_examples=150)
@given(situation=situations())
def test_whoever_comes_and_leaves_the_model_knows_the_end(name: str, situation: Any) -> None:
    callers, forgotten = situation
    expected = model(callers, forgotten)
    outcomes, ends = play(name, callers, forgotten)
    assert outcomes == expected[0]
    assert ends == [(pytest.approx(at), how) for at, how in expected[1]]  # type: ignore[comparison-overlap]  # approx() is no float to mypy


@pytest.mark.rule("S1", "S3")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1), (1, 0), (0, 1, 2)], ids=str)
def test_cancellation_at_every_step_of_the_loop_hurts_the_cancelled_alone(
    name: str, victims: tuple[int, ...]
) -> None:
    """Three callers and a run of a few steps; the victims are cancelled after each possible
    number of steps.
    """

    async def pause() -> None:
        if name == "asyncio":
            await asyncio.sleep(0)
        else:
            await trio.lowlevel.checkpoint()

    async def main(step: int) -> None:
        flight = singleflight()
        runs: list[str] = []
        outcomes: dict[int, str] = {}

        async def run() -> str:
            number = len(runs)
            runs.append("begun")
            try:
                for _ in range(4):
                    await pause()
            except BaseException:
                runs[number] = "cancelled"
                raise
            runs[number] = "ended"
            return f"run {number}"

        async def call(index: int, scope: anyio.CancelScope) -> None:
            with scope:
                for _ in range(index):
                    await pause()
                outcomes[index] = await flight.do("k", run)
            if scope.cancelled_caught:
                outcomes[index] = "cancelled"

        scopes = [anyio.CancelScope() for _ in range(3)]
        async with anyio.create_task_group() as group:
            for index, scope in enumerate(scopes):
                group.start_soon(call, index, scope)
            for _ in range(step):
                await pause()
            for victim in victims:
                scopes[victim].cancel()
                await pause()
        assert sorted(outcomes) == [0, 1, 2]
        for index, outcome in outcomes.items():
            if outcome == "cancelled":
                assert index in victims
            else:
                assert runs[int(outcome.removeprefix("run "))] == "ended", (
                    "nobody gets a cancelled run's outcome"
                )
        for _ in range(6):
            await pause()
        assert flight.stats().in_flight == 0
        assert "begun" not in runs, "no run is left alone"
        assert await flight.do("k", run) == f"run {len(runs) - 1}", "the key is free"

    for step in range(14):
        with virtual_time() as time:
            if name == "asyncio":
                time.run(main, step)
            else:
                trio.run(main, step, clock=time.trio_clock())

"""One run from its first process to its verdicts: set up, go, break, heal, judge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from resilient.drill import faults
from resilient.drill.crew import crew
from resilient.drill.plan import CLIENTS, Plan
from resilient.drill.ports import reserved
from resilient.drill.records import Ledger
from resilient.drill.scenarios import Scenario
from resilient.drill.stage import Stage, set_up
from resilient.drill.verdicts import Evidence, Verdict, judge

LEAD: Final = 0.3
"""Seconds between the order to go and the start of the run."""
REFRESH_EVERY: Final = 0.25


@dataclass(frozen=True, slots=True)
class Board:
    """What can be seen while a run goes on."""

    plan: Plan
    scenario: Scenario
    settings: dict[str, list[str]]
    ledgers: dict[str, Ledger]
    metrics: str | None
    begins_at: float

    def now(self) -> float:
        """Seconds since the start of the run."""
        return asyncio.get_running_loop().time() - self.begins_at


class View(Protocol):
    """Where it is shown."""

    def begin(self, board: Board) -> None:
        """A run begins."""

    def refresh(self) -> None:
        """Time has passed."""

    def finish(self) -> None:
        """The run is over, or was broken off."""


@dataclass(frozen=True, slots=True)
class Result:
    """A run that is over; instants are seconds from its start."""

    scenario: Scenario
    settings: dict[str, list[str]]
    broken: float
    healed: float
    ledgers: dict[str, Ledger]
    verdicts: dict[str, list[Verdict]]

    @property
    def passed(self) -> bool:
        """Whether the resilient client met each objective; the others are for comparison."""
        return all(verdict.finding.passed for verdict in self.verdicts["resilient"])


async def conduct(plan: Plan, scenario: Scenario, view: View) -> Result:
    """Run one scenario; no process of it remains, however this ends."""
    fault = (faults.OF_TARGET if plan.target else faults.OF_OURS)[scenario]
    crashes = isinstance(fault, faults.Crash)
    with reserved(len(CLIENTS)) as ports:
        async with crew() as hired:
            stage = await set_up(plan, hired, ports, spares=crashes)
            begins_at = asyncio.get_running_loop().time() + LEAD
            ledgers = stage.reports.ledgers
            board = Board(plan, scenario, stage.settings, ledgers, stage.metrics, begins_at)
            async with _shown(view, board):
                broken, healed = await _play(stage, fault, board)
    return _result(board, broken, healed)


async def _play(stage: Stage, fault: faults.Fault, board: Board) -> tuple[float, float]:
    timeline = board.plan.timeline
    stage.go(board.begins_at)
    await _until(timeline.fault_at, board)
    broken = board.now()
    await fault.begin(stage)
    await _until(timeline.heal_at, board)
    await fault.end(stage)
    healed = board.now()
    await _until(timeline.ends_at, board)
    await stage.finish()
    return broken, healed


async def _until(at: float, board: Board) -> None:
    await asyncio.sleep(max(0.0, at - board.now()))


@contextlib.asynccontextmanager
async def _shown(view: View, board: Board) -> AsyncIterator[None]:
    view.begin(board)
    try:
        async with asyncio.TaskGroup() as group:
            refreshing = group.create_task(_refresh(view))
            yield
            refreshing.cancel()
    finally:
        view.finish()


async def _refresh(view: View) -> None:
    while True:
        await asyncio.sleep(REFRESH_EVERY)
        view.refresh()


def _result(board: Board, broken: float, healed: float) -> Result:
    verdicts = {
        name: judge(
            Evidence(
                scenario=board.scenario,
                deadline=board.plan.deadline,
                broken=broken,
                healed=healed,
                ends=board.plan.seconds,
                ledger=ledger,
            )
        )
        for name, ledger in board.ledgers.items()
    }
    return Result(board.scenario, board.settings, broken, healed, board.ledgers, verdicts)

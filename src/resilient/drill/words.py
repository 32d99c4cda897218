"""Figures as they are printed, in the live view, in plain lines and in the report."""

from __future__ import annotations

from typing import Final

from resilient.drill.conductor import Board
from resilient.drill.figures import Row

COLUMNS: Final = (
    "second", "client", "answered", "failed", "rejected", "p50", "p99", "sent", "reached", "breaker"
)  # fmt: skip
SETTLES: Final = 0.6
"""Seconds after which all reports of a second have come in."""


def cells(row: Row, client: str) -> list[str]:
    """A row as it is printed."""
    return [
        f"{row.second}",
        client,
        f"{row.answered}",
        f"{row.failed}",
        f"{row.rejected}",
        milliseconds(row.p50),
        milliseconds(row.p99),
        f"{row.sent}",
        f"{row.reached}",
        row.state or "-",
    ]


def milliseconds(seconds: float | None) -> str:
    """A short time."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def headline(board: Board) -> str:
    """What this run is about."""
    plan = board.plan
    where = plan.target or "a service of our own"
    return (
        f"{board.scenario}: {plan.says(board.scenario)}\n"
        f"{plan.rate:g} calls/s for {plan.seconds:g} s to {where}, deadline {plan.deadline:g} s, "
        f"seed {plan.seed}"
    )


def phases(board: Board) -> str:
    """When what will happen."""
    timeline = board.plan.timeline
    return (
        f"healthy 0 to {timeline.fault_at:g} s, fault to {timeline.heal_at:g} s, "
        f"recovery to {timeline.ends_at:g} s"
    )


def settings(board: Board) -> list[str]:
    """How each client is set."""
    lines = []
    for client, said in board.settings.items():
        lines += [f"{client if number == 0 else '':<10} {line}" for number, line in enumerate(said)]
    if board.metrics is not None:
        lines.append(f"metrics of the resilient client: {board.metrics}")
    return lines


def seconds_over(board: Board) -> int:
    """How many seconds of the run are complete."""
    return max(0, min(int(board.now() - SETTLES), int(board.plan.seconds)))

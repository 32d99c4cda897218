"""The view for terminals: the last seconds of each client, and how far the run has come."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resilient.drill import words
from resilient.drill.conductor import Board
from resilient.drill.figures import Row, row

SHOWN: Final = 4
"""Seconds of each client that are shown at once: three times four lines fit into any terminal."""
COLOURS: Final = {"healthy": "green", "fault": "red", "recovery": "yellow"}
STATES: Final = {"closed": "green", "open": "red", "half_open": "yellow"}


class LiveView:
    """Redraws itself in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._board: Board | None = None

    def begin(self, board: Board) -> None:
        """Say what will happen, and to whom; below it, what happens."""
        self._board = board
        title, rest = words.headline(board).split("\n", 1)
        self._console.print(Text(title, "bold"))
        for line in (rest, words.phases(board), *words.settings(board)):
            self._console.print(Text(line, "dim"))
        self._live = Live(self._draw(board), console=self._console, auto_refresh=False)
        self._live.start(refresh=True)

    def refresh(self) -> None:
        """Draw what is known now."""
        if self._live is not None and self._board is not None:
            self._live.update(self._draw(self._board), refresh=True)

    def finish(self) -> None:
        """Leave the last picture, and the cursor, where they belong."""
        self.refresh()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, board: Board) -> RenderableType:
        return Group(_table(board), _progress(board))


def _progress(board: Board) -> RenderableType:
    plan, now = board.plan, max(0.0, board.now())
    phase = plan.timeline.phase(now)
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column()
    line.add_row(
        ProgressBar(plan.seconds, min(now, plan.seconds), complete_style=COLOURS[phase]),
        Text(f"{min(now, plan.seconds):.0f} of {plan.seconds:g} s  {phase}", COLOURS[phase]),
    )
    return line


def _table(board: Board) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in words.COLUMNS:
        table.add_column(name, justify="left" if name in {"client", "breaker"} else "right")
    over = words.seconds_over(board)
    for client, ledger in board.ledgers.items():
        for second in range(max(0, over - SHOWN), over):
            table.add_row(*_cells(row(ledger, second), client))
        table.add_section()
    return table


def _cells(found: Row, client: str) -> list[Text]:
    plain = dict(zip(words.COLUMNS, words.cells(found, client), strict=True))
    styles = {
        "answered": "green" if found.answered else "dim",
        "failed": "red" if found.failed else "dim",
        "rejected": "yellow" if found.rejected else "dim",
        "breaker": STATES.get(found.state or "", "dim"),
        "client": "bold",
    }
    return [Text(text, styles.get(name, "")) for name, text in plain.items()]

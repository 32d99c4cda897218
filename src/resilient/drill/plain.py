"""The view for files and pipes: a line for each client and second, as soon as it is known."""

from __future__ import annotations

from typing import TextIO

from resilient.drill import words
from resilient.drill.conductor import Board
from resilient.drill.figures import row

WIDTHS = (6, 10, 8, 6, 8, 8, 8, 6, 7, 10)


class PlainView:
    """Prints lines, and never takes one back."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._board: Board | None = None
        self._printed = 0

    def begin(self, board: Board) -> None:
        """Say what will happen, and to whom."""
        self._board, self._printed = board, 0
        for line in (words.headline(board), words.phases(board), "", *words.settings(board), ""):
            self._print(line)
        self._print(_line(words.COLUMNS))

    def refresh(self) -> None:
        """Print the seconds that have become complete."""
        board = self._board
        if board is None:
            return
        while self._printed < words.seconds_over(board):
            phase = board.plan.timeline.phase(self._printed)
            for client, ledger in board.ledgers.items():
                cells = words.cells(row(ledger, self._printed), client)
                self._print(f"{_line(cells)}  {phase if client == 'bare' else ''}".rstrip())
            self._printed += 1

    def finish(self) -> None:
        """Print what is left."""
        self.refresh()
        self._print("")

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))

"""What a run ends with: the table of objectives and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilient.drill.conductor import Result
from resilient.drill.figures import percentile
from resilient.drill.plan import CLIENTS
from resilient.drill.records import Ledger, Outcome
from resilient.drill.verdicts import Verdict

LATE_START: Final = 0.25
"""Seconds: a machine that begins a call so late hardly sends the load that it was asked for."""
TOTALS: Final = ("client", "calls", "answered", "failed", "rejected", "lost", "p50", "p99", "sent")


def show(result: Result, console: Console) -> None:
    """Print the figures of a run, its verdict on each objective, and the one on all."""
    console.print(_totals(result))
    console.print()
    for client, ledger in result.ledgers.items():
        if line := _errors(ledger):
            console.print(Text(f"{client:<10} {line}", "dim"))
    console.print()
    console.print(_objectives(result))
    console.print()
    for line in remarks(result):
        console.print(Text(line, "yellow"))
    console.print(verdict(result))
    console.print()


def summary(results: list[Result]) -> Text:
    """One word for each scenario of several."""
    return Text(", ".join(f"{r.scenario} {_word(passed=r.passed)}" for r in results), "bold")


def verdict(result: Result) -> Text:
    """One word for all, and what was missed."""
    missed = [v.objective for v in result.verdicts["resilient"] if not v.finding.passed]
    why = f" ({', '.join(missed)})" if missed else ""
    style = "bold green" if result.passed else "bold red"
    return Text(f"{result.scenario}: {_word(passed=result.passed)}{why}", style)


def remarks(result: Result) -> Iterator[str]:
    """What to know before these figures are believed."""
    for client, ledger in result.ledgers.items():
        if ledger.latest_start > LATE_START:
            yield (
                f"{client}: a call began {ledger.latest_start:.2f} s after it was due; "
                "this client, or the machine, could not keep up with the rate"
            )
    away = sum(stall.away for stall in result.ledgers["resilient"].stalls)
    if away > LATE_START:
        yield (
            f"for {away:.2f} s the machine did not run the resilient client; "
            "that time is taken off the calls it fell into"
        )


def _totals(result: Result) -> Table:
    table = _table(*TOTALS)
    for client, ledger in result.ledgers.items():
        table.add_row(client, *_total_cells(ledger))
    return table


def _total_cells(ledger: Ledger) -> list[str]:
    outcomes = ledger.outcomes()
    waits = [call.seconds for call in ledger.calls]
    return [
        f"{len(ledger.calls)}",
        f"{outcomes[Outcome.ANSWERED]}",
        f"{outcomes[Outcome.FAILED] + outcomes[Outcome.STRANGE]}",
        f"{outcomes[Outcome.REJECTED]}",
        f"{outcomes[Outcome.LOST]}",
        *(f"{percentile(waits, share) or 0:.3f} s" for share in (0.5, 0.99)),
        f"{ledger.sent}",
    ]


def _errors(ledger: Ledger) -> str:
    return ", ".join(f"{count} {name}" for name, count in ledger.errors().most_common())


def _objectives(result: Result) -> Table:
    table = _table("objective", "required", *CLIENTS, "verdict")
    by_client = [result.verdicts[client] for client in CLIENTS]
    for each in zip(*by_client, strict=True):
        table.add_row(*_objective_cells(each))
    return table


def _objective_cells(each: tuple[Verdict, ...]) -> list[Text]:
    *_, judged = each
    passed = judged.finding.passed
    style = "green" if passed else "bold red"
    return [
        Text(judged.objective),
        Text(judged.limit),
        *(Text(verdict.finding.says, "" if verdict is judged else "dim") for verdict in each),
        Text(_word(passed=passed), style),
    ]


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in TOTALS[1:] else "left")
    return table


def _word(*, passed: bool) -> str:
    return "PASS" if passed else "FAIL"

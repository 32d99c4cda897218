"""Runs the benchmarks: ``python -m benchmarks``.

Every case of every library in this one process, interleaved. ``--only breaker`` runs the cases of
one file or whose name holds the word; ``--json`` and ``--chart`` keep what came of it. ``--short``
looks at each once, to see that it still runs: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
import warnings
from pathlib import Path

from benchmarks import growth, imports, memory
from benchmarks.chart import bars, lines
from benchmarks.report import (
    Report,
    as_json,
    growth_table,
    machine,
    table,
    target_table,
)
from benchmarks.targets import TARGETS
from benchmarks.timing import Case, Effort, run

IDEAS = (
    "parts", "breaker", "retry", "timeout", "singleflight", "stack", "metrics", "bulkhead",
    "rate_limit", "cache", "http_clients", "grpc_clients", "growth",
)  # fmt: skip
SHORT = Effort(rounds=1, batch=0.0)
FEW_CALLS = 1000
BATCH = "of each entry in each round (default: 0.02); on a busy machine less, and more rounds"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="WORD", help=f"one of {', '.join(IDEAS)}, memory, "
                        "import, or a word of a case's name")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=9, help="at least 1 (default: 9)")
    parser.add_argument("--batch", type=float, default=0.02, metavar="SECONDS", help=BATCH)
    parser.add_argument("--short", action="store_true", help="one call each, to see that all runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the bars, as SVG")
    parser.add_argument("--growth", type=Path, metavar="FILE", help="draw the growths, as SVG")
    told = parser.parse_args(words)
    if told.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {told.rounds}")
    if not told.batch > 0:
        parser.error(f"--batch must be above 0, not {told.batch}")
    return told


def chosen(word: str | None) -> list[Case]:
    """The cases to run."""
    cases = [case for idea in IDEAS for case in importlib.import_module(f"benchmarks.{idea}").CASES]
    return [case for case in cases if word is None or word == case.idea or word in case.name]


def measured(told: argparse.Namespace) -> Report:
    """Run what was asked for, and show each case as it is done."""
    effort = SHORT if told.short else Effort(told.rounds, told.batch)
    report = Report(effort.rounds)
    for case in chosen(told.only):
        if told.short and case.units > FEW_CALLS:
            continue  # a size, not another path
        for outcome in run(case, effort):
            report.outcomes.append(outcome)
            print(table(outcome), flush=True)
    if told.only in {None, "memory"}:
        for name, read in memory.FIGURES:
            report.memory[name] = read(FEW_CALLS if told.short else 1_000_000)
    if told.only in {None, "import"}:
        report.imports = imports.measure(effort.rounds)
    return report


def main() -> int:
    told = arguments()
    warnings.simplefilter("ignore")  # the peers' own
    logging.disable()
    print(
        " · ".join(machine().values()), f"· {1 if told.short else told.rounds} rounds", flush=True
    )
    report = measured(told)
    if not report.outcomes and not report.memory and not report.imports:
        print(f"nothing is called {told.only!r}", file=sys.stderr)
        return 2
    for one in growth.GROWTHS:
        if report.outcome(one.case(one.sizes[0]).name, one.case(one.sizes[0]).world):
            print(growth_table(one, report))
    for name, size in report.memory.items():
        print(f"\n{name}: {size:,.0f} bytes", end="")
    for statement, times in report.imports.items():
        print(f"\n{statement}: {min(times) * 1e3:.1f} ms of a fresh interpreter", end="")
    if not told.short:
        shown = [one for one in TARGETS if told.only is None or one.read(report) is not None]
        print("\n" + target_table(report, shown))
    if told.json:
        told.json.write_text(json.dumps(as_json(report, TARGETS), indent=1) + "\n")
    if told.chart:
        told.chart.write_text(bars(report))
    if told.growth:
        told.growth.write_text(lines(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks.outcomes``: what users get when a dependency fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from benchmarks.outcomes import plot, report
from benchmarks.outcomes.contenders import CONTENDERS, missing
from benchmarks.outcomes.faults import FAULTS, Fault
from benchmarks.outcomes.scenario import SCENARIOS, Scenario, run
from benchmarks.outcomes.verdicts import Verdict, judge, series

SHORT = 45.0
"""Seconds of a short run: past the beginning of the fault."""
Job = tuple[Scenario, Fault, str, int, float | None]
Outcome = tuple[Verdict, tuple[list[float], list[float]]]


def one(job: Job) -> Outcome:
    """Play and read one outage, in a process of its own."""
    played = run(*job)
    return judge(played), series(played)


def jobs(settings: argparse.Namespace) -> Iterator[Job]:
    """All that was asked for."""
    names = [name for name in settings.contenders if not missing(name)]
    for fault in FAULTS:
        if settings.only and settings.only not in fault.name:
            continue
        for name in names:
            seeds = range(1, settings.seeds + 1)
            yield from ((SCENARIOS[0], fault, name, seed, settings.total) for seed in seeds)
        if fault.plain and "protect" in names:
            for seed in range(1, settings.seeds + 1):
                yield SCENARIOS[0], fault, "protect without hedge", seed, settings.total
        if settings.scenarios is not None:
            further = (
                scenario for scenario in SCENARIOS[1:] if settings.scenarios in scenario.name
            )
            for scenario, name in product(further, ("none", "protect")):
                seeds = range(1, settings.scenario_seeds + 1)
                yield from ((scenario, fault, name, seed, settings.total) for seed in seeds)


def main(words: list[str] | None = None) -> int:
    """Run it; 0 unless an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outcomes", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each outage (5)")
    parser.add_argument("--only", help="faults whose name contains this")
    parser.add_argument("--contenders", help="names, with commas; all by default")
    parser.add_argument(
        "--scenarios",
        nargs="?",
        const="",
        help="three further scenarios, too, or those whose name contains this",
    )
    parser.add_argument(
        "--scenario-seeds", type=int, default=1, help="runs of each outage there (1)"
    )
    parser.add_argument("--short", action="store_true", help="one seed, the beginning only")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    parser.add_argument("--plot", type=Path, help="draw the outages into this directory")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    settings = parser.parse_args(words)
    settings.total = SHORT if settings.short else None
    settings.seeds = 1 if settings.short else settings.seeds
    asked = settings.contenders
    settings.contenders = asked.split(",") if asked else list(CONTENDERS)
    for name in settings.contenders:
        if peers := missing(name):
            print(f"left out: {name}, since {' and '.join(peers)} is not installed")
    todo = list(jobs(settings))
    if not todo:
        parser.error("there is no such fault, or none of the contenders is installed")
    with ProcessPoolExecutor(settings.processes) as pool:
        outcomes = dict(zip(todo, pool.map(one, todo), strict=True))
    verdicts = {job: verdict for job, (verdict, _) in outcomes.items()}
    related = {job: _related(job, verdict, verdicts) for job, verdict in verdicts.items()}
    print(report.table(related))
    print(report.comparison(related))
    if settings.scenarios is not None:
        print(report.scenarios(related))
    if settings.json:
        rows = [
            {"scenario": job[0].name, "fault": job[1].name, **asdict(v)}
            for job, v in related.items()
        ]
        settings.json.write_text(json.dumps(rows, indent=1) + "\n")
    if settings.plot:
        settings.plot.mkdir(parents=True, exist_ok=True)
        for fault in dict.fromkeys(job[1] for job in todo):
            shown = {
                job[2]: drawn
                for job, (_, drawn) in outcomes.items()
                if job[:2] == (SCENARIOS[0], fault) and job[3] == 1
            }
            plot.draw(fault, shown, settings.plot)
    return 0


def _related(job: Job, verdict: Verdict, all_of_them: dict[Job, Verdict]) -> Verdict:
    """*verdict* with its figures beside those of the same seed under others."""
    scenario, fault, _, seed, total = job
    oracle = all_of_them.get((scenario, fault, "oracle", seed, total))
    plain = all_of_them.get((scenario, fault, "protect without hedge", seed, total))
    if oracle is not None and oracle.good:
        verdict = replace(verdict, of_oracle=verdict.good / oracle.good)
    if plain is not None and plain.p99:
        verdict = replace(verdict, of_plain=verdict.p99 / plain.p99)
    return verdict


if __name__ == "__main__":
    sys.exit(main())

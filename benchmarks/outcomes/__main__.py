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
from benchmarks.outcomes.contenders import CONTENDERS
from benchmarks.outcomes.faults import FAULTS, Fault
from benchmarks.outcomes.verdicts import Verdict, judge, series
from benchmarks.outcomes.world import WORLDS, World, run

SHORT = 45.0
"""Seconds of a short run: past the beginning of the fault."""
Job = tuple[World, Fault, str, int, float | None]
Outcome = tuple[Verdict, tuple[list[float], list[float]]]


def one(job: Job) -> Outcome:
    """Play and read one outage, in a process of its own."""
    played = run(*job)
    return judge(played), series(played)


def jobs(told: argparse.Namespace) -> Iterator[Job]:
    """All that was asked for."""
    names = told.contenders.split(",") if told.contenders else list(CONTENDERS)
    for fault in FAULTS:
        if told.only and told.only not in fault.name:
            continue
        for name in names:
            seeds = range(1, told.seeds + 1)
            yield from ((WORLDS[0], fault, name, seed, told.total) for seed in seeds)
        if fault.plain and "protect" in names:
            for seed in range(1, told.seeds + 1):
                yield WORLDS[0], fault, "protect without hedge", seed, told.total
        if told.worlds is not None:
            further = (world for world in WORLDS[1:] if told.worlds in world.name)
            for world, name in product(further, ("none", "protect")):
                seeds = range(1, told.world_seeds + 1)
                yield from ((world, fault, name, seed, told.total) for seed in seeds)


def main(words: list[str] | None = None) -> int:
    """Run it; 0 unless an argument is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outcomes", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each outage (5)")
    parser.add_argument("--only", help="faults whose name contains this")
    parser.add_argument("--contenders", help="names, with commas; all by default")
    parser.add_argument(
        "--worlds",
        nargs="?",
        const="",
        help="three further worlds, too, or those whose name contains this",
    )
    parser.add_argument("--world-seeds", type=int, default=1, help="runs of each outage there (1)")
    parser.add_argument("--short", action="store_true", help="one seed, the beginning only")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    parser.add_argument("--plot", type=Path, help="draw the outages into this directory")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    told = parser.parse_args(words)
    told.total = SHORT if told.short else None
    told.seeds = 1 if told.short else told.seeds
    todo = list(jobs(told))
    if not todo:
        parser.error("there is no such fault")
    with ProcessPoolExecutor(told.processes) as pool:
        outcomes = dict(zip(todo, pool.map(one, todo), strict=True))
    verdicts = {job: verdict for job, (verdict, _) in outcomes.items()}
    related = {job: _related(job, verdict, verdicts) for job, verdict in verdicts.items()}
    print(report.table(related))
    print(report.comparison(related))
    if told.worlds is not None:
        print(report.worlds(related))
    if told.json:
        rows = [
            {"world": job[0].name, "fault": job[1].name, **asdict(v)} for job, v in related.items()
        ]
        told.json.write_text(json.dumps(rows, indent=1) + "\n")
    if told.plot:
        told.plot.mkdir(parents=True, exist_ok=True)
        for fault in dict.fromkeys(job[1] for job in todo):
            shown = {
                job[2]: drawn
                for job, (_, drawn) in outcomes.items()
                if job[:2] == (WORLDS[0], fault) and job[3] == 1
            }
            plot.draw(fault, shown, told.plot)
    return 0


def _related(job: Job, verdict: Verdict, all_of_them: dict[Job, Verdict]) -> Verdict:
    """*verdict* with its figures beside those of the same seed under others."""
    world, fault, _, seed, total = job
    oracle = all_of_them.get((world, fault, "oracle", seed, total))
    plain = all_of_them.get((world, fault, "protect without hedge", seed, total))
    if oracle is not None and oracle.good:
        verdict = replace(verdict, of_oracle=verdict.good / oracle.good)
    if plain is not None and plain.p99:
        verdict = replace(verdict, of_plain=verdict.p99 / plain.p99)
    return verdict


if __name__ == "__main__":
    sys.exit(main())

"""What was measured: as JSON, and as tables for people."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.timing import FLOOR, OURS, Figure, Outcome

if TYPE_CHECKING:
    from benchmarks.growth import Growth
    from benchmarks.targets import Target


@dataclass(slots=True)
class Report:
    """One run."""

    rounds: int
    outcomes: list[Outcome] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    imports: dict[str, list[float]] = field(default_factory=dict)

    def outcome(self, case: str, world: str, loop: str = "asyncio") -> Outcome | None:
        """That of *case*; of an async one that on asyncio's own loop."""
        wanted = loop if world == "async" else ""
        return next(
            (
                one
                for one in self.outcomes
                if (one.case, one.world, one.loop) == (case, world, wanted)
            ),
            None,
        )


def machine() -> dict[str, str]:
    """What it was measured on, without a name of the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "processor": model,
        "system": f"{platform.system()} {platform.machine()}",
    }


def version_of(library: str) -> str:
    """The version of a library that was measured, or nothing."""
    name = {OURS: "resilient-py"}.get(library, library.split(" ", maxsplit=1)[0])
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def as_json(report: Report, targets: list[Target]) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        "machine": machine(),
        "rounds": report.rounds,
        "cases": [
            {
                "case": one.case,
                "world": one.world,
                "loop": one.loop,
                "skipped": one.skipped,
                "figures": [
                    {
                        "library": figure.library,
                        "version": version_of(figure.library),
                        "lacks": figure.lacks,
                        "min_ns": figure.least,
                        "median_ns": figure.median,
                        "to_floor": _ratio(figure, one.figure(FLOOR)),
                        "to_fastest_peer": _ratio(figure, one.fastest_peer()),
                    }
                    for figure in one.figures
                ],
            }
            for one in report.outcomes
        ],
        "memory_bytes": report.memory,
        "import_seconds": report.imports,
        "targets": [
            {"row": one.row, "unit": one.unit, "most": one.most, "is": one.read(report)}
            for one in targets
        ],
    }


def _ratio(figure: Figure, other: Figure | None) -> float | None:
    return None if other is None else figure.least / other.least


def table(outcome: Outcome) -> str:
    """One case, the fastest first."""
    floor, peer = outcome.figure(FLOOR), outcome.fastest_peer()
    where = f"{outcome.world}, {outcome.loop}" if outcome.loop else outcome.world
    lines = [f"\n{outcome.case} ({where})"]
    lines.append(f"  {'':42}{'min ns':>9}{'median':>9}{'x floor':>9}{'x peer':>8}")
    for one in sorted(outcome.figures, key=lambda figure: figure.least):
        ratios = "".join(
            f"{'' if ratio is None else f'{ratio:.2f}':>{width}}"
            for ratio, width in ((_ratio(one, floor), 9), (_ratio(one, peer), 8))
        )
        lacks = f"  {one.lacks}" if one.lacks else ""
        lines.append(f"  {one.library:42}{one.least:9.0f}{one.median:9.0f}{ratios}{lacks}")
    lines.extend(f"  {name:42}left out: {why}" for name, why in outcome.skipped.items())
    return "\n".join(lines)


def growth_table(growth: Growth, report: Report) -> str:
    """One growth: nanoseconds a call for each size."""
    outcomes = []
    for size in growth.sizes:
        case = growth.case(size)
        outcomes.append(report.outcome(case.name, case.world))
    libraries = list(
        dict.fromkeys(figure.library for one in outcomes if one for figure in one.figures)
    )
    lines = [f"\n{growth.name}: ns a call, for so many {growth.of}"]
    lines.append(f"  {'':20}" + "".join(f"{size:>12,}" for size in growth.sizes))
    for library in libraries:
        cells = [one.figure(library) if one else None for one in outcomes]
        lines.append(
            f"  {library:20}"
            + "".join(f"{'' if cell is None else f'{cell.least:.0f}':>12}" for cell in cells)
        )
    return "\n".join(lines)


def target_table(report: Report, targets: list[Target]) -> str:
    """Every goal beside what was reached."""
    lines = [f"\n{'what to reach':42}{'at most':>9}{'is':>9}"]
    for one in targets:
        value = one.read(report)
        verdict = "not measured" if value is None else "met" if value <= one.most else "NOT MET"
        shown = "" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
        most = f"{one.most:,.2f}" if one.most < 100 else f"{one.most:,.0f}"
        lines.append(f"{one.row:42}{most:>9}{shown:>9}  {one.unit:28}{verdict}")
    return "\n".join(lines)

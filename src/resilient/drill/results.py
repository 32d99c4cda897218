"""All of a drill as JSON: what was asked for, each second, each verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from resilient.drill.conductor import Result
from resilient.drill.figures import rows
from resilient.drill.plan import Plan
from resilient.drill.records import Ledger
from resilient.drill.report import remarks
from resilient.drill.verdicts import Verdict

FORM: Final = 1
"""Raised whenever a reader of the file would have to change."""

Json = Mapping[str, "Json"] | Sequence["Json"] | str | float | bool | None


def write(path: Path, plan: Plan, results: Sequence[Result]) -> None:
    """Write the whole drill to *path*."""
    path.write_text(json.dumps(document(plan, results), indent=1) + "\n", encoding="utf-8")


def document(plan: Plan, results: Sequence[Result]) -> dict[str, Json]:
    """The whole drill. Instants are seconds from the start of their run."""
    return {
        "form": FORM,
        "passed": all(result.passed for result in results),
        "asked": {
            "scenarios": [str(each) for each in plan.scenarios],
            "rate": plan.rate,
            "seconds": plan.seconds,
            "deadline": plan.deadline,
            "seed": plan.seed,
            "target": plan.target,
            "without": sorted(plan.without),
        },
        "runs": [_run(plan, result) for result in results],
    }


def _run(plan: Plan, result: Result) -> dict[str, Json]:
    return {
        "scenario": str(result.scenario),
        "passed": result.passed,
        "broken": result.broken,
        "healed": result.healed,
        "remarks": list(remarks(result)),
        "clients": {
            name: {
                "settings": result.settings[name],
                "verdicts": [_verdict(each) for each in result.verdicts[name]],
                **_figures(ledger, plan.seconds),
            }
            for name, ledger in result.ledgers.items()
        },
    }


def _verdict(verdict: Verdict) -> dict[str, Json]:
    return {
        "objective": verdict.objective,
        "required": verdict.limit,
        "value": verdict.finding.value,
        "says": verdict.finding.says,
        "passed": verdict.finding.passed,
    }


def _figures(ledger: Ledger, seconds: float) -> dict[str, Json]:
    return {
        "calls": len(ledger.calls),
        "sent": ledger.sent,
        "outcomes": {str(outcome): count for outcome, count in ledger.outcomes().items()},
        "errors": dict(ledger.errors()),
        "breaker": [asdict(move) for move in ledger.moves],
        "stalls": [asdict(stall) for stall in ledger.stalls],
        "latest_start": ledger.latest_start,
        "seconds": [asdict(row) for row in rows(ledger, seconds)],
    }

"""The tables: what `protect` reaches, what the others do, and how it is elsewhere."""

from __future__ import annotations

import math
from collections import defaultdict

from benchmarks.outcomes.faults import Fault, Reach
from benchmarks.outcomes.scenario import SCENARIOS, Scenario
from benchmarks.outcomes.verdicts import Verdict

Verdicts = dict[tuple[Scenario, Fault, str, int, float | None], Verdict]
COLUMNS = (
    ("good", "good in the fault"),
    ("goodput", "good/s in all"),
    ("sent", "sent/call"),
    ("wasted", "wasted work"),
    ("p50", "p50 s"),
    ("p99", "p99 s"),
    ("late", "past deadline s"),
    ("back", "back s"),
    ("users_served", "users served"),
)


def table(verdicts: Verdicts) -> str:
    """What `protect` reaches, the worst of the seeds."""
    lines = ["", "protect, with its defaults: the worst of the seeds", ""]
    groups = _groups(verdicts, SCENARIOS[0])
    for (fault, contender), group in groups.items():
        if contender != "protect":
            continue
        lines.extend(_reached(fault, reach, group) for reach in fault.reaches)
    return "\n".join(lines)


def _reached(fault: Fault, reach: Reach, group: list[Verdict]) -> str:
    values = [value for one in group if not math.isnan(value := reach.value(one))]
    if not values:
        return f"{fault.name:24} {reach.what:34} not measured: its measure did not run"
    worst = min(values) if reach.at_least else max(values)
    held = sum(reach.held(one) for one in group)
    sign = ">=" if reach.at_least else "<="
    word = "reached" if held == len(group) else f"MISSED in {len(group) - held} of {len(group)}"
    return f"{fault.name:24} {reach.what:34} {worst:9.6g} {sign} {reach.bound:<6g} {word}"


def comparison(verdicts: Verdicts) -> str:
    """All contenders, the mean of the seeds."""
    lines = [""]
    groups = _groups(verdicts, SCENARIOS[0])
    for fault in dict.fromkeys(fault for fault, _ in groups):
        lines += ["", fault.name + (f" ({fault.note})" if fault.note else "")]
        lines.append(f"  {'':22}" + "".join(f"{title:>18}" for _, title in COLUMNS))
        for (other, contender), group in groups.items():
            if other == fault:
                means = [_mean(group, name) for name, _ in COLUMNS]
                lines.append(f"  {contender:22}" + "".join(f"{mean:18.4g}" for mean in means))
    return "\n".join(lines)


WAY_BACK = 4.0
"""Seconds of traffic: what a breaker may cost after an outage in which nothing could be served."""
MOSTLY_SERVED = 0.9
"""Share of good calls without a policy, above which there is no outage: nothing may be lost."""


def scenarios(verdicts: Verdicts) -> str:
    """`protect` and nothing at all, in the further scenarios.

    Who has no policy is back at once from an outage that serves nobody, and a breaker only when it
    has probed: so what is lost is told in seconds of the usual traffic.
    """
    title = "further scenarios: good user calls a second without a policy and with protect"
    lines = ["", "", f"{title}; seconds of traffic lost or won by it, in the worst seed"]
    for scenario in SCENARIOS[1:]:
        groups = _groups(verdicts, scenario)
        for fault in dict.fromkeys(fault for fault, _ in groups):
            bare, ours = groups[fault, "none"], groups[fault, "protect"]
            traffic = scenario.shape.capacity * fault.utilisation
            won = [
                (with_it.goodput - without.goodput) * fault.total / traffic
                for without, with_it in zip(bare, ours, strict=True)
            ]
            may_cost = WAY_BACK if _mean(bare, "good") < MOSTLY_SERVED else 0.0
            worse = sum(seconds < -may_cost for seconds in won)
            word = f"WORSE in {worse} of {len(won)}" if worse else ""
            lines.append(
                f"  {scenario.name:18} {fault.name:24} {_mean(bare, 'goodput'):9.1f} "
                f"{_mean(ours, 'goodput'):9.1f} {min(won):+9.1f} {word}"
            )
    return "\n".join(lines)


def _mean(group: list[Verdict], figure: str) -> float:
    return float(sum(getattr(one, figure) for one in group) / len(group))


def _groups(verdicts: Verdicts, scenario: Scenario) -> dict[tuple[Fault, str], list[Verdict]]:
    found: dict[tuple[Fault, str], list[Verdict]] = defaultdict(list)
    for (where, fault, contender, _, _), verdict in verdicts.items():
        if where == scenario:
            found[fault, contender].append(verdict)
    return found

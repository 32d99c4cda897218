"""Runs that never took place, for what is computed from records."""

from __future__ import annotations

from collections.abc import Sequence

from resilient.drill.conductor import Result
from resilient.drill.plan import CLIENTS, Plan
from resilient.drill.records import Call, Ledger, Move, Outcome, Stall
from resilient.drill.scenarios import Scenario
from resilient.drill.verdicts import Evidence, judge

BROKEN, HEALED, ENDS = 5.0, 12.0, 20.0


def call(
    at: float,
    seconds: float = 0.02,
    outcome: Outcome = Outcome.ANSWERED,
    error: str | None = None,
    sent: int = 1,
) -> Call:
    return Call(at, at, at + seconds, outcome, error, sent)


def ledger(
    calls: Sequence[Call] = (),
    *,
    moves: Sequence[Move] = (),
    stalls: Sequence[Stall] = (),
    sent: int | None = None,
    state: str | None = "closed",
) -> Ledger:
    made = Ledger(stalls=list(stalls), moves=list(moves), state=state)
    made.add(calls)
    made.accepted = {0: len(calls) if sent is None else sent}
    return made


def evidence(made: Ledger, scenario: Scenario = Scenario.PARTITION) -> Evidence:
    return Evidence(scenario, 0.5, BROKEN, HEALED, ENDS, made)


def opened(at: float) -> Move:
    return Move(at, "closed", "open", "consecutive_failures")


def good_run() -> Ledger:
    """A run of which nobody could complain."""
    steady = [call(at / 10) for at in range(200) if not 50 <= at < 130]
    tried = [call(5 + at / 10, 0.15, Outcome.FAILED, "CircuitOpen") for at in range(3)]
    shed = [call(5.3 + at / 10, 0.001, Outcome.REJECTED, "CircuitOpen", sent=0) for at in range(77)]
    closed = (
        Move(13.0, "open", "half_open", "cooldown"),
        Move(13.1, "half_open", "closed", "probes"),
    )
    return ledger([*steady, *tried, *shed], moves=[opened(5.3), *closed], sent=125)


def plan(*scenarios: Scenario, target: str | None = None) -> Plan:
    return Plan(
        scenarios=scenarios or (Scenario.PARTITION,), rate=10, seconds=20, deadline=0.5, seed=7,
        target=target,
    )  # fmt: skip


def result(resilient: Ledger, scenario: Scenario = Scenario.PARTITION) -> Result:
    ledgers = {
        "bare": ledger(state=None),
        "usual": ledger([call(1.0)], state=None),
        "resilient": resilient,
    }
    return Result(
        scenario=scenario,
        settings={name: [f"the settings of {name}"] for name in CLIENTS},
        broken=BROKEN,
        healed=HEALED,
        ledgers=ledgers,
        verdicts={name: judge(evidence(made, scenario)) for name, made in ledgers.items()},
    )

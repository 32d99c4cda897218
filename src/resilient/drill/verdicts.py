"""The objectives, and how a run is judged by them. Pure: evidence in, verdicts out.

=========================== ============================================= ==============
objective                   met when                                      judged in
=========================== ============================================= ==============
longest call                <= deadline + 100 ms                          every scenario
requests sent for a call    <= 1.25, as the proxy counts them             every scenario
success after the fault     >= 99 % from the end of the grace on          every scenario
                            (`resilient.drill.timeline`)
lost calls                  none: each ended in an answer or a named      every scenario
                            error
breaker opened after        <= 3 s, and before the end of the fault       not ``flaky``
p99 of rejected calls       <= 20 ms                                      not ``flaky``
success during the fault    >= 99 %                                       ``flaky``
=========================== ============================================= ==============

A *success* is an answer within the deadline and those 100 ms: an answer that comes when
nobody waits for it any more is none.
A *rejected* call is one that was turned away before anything was sent. A call whose
retry met an open breaker had been sent: it counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resilient.drill.figures import net_seconds, percentile
from resilient.drill.records import Call, Ledger, Outcome
from resilient.drill.scenarios import OUTAGES, Scenario
from resilient.drill.timeline import settled_at

OVERTIME: Final = 0.1
MOST_SENT: Final = 1.25
SUCCESS: Final = 0.99
OPENED_WITHIN: Final = 3.0
REJECTED_WITHIN: Final = 0.02


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one client did in one run, and when the fault really began and ended."""

    scenario: Scenario
    deadline: float
    broken: float
    healed: float
    ends: float
    ledger: Ledger

    @property
    def calls(self) -> list[Call]:
        """Every call that was made."""
        return self.ledger.calls


@dataclass(frozen=True, slots=True)
class Finding:
    """What an objective found: a number, how to print it, and whether it will do."""

    value: float | None
    says: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Objective:
    """One thing that a good client does."""

    name: str
    limit: str
    scenarios: frozenset[Scenario]
    judge: Callable[[Evidence], Finding]


@dataclass(frozen=True, slots=True)
class Verdict:
    """An objective and what was found."""

    objective: str
    limit: str
    finding: Finding


def judge(evidence: Evidence) -> list[Verdict]:
    """Hold one client's run against each objective of its scenario."""
    return [
        Verdict(each.name, each.limit, each.judge(evidence))
        for each in OBJECTIVES
        if evidence.scenario in each.scenarios
    ]


def keeps_deadline(evidence: Evidence) -> Finding:
    """The longest call, without the time in which the machine did not run the client."""
    stalls = evidence.ledger.stalls
    longest = max((net_seconds(call, stalls) for call in evidence.calls), default=None)
    if longest is None:
        return _nothing("no call was made")
    return Finding(longest, f"{longest:.3f} s", longest <= evidence.deadline + OVERTIME)


def sends_little(evidence: Evidence) -> Finding:
    """Requests for each call."""
    if not evidence.calls:
        return _nothing("no call was made")
    ratio = evidence.ledger.sent / len(evidence.calls)
    return Finding(ratio, f"{ratio:.2f} x", ratio <= MOST_SENT)


def recovers(evidence: Evidence) -> Finding:
    """The share of successes once the grace is over."""
    settled = settled_at(evidence.healed, evidence.ends)
    found = _success(evidence, settled, evidence.ends)
    unhappy = (call.arrived for call in evidence.calls if not _succeeded(call, evidence))
    after = max(unhappy, default=0.0) - evidence.healed
    back = f", back after {after:.1f} s" if found.passed and after > 0 else ""
    return Finding(found.value, found.says + back, found.passed)


def loses_nothing(evidence: Evidence) -> Finding:
    """Calls that ended in no answer and no named error."""
    if not evidence.calls:
        return _nothing("no call was made")
    outcomes = evidence.ledger.outcomes()
    lost, strange = outcomes[Outcome.LOST], outcomes[Outcome.STRANGE]
    says = f"{lost + strange}" + (f" ({strange} strange errors)" if strange else "")
    return Finding(lost + strange, says, lost + strange == 0)


def opens_soon(evidence: Evidence) -> Finding:
    """How long after the beginning of the fault the breaker opened."""
    if evidence.ledger.state is None:
        return _nothing("no breaker")
    opened = opened_after(evidence)
    if opened is None:
        return _nothing("never")
    within = min(OPENED_WITHIN, evidence.healed - evidence.broken)
    return Finding(opened, f"{opened:.2f} s", opened <= within)


def rejects_fast(evidence: Evidence) -> Finding:
    """How long a caller waits to be turned away."""
    rejected = [call for call in evidence.calls if call.outcome is Outcome.REJECTED]
    waits = (net_seconds(call, evidence.ledger.stalls) for call in rejected)
    slowest = percentile(waits, 0.99)
    if slowest is None:
        return _nothing("none rejected")
    return Finding(slowest, f"{slowest * 1000:.1f} ms", slowest <= REJECTED_WITHIN)


def succeeds_during(evidence: Evidence) -> Finding:
    """The share of successes while the service is broken."""
    return _success(evidence, evidence.broken, evidence.healed)


def opened_after(evidence: Evidence) -> float | None:
    """Seconds from the beginning of the fault to an open breaker; ``None`` if it never was."""
    state = "closed"
    for move in evidence.ledger.moves:
        if move.at >= evidence.broken:
            break
        state = move.new
    if state == "open":
        return 0.0
    opened = (m.at for m in evidence.ledger.moves if m.new == "open" and m.at >= evidence.broken)
    first = next(opened, None)
    return None if first is None else first - evidence.broken


def _success(evidence: Evidence, begin: float, end: float) -> Finding:
    calls = [call for call in evidence.calls if begin <= call.arrived < end]
    if not calls:
        return _nothing("no call was made")
    share = sum(_succeeded(call, evidence) for call in calls) / len(calls)
    return Finding(share, f"{share:.1%}", share >= SUCCESS)


def _succeeded(call: Call, evidence: Evidence) -> bool:
    if call.outcome is not Outcome.ANSWERED:
        return False
    return net_seconds(call, evidence.ledger.stalls) <= evidence.deadline + OVERTIME


def _nothing(says: str) -> Finding:
    return Finding(None, says, passed=False)


EVERY: Final = frozenset(Scenario)
OBJECTIVES: Final = (
    Objective("longest call", "deadline + 100 ms", EVERY, keeps_deadline),
    Objective("requests sent for a call", "<= 1.25 x", EVERY, sends_little),
    Objective("success after the fault", ">= 99 %", EVERY, recovers),
    Objective("lost calls", "0", EVERY, loses_nothing),
    Objective("breaker opened after", "<= 3 s", OUTAGES, opens_soon),
    Objective("p99 of rejected calls", "<= 20 ms", OUTAGES, rejects_fast),
    Objective("success during the fault", ">= 99 %", frozenset({Scenario.FLAKY}), succeeds_during),
)

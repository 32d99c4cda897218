"""Arithmetic over records: percentiles, shares, rows per second. Nothing here is judged."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from resilient.drill.records import Call, Ledger, Outcome, Stall


@dataclass(frozen=True, slots=True)
class Row:
    """One second of one client: the calls that ended in it, the requests that were sent in it."""

    second: int
    answered: int
    failed: int
    rejected: int
    p50: float | None
    p99: float | None
    sent: int
    reached: int
    state: str | None


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that *share* of all do not exceed; ``None`` of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def net_seconds(call: Call, stalls: Sequence[Stall]) -> float:
    """How long a call took, without the time in which the machine did not run the client.

    A client that gets no processor can't keep a deadline; that says nothing of its policies.
    *stalls* are in the order of time.
    """
    away = 0.0
    for stall in stalls[bisect_right(stalls, call.began, key=attrgetter("end")) :]:
        if stall.begin >= call.ended:
            break
        shared = min(call.ended, stall.end) - max(call.began, stall.begin)
        away += min(shared, stall.away)
    return call.seconds - away


def row(ledger: Ledger, second: int) -> Row:
    """What one second came to."""
    ended = ledger.ended_in.get(second, [])
    outcomes = Counter(call.outcome for call in ended)
    waits = [call.seconds for call in ended]
    answered, rejected = outcomes[Outcome.ANSWERED], outcomes[Outcome.REJECTED]
    return Row(
        second=second,
        answered=answered,
        failed=len(ended) - answered - rejected,
        rejected=rejected,
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
        sent=ledger.accepted.get(second, 0),
        reached=ledger.reached.get(second, 0),
        state=state_at(ledger, second + 1),
    )


def rows(ledger: Ledger, seconds: float) -> list[Row]:
    """Every second of a run, and those after it in which calls still ended."""
    last = max([math.ceil(seconds) - 1, *ledger.ended_in])
    return [row(ledger, second) for second in range(last + 1)]


def state_at(ledger: Ledger, at: float) -> str | None:
    """In which state the breaker was; ``None`` where there is none."""
    if ledger.state is None:
        return None
    before = [move.new for move in ledger.moves if move.at < at]
    return before[-1] if before else "closed"

"""What one outage says: the figures that are to be reached, and those that explain them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from benchmarks.outcomes.contenders import DEADLINE
from benchmarks.outcomes.faults import BEGINS, Fault
from benchmarks.outcomes.scenario import Run, UserCall

BUCKET = 0.5
SETTLED = 10.0  # "before" is from here to the fault
AS_BEFORE = 0.99


@dataclass(frozen=True)
class Verdict:
    """The figures of one run; calls belong to the second in which they began."""

    contender: str
    seed: int
    goodput: float  # good user calls a second, over the whole run
    good: float  # share of good ones among the user calls of the fault
    sent: float  # calls sent for each user call of the fault
    load_after_one: float  # calls sent a second from one second after the fault began, / before
    back: float  # seconds from the end of the fault until all is as before
    doomed_p99: float  # seconds that the calls of the fault lasted that were not good
    late: float  # seconds by which the latest call ended past its deadline
    good_late: float  # share of good ones in the last ten seconds of the fault
    good_others: float  # share of good ones of the living keys, during the fault
    users_served: float  # of those who were, or have come as often as they do
    p50: float  # of the good calls of the fault
    p99: float
    wasted: float  # share of the service's work for callers who had left
    of_oracle: float = math.nan
    of_plain: float = math.nan


def judge(run: Run) -> Verdict:
    """Read one run."""
    fault = run.fault
    window = [call for call in run.calls if BEGINS <= call.began < fault.ends]
    sent = sum(BEGINS <= at < fault.ends for at in run.sent)
    doomed = [call.ended - call.began for call in window if not call.good]
    good = [call.ended - call.began for call in window if call.good]
    dead = _dead_keys(fault)
    served, tries = set[int](), Counter[int]()
    for call in run.calls:
        tries[call.user] += 1
        if call.good:
            served.add(call.user)
    lost = sum(tried > fault.users_return and user not in served for user, tried in tries.items())
    late = [call for call in window if call.began >= fault.ends - 10.0]
    return Verdict(
        contender=run.contender,
        seed=run.seed,
        goodput=sum(call.good for call in run.calls) / fault.total,
        good=_share(window),
        sent=sent / max(1, len(window)),
        load_after_one=_load(run.sent, BEGINS + 1, fault.ends) / _load(run.sent, SETTLED, BEGINS),
        back=_back(run),
        doomed_p99=_quantile(doomed, 0.99),
        late=max(call.ended - call.began - DEADLINE for call in run.calls),
        good_late=_share(late),
        good_others=_share([call for call in window if call.key not in dead]),
        users_served=len(served) / max(1, len(served) + lost),
        p50=_quantile(good, 0.5),
        p99=_quantile(good, 0.99),
        wasted=run.wasted / max(1, run.executed),
    )


def series(run: Run) -> tuple[list[float], list[float]]:
    """Good calls a second, and calls sent a second, by half seconds."""
    buckets = int(run.fault.total / BUCKET)
    good, sent = [0.0] * buckets, [0.0] * buckets
    for call in run.calls:
        if call.good and (at := int(call.began / BUCKET)) < buckets:
            good[at] += 1 / BUCKET
    for moment in run.sent:
        if (at := int(moment / BUCKET)) < buckets:
            sent[at] += 1 / BUCKET
    return good, sent


def _back(run: Run) -> float:
    """Seconds to the first half second from which success stays as before.

    Of a bucket with few calls one failure is no sign: as many as one in a hundred of the calls of
    two seconds are forgiven, and no more.
    """
    fault = run.fault
    before = _share([call for call in run.calls if SETTLED <= call.began < BEGINS])
    calls, bad = defaultdict[int, int](int), defaultdict[int, int](int)
    for call in run.calls:
        if fault.ends <= call.began < fault.total - DEADLINE:
            at = int((call.began - fault.ends) / BUCKET)
            calls[at] += 1
            bad[at] += not call.good
    last = -1
    for at in sorted(calls):
        allowed = (1 - AS_BEFORE * before) * calls[at]
        smoothed = sum(bad[one] for one in range(at, at + 4))
        most = (1 - AS_BEFORE * before) * sum(calls[one] for one in range(at, at + 4))
        if bad[at] > max(allowed, 1.0) or (bad[at] and smoothed > most):
            last = at
    return (last + 1) * BUCKET


def _dead_keys(fault: Fault) -> frozenset[int]:
    return frozenset[int]().union(*(condition.dead_keys for _, condition in fault.conditions))


def _share(calls: list[UserCall]) -> float:
    return sum(call.good for call in calls) / len(calls) if calls else math.nan


def _load(sent: list[float], since: float, until: float) -> float:
    return sum(since <= at < until for at in sent) / (until - since) if until > since else math.nan


def _quantile(values: list[float], q: float) -> float:
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, math.ceil(q * len(values)) - 1)]

"""The laws of what decides when, how often and for how long a function runs."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from resilient._core.cache import CacheConfig
from resilient._core.matching import Verdict, each
from resilient._core.retry import max_retry_after
from resilient.errors import DeadlineExceeded
from resilient.events import RetryScheduled
from resilient.testing.scripts.laws.common import broken, copy_of, is_cut, is_wanted
from resilient.testing.scripts.model import CLOSE
from resilient.testing.scripts.trace import Attempt, Passage, Trace, Visit


def retries(passage: Passage) -> None:
    """How often, when, and after what a retry tries again (R1, R2, R5, R6)."""
    settings = passage.policy._settings
    for visit in passage.visits:
        if settings.attempts is not None and len(visit.runs) > settings.attempts:
            raise broken(
                passage, "R1", f"made {len(visit.runs)} attempts, and attempts={settings.attempts}"
            )
        for one, other in pairwise(visit.runs):
            _tried_again(passage, one, other)
        for run in visit.runs[1:]:
            if run.began >= visit.began + settings.within:
                raise broken(
                    passage,
                    "R5",
                    f"an attempt began {run.began - visit.began:g} s after "
                    f"the call, and within={settings.within:g}",
                )
        _limit(passage, visit, settings.within, "R5")


def _tried_again(passage: Passage, one: Attempt, other: Attempt) -> None:
    """Only after what it was told to repeat, and not too soon."""
    settings = passage.policy._settings
    assert one.ended is not None
    if one.cut:
        raise broken(passage, "F9", "tried again after a cancellation")
    if settings.strategy is None and is_wanted(one, settings.judge, settings.on_result):
        raise broken(passage, "R1", "tried again after a success")
    if isinstance(one.error, Exception):
        final = isinstance(one.error, DeadlineExceeded) and not one.error.started
        named = settings.strategy or settings.judge.error(one.error) is Verdict.FAILURE
        if final or not named:
            raise broken(passage, "R2", f"tried again after {one.error!r}")
        floor, waited = max_retry_after(each(one.error)), other.began - one.ended
        if waited < floor - CLOSE:
            what = f"tried again after {waited:g} s, and was told to wait for {floor:g} s"
            raise broken(passage, "R6", what)


def _limit(passage: Passage, visit: Visit, seconds: float, law: str) -> None:
    """In async code no run outlasts a limit; a result that was there is kept (D2, D3)."""
    if passage.on == "threads" or not visit.runs:
        return
    if visit.left > visit.began + seconds + CLOSE and "hedge" not in passage.inner:
        raise broken(
            passage,
            law,
            f"a call lasted {visit.left - visit.began:g} s, and its limit is {seconds:g} s",
        )


def budgets(trace: Trace) -> None:
    """No budget is overdrawn (R4): retries are a share of the calls, and a reserve."""
    paying: dict[Any, list[Passage]] = {}
    for passage in trace.passages:
        if passage.policy.kind == "retry" and passage.policy._settings.key is None:
            budget = passage.policy._budget
            if budget is not None:
                paying.setdefault(budget, []).append(passage)
    for budget, passages in paying.items():
        names = {passage.policy.name for passage in passages}
        if len([one for one in trace.passages if one.policy.name in names]) > len(passages):
            continue  # whose events they are is not known
        config = budget._config
        reserve = max(1.0, config.per_second * config.ttl) if config.per_second else 0.0
        refill = max(config.ttl, 1 / config.per_second) if config.per_second else config.ttl
        calls = [visit.began for passage in passages for visit in passage.visits]
        spent = [
            event.at
            for event in trace.events
            if isinstance(event, RetryScheduled) and event.policy in names
        ]
        for at in spent:
            retried = sum(at - refill < other <= at for other in spent)
            paid = sum(at - refill - 1.1 * config.ttl - CLOSE <= one <= at for one in calls)
            if retried > config.ratio * paid + reserve + CLOSE:
                raise broken(
                    passages[0],
                    "R4",
                    f"{retried} retries in the {refill:g} s before "
                    f"{at:g} s, and {paid} calls have paid for them into {budget!r}",
                )


def timeouts(passage: Passage) -> None:
    """A timeout cuts at its instant, not before, and keeps a result that was there (D2, D3)."""
    seconds = passage.policy._seconds
    for visit in passage.visits:
        _limit(passage, visit, seconds, "D2")
        error, run = visit.error, visit.runs[-1] if visit.runs else None
        if run is not None and run.answered and not visit.answered:
            raise broken(passage, "D3", f"a run answered, and its call got {error!r}")
        if (
            isinstance(error, DeadlineExceeded)
            and (error.policy, error.seconds) == (passage.policy.name, seconds)  # and no outer one
            and run is not None
            and run.error is not error
            and visit.left < visit.began + seconds - CLOSE
        ):
            raise broken(
                passage,
                "D2",
                f"cut {visit.left - visit.began:g} s after it began, and its "
                f"limit is {seconds:g} s",
            )


def hedges(passage: Passage) -> None:
    """At most `max` more, none before its time, and none outlasts its call (H1 to H4)."""
    policy = passage.policy
    for visit in passage.visits:
        runs = visit.runs
        if len(runs) > policy._max + 1:
            raise broken(passage, "H1", f"made {len(runs)} attempts, and max={policy._max}")
        for run in runs:
            if run.ended is None or run.ended > visit.left + CLOSE:
                raise broken(passage, "H1", f"an attempt outlasted its call: {run!r}")
        _in_time(passage, visit)
        _first_acceptable(passage, visit)


def _in_time(passage: Passage, visit: Visit) -> None:
    """Each attempt more has waited for its time, or is there for one that failed (H2)."""
    policy = passage.policy
    after = policy._delay.seconds
    if not after:
        return  # all at once, or by a quantile, which is not seen
    for number, run in enumerate(visit.runs[1:], 1):
        due = math.floor((run.began - visit.began + CLOSE) / after)
        failed = sum(
            one.ended is not None
            and one.ended <= run.began
            and not is_wanted(one, policy._judge, policy._on_result)
            for one in visit.runs
        )
        if number > due + failed:
            what = f"attempt {number + 1} began after {run.began - visit.began:g} s"
            raise broken(passage, "H4", f"{what}, {failed} had failed, and after={after:g}")


def _first_acceptable(passage: Passage, visit: Visit) -> None:
    """A call ends well if an attempt does, unless another has ended it by then (H1, H2)."""
    judge, error = passage.policy._judge, visit.error
    wanted = [run for run in visit.runs if is_wanted(run, judge, passage.policy._on_result)]
    if not wanted or is_cut(error):
        return
    if visit.answered and all(run.result is not visit.result for run in wanted):
        raise broken(passage, "H1", f"returned {visit.result!r}, and an attempt had answered")
    if isinstance(error, Exception):
        ends = any(run.error is error for run in visit.runs) and (
            judge.error(error) is Verdict.SUCCESS
        )
        before = any(run.ended is not None and run.ended < visit.left - CLOSE for run in wanted)
        if before or not ends:
            raise broken(passage, "H1", "an attempt answered, and its call failed")


def fallbacks(passage: Passage) -> None:
    """What answered is not replaced (F8)."""
    judge, on_result = passage.policy._judge, passage.policy._on_result
    for visit in passage.visits:
        for run in visit.runs:
            if is_wanted(run, judge, on_result) and visit.result is not run.result:
                raise broken(passage, "F8", f"replaced {run.result!r} by {visit.result!r}")


def one_at_a_time(passage: Passage) -> None:
    """One run per key at a time (S1)."""
    for runs in _runs_by_key(passage).values():
        for one, other in pairwise(sorted(runs, key=lambda run: run.began)):
            ended = math.inf if one.ended is None else one.ended
            if other.began < ended - CLOSE and not one.cut:
                raise broken(passage, "S1", f"two runs of one key at once: {one!r} and {other!r}")


def flights(passage: Passage) -> None:
    """What is shared comes of a run that its caller has waited for (S2)."""
    runs = _runs_by_key(passage)
    for visit in passage.visits:
        if visit.answered and not any(
            ended >= visit.began - CLOSE for ended in _sources(passage, visit, runs)
        ):
            raise broken(
                passage,
                "S2",
                f"the call at {visit.began:g} s got {visit.result!r}, which was no "
                "result of a run that it had waited for",
            )


def caches(passage: Passage) -> None:
    """What is served was answered, for this key, and is not too old (C3, C4, C7)."""
    settings = passage.policy._settings
    oldest, runs = _oldest(settings.config), _runs_by_key(passage)
    for visit in passage.visits:
        if not visit.answered or (settings.exists is not None and visit.result is None):
            continue
        ages = [visit.left - ended for ended in _sources(passage, visit, runs)]
        if not ages:
            raise broken(passage, "C7", f"served {visit.result!r}, which no run had answered")
        if min(ages) > oldest + CLOSE:
            raise broken(
                passage,
                "C4",
                f"served what was {min(ages):g} s old, and the oldest may be {oldest:g} s",
            )


def _oldest(config: CacheConfig) -> float:
    """How old an entry may be that is served, in seconds: infinity, if each says so itself."""
    if config.ttl is None:
        return math.inf
    lives = max(config.ttl, config.negative_ttl or 0.0)
    return lives * (1 + config.jitter) + config.stale


def _runs_by_key(passage: Passage) -> dict[object, list[Attempt]]:
    apart: dict[object, list[Attempt]] = {}
    for visit in passage.visits:
        apart.setdefault(visit.key, []).extend(visit.runs)
    return apart


def _sources(passage: Passage, visit: Visit, runs: dict[object, list[Attempt]]) -> list[float]:
    """When the runs ended whose result a call may have got: any of its key, if it gets a copy."""
    copied = copy_of(passage.policy) is not None
    return [
        run.ended
        for run in (*runs[visit.key], *passage.strays)
        if run.ended is not None and run.error is None and (copied or run.result is visit.result)
    ]

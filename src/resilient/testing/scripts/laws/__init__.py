"""The laws that `Trace.check` holds a policy against, whatever the script was.

Each says what must never be seen from outside. Where the rules leave room, or the trace does not
show enough to be sure, a law says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from resilient.errors import DeadlineExceeded, Rejected
from resilient.testing.scripts.laws.breaker import breaker
from resilient.testing.scripts.laws.calls import (
    budgets,
    caches,
    fallbacks,
    flights,
    hedges,
    one_at_a_time,
    retries,
    timeouts,
)
from resilient.testing.scripts.laws.common import (
    LIMITED,
    MANY,
    SHARING,
    broken,
    copy_of,
    is_alone,
    is_cut,
)
from resilient.testing.scripts.laws.load import adaptive_limits, bulkheads, rates, throttles
from resilient.testing.scripts.model import CLOSE
from resilient.testing.scripts.trace import NO_KEY, Called, LawBroken, Passage, Trace, Visit

LAWS: Final[dict[str, tuple[Callable[[Passage], None], ...]]] = {
    "breaker": (breaker,),
    "retry": (retries,),
    "timeout": (timeouts,),
    "bulkhead": (bulkheads,),
    "rate_limit": (rates,),
    "adaptive_limit": (adaptive_limits,),
    "throttle": (throttles,),
    "hedge": (hedges,),
    "fallback": (fallbacks,),
    "singleflight": (one_at_a_time, flights),
    "cache": (one_at_a_time, caches),
}


def check(trace: Trace) -> None:
    """Every law of every policy."""
    for call in trace.calls:
        cancellation(call)
    for passage in trace.passages:
        own_results(passage)
        own_errors(passage)
        cancellations(passage)
        rejections(passage)
        places(passage)
        if is_alone(passage, trace):
            for law in LAWS.get(passage.policy.kind, ()):
                law(passage)
    budgets(trace)


def cancellation(call: Called) -> None:
    """A call ends, is cancelled only by its caller, and then at once (F9)."""
    began, cancel = call.began, math.inf if call.step.cancel is None else call.step.cancel
    if call.how == "hung":
        raise LawBroken("F9", f"the call that began at {began:g} s waits for ever")
    assert call.ended is not None
    if call.how == "cancelled" and call.ended < began + cancel - CLOSE:
        raise LawBroken("F9", f"nobody has cancelled the call that began at {began:g} s")
    if call.ended > began + cancel + CLOSE:
        raise LawBroken("F9", f"the call that began at {began:g} s outlived its cancellation")


def own_results(passage: Passage) -> None:
    """What a call returns is what the function returned, the same object (F8)."""
    kind = passage.policy.kind
    if kind in SHARING or kind == "fallback":
        return
    for visit in passage.visits:
        if kind not in MANY and len(visit.runs) > 1:
            raise broken(passage, "F8", f"ran one call {len(visit.runs)} times")
        if visit.answered and all(visit.result is not run.result for run in visit.runs):
            raise broken(passage, "F8", f"returned {visit.result!r}, and no run had that result")


def own_errors(passage: Passage) -> None:
    """What a call raises is what the function raised, the same object, or the policy's own (F8)."""
    runs = [run for _, run in passage.runs()]
    for visit in passage.visits:
        error = visit.error
        if not isinstance(error, Exception) or passage.policy.kind == "fallback":
            continue
        if not visit.runs and _asks_first(passage.policy, visit):
            continue  # what the user's function raised, or that a `cost` is more than the burst
        if passage.policy.kind in SHARING and copy_of(passage.policy) is not None:
            continue  # perhaps it could not be copied
        if isinstance(error, Rejected | DeadlineExceeded) and error.policy == passage.policy.name:
            continue
        if all(error is not run.error for run in runs) and not isinstance(error, DeadlineExceeded):
            raise broken(passage, "F8", f"raised {error!r}, and no run had raised that")


def _asks_first(policy: Any, visit: Visit) -> bool:
    """Whether functions of the user's are asked of a call before it is made."""
    asked = (getattr(policy, name, None) for name in ("_cost", "_priority"))
    return visit.key is NO_KEY or any(map(callable, asked))


def cancellations(passage: Passage) -> None:
    """A cancelled run is no result: its cancellation goes on to the caller (F9)."""
    if passage.policy.kind in LIMITED:
        return
    for visit in passage.visits:
        for run in visit.runs:
            if run.cut and visit.error is not run.error and not is_cut(visit.error):
                raise broken(
                    passage,
                    "F9",
                    f"a run was cancelled at {run.ended:g} s, and its call went on to {visit!r}",
                )


def rejections(passage: Passage) -> None:
    """A rejected call was not made (E1)."""
    if passage.policy.kind in MANY:
        return
    for visit in passage.visits:
        error = visit.error
        if isinstance(error, Rejected) and visit.runs and error is not visit.runs[-1].error:
            raise broken(passage, "F3", f"rejected a call that it had made: {visit!r}")


def places(passage: Passage) -> None:
    """When nothing runs any more, no place is held (F9)."""
    stats = passage.policy.stats()
    for total in ("in_flight", "queued"):
        if getattr(stats, total, 0):
            raise broken(
                passage, "F9", f"all calls have ended, and {total} is {getattr(stats, total)}"
            )

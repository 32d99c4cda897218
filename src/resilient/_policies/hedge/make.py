"""The factory of hedges."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal

from resilient._core.checks import (
    Seconds,
    check_int,
    check_name,
    check_seconds,
    check_sync,
    refuse,
    refuse_type,
)
from resilient._core.hedge import HedgeDelay
from resilient._core.matching import Verdict
from resilient._policies.common.factory import factory
from resilient._policies.common.verdicts import judge_of
from resilient._policies.hedge.shell import Hedge
from resilient._policies.retry.budget import RetryBudget
from resilient._typing import DEFAULT, Default, ErrorSpec

QUANTILE: Final = re.compile(r"p(\d{1,3}(?:\.\d+)?)")


@factory('hedge("p95")')
def hedge(
    after: Seconds | str,
    *,
    max: int = 1,  # noqa: A002  # the contract's word
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
    budget: RetryBudget | Literal[Default.DEFAULT] | None = DEFAULT,
    discard: Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Hedge:
    """Make a second attempt beside one that takes too long, and take the first result.

    For what may be done twice, and is slow now and then for reasons of its own: it cuts the tail
    of the latency for a few percent more calls. Losers are cancelled, and awaited. Each attempt
    is a task with a copy of the caller's context. Async functions only.

    Args:
        after: seconds after which another attempt begins, at least 0; or a quantile of the
            latencies of its own successes, such as ``"p95"``, above p0 and at most p100: then there
            are no hedges before 20 successes. With 0 all attempts begin at once, as far as *budget*
            allows.
        max: attempts beside the first one, at least 1.
        on: which errors of an attempt are made good by another, at once; any other ends the call.
        on_result: a predicate on the result of an attempt; true makes it as bad as an error that
            *on* names. If it raises, that is logged once, and the result is a good one.
        budget: what hedges may cost all calls together; by default a
            ``RetryBudget(ratio=0.05, per_second=0.2)`` of its own, and of the calls of late no more
            than one in ten, two at once: if many are slow, the dependency is. ``None`` for none.
            Give the one of a `retry` around it to share that.
        discard: a function that gets each result that is not returned, because it came too late or
            is unwanted, to close it.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        TypeError: the function that it decorates is no ``async def``.
        DeadlineExceeded: from a call, ``started`` false: nothing was left of the deadline.

    If no attempt has an acceptable result, the call ends as the first one did: with its error, or
    with its unwanted result.

    Source:
        J. Dean and L. A. Barroso, "The Tail at Scale" (2013); budgets as in Finagle.
    """
    if callable(after):
        raise TypeError(
            f'after must be seconds or a quantile, not {after!r}: write @hedge("p95"), '
            "with parentheses"
        )
    if budget is not DEFAULT and budget is not None and not isinstance(budget, RetryBudget):
        refuse_type("budget", budget, "a RetryBudget, or None for none")
    check_sync("discard", discard)  # a loser is not waited for
    return Hedge(
        check_name("name", name, instead='@hedge("p95")'),
        _delay(after),
        check_int("max", max),
        judge_of(on, on_predicate_error=Verdict.SUCCESS),
        check_sync("on_result", on_result),
        budget,
        discard,
    )


def _delay(after: Seconds | str) -> HedgeDelay:
    if not isinstance(after, str):
        return HedgeDelay(check_seconds("after", after), 0.0)
    found = QUANTILE.fullmatch(after)
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share <= 1:
        refuse("after", after, 'seconds, or a quantile above "p0" and at most "p100"')
    return HedgeDelay(None, share)

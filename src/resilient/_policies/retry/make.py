"""The factory of retries: what may be asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from resilient._core.checks import (
    Seconds,
    check_callable,
    check_int,
    check_name,
    check_seconds,
    check_sync,
    refuse_type,
)
from resilient._core.matching import Judge, Matcher, Verdict
from resilient._policies.backoff import backoff
from resilient._policies.common.factory import factory
from resilient._policies.common.verdicts import CLASSIFIED
from resilient._policies.retry.budget import RetryBudget
from resilient._policies.retry.deciding import Settings, classify_first
from resilient._policies.retry.shell import Retry
from resilient._policies.retry.strategies import (
    is_async_strategy,
    is_retry_strategy,
    stateful_wait,
    stop_rule,
    wait_rule,
)
from resilient._runtime.keying import Key, check_key
from resilient._runtime.notify import log_predicate_error
from resilient._typing import DEFAULT, Default, ErrorSpec

if TYPE_CHECKING:
    from tenacity import retry_base

    from resilient._policies.retry.strategies import Stop, Wait


WAIT: Final = backoff(0.1, max=10.0)
ATTEMPTS: Final = 3


@factory("retry(on=...)")
def retry(
    name: str | None = None,
    *,
    on: ErrorSpec | retry_base,
    attempts: int | Literal[Default.DEFAULT] | None = DEFAULT,
    wait: Wait = WAIT,
    stop: Stop | None = None,
    within: Seconds | None = None,
    budget: RetryBudget | Literal[Default.DEFAULT] | None = DEFAULT,
    on_result: Callable[[Any], object] | None = None,
    discard: Callable[[Any], object] | None = None,
    key: Key | None = None,
) -> Retry:
    """Try again what failed and may be repeated, within a budget and the deadline.

    What the function raises in the end is what the caller gets, the same object, with one
    note that says why no more was tried.

    Args:
        name: what errors, events and metrics call it; else that of the first function it decorates.
        on: which errors may be repeated: types, predicates, a tuple of these, or a strategy of
            tenacity. There is no default: what is safe to repeat is your knowledge. A `Rejected` is
            repeated only if *on* names its type or `Rejected` itself, after its ``retry_after``; a
            call that did not start for want of time never is. A predicate that raises repeats
            nothing.
        attempts: how often to try, the first call included; at least 1, ``None`` for no limit. 3
            if not given, or no limit if *stop* is.
        wait: before a try again: a `backoff`, seconds, a function ``(attempt, error) -> seconds``,
            or a wait strategy of tenacity. A ``retry_after`` of the error is a floor under it.
        stop: a stop strategy of tenacity; of it and *attempts*, whichever says so first.
        within: seconds, above 0: a deadline over all attempts and waits.
        budget: what retries may cost all calls together; by default a `RetryBudget` of its own,
            ``None`` for none.
        on_result: a predicate on the result; true makes it unwanted. The last result is returned
            all the same.
        discard: a function that gets each unwanted result that is not returned, to close it: right
            before the next attempt begins, or when the wait for that is cut short. It may be async
            for async functions. What it raises is logged once. Only where results are judged;
            in a loop they are your own.
        key: a function of the call's arguments, or the name of a parameter: one balance for each
            key (the 1024 used last), all as *budget* is.

    Raises:
        ValueError: an argument is out of its range, or nothing limits the attempts.
        DeadlineExceeded: from a call: ``started`` false if no time was left for it at all, or if
            its wait was cut short; true if *within* interrupted an attempt.

    In plain threads an attempt is not interrupted: *within* is looked at between attempts. A sync
    function that would wait in a thread with a running event loop stops that loop: the policy
    gives a `RuntimeWarning`, once.
    A wait of 0 is none: the next attempt begins at once. In async code other tasks run
    before every sixteenth such attempt.
    A wait that is not less than what is left of the deadline is not begun. A wait or
    stop function that raises is logged, and ends the call as *stop* does.

    Source:
        The vocabulary is tenacity's; budgets as in Finagle and gRPC proposal A6; one layer
        of retries, few and budgeted, is the advice of *Site Reliability Engineering* (2016), ch.
        22.
    """
    check_name("name", name, instead="@retry(on=...)")
    limit = math.inf if within is None else check_seconds("within", within, above=0, finite=False)
    limited = stop is not None or limit < math.inf
    if attempts is DEFAULT:
        attempts = None if stop is not None else ATTEMPTS
    elif attempts is None and not limited:
        raise ValueError(
            "attempts is None, which is no limit: then stop or within must be given (finite)"
        )
    if budget is not DEFAULT and budget is not None and not isinstance(budget, RetryBudget):
        refuse_type("budget", budget, "a RetryBudget, or None for none")
    if discard is not None and on_result is None and not is_retry_strategy(on):
        raise ValueError("discard gets unwanted results, and on_result must say which these are")
    strategy = on if is_retry_strategy(on) else None
    settings = Settings(
        attempts=None if attempts is None else check_int("attempts", attempts),
        judge=_judge(() if strategy is not None else on),
        strategy=strategy,  # type: ignore[arg-type]  # a retry_base is called with a state
        strategy_is_async=is_async_strategy(on),
        wait=wait_rule(wait),
        stateful_wait=stateful_wait(wait),
        stop=stop_rule(stop),
        asked_wait=wait,
        asked_stop=stop,
        within=limit,
        budget=RetryBudget() if budget is DEFAULT else budget,
        on_result=check_sync("on_result", on_result),
        discard=check_callable("discard", discard),
        key=check_key(key),
    )
    return Retry(name, settings)


def _judge(on: object) -> Judge:
    named = Matcher("on", on).types
    return Judge(
        on,
        classify_first=classify_first(named),
        classified_types=CLASSIFIED,
        log=log_predicate_error,
        on_predicate_error=Verdict.SUCCESS,
    )

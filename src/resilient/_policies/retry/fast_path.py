"""The retry's wrappers, where it has neither keys, nor tenacity's strategies, nor its own limit.

They run on every call, so they are flat: a first success is one reading of the clock, for the
deposit, and two increments, without a lock. What follows a failure is flat, too, since in an outage
it is what all calls do: an object for each call that fails would cost as much as all that is
decided. How a call gives up is in `RetryState`.

A deadline that stands alone is asked in place: `check_deadline` would be a Python call on each.
"""

from __future__ import annotations

from math import inf
from typing import Any

from resilient._core.budget import BudgetConfig, BudgetCore
from resilient._core.chaining import link
from resilient._core.matching import Verdict, each
from resilient._core.retry import StopReason, max_retry_after, retry_after_of
from resilient._policies.deadline.block import OPEN, deadline_here
from resilient._policies.deadline.here import check_deadline, left_here, wait_here
from resilient._policies.retry.deciding import KIND, DecidingRetry, real_error
from resilient._policies.retry.state import YIELD_EVERY, RetryState
from resilient._runtime import clock, loops
from resilient._runtime.decorate import AnyFunction, plain_type

NOT_RETRYABLE: float | StopReason = "not_retryable"


def wrap_sync(retry: DecidingRetry, fn: AnyFunction) -> AnyFunction:
    """For a sync function."""
    deposits, started = _deposits(retry), retry._calls.increment
    plain: type | None = None  # the type that it returned last

    def retrying(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        began, bucket = clock.now(), deposits.present
        if (limit := deadline_here()) is not None and (
            limit._at <= began
            or limit._outer is not None
            or limit._life is not OPEN
            or limit._read is not clock.now
        ):
            check_deadline(retry._name or KIND, began)
        if bucket.since <= began < bucket.until:
            next(bucket.increment)
        else:
            deposits.deposit(began)
        next(started)
        try:
            result = fn(*args, **kwargs)
            if type(result) is not plain:
                plain = plain_type(fn, result)
            return result  # noqa: TRY300  # beside what it was got by
        except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
            error = caught
        try:
            return _again(retry, fn, args, kwargs, began, error)
        finally:
            del error  # or it would keep itself alive by its traceback

    return retrying


def wrap_async(retry: DecidingRetry, fn: AnyFunction) -> AnyFunction:
    """For an async function."""
    deposits, started = _deposits(retry), retry._calls.increment

    async def retrying(*args: Any, **kwargs: Any) -> Any:
        began, bucket = clock.now(), deposits.present
        if (limit := deadline_here()) is not None and (
            limit._at <= began
            or limit._outer is not None
            or limit._life is not OPEN
            or limit._read is not clock.now
        ):
            check_deadline(retry._name or KIND, began)
        if bucket.since <= began < bucket.until:
            next(bucket.increment)
        else:
            deposits.deposit(began)
        next(started)
        try:
            return await fn(*args, **kwargs)
        except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
            error = caught
        try:
            return await _again_async(retry, fn, args, kwargs, began, error)
        finally:
            del error

    return retrying


def _again(  # noqa: PLR0917  # made flat
    retry: DecidingRetry,
    fn: AnyFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    error: Exception,
) -> Any:
    """Go on after the first attempt, which raised *error*."""
    attempt, budget, certain = 1, retry._budget, retry._judge.certain_failures
    real: Exception | None = None  # the last error of a call that was made
    try:
        while True:
            left, step = inf if deadline_here() is None else left_here(), NOT_RETRYABLE
            if type(error) in certain:  # and so no group
                real = error
                step = retry._next_step(attempt, error, retry_after_of(error), left, budget)
            else:
                real = real_error(error, real)
                if retry._judge.error(error) is Verdict.FAILURE:
                    asked = max_retry_after(each(error))
                    step = retry._next_step(attempt, error, asked, left, budget)
            if isinstance(step, str):
                state = RetryState(retry, fn, args, kwargs, began, budget, attempt)
                return state.give_up(step, error, None)
            if step:
                retry._sleep(step, error)
                if left_here() <= 0:
                    state = RetryState(retry, fn, args, kwargs, began, budget, attempt)
                    return state.give_up("deadline", error, None)
            attempt += 1
            next(retry._retries.increment)
            try:
                result = fn(*args, **kwargs)
                plain_type(fn, result)
                next(retry._recovered.increment)
                return result  # noqa: TRY300  # beside what it was got by
            except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
                error = caught
            except BaseException as interruption:
                link(interruption, error)
                raise
    finally:
        del error, real


async def _again_async(  # noqa: PLR0917  # made flat
    retry: DecidingRetry,
    fn: AnyFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    error: Exception,
) -> Any:
    """Go on after the first attempt, which raised *error*."""
    attempt, budget, certain = 1, retry._budget, retry._judge.certain_failures
    real: Exception | None = None  # the last error of a call that was made
    try:
        while True:
            left, step = inf if deadline_here() is None else left_here(), NOT_RETRYABLE
            if type(error) in certain:  # and so no group
                real = error
                step = retry._next_step(attempt, error, retry_after_of(error), left, budget)
            else:
                real = real_error(error, real)
                if retry._judge.error(error) is Verdict.FAILURE:
                    asked = max_retry_after(each(error))
                    step = retry._next_step(attempt, error, asked, left, budget)
            if isinstance(step, str):
                state = RetryState(retry, fn, args, kwargs, began, budget, attempt)
                return state.give_up(step, error, None)
            if step or not attempt % YIELD_EVERY:
                await wait_here(retry._name or KIND, error, loops.sleep, step)
                if left_here() <= 0:
                    state = RetryState(retry, fn, args, kwargs, began, budget, attempt)
                    return state.give_up("deadline", error, None)
            attempt += 1
            next(retry._retries.increment)
            try:
                result = await fn(*args, **kwargs)
                next(retry._recovered.increment)
                return result  # noqa: TRY300  # beside what it was got by
            except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
                error = caught
            except BaseException as interruption:
                link(interruption, error)
                raise
    finally:
        del error, real


def _deposits(retry: DecidingRetry) -> BudgetCore:
    """Where its calls pay; without a budget, a bucket without end or bottom."""
    if retry._budget is not None:
        return retry._budget._core
    core = BudgetCore(BudgetConfig(0.0, 0.0, 1.0), 0.0)
    core.present.since, core.present.until = -inf, inf
    return core

"""The retry's wrappers, where it has neither keys, nor tenacity's strategies, nor its own limit.

They run on every call, so they are flat: a first success is one reading of the clock, for the
deposit, and two ticks, without a lock. What follows a failure is flat, too, since in an outage it
is what all calls do: the same questions in the same order as in `Run`, which says the rest: how it
gives up, and how it sleeps. An object for each call that fails would cost as much as
everything that is asked.
"""

from __future__ import annotations

import math
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from resilient._core.budget import BudgetCore, BudgetRule
from resilient._policies.deadline.ambient import left_here, not_expired
from resilient._policies.deadline.block import deadline_here
from resilient._policies.retry.run import OTHERS_TURN, Run, link
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, refuse_coroutine

if TYPE_CHECKING:
    from resilient._policies.retry.shell import Retry


def plain(retry: Retry, fn: AnyFunction) -> AnyFunction:
    """For a sync function."""
    deposits, started = _deposits(retry), retry.calls.ticks

    def retrying(*args: Any, **kwargs: Any) -> Any:
        began, bucket = clock.now(), deposits.present
        if deadline_here() is not None:
            not_expired(retry.name, began)
        if bucket.since <= began < bucket.until:
            next(bucket.ticks)
        else:
            deposits.deposit(began)
        next(started)
        try:
            result = fn(*args, **kwargs)
            if type(result) is CoroutineType:
                refuse_coroutine(fn, result)
            return result  # noqa: TRY300  # beside what it was got by
        except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
            error = caught
        try:
            return _again(retry, fn, args, kwargs, began, error)
        finally:
            del error  # or it would keep itself alive by its traceback

    return retrying


def plain_async(retry: Retry, fn: AnyFunction) -> AnyFunction:
    """For an async function."""
    deposits, started = _deposits(retry), retry.calls.ticks

    async def retrying(*args: Any, **kwargs: Any) -> Any:
        began, bucket = clock.now(), deposits.present
        if deadline_here() is not None:
            not_expired(retry.name, began)
        if bucket.since <= began < bucket.until:
            next(bucket.ticks)
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
    retry: Retry,
    fn: AnyFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    error: Exception,
) -> Any:
    """Go on after the first attempt, which raised *error*."""
    attempt = 1
    try:
        while True:
            step = retry.next_step(attempt, error)
            if isinstance(step, str):
                return _run(retry, fn, args, kwargs, began, attempt).give_up(step, error, None)
            if step:
                clock.sleep(step)
                if left_here() <= 0:
                    run = _run(retry, fn, args, kwargs, began, attempt)
                    return run.give_up("deadline", error, None)
            attempt += 1
            next(retry.retries.ticks)
            try:
                result = fn(*args, **kwargs)
                if type(result) is CoroutineType:
                    refuse_coroutine(fn, result)
                next(retry.recovered.ticks)
                return result  # noqa: TRY300  # beside what it was got by
            except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
                error = caught
            except BaseException as interruption:
                link(interruption, error)
                raise
    finally:
        del error


async def _again_async(  # noqa: PLR0917  # made flat
    retry: Retry,
    fn: AnyFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    error: Exception,
) -> Any:
    """Go on after the first attempt, which raised *error*."""
    attempt = 1
    try:
        while True:
            step = retry.next_step(attempt, error)
            if isinstance(step, str):
                return _run(retry, fn, args, kwargs, began, attempt).give_up(step, error, None)
            if step or not attempt % OTHERS_TURN:
                run = _run(retry, fn, args, kwargs, began, attempt)
                await run.pause_async(step, error)
                if left_here() <= 0:
                    return run.give_up("deadline", error, None)
            attempt += 1
            next(retry.retries.ticks)
            try:
                result = await fn(*args, **kwargs)
                next(retry.recovered.ticks)
                return result  # noqa: TRY300  # beside what it was got by
            except Exception as caught:  # noqa: BLE001  # judged, and raised again unless it may be repeated
                error = caught
            except BaseException as interruption:
                link(interruption, error)
                raise
    finally:
        del error


def _run(  # noqa: PLR0917  # made flat
    retry: Retry,
    fn: AnyFunction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    attempt: int,
) -> Run:
    """For what is said in one place: how it gives up, and how it sleeps."""
    run = Run(retry, fn, args, kwargs, began, retry.budget)
    run.attempt = attempt
    return run


def _deposits(retry: Retry) -> BudgetCore:
    """Where its calls pay; without a budget, a bucket without end or bottom."""
    if retry.budget is not None:
        return retry.budget.core
    core = BudgetCore(BudgetRule(0.0, 0.0, 1.0), 0.0)
    core.present.since, core.present.until = -math.inf, math.inf
    return core

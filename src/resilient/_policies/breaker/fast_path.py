"""The breaker's wrappers: they run on every call that leaves the process, so they are flat.

While the core has a shared permit, a call that succeeds before ``permit.until`` is two increments
and one reading of the clock, or two where slow calls are watched for. While it has a shared
rejection, rejecting is an increment, a reading and an error, raised here because each frame that an
error passes costs more than a call. Everything else goes through the shell.

The four say the same: sync or async, timed or not. A helper that they might share would be a Python
call, and a switch inside them is no cheaper than an increment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient._policies.breaker.admitting import AdmittingBreaker
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction

if TYPE_CHECKING:
    from resilient._core.breaker import BreakerCore
    from resilient._runtime.keying import KeyOf


def wrap_sync(breaker: AdmittingBreaker, only: BreakerCore, fn: AnyFunction) -> AnyFunction:
    """A sync function under a breaker without keys that judges neither slowness nor results."""
    started = only.calls.increment
    plain: type | None = None  # the type that it returned last

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        if (permit := only.shared_permit) is not None:
            next(started)
        elif (
            (shared := only.shared_rejection) is not None
            and (now := clock.now()) < shared.until
            and not notify.listening
        ):
            raise breaker._reject_fast(shared, now)
        else:
            permit = breaker._acquire_nowait(None)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            breaker._raised(permit, error, 0.0)
            raise
        if type(result) is not plain:
            plain = breaker._plain_type(fn, permit, result)
        if clock.now() < permit.until:
            next(permit.succeeded)
        else:
            breaker._returned(permit, result, 0.0)
        return result

    return guarded


def wrap_async(breaker: AdmittingBreaker, only: BreakerCore, fn: AnyFunction) -> AnyFunction:
    """`wrap_sync` for an async function."""
    started = only.calls.increment

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.shared_permit) is not None:
            next(started)
        elif (
            (shared := only.shared_rejection) is not None
            and (now := clock.now()) < shared.until
            and not notify.listening
        ):
            raise breaker._reject_fast(shared, now)
        else:
            permit = breaker._acquire_nowait(None)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            breaker._raised(permit, error, 0.0)
            raise
        if clock.now() < permit.until:
            next(permit.succeeded)
        else:
            breaker._returned(permit, result, 0.0)
        return result

    return guarded


def wrap_sync_timed(
    breaker: AdmittingBreaker,
    only: BreakerCore,
    fn: AnyFunction,
    find: KeyOf | None,
) -> AnyFunction:
    """A sync function whose calls are timed: one that lasted longer than ``_fast_below`` is judged.
    With keys, *only* never has a permit, and the shell finds the state of the key.
    """
    started, fast_below = only.calls.increment, breaker._fast_below
    plain: type | None = None  # the type that it returned last

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        if (permit := only.shared_permit) is not None:
            next(started)
        elif find is not None:
            permit = breaker._acquire_nowait(find(*args, **kwargs))
        elif (
            (shared := only.shared_rejection) is not None
            and (now := clock.now()) < shared.until
            and not notify.listening
        ):
            raise breaker._reject_fast(shared, now)
        else:
            permit = breaker._acquire_nowait(None)
        began = clock.now()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            breaker._raised(permit, error, began)
            raise
        if type(result) is not plain:
            plain = breaker._plain_type(fn, permit, result)
        ended = clock.now()
        if ended < permit.until and ended - began <= fast_below:
            next(permit.succeeded)
        else:
            breaker._returned(permit, result, ended - began)
        return result

    return guarded


def wrap_async_timed(
    breaker: AdmittingBreaker,
    only: BreakerCore,
    fn: AnyFunction,
    find: KeyOf | None,
) -> AnyFunction:
    """`wrap_sync_timed` for an async function."""
    started, fast_below = only.calls.increment, breaker._fast_below

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.shared_permit) is not None:
            next(started)
        elif find is not None:
            permit = breaker._acquire_nowait(find(*args, **kwargs))
        elif (
            (shared := only.shared_rejection) is not None
            and (now := clock.now()) < shared.until
            and not notify.listening
        ):
            raise breaker._reject_fast(shared, now)
        else:
            permit = breaker._acquire_nowait(None)
        began = clock.now()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            breaker._raised(permit, error, began)
            raise
        ended = clock.now()
        if ended < permit.until and ended - began <= fast_below:
            next(permit.succeeded)
        else:
            breaker._returned(permit, result, ended - began)
        return result

    return guarded

"""The breaker's wrappers: they run on every call that leaves the process, so they are flat.

While the core has a standing permit, a call that succeeds before ``permit.until`` is two ticks and
one reading of the clock, or two where slow calls are watched for; everything else goes through the
shell's `enter`, `raised` and `returned`. Each of the four says the same: sync or async, timed
or not. A helper they might share would cost a Python call, a switch inside them 13 ns, each more
than a tick. The clock may be read by ``until`` alone, since the seam takes a step back of the
clock to `Breaker.clock_changed`, which ends the span.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction

if TYPE_CHECKING:
    from resilient._core.breaker import BreakerCore
    from resilient._policies.breaker.shell import Breaker
    from resilient._runtime.keying import KeyOf


def plain(breaker: Breaker, only: BreakerCore, fn: AnyFunction) -> AnyFunction:
    """A sync function under a breaker without keys that judges neither slowness nor results."""
    started = only.calls.ticks

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.standing) is None:
            permit = breaker.enter(only)
        else:
            next(started)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            breaker.raised(permit, error, 0.0)
            raise
        if type(result) is CoroutineType:
            breaker.refuse(fn, permit, result)
        if (ended := clock.now()) < permit.until:
            next(permit.succeeded)
        else:
            breaker.returned(permit, result, ended, 0.0)
        return result

    return guarded


def plain_async(breaker: Breaker, only: BreakerCore, fn: AnyFunction) -> AnyFunction:
    """`plain` for an async function."""
    started = only.calls.ticks

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.standing) is None:
            permit = breaker.enter(only)
        else:
            next(started)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            breaker.raised(permit, error, 0.0)
            raise
        if (ended := clock.now()) < permit.until:
            next(permit.succeeded)
        else:
            breaker.returned(permit, result, ended, 0.0)
        return result

    return guarded


def timed(
    breaker: Breaker, only: BreakerCore, fn: AnyFunction, find: KeyOf | None, quick: float
) -> AnyFunction:
    """A sync function whose calls are timed: one that lasted longer than *quick* is judged.

    With keys, *only* never has a permit, and `enter` finds the core.
    """
    started = only.calls.ticks

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.standing) is not None:
            next(started)
        elif find is None:
            permit = breaker.enter(only)
        else:
            permit = breaker.enter_of(find(*args, **kwargs))
        began = clock.now()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            breaker.raised(permit, error, began)
            raise
        if type(result) is CoroutineType:
            breaker.refuse(fn, permit, result)
        ended = clock.now()
        if ended < permit.until and ended - began <= quick:
            next(permit.succeeded)
        else:
            breaker.returned(permit, result, ended, ended - began)
        return result

    return guarded


def timed_async(
    breaker: Breaker, only: BreakerCore, fn: AnyFunction, find: KeyOf | None, quick: float
) -> AnyFunction:
    """`timed` for an async function."""
    started = only.calls.ticks

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.standing) is not None:
            next(started)
        elif find is None:
            permit = breaker.enter(only)
        else:
            permit = breaker.enter_of(find(*args, **kwargs))
        began = clock.now()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            breaker.raised(permit, error, began)
            raise
        ended = clock.now()
        if ended < permit.until and ended - began <= quick:
            next(permit.succeeded)
        else:
            breaker.returned(permit, result, ended, ended - began)
        return result

    return guarded

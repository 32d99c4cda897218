"""The breaker's wrappers: they run on every call that leaves the process, so they are flat.

While the core has a standing permit, a call that succeeds before ``permit.until`` is two ticks and
one reading of the clock, or two where slow calls are watched for. While it is shut, a rejection
is a tick, a reading and an error, raised here because each frame that an error passes costs
more than a call. Everything else goes through the shell.

The four say the same: sync or async, timed or not. A helper that they might share would be a Python
call, and a switch inside them is no cheaper than a tick. What a step back of the clock would do to
``until``, the seam takes to `Breaker.clock_changed`.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction

if TYPE_CHECKING:
    from resilient._core.breaker import BreakerCore
    from resilient._policies.breaker.shell import Breaker
    from resilient._runtime.keying import KeyOf


def plain(breaker: Breaker, only: BreakerCore, fn: AnyFunction) -> AnyFunction:
    """A sync function under a breaker without keys that judges neither slowness nor results."""
    started = only.calls.ticks

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if (permit := only.standing) is not None:
            next(started)
        elif (
            (shut := only.shut) is not None
            and (now := clock.now()) < shut.holds_until
            and not notify.listening
        ):
            raise breaker.rejection(shut, now)
        else:
            permit = breaker.enter(only, None)
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
        if (permit := only.standing) is not None:
            next(started)
        elif (
            (shut := only.shut) is not None
            and (now := clock.now()) < shut.holds_until
            and not notify.listening
        ):
            raise breaker.rejection(shut, now)
        else:
            permit = breaker.enter(only, None)
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
        elif find is not None:
            permit = breaker.enter_of(find(*args, **kwargs))
        elif (
            (shut := only.shut) is not None
            and (now := clock.now()) < shut.holds_until
            and not notify.listening
        ):
            raise breaker.rejection(shut, now)
        else:
            permit = breaker.enter(only, None)
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
        elif find is not None:
            permit = breaker.enter_of(find(*args, **kwargs))
        elif (
            (shut := only.shut) is not None
            and (now := clock.now()) < shut.holds_until
            and not notify.listening
        ):
            raise breaker.rejection(shut, now)
        else:
            permit = breaker.enter(only, None)
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

"""What code below a deadline may ask and do: `remaining`, `detached`, `carry`."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar, cast

from resilient._core.checks import Seconds, check_name, check_seconds
from resilient._core.functions import is_coroutine_function
from resilient._policies.deadline.block import (
    KIND,
    SHIELD,
    Deadline,
    ambient,
    deadline_here,
    leave_ended,
    limit_of,
)
from resilient._runtime.decorate import check_function

LONG: Final = 2**53
"""Seconds; a longer whole number may be none that a float holds."""
P = ParamSpec("P")
R = TypeVar("R")


def deadline(seconds: Seconds | None, *, name: str | None = None) -> Deadline:
    """Limit a block, and let everything below it know what is left.

    Use it as ``async with deadline(0.5):`` or ``with deadline(0.5) as limit:``; both
    enforce in async code: at the instant the body is cancelled at its next wait, and
    `DeadlineExceeded` leaves the block. Nested deadlines only shrink. **In plain threads
    nothing is interrupted**: policies look at their borders, `Deadline.check` on request.

    Child tasks keep the limit that they inherited, also after the block is over. Work that
    should outlive the request is started inside `detached`. A block around a ``yield`` is
    for functions made by ``asynccontextmanager``; one that is left in another task or context
    limits nobody any more, and raises nothing.

    Args:
        seconds: from entry, at least 0; ``None`` and ``inf`` set no limit of their own.
        name: what errors call it.

    Raises:
        DeadlineExceeded: at entry with ``started`` false, if nothing is left; at the end
            with ``started`` true, if the body was cut short.
        RuntimeError: at a second use.

    Source:
        Deadline propagation as in gRPC and in Finagle's ``Deadline``; the cancellation of a
        body is that of `asyncio.timeout` and of `trio.CancelScope`.
    """
    if name is None:  # as most are: then a plain length needs no more
        limit: float = -1
        if type(seconds) is float:
            limit = seconds
        elif type(seconds) is int and 0 <= seconds <= LONG:
            limit = float(seconds)
        elif type(seconds) is dt.timedelta:
            limit = seconds.total_seconds()
        if limit >= 0.0:
            return Deadline(limit, KIND, None)
    if callable(seconds):
        raise TypeError(
            f"deadline() limits a block; to limit a function write @timeout(0.3) over {seconds!r}"
        )
    if name is not None:
        check_name("name", name, instead="deadline(0.5)")
    return Deadline(limit_of(seconds), name or KIND, None)


def current_deadline() -> Deadline | None:
    """The innermost deadline here, ``None`` outside of any and inside `detached`."""
    found = deadline_here()
    return None if found is None or found._life is SHIELD else found


def remaining(at_most: Seconds = math.inf) -> float:
    """What is left of the deadline here, but not more than *at_most*.

    Made for the time limits of other libraries: ``requests.get(url, timeout=remaining(5.0))``.

    Args:
        at_most: seconds, above 0; ``inf`` where the answer may be infinite.

    Returns:
        With a finite *at_most* a positive finite number, else a number of at least 0, or ``inf``.

    Raises:
        DeadlineExceeded: with ``started`` false: *at_most* is finite, and nothing is left.
    """
    most = check_seconds("at_most", at_most, above=0, finite=False)
    found = current_deadline()
    if found is None:
        return most
    left = found._left()
    if left > 0:
        return min(left, most)
    if math.isinf(most):
        return 0.0
    raise found._exceeded(found.name, started=False)


class _Carried:
    """Let a limit be the deadline here, inside the block."""

    __slots__ = ("_limit", "_token")

    def __init__(self, limit: Deadline | None) -> None:
        self._limit = limit

    def __enter__(self) -> None:
        self._token = ambient.set(self._limit)

    def __exit__(self, *_: object) -> None:
        ambient.reset(self._token)
        leave_ended()


class detached:  # noqa: N801  # used as a function: with detached():
    """No deadline inside the block: for work that should outlive the request.

    It hides the limit from what is started inside, and stops no cancellation.
    """

    __slots__ = ("_cover",)

    def __enter__(self) -> None:
        self._cover = Deadline(math.inf, KIND, None)
        self._cover._shield()

    def __exit__(self, *_: object) -> None:
        self._cover._unshield()


def carry(fn: Callable[P, R], /) -> Callable[P, R]:
    """Take the present deadline along: a function that runs with it wherever it is called.

    Executors carry no context: ``pool.submit(carry(work), item)`` lets *work* see what is
    left. The function may run in any thread, many times at once, sync or async as *fn* is.

    Raises:
        TypeError: *fn* is a generator function, whose body runs after the call.
    """
    check_function(fn)
    limit = deadline_here()
    if is_coroutine_function(fn):

        @functools.wraps(fn)
        async def carried_async(*args: P.args, **kwargs: P.kwargs) -> object:
            with _Carried(limit):
                return await fn(*args, **kwargs)  # type: ignore[misc]  # a coroutine function

        return cast("Callable[P, R]", carried_async)

    @functools.wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        with _Carried(limit):
            return fn(*args, **kwargs)

    return carried

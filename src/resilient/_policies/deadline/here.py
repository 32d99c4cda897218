"""What a policy asks of the deadline here: is it over, what does it leave, may it cut this wait."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from resilient._core.chaining import link
from resilient._core.deadline import ALIVE
from resilient._policies.deadline.block import SHIELD, Deadline, deadline_here
from resilient._policies.deadline.cause import cut_by
from resilient._runtime import clock, loops

T = TypeVar("T")


def left_here() -> float:
    """Seconds that the deadline here leaves, negative when it has passed; ``inf`` without one."""
    found = deadline_here()
    if found is None or found._life is SHIELD:
        return math.inf
    return found._at - found._read() if found._outer is None else found._left()


def check_deadline(policy: str, now: float) -> Deadline | None:
    """The deadline here, if there is one.

    Refuse on behalf of *policy* if nothing of it is left at *now*.

    Raises:
        DeadlineExceeded: with ``started`` false.
    """
    found = deadline_here()
    if found is None or found._life is SHIELD:
        return None
    alone = found._outer is None and found._read == clock.now  # as most are: ask no more
    if (found._at - now if alone else found._left(now, clock.now)) <= 0:
        raise found._exceeded(policy, started=False)
    return found


def enforced_here(limit: Deadline) -> bool:
    """Whether the block of *limit*, still open, cancels the very task that asks."""
    loop = loops.running_loop()
    task = loops.trio_task() if loop is None else loops.current_task(loop)
    return task is not None and limit._task is task and limit._life in ALIVE


async def wait_here(
    policy: str, last: BaseException | None, wait: Callable[[float], Awaitable[T]], seconds: float
) -> T:
    """Await ``wait(seconds)``, a policy's own wait.

    A deadline that cuts it short is for *policy* to report, as a call that was not made; *last*
    is the error that led here, and what comes instead of an answer is linked with it.
    """
    limit = deadline_here()
    if limit is None or limit._life is SHIELD or enforced_here(limit):
        return await _wait(policy, last, wait, seconds)
    with Deadline(math.inf, policy, None):  # an inherited limit interrupts nothing
        return await _wait(policy, last, wait, seconds)


async def _wait(
    policy: str, last: BaseException | None, wait: Callable[[float], Awaitable[T]], seconds: float
) -> T:
    try:
        return await wait(seconds)
    except BaseException as error:
        limit = cut_by(error)
        if limit is None:
            link(error, last)
            raise
        raise limit._exceeded(policy, started=False) from last

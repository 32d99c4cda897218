"""A wait of a policy's own, which a deadline may cut short."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from resilient._policies.deadline.block import SHIELD, Deadline, deadline_here
from resilient._policies.deadline.cause import cut_by

T = TypeVar("T")


async def wait_here(
    policy: str, last: BaseException | None, wait: Callable[[float], Awaitable[T]], seconds: float
) -> T:
    """Await ``wait(seconds)``.

    A deadline that cuts it short is for *policy* to report, as a call that was not made; *last*
    is the error that led here.
    """
    limit = deadline_here()
    if limit is None or limit._life is SHIELD or limit._enforced_here():
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
            raise
        raise limit._exceeded(policy, started=False) from last

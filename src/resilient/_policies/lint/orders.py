"""The rules of lint that judge the order: one row for each order that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from resilient._core.matching import Judge
from resilient._policies.adaptive_limit import AdaptiveLimit
from resilient._policies.breaker import Breaker
from resilient._policies.bulkhead import Bulkhead
from resilient._policies.cache import Cache
from resilient._policies.common.policy import PolicyBase
from resilient._policies.fallback import Fallback
from resilient._policies.hedge import Hedge
from resilient._policies.lint.findings import Finding, called
from resilient._policies.lint.stack import Stack, repeats
from resilient._policies.rate_limit import RateLimit
from resilient._policies.retry import Retry
from resilient._policies.singleflight import SingleFlight
from resilient._policies.throttle import Throttle
from resilient._policies.timeout import Timeout


class Order(NamedTuple):
    """Two kinds of policies that are wrong this way round, and are right the other way."""

    rule: str
    outer: tuple[type[PolicyBase], ...]
    inner: type[PolicyBase]
    why: str


ORDERS: Final = (
    Order(
        "fallback-inside-retry", (Retry,), Fallback,
        "The retry takes what the fallback gives for a success, so it never tries again.",
    ),
    Order(
        "fallback-inside-cache", (Cache,), Fallback,
        "The cache keeps what the fallback gives, and loses the old value that it could serve.",
    ),
    Order(
        "fallback-inside-breaker", (Breaker, Throttle), Fallback,
        "What the fallback gives counts as a success, so no failure is ever seen.",
    ),
    Order(
        "cache-inside-retry", (Retry,), Cache,
        "Hits count as successes of the retry, and a run that callers share is shared again by "
        "their retries.",
    ),
    Order(
        "cache-inside-breaker", (Breaker,), Cache,
        "An open breaker refuses what the cache has, and hits hide failures from it.",
    ),
    Order(
        "cache-inside-adaptive-limit", (AdaptiveLimit,), Cache,
        "Hits take no time, and teach the limit a latency that the dependency never has.",
    ),
    Order(
        "singleflight-inside-retry", (Retry,), SingleFlight,
        "Each caller retries by itself, and a failing run is repeated for each wave of retries.",
    ),
    Order(
        "breaker-outside-retry", (Breaker,), Retry,
        "The breaker sees one result for all attempts of a call: it opens later, and the "
        "dependency gets more of the load that the breaker is there to keep off.",
    ),
    Order(
        "limit-outside-retry", (Bulkhead, RateLimit, AdaptiveLimit, Throttle), Retry,
        "A call keeps its place while it sleeps between attempts, and several attempts count as "
        "one call.",
    ),
    Order(
        "hedge-outside-retry", (Hedge,), Retry,
        "Each attempt of the hedge retries by itself, and a back-off looks like a slow call.",
    ),
    Order(
        "timeout-outside-retry", (Timeout,), Retry,
        "The first attempt that hangs takes all of the time, and none is left for a second.",
    ),
)  # fmt: skip


def wrong_orders(stack: Stack) -> Iterator[Finding]:
    """Every pair that is the wrong way round."""
    for order in ORDERS:
        for kind in order.outer:
            for outer, inner in stack.pairs(kind, order.inner):
                if not _right_here(stack, outer, inner):
                    yield Finding(order.rule, called(outer, inner), order.why, _write(outer, inner))


def _write(outer: PolicyBase, inner: PolicyBase) -> str:
    if isinstance(outer, Timeout):
        return "Write a timeout inside the retry, and `within=` for all attempts together."
    return f"Write the {inner.kind} outside the {outer.kind}."


def _right_here(stack: Stack, outer: PolicyBase, inner: PolicyBase) -> bool:
    """Whether this pair is an exception."""
    if any(isinstance(one, Retry) and not repeats(one) for one in (outer, inner)):
        return True  # a retry that calls once does nothing
    if isinstance(outer, Timeout):  # with another inside it is a limit for all attempts
        return any(retry is inner for retry, _ in stack.pairs(Retry, Timeout))
    if isinstance(inner, Fallback):
        judge = _judge_of(outer)
        return judge is not None and not judge.may_share(inner._judge)
    return False


def _judge_of(policy: PolicyBase) -> Judge | None:
    """The judge of its errors, where that is all that judges them."""
    if isinstance(policy, Retry):
        return policy._settings.judge if policy._settings.strategy is None else None
    if isinstance(policy, Throttle):
        return policy._judge
    return policy._settings.judge if isinstance(policy, Breaker) else None

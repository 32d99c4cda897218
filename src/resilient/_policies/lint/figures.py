"""The rules of lint that judge figures: limits, waits and budgets that contradict each other."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from typing import Final

from resilient._core.checks import check_seconds
from resilient._core.functions import is_coroutine_function
from resilient._policies.backoff import Backoff
from resilient._policies.breaker import Breaker
from resilient._policies.cache import Cache
from resilient._policies.common.policy import PolicyBase
from resilient._policies.hedge import Hedge
from resilient._policies.lint.findings import Finding, called
from resilient._policies.lint.stack import Member, Stack, repeats
from resilient._policies.retry import Retry
from resilient._policies.singleflight import SingleFlight
from resilient._policies.timeout import Timeout

CLOSE: Final = 1e-9
"""What two products of the same figures may differ by."""
COUNTED: Final = 1000
"""Waits of a retry that are added up one by one."""
SLOW_NEVER_REACHED: Final = "slow-never-reached"


def _retry_outside_hedge(stack: Stack) -> Iterator[Finding]:
    for retry, hedge in stack.pairs(Retry, Hedge):
        shared = (
            retry._budget is not None
            and retry._budget is hedge._budget
            and retry._settings.key is None
        )
        if repeats(retry) and not shared and not stack.together(retry, hedge):
            yield Finding(
                "retry-outside-hedge",
                called(retry, hedge),
                "Each attempt may be hedged, and the two are paid from different budgets: when "
                "the dependency is slow, one multiplies the other.",
                "Write `budget = RetryBudget()`, and `budget=budget` in both, without `key=`.",
            )


def _attempts_exceed_deadline(stack: Stack) -> Iterator[Finding]:
    for retry, limits in _limited(stack):
        inside = [inner for one, inner in stack.pairs(Retry, Timeout) if one is retry]
        each = min((inner._seconds for inner in inside), default=math.inf)
        for outer, limit in limits:
            attempts = retry._settings.attempts
            if attempts is not None and each <= limit * (1 + CLOSE) < attempts * each < math.inf:
                yield Finding(
                    "attempts-exceed-deadline",
                    called(outer, retry),
                    f"{attempts} attempts of {each:g} s take up to {attempts * each:g} s, and "
                    f"{limit:g} s are allowed: the last of them can't have its time.",
                    f"Write a timeout of at most {_less(limit / attempts):g} s, or fewer attempts.",
                )


def _retry_around_retry(stack: Stack) -> Iterator[Finding]:
    for outer, inner in stack.pairs(Retry, Retry):
        if not (repeats(outer) and repeats(inner)):
            continue
        times = [one._settings.attempts for one in (outer, inner)]
        product = (
            " without a bound"
            if None in times
            else f" up to {math.prod(filter(None, times))} times"
        )
        yield Finding(
            "retry-around-retry",
            called(outer, inner),
            f"The attempts multiply: the dependency is called{product} for one call.",
            "Keep the one that is closer to the dependency, and leave the other out.",
        )


def _breaker_inside_patient_retry(stack: Stack) -> Iterator[Finding]:
    for retry, breaker in stack.pairs(Retry, Breaker):
        cooldown, bridged = breaker._settings.cooldown._config.ceiling(1), _bridged(retry)
        if cooldown < bridged and not stack.together(retry, breaker):
            yield Finding(
                "breaker-inside-patient-retry",
                called(retry, breaker),
                f"The retry may wait for {_more(bridged):g} s, and the breaker stays open for "
                f"{cooldown:g} s: callers sit the cooldown out, instead of failing fast, "
                "and then all probe at once.",
                f"Write a cooldown longer than {_more(bridged):g} s, or fewer or shorter waits.",
            )


def _slow_never_reached(stack: Stack) -> Iterator[Finding]:
    if stack.fn is not None and not is_coroutine_function(stack.fn):
        return  # nothing cuts its calls
    for at, member in enumerate(stack.members):
        breaker = member.policy
        if not isinstance(breaker, Breaker) or (slow := breaker._settings.config.slow) is None:
            continue
        inside = _cut_inside(stack.members[at + 1 :])
        around, limit = _cut_around(stack.members[:at])
        if around is not None and limit <= min(slow, inside):
            yield Finding(
                SLOW_NEVER_REACHED,
                called(around, breaker),
                f"A call is slow after {slow:g} s, and is cut after {limit:g} s: none is ever "
                "slow, and no call that hangs counts as a failure."
                if limit < slow
                else f"A call is cut after {limit:g} s, just when it becomes slow: whether one "
                "that hangs counts as slow and as a failure is up to the timer.",
                f"Write `slow` below {limit:g} s, or leave it out, or write a limit longer than "
                f"{slow:g} s.",
            )
        elif inside < slow:
            yield Finding(
                SLOW_NEVER_REACHED,
                called(breaker),
                f"A call is slow after {slow:g} s, and is cut after {inside:g} s: none is ever "
                "slow.",
                f"Write `slow` below {inside:g} s, or a longer timeout.",
            )


def _cut_inside(members: tuple[Member, ...]) -> float:
    """Seconds after which the limits of *members* cut a call that is around them."""
    cut = math.inf
    for policy, _ in members:
        if isinstance(policy, Retry) and repeats(policy):
            return min(cut, policy._settings.within)  # attempts that are cut add up
        if isinstance(policy, Timeout):
            cut = min(cut, policy._seconds)
    return cut


def _cut_around(members: tuple[Member, ...]) -> tuple[PolicyBase | None, float]:
    """Whose limit cuts first what is inside *members*, and after how many seconds.

    It is none that is around a run which callers share: that lasts until the last of them leaves.
    """
    cut: tuple[PolicyBase | None, float] = (None, math.inf)
    for policy, _ in reversed(members):
        if isinstance(policy, SingleFlight | Cache):
            break
        if (limit := _limit_of(policy)) <= cut[1] and limit < math.inf:
            cut = policy, limit
    return cut


def _limit_of(policy: PolicyBase) -> float:
    """The limit that it sets, in seconds, over all its attempts; infinity if it sets none."""
    if isinstance(policy, Timeout):
        return policy._seconds
    return policy._settings.within if isinstance(policy, Retry) else math.inf


def _timeout_longer_than_enclosing(stack: Stack) -> Iterator[Finding]:
    enclosing: list[tuple[PolicyBase, float]] = []
    for member in stack.members:
        policy, seconds = member.policy, _limit_of(member.policy)
        if isinstance(policy, Timeout):
            for outer, limit in enclosing:
                if limit < seconds < math.inf:
                    yield Finding(
                        "timeout-longer-than-enclosing",
                        called(outer, policy),
                        f"{seconds:g} s are never reached inside {limit:g} s.",
                        f"Write less than {limit:g} s inside, or leave it out.",
                    )
        if isinstance(policy, Timeout | Retry):
            enclosing.append((policy, seconds))


def _timeout_on_sync(stack: Stack) -> Iterator[Finding]:
    if stack.fn is None or is_coroutine_function(stack.fn):
        return
    for member in stack.members:
        if isinstance(member.policy, Timeout) and member.protection is None:
            yield Finding(
                "timeout-on-sync",
                called(member.policy),
                "Nothing can interrupt a sync function: it runs to its end, however long that is.",
                "Write `async def`, or give the call inside a limit of its own, such as "
                f"`timeout=remaining({member.policy._seconds:g})`, and a `deadline` around it.",
            )


RULES: Final[tuple[Callable[[Stack], Iterator[Finding]], ...]] = (
    _retry_outside_hedge,
    _attempts_exceed_deadline,
    _retry_around_retry,
    _breaker_inside_patient_retry,
    _slow_never_reached,
    _timeout_longer_than_enclosing,
    _timeout_on_sync,
)


def _less(seconds: float) -> float:
    """*seconds* to three digits, and no more than they are."""
    unit = _third_digit(seconds)
    return round(math.floor(seconds / unit * (1 + CLOSE)) * unit, 12)


def _more(seconds: float) -> float:
    """*seconds* to three digits, and no less than they are."""
    unit = _third_digit(seconds)
    return round(math.ceil(seconds / unit * (1 - CLOSE)) * unit, 12)


def _third_digit(seconds: float) -> float:
    return float(10.0 ** (math.floor(math.log10(seconds)) - 2))


def _limited(stack: Stack) -> Iterator[tuple[Retry, list[tuple[PolicyBase, float]]]]:
    """Every retry, and the limits over all its attempts."""
    outside: list[tuple[PolicyBase, float]] = []
    for member in stack.members:
        policy = member.policy
        if isinstance(policy, Timeout | Retry):
            outside.append((policy, _limit_of(policy)))
        if isinstance(policy, Retry):
            yield policy, list(outside)


def _bridged(retry: Retry) -> float:
    """Seconds that one call may spend waiting between its attempts; 0 where nobody can know."""
    wait = retry._settings.asked_wait
    if not isinstance(wait, (Backoff, int, float, dt.timedelta)):
        return 0.0
    count = COUNTED
    if retry._settings.attempts is not None:
        count = min(retry._settings.attempts - 1, COUNTED)
    if isinstance(wait, Backoff):
        total = math.fsum(wait._config.delay(n, 1.0) for n in range(1, count + 1))
    else:
        total = check_seconds("wait", wait) * count
    return min(total, retry._settings.within)

"""Lint: stacks that contradict themselves.

One rule after the other, a function each: the file is long as a list is, and no rule knows another.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final, NamedTuple, TypeVar, cast

from resilient._core.checks import check_seconds
from resilient._core.functions import is_coroutine_function
from resilient._policies.backoff import Backoff
from resilient._policies.breaker import Breaker
from resilient._policies.cache import Cache
from resilient._policies.common.keyed import OfKey
from resilient._policies.common.policy import Policy, PolicyBase
from resilient._policies.hedge import Hedge
from resilient._policies.pipeline import Pipeline
from resilient._policies.protect import Protection
from resilient._policies.retry import Retry
from resilient._policies.timeout import Timeout

Outer = TypeVar("Outer", bound=PolicyBase)
Inner = TypeVar("Inner", bound=PolicyBase)

CLOSE: Final = 1e-9
"""What two products of the same figures may differ by."""
COUNTED: Final = 1000
"""Waits of a retry that are added up one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction in a stack.

    ``rule`` is its name, which stays the same from release to release; ``policies`` are those
    that contradict each other, by kind and name, the outer one first; ``why`` says what happens,
    ``write`` what to write instead.
    """

    rule: str
    policies: tuple[str, ...]
    why: str
    write: str

    def __str__(self) -> str:
        return f"{self.rule} ({', '.join(self.policies)}): {self.why} {self.write}"


class _Member(NamedTuple):
    """One policy of a stack, and the `Protection` that it is part of."""

    policy: PolicyBase
    protection: Protection | None


class _Stack(NamedTuple):
    """The policies around one function, outermost first; ``fn`` is what they are around."""

    members: tuple[_Member, ...]
    fn: object | None

    def pairs(self, outer: type[Outer], inner: type[Inner]) -> Iterator[tuple[Outer, Inner]]:
        """Every *outer* one with every *inner* one inside it.

        Those of one `protect` have no quarrel with each other but by the figures they were given.
        """
        for at, one in enumerate(self.members):
            if isinstance(one.policy, outer):
                for other in self.members[at + 1 :]:
                    if isinstance(other.policy, inner):
                        yield one.policy, other.policy

    def together(self, *policies: PolicyBase) -> bool:
        """Whether *policies* are of one `protect`."""
        owners = {member.protection for member in self.members if member.policy in policies}
        return len(owners) == 1 and None not in owners


def lint(policy_or_function: Policy | Callable[..., Any], /) -> list[Finding]:
    """Find what contradicts itself in a stack, the outermost first; prints nothing.

    For a test of your own: ``assert lint(fetch_price) == []``.

    Args:
        policy_or_function: a policy, such as a `pipeline`, or a function decorated by some, also
            with decorators of others between that use `functools.wraps`. What the function calls
            is not looked at, nor are open `deadline` blocks.

    Of a `Protection` only the figures that were given to `protect` are judged: its order and its
    budgets are explained in the documentation, "The recommended stack".

    Raises:
        TypeError: it is neither.
        ValueError: it wraps itself, by a ``__wrapped__`` that leads back to it.
    """
    stack = _stack_of(policy_or_function)
    return [finding for rule in RULES for finding in rule(stack)]


def _retry_outside_hedge(stack: _Stack) -> Iterator[Finding]:
    for retry, hedge in stack.pairs(Retry, Hedge):
        shared = (
            retry._budget is not None
            and retry._budget is hedge._budget
            and retry._settings.key is None
        )
        if _repeats(retry) and not shared and not stack.together(retry, hedge):
            yield Finding(
                "retry-outside-hedge",
                _called(retry, hedge),
                "Each attempt may be hedged, and the two are paid from different budgets: when "
                "the dependency is slow, one multiplies the other.",
                "Write `budget = RetryBudget()`, and `budget=budget` in both, without `key=`.",
            )


def _attempts_exceed_deadline(stack: _Stack) -> Iterator[Finding]:
    for retry, limits in _limited(stack):
        inside = [inner for one, inner in stack.pairs(Retry, Timeout) if one is retry]
        each = min((inner._seconds for inner in inside), default=math.inf)
        for outer, limit in limits:
            attempts = retry._settings.attempts
            if attempts is not None and each <= limit * (1 + CLOSE) < attempts * each < math.inf:
                yield Finding(
                    "attempts-exceed-deadline",
                    _called(outer, retry),
                    f"{attempts} attempts of {each:g} s take up to {attempts * each:g} s, and "
                    f"{limit:g} s are allowed: the last of them can't have its time.",
                    f"Write a timeout of at most {_less(limit / attempts):g} s, or fewer attempts.",
                )


def _retry_around_retry(stack: _Stack) -> Iterator[Finding]:
    for outer, inner in stack.pairs(Retry, Retry):
        if not (_repeats(outer) and _repeats(inner)):
            continue
        times = [one._settings.attempts for one in (outer, inner)]
        product = (
            " without a bound"
            if None in times
            else f" up to {math.prod(filter(None, times))} times"
        )
        yield Finding(
            "retry-around-retry",
            _called(outer, inner),
            f"The attempts multiply: the dependency is called{product} for one call.",
            "Keep the one that is closer to the dependency, and leave the other out.",
        )


def _breaker_inside_patient_retry(stack: _Stack) -> Iterator[Finding]:
    for retry, breaker in stack.pairs(Retry, Breaker):
        cooldown, bridged = breaker._settings.cooldown._config.ceiling(1), _bridged(retry)
        if cooldown < bridged and not stack.together(retry, breaker):
            yield Finding(
                "breaker-inside-patient-retry",
                _called(retry, breaker),
                f"The retry may wait for {_more(bridged):g} s, and the breaker stays open for "
                f"{cooldown:g} s: callers sit the cooldown out, instead of failing fast, "
                "and then all probe at once.",
                f"Write a cooldown longer than {_more(bridged):g} s, or fewer or shorter waits.",
            )


def _cache_inside_breaker(stack: _Stack) -> Iterator[Finding]:
    for breaker, cache in stack.pairs(Breaker, Cache):
        yield Finding(
            "cache-inside-breaker",
            _called(breaker, cache),
            "An open breaker refuses what the cache has, and hits hide failures from it.",
            "Write the cache outside the breaker.",
        )


def _timeout_longer_than_enclosing(stack: _Stack) -> Iterator[Finding]:
    enclosing: list[tuple[PolicyBase, float]] = []
    for member in stack.members:
        policy = member.policy
        if isinstance(policy, Timeout):
            for outer, limit in enclosing:
                if limit < policy._seconds < math.inf:
                    yield Finding(
                        "timeout-longer-than-enclosing",
                        _called(outer, policy),
                        f"{policy._seconds:g} s are never reached inside {limit:g} s.",
                        f"Write less than {limit:g} s inside, or leave it out.",
                    )
            enclosing.append((policy, policy._seconds))
        elif isinstance(policy, Retry):
            enclosing.append((policy, policy._settings.within))


def _timeout_on_sync(stack: _Stack) -> Iterator[Finding]:
    if stack.fn is None or is_coroutine_function(stack.fn):
        return
    for member in stack.members:
        if isinstance(member.policy, Timeout) and member.protection is None:
            yield Finding(
                "timeout-on-sync",
                _called(member.policy),
                "Nothing can interrupt a sync function: it runs to its end, however long that is.",
                "Write `async def`, or give the call inside a limit of its own, such as "
                f"`timeout=remaining({member.policy._seconds:g})`, and a `deadline` around it.",
            )


RULES: Final[tuple[Callable[[_Stack], Iterator[Finding]], ...]] = (
    _retry_outside_hedge,
    _attempts_exceed_deadline,
    _retry_around_retry,
    _breaker_inside_patient_retry,
    _cache_inside_breaker,
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


def _called(*policies: PolicyBase) -> tuple[str, ...]:
    return tuple(
        one.kind if one.name == one.kind else f"{one.kind} {one.name!r}"
        for one in dict.fromkeys(policies)
    )


def _limited(stack: _Stack) -> Iterator[tuple[Retry, list[tuple[PolicyBase, float]]]]:
    """Every retry, and the limits over all its attempts."""
    outside: list[tuple[PolicyBase, float]] = []
    for member in stack.members:
        policy = member.policy
        if isinstance(policy, Timeout):
            outside.append((policy, policy._seconds))
        elif isinstance(policy, Retry):
            outside.append((policy, policy._settings.within))
            yield policy, list(outside)


def _repeats(retry: Retry) -> bool:
    """Whether it may call more than once what is inside."""
    return retry._settings.attempts != 1


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


def _stack_of(found: object) -> _Stack:
    """The policies of a stack, read off a policy or a function."""
    if isinstance(found, PolicyBase | OfKey):
        return _Stack(tuple(_flat(found, None)), None)
    if not callable(found) and not isinstance(found, staticmethod):
        raise TypeError(f"lint() takes a policy or a function, not {found!r}")
    members: list[_Member] = []
    seen: list[object] = []
    while True:
        if any(found is one for one in seen):
            raise ValueError(f"lint() finds no end of {found!r}, which wraps itself")
        seen.append(found)
        inner, policy = _one_layer(found)
        if policy is not None:
            members.extend(_flat(policy, None))
        if inner is None:
            return _Stack(tuple(members), found)
        found = inner


def _one_layer(fn: object) -> tuple[object | None, object | None]:
    """What *fn* wraps, and the policy by which it does."""
    if isinstance(fn, (MethodType, staticmethod)):
        return fn.__func__, None
    if isinstance(fn, functools.partial):
        return fn.func, None
    own: dict[str, Any] = getattr(fn, "__dict__", {})
    inner = own.get("__wrapped__")
    if inner is not None and own.get("guards") is inner:  # not copied by functools.wraps
        return inner, own.get("policy")
    return (None if inspect.isclass(fn) else inner), None


def _flat(policy: object, protection: Protection | None) -> Iterator[_Member]:
    if isinstance(policy, OfKey):
        policy = policy._policy
    if isinstance(policy, Pipeline):
        inside = policy if isinstance(policy, Protection) else protection
        for one in policy.policies:
            yield from _flat(one, inside)
    else:
        yield _Member(cast("PolicyBase", policy), protection)

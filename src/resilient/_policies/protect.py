"""Protect: the recommended stack in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final, overload

from resilient._core.adaptive_limit import AdaptiveLimitConfig
from resilient._core.adaptive_limit.algorithms import gradient
from resilient._core.breaker import BreakerConfig, BreakerState
from resilient._core.checks import (
    Seconds,
    check_int,
    check_name,
    check_seconds,
    check_sync,
    refuse,
    refuse_type,
)
from resilient._policies.adaptive_limit import AdaptiveLimit
from resilient._policies.backoff import backoff
from resilient._policies.breaker import Breaker
from resilient._policies.breaker.controls import Settings
from resilient._policies.common.factory import factory
from resilient._policies.common.policy import PolicyBase
from resilient._policies.common.shared import set_once
from resilient._policies.common.verdicts import judge_of
from resilient._policies.common.widening import Widening
from resilient._policies.fallback import Fallback
from resilient._policies.hedge import Hedge
from resilient._policies.pipeline import Pipeline
from resilient._policies.retry import Retry, RetryBudget, retry
from resilient._policies.timeout import Timeout
from resilient._policies.timeout import timeout as make_timeout
from resilient._runtime.keying import Key, check_key
from resilient._typing import DEFAULT, Default, ErrorSpec

if TYPE_CHECKING:
    from resilient._runtime.decorate import Guarding

CONSECUTIVE: Final = 5
"""Failures in a row that open the breaker: half of what a breaker does by itself, see `protect`."""
TOLERANCE: Final = 10.0
"""Failures in a row more, times the failures for each success in the window before them. Where
60 % fail, five in a row come with every thirtieth call, and each time two calls in five would have
been answered: there it takes twenty. Where nothing failed before, it takes five as ever.
"""
RATE: Final = 1.0
"""The share of failures that opens it: a service that answers one call in ten is still of use."""
COOLDOWN: Final = backoff(1.0, factor=2.0, max=2.0, jitter=0.05)
"""How long it stays open: a probe is one call of each client, and asks no more of anybody."""
EARLY: Final = 3
"""Openings in a row that last as long as the first: an outage of three seconds is seen to be over
within a second. The small jitter pays for it: a dead service gets as many probes as before.
"""
RATIO: Final = 0.4
"""Retries for each call. The breaker and the limit end them in an outage; 0.2 would leave one
user in three unanswered of those whom three attempts answer where 60 % of the calls fail.
"""
INITIAL: Final = 5
"""Calls at once to begin with: what many clients may do at once is what the dependency gets."""
MAX_KEYS: Final = 1024
QUEUE: Final = 1000
"""Callers that may wait for a place. What bounds them is how long they would wait: as long as an
attempt may take, so that a burst is served; a quarter of that once calls take longer than usual.
"""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Protection(Pipeline):
    """The recommended stack; `protect` makes it.

    Attributes:
        fallback: outermost, ``None`` unless it was given.
        retry: tries again, within its budget, and within the whole.
        breaker: stops calling what keeps failing; ``None`` if it was left out.
        limit: bounds what is under way; ``None`` if it was left out.
        hedge: a second attempt beside a slow one; ``None`` unless it was given.
        timeout: innermost, for each attempt.
    """

    fallback: Fallback[Any] | None
    retry: Retry
    breaker: Breaker | None
    limit: AdaptiveLimit | None
    hedge: Hedge | None
    timeout: Timeout

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        name: str | None,
        fallback: Fallback[Any] | None,
        retry: Retry,
        breaker: Breaker | None,
        limit: AdaptiveLimit | None,
        hedge: Hedge | None,
        timeout: Timeout,
    ) -> None:
        parts: dict[str, Guarding | None] = {
            "fallback": fallback, "retry": retry, "breaker": breaker, "limit": limit,
            "hedge": hedge, "timeout": timeout,
        }  # fmt: skip
        for part, policy in parts.items():
            set_once(self, part, policy)
        super().__init__(name, tuple(policy for policy in parts.values() if policy is not None))
        if name is not None:
            self._default_name(name)


@final
class WideningProtection(Widening[T_co], Protection):
    """A protection with a fallback: *T_co* is what else a call may return."""


@overload
def protect(  # type: ignore[overload-overlap]  # the second, of None, is the first
    name: str | None = None,
    *,
    on: ErrorSpec,
    timeout: Seconds,
    on_result: Callable[[Any], object] | None = None,
    attempts: int = 3,
    within: Seconds | None = None,
    key: Key | None = None,
    breaker: Breaker | Literal[Default.DEFAULT] | None = DEFAULT,
    limit: AdaptiveLimit | Literal[Default.DEFAULT] | None = DEFAULT,
    hedge: Hedge | None = None,
    fallback: None = None,
) -> Protection: ...
@overload
def protect(
    name: str | None = None,
    *,
    on: ErrorSpec,
    timeout: Seconds,
    on_result: Callable[[Any], object] | None = None,
    attempts: int = 3,
    within: Seconds | None = None,
    key: Key | None = None,
    breaker: Breaker | Literal[Default.DEFAULT] | None = DEFAULT,
    limit: AdaptiveLimit | Literal[Default.DEFAULT] | None = DEFAULT,
    hedge: Hedge | None = None,
    fallback: Fallback[T] | None,
) -> WideningProtection[T]: ...
@factory("protect(on=..., timeout=...)")
def protect(
    name: str | None = None,
    *,
    on: ErrorSpec,
    timeout: Seconds,
    on_result: Callable[[Any], object] | None = None,
    attempts: int = 3,
    within: Seconds | None = None,
    key: Key | None = None,
    breaker: Breaker | Literal[Default.DEFAULT] | None = DEFAULT,
    limit: AdaptiveLimit | Literal[Default.DEFAULT] | None = DEFAULT,
    hedge: Hedge | None = None,
    fallback: Fallback[Any] | None = None,
) -> Protection:
    """Guard the calls of one dependency by all that a careful engineer would put around them.

    From the outside: the *fallback*; a `retry` with its budget, and *within* over all attempts;
    a `breaker`; an `adaptive_limit`; the *hedge*; a `timeout` for each attempt. Why in this order,
    and what it does in an outage, is told in the documentation, "The recommended stack" and
    "Outcomes".

    Args:
        name: what errors, events and metrics call all of it, but a part that has a name; else that
            of the first function it decorates.
        on: which errors may be repeated, and count as failures of the dependency. There is no
            default: what is safe to repeat is your knowledge.
        timeout: seconds for each attempt. A sync function is not interrupted by it.
        on_result: a predicate on the result; true makes it as bad as an error that *on* names: it
            is repeated, and counts as a failure. The last result is returned all the same. A
            *breaker* or *fallback* that you give has an ``on_result`` of its own.
        attempts: how often to try, the first call included; at least 1.
        within: seconds over all attempts and waits, above 0; ``None`` for the caller's deadline.
        key: a function of the call's arguments, or the name of a parameter: budget, breaker and
            limit for each key.
        breaker: not given, one that opens after five failures in a row, or after more of them
            where calls failed and succeeded by turns in the last ten seconds, and stays open for
            2 s at most; ``None`` for none.
        limit: not given, an `adaptive_limit` that begins at 5, with a queue for whoever will have
            a place within *timeout*, or a quarter of it once calls take longer than usual;
            ``None`` for none.
        hedge: for what may run twice at once and is slow now and then; async functions only.
        fallback: what to give in place of an error: a call may return it, and its type says so.

    Raises:
        TypeError: a part is no policy of its kind.
        CircuitOpen: from a call: the breaker is open.
        Overloaded: from a call: the limit is reached, and no place became free in time.
        DeadlineExceeded: from a call: no time was left, or an attempt was cut short.
    """
    check_name("name", name, instead="@protect(on=..., timeout=...)")
    check_key(key)
    attempts = check_int("attempts", attempts)
    each = check_seconds("timeout", timeout, above=0)
    if within is not None and check_seconds("within", within, above=0) <= each and attempts > 1:
        refuse("within", within, f"more than timeout, which is {each:g} s, or attempts be 1")
    _check("breaker", breaker, Breaker)
    _check("limit", limit, AdaptiveLimit)
    _check("hedge", hedge, Hedge)
    _check("fallback", fallback, Fallback)
    kind = Protection if fallback is None else WideningProtection[Any]
    return kind(
        name,
        fallback,
        retry(
            name,
            on=on,
            on_result=on_result,
            attempts=attempts,
            within=within,
            key=key,
            budget=RetryBudget(ratio=RATIO),
        ),
        breaker_of_protect(name, on, on_result, key) if breaker is DEFAULT else breaker,
        _limit(name, key, each) if limit is DEFAULT else limit,
        hedge,
        make_timeout(each, name=name),
    )


def breaker_of_protect(
    name: str | None, on: ErrorSpec, on_result: Callable[[Any], object] | None, key: Key | None
) -> Breaker:
    """The breaker that `protect` makes."""
    config = BreakerConfig(
        consecutive_failures=CONSECUTIVE,
        failure_rate=RATE,
        slow=None,
        slow_rate=1.0,
        window=10.0,
        window_calls=None,
        minimum=10,
        cooldown=_cooldown,
        probes=1,
        probe_lease=60.0,
        tolerance=TOLERANCE,
    )
    settings = Settings(
        config,
        COOLDOWN,
        judge_of(on),
        check_sync("on_result", on_result),
        check_key(key),
        MAX_KEYS,
        BreakerState.CLOSED,
        None,
    )
    return Breaker(name, settings)


def _cooldown(opening: int, draw: float) -> float:
    return COOLDOWN._config.delay(max(1, opening + 1 - EARLY), draw)


def _limit(name: str | None, key: Key | None, timeout: float) -> AdaptiveLimit:
    config = AdaptiveLimitConfig(INITIAL, 1, 1000, gradient, QUEUE, patience=timeout)
    return AdaptiveLimit(name, config, 0.0, check_key(key), MAX_KEYS)


def _check(name: str, value: object, kind: type[PolicyBase]) -> None:
    """Refuse what is no policy of *kind*."""
    if value is not None and value is not DEFAULT and not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        refuse_type(name, value, f"{article} {kind.__name__}, made by {kind.kind}(...), or None")

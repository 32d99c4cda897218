"""The factory of breakers: what may be asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resilient._core.breaker import BreakerConfig, BreakerState
from resilient._core.checks import (
    Seconds,
    check_int,
    check_name,
    check_number,
    check_seconds,
    check_sync,
    refuse,
    refuse_type,
)
from resilient._policies.backoff import Backoff, backoff
from resilient._policies.breaker.controls import Settings
from resilient._policies.breaker.shell import Breaker
from resilient._policies.breaker.tripping import Trip, Tripping
from resilient._policies.common.verdicts import judge_of
from resilient._runtime.keying import Key, check_key
from resilient._typing import ErrorSpec

COOLDOWN: Final = backoff(1.0, factor=1.5, max=3.0, jitter=0.2)


def breaker(
    name: str | None = None,
    *,
    consecutive_failures: int | None = 10,
    failure_rate: float | None = 0.5,
    slow: Seconds | None = None,
    slow_rate: float = 0.5,
    window: Seconds = 10.0,
    window_calls: int | None = None,
    minimum: int = 10,
    cooldown: Backoff | Seconds = COOLDOWN,
    probes: int = 1,
    probe_lease: Seconds = 60.0,
    on: ErrorSpec = Exception,
    ignore: ErrorSpec = (),
    on_result: Callable[[Any], object] | None = None,
    key: Key | None = None,
    max_keys: int = 1024,
    initial: BreakerState = BreakerState.CLOSED,
    trip: Trip | None = None,
) -> Breaker:
    """Stop calling a dependency that keeps failing, and find out when it is back.

    One breaker for each dependency, shared by all who call it. It opens when one of its
    watches trips: a run of failures, the rate of failures in the window, the rate of slow
    calls. A rate alone needs seconds to see an outage, since the window still remembers
    health; a run alone is blind to a dependency that fails half of its calls.

    Args:
        name: what errors, events and metrics call it; else that of the first function it decorates.
        consecutive_failures: opens after so many in a row, at least 1; ``None`` turns this watch
            off.
        failure_rate: opens at this share of failures in the window, in (0, 1]; ``None`` turns it
            off.
        slow: seconds; a call that lasts longer is slow, also one that is cancelled after that.
            ``None`` turns the watch for slow calls off.
        slow_rate: opens at this share of slow calls in the window, in (0, 1].
        window: seconds that the rates look back, above 0.
        window_calls: let the rates look at the last so many calls instead; at least 1.
        minimum: calls the window must hold before a rate is judged, at least 1; at most
            ``window_calls``.
        cooldown: how long it stays open: seconds, or a backoff whose n-th delay is for the n-th
            opening in a row.
        probes: calls that half-open lets through to find out, at least 1.
        probe_lease: seconds, above 0; a probe that has not reported by then counts as a failure.
        on: which exceptions are failures. Any other means that the dependency answered: success.
        ignore: which exceptions count nowhere. So do cancellation, and calls that an inner policy
            did not make (`Rejected`, `DeadlineExceeded` with ``started`` false).
        on_result: a predicate on the result; true makes it a failure.
        key: a function of the call's arguments, or the name of a parameter: one state for each key.
        max_keys: how many keys are kept, at least 1: the least recently used idle and healthy one
            goes first.
        initial: the state to begin with, not HALF_OPEN. OPEN begins its cooldown at once.
        trip: a function that is asked of the error of each failure, in a group of each of its
            errors. A number of seconds above 0, or a `timedelta`, opens at once for that long (a
            429 that says when to come back), ``True`` for the *cooldown*. ``None``, ``False`` and
            what is not above 0 change nothing. Nor do an error, infinity, NaN or anything else,
            which is logged once. A failure without an error is not asked about: an unwanted
            result, ``call.fail()`` alone, a call that was cancelled, a probe that was lost.

    Raises:
        ValueError: an argument is out of its range, or every watch is off.
        CircuitOpen: from a guarded call that is turned away.

    A call that is cancelled because a `deadline` or `timeout` around it expired is a failure (if
    *slow* is given: when it had lasted longer than that). Any other cancellation is none; with
    *slow*, a call that had lasted longer than that is a slow one all the same.

    Source:
        M. T. Nygard, *Release It!*, 2nd ed. (2018), ch. 5, "Circuit Breaker"; the window and the
        slow-call rate are resilience4j's, generations gobreaker's, the early verdict of the probes
        cockatiel's.
    """
    check_name("name", name, instead="@breaker()")
    config = BreakerConfig(
        consecutive_failures=None
        if consecutive_failures is None
        else check_int("consecutive_failures", consecutive_failures),
        failure_rate=None
        if failure_rate is None
        else check_number("failure_rate", failure_rate, above=0, most=1),
        slow=None if slow is None else check_seconds("slow", slow),
        slow_rate=check_number("slow_rate", slow_rate, above=0, most=1),
        window=check_seconds("window", window, above=0),
        window_calls=None if window_calls is None else check_int("window_calls", window_calls),
        minimum=min(check_int("minimum", minimum), window_calls or minimum),
        cooldown=_delays(cooldown)._config.delay,
        probes=check_int("probes", probes),
        probe_lease=check_seconds("probe_lease", probe_lease, above=0),
    )
    if config.consecutive_failures is None and config.failure_rate is None and config.slow is None:
        raise ValueError(
            "consecutive_failures, failure_rate and slow are all None: nothing would ever open it"
        )
    if not isinstance(initial, BreakerState):
        refuse_type("initial", initial, "a BreakerState")
    if initial is BreakerState.HALF_OPEN:
        refuse("initial", initial, "any BreakerState but HALF_OPEN, which only a cooldown leads to")
    settings = Settings(
        config=config,
        cooldown=_delays(cooldown),
        judge=judge_of(on, ignore),
        on_result=check_sync("on_result", on_result),
        key=check_key(key),
        max_keys=check_int("max_keys", max_keys),
        initial=initial,
        trip=None if trip is None else Tripping(check_sync("trip", trip)),  # type: ignore[arg-type]  # it is one
    )
    return Breaker(name, settings)


def _delays(cooldown: object) -> Backoff:
    """A cooldown as a backoff: plain seconds are a constant one."""
    if isinstance(cooldown, Backoff):
        return cooldown
    return backoff(check_seconds("cooldown", cooldown), factor=1.0, jitter="none")

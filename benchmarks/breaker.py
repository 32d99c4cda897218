"""The breaker: closed, with the rate over a window and the watch for slow calls on; and open."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks.floor import answer, answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry
from resilient import breaker

Make = Callable[[Any, int, float], Call]
"""A library's breaker over a function; it opens after so many failures, for so many seconds."""


def ours(fn: Any, failures: int, cooldown: float) -> Call:
    return breaker("benchmark", consecutive_failures=failures, slow=1.0, cooldown=cooldown)(fn)


def circuitbreaker(fn: Any, failures: int, cooldown: float) -> Call:
    from circuitbreaker import CircuitBreaker

    # Its `with` and its `.call` take half the time, but only the decorator ever rejects.
    return CircuitBreaker(failure_threshold=failures, recovery_timeout=cooldown)(fn)


def pybreaker(fn: Any, failures: int, cooldown: float) -> Call:
    from pybreaker import CircuitBreaker

    call = CircuitBreaker(fail_max=failures, reset_timeout=cooldown).call
    return lambda: call(fn)


def aiobreaker(fn: Any, failures: int, cooldown: float) -> Call:
    from aiobreaker import CircuitBreaker

    it = CircuitBreaker(fail_max=failures, timeout_duration=timedelta(seconds=cooldown))
    call = it.call_async if inspect.iscoroutinefunction(fn) else it.call
    return lambda: call(fn)


def purgatory(fn: Any, failures: int, cooldown: float) -> Call:
    from purgatory import SyncCircuitBreakerFactory

    get_breaker = SyncCircuitBreakerFactory(failures, cooldown).get_breaker

    def guarded() -> Any:
        with get_breaker("benchmark"):
            return fn()

    return guarded


def purgatory_async(fn: Any, failures: int, cooldown: float) -> Call:
    from purgatory import AsyncCircuitBreakerFactory

    get_breaker = AsyncCircuitBreakerFactory(failures, cooldown).get_breaker

    async def guarded() -> Any:
        async with await get_breaker("benchmark"):
            return await fn()

    return guarded


def hyx(fn: Any, failures: int, cooldown: float) -> Call:
    from hyx.circuitbreaker import consecutive_breaker

    return consecutive_breaker(
        exceptions=ValueError, failure_threshold=failures, recovery_time_secs=cooldown
    )(fn)


def pyfailsafe(fn: Any, failures: int, cooldown: float) -> Call:
    from failsafe import CircuitBreaker, Failsafe

    run = Failsafe(
        circuit_breaker=CircuitBreaker(maximum_failures=failures, reset_timeout_seconds=cooldown)
    ).run
    return lambda: run(fn)


def pyresilience(fn: Any, failures: int, cooldown: float) -> Call:
    from pyresilience import CircuitBreakerConfig, resilient

    config = CircuitBreakerConfig(failure_threshold=failures, recovery_timeout=cooldown)
    return resilient(circuit_breaker=config)(fn)


def pyresilience_window(fn: Any, failures: int, cooldown: float) -> Call:
    from pyresilience import CircuitBreakerConfig, resilient

    config = CircuitBreakerConfig(
        recovery_timeout=cooldown,
        sliding_window_size=100,
        minimum_calls=failures,
        slow_call_duration=1.0,
        slow_call_rate_threshold=0.5,
    )
    return resilient(circuit_breaker=config)(fn)


def aioresilience(fn: Any, failures: int, cooldown: float) -> Call:
    from aioresilience import CircuitBreaker, CircuitConfig, disable_logging

    disable_logging()
    config = CircuitConfig(failure_threshold=failures, recovery_timeout=cooldown)
    call = CircuitBreaker("benchmark", config).call
    return lambda: call(fn)


def interlock(fn: Any, failures: int, cooldown: float) -> Call:
    from interlock import CircuitBreaker, Config

    config = Config(
        minimum_number_of_calls=failures,
        slow_call_duration_threshold=1.0,
        slow_call_rate_threshold=0.5,
        wait_duration_in_open=cooldown,
    )
    return CircuitBreaker(name="benchmark", config=config)(fn)


def fluxgate(fn: Any, failures: int, cooldown: float) -> Call:
    from fluxgate import CircuitBreaker

    return CircuitBreaker(**_fluxgate(failures, cooldown))(fn)


def fluxgate_async(fn: Any, failures: int, cooldown: float) -> Call:
    from fluxgate import AsyncCircuitBreaker

    return AsyncCircuitBreaker(**_fluxgate(failures, cooldown))(fn)


def _fluxgate(failures: int, cooldown: float) -> dict[str, Any]:
    from fluxgate.retries import Cooldown
    from fluxgate.trippers import FailureRate, MinRequests, SlowRate
    from fluxgate.windows import CountWindow

    rates = FailureRate(0.5) | SlowRate(0.5, threshold=1.0)
    return {
        "window": CountWindow(100),
        "tripper": MinRequests(failures) & rates,
        "retry": Cooldown(cooldown),
    }


WINDOW = "a window of calls, not of seconds"
CHOSEN = "a window of calls, which takes less than its window of seconds"
RUN = "a run of failures alone: no window, no slow calls"
PEERS: list[tuple[str, Make | None, Make | None, str]] = [
    ("circuitbreaker", circuitbreaker, circuitbreaker, f"{RUN}; takes no lock, loses counts"),
    ("pybreaker", pybreaker, None, f"{RUN}; locked while the call runs"),
    ("aiobreaker", aiobreaker, aiobreaker, f"{RUN}; takes no lock"),
    ("purgatory", purgatory, purgatory_async, f"{RUN}; takes no lock"),
    ("hyx", None, hyx, f"{RUN}; asyncio alone"),
    ("pyfailsafe", None, pyfailsafe, f"{RUN}; asyncio alone"),
    ("aioresilience", None, aioresilience, f"{RUN}; asyncio alone"),
    ("pyresilience", pyresilience, pyresilience, RUN),
    ("pyresilience (window)", pyresilience_window, pyresilience_window, WINDOW),
    ("interlock-cb", interlock, interlock, CHOSEN),
    ("fluxgate", fluxgate, fluxgate_async, f"{CHOSEN}; takes no lock across threads"),
]  # fmt: skip


class BrokenError(ValueError):
    """The dependency's own."""


def fail() -> int:
    raise BrokenError


async def fail_async() -> int:
    raise BrokenError


def held_open(make: Make) -> Call:
    """A breaker that rejects, and a caller who takes it."""
    guarded, rejection = make(fail, 2, 3600.0), BrokenError
    for _ in range(100):
        try:
            guarded()
        except Exception as error:
            rejection = type(error)
    _must_differ(rejection)

    def caller() -> None:
        try:
            guarded()
        except rejection:
            pass

    return caller


async def held_open_async(make: Make) -> Call:
    """A breaker that rejects, and a caller who takes it."""
    guarded, rejection = make(fail_async, 2, 3600.0), BrokenError
    for _ in range(100):
        try:
            await guarded()
        except Exception as error:
            rejection = type(error)
    _must_differ(rejection)

    async def caller() -> None:
        try:
            await guarded()
        except rejection:
            pass

    return caller


def _must_differ(rejection: type[Exception]) -> None:
    if rejection is BrokenError:
        raise RuntimeError("it did not open")


def _entries(which: int, how: Callable[[Make], Any]) -> tuple[Entry, ...]:
    peers = [Entry(name, lambda make=make: how(make), lacks)
             for name, *makes, lacks in PEERS if (make := makes[which]) is not None]  # fmt: skip
    return (Entry(OURS, lambda: how(ours)), *peers)


CASES = [
    Case(
        "breaker",
        "breaker closed",
        "sync",
        (bare("sync"), floor("sync"), *_entries(0, lambda make: make(answer, 10, 60.0))),
    ),
    Case(
        "breaker",
        "breaker closed",
        "async",
        (bare("async"), floor("async"), *_entries(1, lambda make: make(answer_async, 10, 60.0))),
    ),
    Case("breaker", "breaker open, rejected", "sync", _entries(0, held_open)),
    Case("breaker", "breaker open, rejected", "async", _entries(1, held_open_async)),
]

"""Retry: a first attempt that succeeds, and two that fail without a wait between them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from benchmarks.floor import answer, answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry, World
from resilient import RetryBudget, retry

Make = Callable[[Any], Call]


def failing_twice() -> Call:
    """A function that fails twice and then succeeds, again and again."""
    calls = 0

    def fn() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ValueError
        return 1

    return fn


def failing_twice_async() -> Call:
    """A function that fails twice and then succeeds, again and again."""
    calls = 0

    async def fn() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ValueError
        return 1

    return fn


def by_hand(fn: Any) -> Call:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(3):
            try:
                return fn(*args, **kwargs)
            except ValueError:
                if attempt == 2:
                    raise
        return None

    return wrapper


def by_hand_async(fn: Any) -> Call:
    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(3):
            try:
                return await fn(*args, **kwargs)
            except ValueError:
                if attempt == 2:
                    raise
        return None

    return wrapper


def ours(fn: Any) -> Call:
    """With the default budget, which is on."""
    return retry("benchmark", on=ValueError)(fn)


def ours_without_wait(fn: Any, *, ratio: float = 3.0) -> Call:
    """With a budget to which each call adds more than its two retries take."""
    return retry("benchmark", on=ValueError, wait=0, budget=RetryBudget(ratio))(fn)


def tenacity(fn: Any) -> Call:
    """As a loop, which takes less than as a decorator."""
    import inspect

    import tenacity

    told = {
        "retry": tenacity.retry_if_exception_type(ValueError),
        "stop": tenacity.stop_after_attempt(3),
        "wait": tenacity.wait_none(),
        "reraise": True,
    }

    def looped() -> Any:
        for attempt in tenacity.Retrying(**told, sleep=lambda _: None):
            with attempt:
                return fn()
        return None

    async def looped_async() -> Any:
        async for attempt in tenacity.AsyncRetrying(**told):
            with attempt:
                return await fn()
        return None

    return looped_async if inspect.iscoroutinefunction(fn) else looped


def stamina(fn: Any) -> Call:
    import stamina

    stamina.instrumentation.set_on_retry_hooks([])
    return stamina.retry(on=ValueError, attempts=3, timeout=None, wait_initial=0, wait_max=0,
                         wait_jitter=0)(fn)  # fmt: skip


def backoff(fn: Any) -> Call:
    import backoff

    return backoff.on_exception(
        backoff.constant, ValueError, max_tries=3, interval=0, jitter=None, logger=None
    )(fn)


def hyx(fn: Any) -> Call:
    from hyx.retry import retry as hyx_retry

    return hyx_retry(on=ValueError, attempts=2, backoff=0)(fn)  # it counts the retries


def pyresilience(fn: Any) -> Call:
    from pyresilience import RetryConfig, resilient

    config = RetryConfig(max_attempts=3, delay=0.0, jitter=False, retry_on=(ValueError,))
    return resilient(retry=config)(fn)


def pyfailsafe(fn: Any) -> Call:
    from failsafe import Failsafe, RetryPolicy

    run = Failsafe(retry_policy=RetryPolicy(allowed_retries=2)).run
    return lambda: run(fn)


def aioresilience(fn: Any) -> Call:
    from aioresilience import RetryConfig, RetryPolicy, RetryStrategy, disable_logging

    disable_logging()
    config = RetryConfig(
        max_attempts=3,
        initial_delay=0.0,
        max_delay=0.0,
        jitter=0.0,
        strategy=RetryStrategy.CONSTANT,
        retry_on_exceptions=(ValueError,),
    )
    execute = RetryPolicy(config).execute
    return lambda: execute(fn)


# Of a sync function that fails, the time of stamina, backoff and pyresilience is for the most part
# that of `time.sleep(0)`, about 80 us on Linux: they have no way to leave it out.
NO_BUDGET = "no budget, sees no deadline"
SLEEPS = "sleeps for a wait of 0, too"
PEERS: list[tuple[str, Make, bool, str]] = [  # the third: whether it decorates sync functions
    ("tenacity", tenacity, True, NO_BUDGET),
    ("stamina", stamina, True, f"{NO_BUDGET}; {SLEEPS}"),
    ("backoff", backoff, True, f"{NO_BUDGET}; {SLEEPS}"),
    ("pyresilience", pyresilience, True, f"no budget unless asked for, sees no deadline; {SLEEPS}"),
    ("hyx", hyx, False, f"{NO_BUDGET}; asyncio alone"),
    ("pyfailsafe", pyfailsafe, False, f"{NO_BUDGET}; retries any error; asyncio alone"),
    ("aioresilience", aioresilience, False, f"{NO_BUDGET}; asyncio alone"),
]


def _peers(world: World, fn: Callable[[], Any]) -> list[Entry]:
    return [
        Entry(name, lambda make=make: make(fn()), lacks)
        for name, make, sync, lacks in PEERS
        if sync or world == "async"
    ]


def _cases(world: World, fn: Any, failing: Callable[[], Any], hand: Make) -> list[Case]:
    loop = "loop by hand"
    first = (
        bare(world),
        floor(world),
        Entry(loop, lambda: hand(fn), by_hand=True),
        Entry(OURS, lambda: ours(fn)),
        *_peers(world, lambda: fn),
    )
    twice = (
        Entry(loop, lambda: hand(failing()), by_hand=True),
        Entry(OURS, lambda: ours_without_wait(failing())),
        Entry(  # each call pays for its own two retries and leaves nothing: the budget must count
            "resilient, budget just enough",
            lambda: ours_without_wait(failing(), ratio=2.0),
            by_hand=True,
        ),
        *_peers(world, failing),
    )
    return [
        Case("retry", "retry, first time ok", world, first),
        Case("retry", "retry, fails twice", world, twice),
    ]


CASES = [
    *_cases("sync", answer, failing_twice, by_hand),
    *_cases("async", answer_async, failing_twice_async, by_hand_async),
]

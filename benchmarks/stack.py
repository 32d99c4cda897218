"""Several policies stacked."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.floor import answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry
from resilient import breaker, bulkhead, fallback, pipeline, retry, timeout


def ours() -> Call:
    stack = pipeline(retry(on=ValueError), breaker(slow=1.0), timeout(5.0), name="benchmark")
    return stack(answer_async)


def our_decorators() -> Call:
    return retry(on=ValueError)(breaker(slow=1.0)(timeout(5.0)(answer_async)))


def our_five() -> Call:
    stack = pipeline(
        fallback(default=0),
        retry(on=ValueError),
        breaker(slow=1.0),
        bulkhead(100, queue=100),
        timeout(5.0),
        name="benchmark",
    )
    return stack(answer_async)


def our_five_decorators() -> Call:
    @fallback(default=0)
    @retry(on=ValueError)
    @breaker(slow=1.0)
    @bulkhead(100, queue=100)
    @timeout(5.0)
    async def guarded() -> int:
        return 1

    return guarded


async def limited() -> int:
    async with asyncio.timeout(5.0):
        return await answer_async()


def with_places(fn: Any) -> Any:
    """What a bulkhead is without a library."""
    places = asyncio.Semaphore(100)

    async def placed() -> Any:
        await places.acquire()
        try:
            return await fn()
        finally:
            places.release()

    return placed


def or_zero(fn: Any) -> Call:
    """What a fallback is without a library."""

    async def fallen_back() -> Any:
        try:
            return await fn()
        except Exception:  # what it stands for
            return 0

    return fallen_back


def pyresilience(*, all_five: bool = False) -> Call:
    import pyresilience as py

    more = {}
    if all_five:
        more = {
            "bulkhead": py.BulkheadConfig(max_concurrent=100),
            "fallback": py.FallbackConfig(handler=0, fallback_on=(Exception,)),
        }
    return py.resilient(
        retry=py.RetryConfig(max_attempts=3, delay=0.0, jitter=False, retry_on=(ValueError,)),
        circuit_breaker=py.CircuitBreakerConfig(failure_threshold=10),
        timeout=py.TimeoutConfig(seconds=5.0),
        **more,
    )(answer_async)


def hyx(*, all_five: bool = False) -> Call:
    """What can be a context manager is one: that takes less than a decorator."""
    from hyx.bulkhead import bulkhead as hyx_bulkhead
    from hyx.circuitbreaker import consecutive_breaker
    from hyx.fallback import fallback as hyx_fallback
    from hyx.retry import retry as hyx_retry
    from hyx.timeout import timeout as hyx_timeout

    closed = consecutive_breaker(exceptions=ValueError, failure_threshold=10)
    free = hyx_bulkhead(max_concurrency=100, max_capacity=200)

    async def three() -> int:
        async with closed, hyx_timeout(5.0):
            return await answer_async()

    async def four() -> int:
        async with closed, free, hyx_timeout(5.0):
            return await answer_async()

    async def zero(*_: object) -> int:
        return 0

    fn = hyx_retry(on=ValueError, attempts=2, backoff=0)(four if all_five else three)
    return hyx_fallback(zero, on=Exception)(fn) if all_five else fn


def aioresilience(*, all_five: bool = False) -> Call:
    import aioresilience as aio

    aio.disable_logging()
    # The breaker's own timeout takes less than a TimeoutManager.
    closed = aio.CircuitBreaker("benchmark", aio.CircuitConfig(failure_threshold=10, timeout=5.0))
    retrying = aio.RetryPolicy(
        aio.RetryConfig(
            max_attempts=3,
            initial_delay=0.0,
            max_delay=0.0,
            jitter=0.0,
            strategy=aio.RetryStrategy.CONSTANT,
            retry_on_exceptions=(ValueError,),
        )
    )
    places = aio.Bulkhead("benchmark", aio.BulkheadConfig(max_concurrent=100, max_waiting=100))

    async def placed() -> int:
        async with places:  # that takes less than its decorator
            return await answer_async()

    fn = aio.with_circuit_breaker(closed)(placed if all_five else answer_async)
    if not all_five:
        return lambda: retrying.execute(fn)
    fn = aio.with_retry(retrying)(fn)
    config = aio.FallbackConfig(fallback=0, fallback_on_exceptions=(Exception,))
    execute = aio.FallbackHandler(config).execute
    return lambda: execute(fn)


def _tenacity() -> dict[str, Any]:
    import tenacity

    return {
        "retry": tenacity.retry_if_exception_type(ValueError),
        "stop": tenacity.stop_after_attempt(3),
        "wait": tenacity.wait_none(),
        "reraise": True,
    }


def _retried(fn: Any) -> Call:
    """By tenacity, as a loop: that takes less than its decorator."""
    from tenacity import AsyncRetrying

    told = _tenacity()

    async def looped() -> Any:
        async for attempt in AsyncRetrying(**told):
            with attempt:
                return await fn()
        return None

    return looped


def _interlock() -> Any:
    from interlock import CircuitBreaker, Config

    config = Config(slow_call_duration_threshold=1.0, slow_call_rate_threshold=0.5)
    return CircuitBreaker(name="benchmark", config=config)


def interlock() -> Call:
    """It gives the breaker and the timeout, and leaves the retry to tenacity."""
    from interlock import timeout as interlock_timeout

    async def bounded() -> int:
        async with interlock_timeout(5.0):
            return await answer_async()

    return _retried(_interlock()(bounded))


def interlock_five() -> Call:
    """Its bulkhead and fallback are there in a pipeline alone."""
    import tenacity
    from interlock import Pipeline

    pipe = (
        Pipeline.builder()
        .fallback(lambda _: 0, on=(Exception,))
        .retry(
            attempts=3,
            retry=tenacity.retry_if_exception_type(ValueError),
            wait=tenacity.wait_none(),
        )
        .circuit_breaker(_interlock())
        .bulkhead(100)
        .timeout(5.0)
        .build()
    )
    return lambda: pipe.call(answer_async)


def pyfailsafe(*, all_five: bool = False) -> Call:
    """It gives the retry and the breaker; the rest is by hand.

    It has no bulkhead, and its fallback is another option to call with, not a value.
    """
    from failsafe import CircuitBreaker, Failsafe, RetryPolicy

    run = Failsafe(
        retry_policy=RetryPolicy(allowed_retries=2, retriable_exceptions=[ValueError]),
        circuit_breaker=CircuitBreaker(maximum_failures=10),
    ).run
    if not all_five:
        return lambda: run(limited)
    placed = with_places(limited)
    return or_zero(lambda: run(placed))


def mixture(*, all_five: bool = False) -> Call:
    """The usual one."""
    from circuitbreaker import CircuitBreaker

    closed = CircuitBreaker(failure_threshold=10)
    if not all_five:
        return _retried(closed(limited))
    return or_zero(_retried(closed(with_places(limited))))


SHARED = "no shared deadline, no retry budget"
SINGLE = f"{SHARED}, no window"
OPTED = "no shared deadline, neither budget nor window unless asked for"
COUNTED = f"{SHARED}, a window of calls; its retry is tenacity's"

CASES = [
    Case(
        "stack",
        "retry + breaker + timeout",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry(OURS, ours),
            Entry("resilient decorators", our_decorators, by_hand=True),
            Entry("pyresilience", pyresilience, OPTED),
            Entry("hyx", hyx, SINGLE),
            Entry("aioresilience", aioresilience, SINGLE),
            Entry("interlock-cb", interlock, COUNTED),
            Entry("pyfailsafe + asyncio.timeout", pyfailsafe, SINGLE),
            Entry("tenacity + circuitbreaker + asyncio.timeout", mixture, SINGLE),
        ),
    ),
    Case(
        "stack",
        "fallback + retry + breaker + bulkhead + timeout",
        "async",
        (
            bare("async"),
            floor("async"),
            Entry(OURS, our_five),
            Entry("resilient decorators", our_five_decorators, by_hand=True),
            Entry("pyresilience", lambda: pyresilience(all_five=True), OPTED),
            Entry("hyx", lambda: hyx(all_five=True), SINGLE),
            Entry("aioresilience", lambda: aioresilience(all_five=True), SINGLE),
            Entry("interlock-cb", interlock_five, COUNTED),
            # Less than five of a library: for comparison, no peer of a stack of five.
            Entry(
                "pyfailsafe, three by hand",
                lambda: pyfailsafe(all_five=True),
                f"{SINGLE}; asyncio alone",
                by_hand=True,
            ),
            Entry(
                "tenacity + circuitbreaker, three by hand",
                lambda: mixture(all_five=True),
                f"{SINGLE}; asyncio alone",
                by_hand=True,
            ),
        ),
    ),
]

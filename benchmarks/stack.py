"""Several policies stacked."""

from __future__ import annotations

import asyncio

from benchmarks.floor import answer_async, bare, floor
from benchmarks.timing import OURS, Call, Case, Entry
from resilient import breaker, pipeline, retry, timeout


def ours() -> Call:
    stack = pipeline(retry(on=ValueError), breaker(slow=1.0), timeout(5.0), name="benchmark")
    return stack(answer_async)


def our_decorators() -> Call:
    return retry(on=ValueError)(breaker(slow=1.0)(timeout(5.0)(answer_async)))


def pyresilience(*, all_five: bool = False) -> Call:
    import pyresilience as py

    more = {}
    if all_five:
        more = {
            "bulkhead": py.BulkheadConfig(max_concurrent=100),
            "fallback": py.FallbackConfig(handler=0, fallback_on=(ValueError,)),
        }
    return py.resilient(
        retry=py.RetryConfig(max_attempts=3, delay=0.0, jitter=False, retry_on=(ValueError,)),
        circuit_breaker=py.CircuitBreakerConfig(failure_threshold=10),
        timeout=py.TimeoutConfig(seconds=5.0),
        **more,
    )(answer_async)


def hyx(*, all_five: bool = False) -> Call:
    from hyx.bulkhead import bulkhead
    from hyx.circuitbreaker import consecutive_breaker
    from hyx.fallback import fallback
    from hyx.retry import retry as hyx_retry
    from hyx.timeout import timeout as hyx_timeout

    async def zero(*_: object) -> int:
        return 0

    fn = hyx_timeout(5.0)(answer_async)
    if all_five:
        fn = bulkhead(max_concurrency=100, max_capacity=100)(fn)
    fn = consecutive_breaker(exceptions=ValueError, failure_threshold=10)(fn)
    fn = hyx_retry(on=ValueError, attempts=3, backoff=0)(fn)
    return fallback(zero, on=ValueError)(fn) if all_five else fn


def interlock() -> Call:
    from interlock import CircuitBreaker, CircuitBreakerStrategy, Config, Pipeline, TimeoutStrategy

    breaker_ = CircuitBreaker(name="benchmark", config=Config())
    pipe = Pipeline(CircuitBreakerStrategy(breaker_), TimeoutStrategy(5.0))
    return lambda: pipe.call(answer_async)


def by_three() -> Call:
    """The usual mixture."""
    import tenacity
    from circuitbreaker import circuit

    async def limited() -> int:
        async with asyncio.timeout(5.0):
            return await answer_async()

    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(ValueError),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_none(),
        reraise=True,
    )(circuit(failure_threshold=10)(limited))


SINGLE = "no shared deadline, no retry budget, no window"

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
            Entry("pyresilience", pyresilience, SINGLE),
            Entry("hyx", hyx, SINGLE),
            Entry("interlock-cb", interlock, "without the retry, which is tenacity's"),
            Entry("tenacity + circuitbreaker + asyncio.timeout", by_three, SINGLE),
        ),
    ),
    # Ours has no bulkhead and no fallback yet; the peers' figures are what it will be held against.
    Case(
        "stack",
        "fallback + retry + breaker + bulkhead + timeout",
        "async",
        (
            floor("async"),
            Entry("pyresilience", lambda: pyresilience(all_five=True), SINGLE),
            Entry("hyx", lambda: hyx(all_five=True), SINGLE),
        ),
    ),
]

"""What the clients put between themselves and the service.

A contender is a maker: ``make(service, fault)`` is the guarded call of one client, with
policies of its own. The peers are their real code, with the settings that their documentation
gives for such a service: three attempts, 0.3 s for each, and a breaker where they have one. They
follow virtual time because `patched` replaces the clocks that they read: ``time.monotonic``,
``time.time`` and ``time.perf_counter``, in the module `time` and wherever a peer has taken
them from it by name, and the class `datetime` where a peer has that; what they sleep goes by the
loop.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from benchmarks.outcomes.faults import Fault
from benchmarks.outcomes.service import DownError, Service
from resilient import (
    Pipeline,
    Protection,
    Retry,
    RetryBudget,
    deadline,
    hedge,
    pipeline,
    protect,
    retry,
)

ATTEMPTS, TIMEOUT, DEADLINE = 3, 0.3, 1.0
Guarded = Callable[[int], Awaitable[None]]
Maker = Callable[[Service, Fault], Guarded]
SAFE = (ConnectionError, TimeoutError)


def none(service: Service, fault: Fault) -> Guarded:
    return service.call


def timeout(service: Service, fault: Fault) -> Guarded:
    async def guarded(key: int) -> None:
        async with asyncio.timeout(TIMEOUT):
            await service.call(key)

    return guarded


def tenacity(service: Service, fault: Fault) -> Guarded:
    from tenacity import (
        retry,
        retry_if_exception_type,
        stop_after_attempt,
        wait_random_exponential,
    )

    return retry(
        retry=retry_if_exception_type(SAFE),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=10),
        reraise=True,
    )(timeout(service, fault))


def interlock(service: Service, fault: Fault) -> Guarded:
    """Its breaker, with tenacity's retry around, as it recommends."""
    from interlock import CircuitBreaker, Config
    from tenacity import (
        retry,
        retry_if_exception_type,
        stop_after_attempt,
        wait_random_exponential,
    )

    closed = CircuitBreaker(
        name="service", config=Config(minimum_number_of_calls=10, wait_duration_in_open=5.0)
    )
    return retry(
        retry=retry_if_exception_type(SAFE),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=10),
        reraise=True,
    )(closed(timeout(service, fault)))


def pyresilience(service: Service, fault: Fault) -> Guarded:
    import pyresilience as py

    async def call(key: int) -> None:
        await service.call(key)

    return py.resilient(
        retry=py.RetryConfig(max_attempts=ATTEMPTS, delay=0.1, retry_on=SAFE),
        circuit_breaker=py.CircuitBreakerConfig(failure_threshold=5, recovery_timeout=5.0),
        timeout=py.TimeoutConfig(seconds=TIMEOUT),
    )(call)


def hyx(service: Service, fault: Fault) -> Guarded:
    from hyx.circuitbreaker import consecutive_breaker
    from hyx.retry import retry
    from hyx.retry.backoffs import expo
    from hyx.timeout import timeout as hyx_timeout

    closed = consecutive_breaker(exceptions=Exception, failure_threshold=5, recovery_time_secs=5.0)

    async def call(key: int) -> None:
        async with closed, hyx_timeout(TIMEOUT):
            await service.call(key)

    return retry(
        on=Exception, attempts=ATTEMPTS - 1, backoff=expo(min_delay_secs=0.1, max_delay_secs=10)
    )(call)


def protected(service: Service, fault: Fault) -> Guarded:
    return _protected(service, fault, hedged=fault.hedged)


def unhedged(service: Service, fault: Fault) -> Guarded:
    return _protected(service, fault, hedged=False)


def hedged(service: Service, fault: Fault) -> Guarded:
    return _protected(service, fault, hedged=True)


def no_breaker(service: Service, fault: Fault) -> Guarded:
    return _protected(service, fault, hedged=fault.hedged, breaker=None)


def no_limit(service: Service, fault: Fault) -> Guarded:
    return _protected(service, fault, hedged=fault.hedged, limit=None)


def one_budget(service: Service, fault: Fault) -> Guarded:
    """Hedged everywhere, and what hedges may cost is all that retries may."""
    budget = RetryBudget(ratio=0.05, per_second=0.2)
    members = [
        retry("service", on=SAFE, attempts=ATTEMPTS, budget=budget)
        if isinstance(member, Retry)
        else member
        for member in _stack(fault, hedge=hedge("p98", budget=budget)).policies
    ]
    return _within_deadline(pipeline(*members), service)


def _protected(service: Service, fault: Fault, *, hedged: bool, **parts: None) -> Guarded:
    return _within_deadline(_stack(fault, hedge=hedge("p98") if hedged else None, **parts), service)


def _stack(fault: Fault, **parts: Any) -> Protection:
    key = "key" if fault.keyed else None
    return protect("service", on=SAFE, timeout=TIMEOUT, key=key, **parts)


def _within_deadline(stack: Pipeline, service: Service) -> Guarded:
    async def call(key: int) -> None:
        await service.call(key)

    guarded_call = stack(call)

    async def guarded(key: int) -> None:
        async with deadline(DEADLINE):
            await guarded_call(key)

    return guarded


def oracle(service: Service, fault: Fault) -> Guarded:
    """The physical limit: it knows the state of the service, and sends what will be served.

    It keeps the queue short, so that what is served is served in time.
    """

    async def guarded(key: int) -> None:
        condition = service.now_is
        lost = condition.down or condition.blackhole or key in condition.dead_keys
        longest = service.shape.median * condition.slower
        if lost or service.wait() + longest > DEADLINE / 2:
            raise DownError("the oracle does not send what is lost")
        for left in reversed(range(ATTEMPTS)):
            try:
                return await service.call(key)
            except DownError:
                if not left or not (condition.errors or condition.refused):
                    raise

    return guarded


CONTENDERS: dict[str, Maker] = {
    "none": none,
    "timeout": timeout,
    "tenacity": tenacity,
    "interlock-cb": interlock,
    "pyresilience": pyresilience,
    "hyx": hyx,
    "protect": protected,
    "oracle": oracle,
}
HIDDEN: dict[str, Maker] = {
    "protect without hedge": unhedged,
    "hedged": hedged,
    "no-breaker": no_breaker,
    "no-limit": no_limit,
    "one-budget": one_budget,
}
"""Parts of `protect` left out or changed: to be asked for by name."""
NEEDS = {
    "tenacity": ("tenacity",),
    "interlock-cb": ("interlock", "tenacity"),
    "pyresilience": ("pyresilience",),
    "hyx": ("hyx.circuitbreaker",),
}
"""The peers' modules, by contender."""
PEERS = {module.split(".")[0] for modules in NEEDS.values() for module in modules}


def missing(contender: str) -> list[str]:
    """The peers that *contender* is made of, and that are not installed."""
    peers = [module.split(".")[0] for module in NEEDS.get(contender, ())]
    return [peer for peer in peers if importlib.util.find_spec(peer) is None]


@contextmanager
def patched(now: Callable[[], float]) -> Iterator[None]:
    """Let the peers read *now*."""

    class VirtualDatetime(datetime):
        @classmethod
        def utcnow(cls) -> datetime:
            return datetime.fromtimestamp(now(), UTC).replace(tzinfo=None)

    clocks: dict[object, object] = {
        time.monotonic: now, time.time: now, time.perf_counter: now, datetime: VirtualDatetime
    }  # fmt: skip
    places: list[tuple[object, str]] = [
        (time, name) for name in ("monotonic", "time", "perf_counter")
    ]
    for module_name, module in tuple(sys.modules.items()):
        if module_name.split(".")[0] in PEERS:
            places += [
                (module, name)
                for name, value in vars(module).items()
                if isinstance(value, Hashable) and value in clocks
            ]
    before = [getattr(module, name) for module, name in places]
    for (module, name), value in zip(places, before, strict=True):
        setattr(module, name, clocks[value])
    try:
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)

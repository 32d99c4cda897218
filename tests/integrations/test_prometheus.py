"""The Prometheus collector, with the real client, and promtool where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    RateLimited,
    RetryBudget,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.telemetry.prometheus import register
from resilient.testing import VirtualTime


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    register(registry)
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"resilient_{name}", labels)


def fail() -> None:
    raise ConnectionError


def test_a_breakers_totals_state_and_transitions_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    payments = breaker("prom-payments", consecutive_failures=2)
    payments.call(int)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            payments.call(fail)
    with pytest.raises(CircuitOpen):
        payments.call(fail)
    assert value(registry, "breaker_calls_total", policy="prom-payments", outcome="success") == 1
    assert value(registry, "breaker_calls_total", policy="prom-payments", outcome="failure") == 2
    assert (
        value(registry, "breaker_rejected_calls_total", policy="prom-payments", reason="open") == 1
    )
    assert (
        value(registry, "breaker_rejected_calls_total", policy="prom-payments", reason="half_open")
        == 0
    )
    assert value(registry, "breaker_state", policy="prom-payments", state="open") == 1
    assert value(registry, "breaker_state", policy="prom-payments", state="closed") == 0
    assert value(registry, "breaker_transitions_total", policy="prom-payments", to="open") == 1
    assert value(registry, "breaker_in_flight_calls", policy="prom-payments") == 0


@pytest.mark.rule("F5")
def test_policies_of_one_name_are_added_up_and_show_the_worst_state(
    registry: CollectorRegistry,
) -> None:
    twins = [breaker("prom-twins"), breaker("prom-twins")]
    for twin in twins:
        twin.call(int)
    twins[1].force_open()
    assert value(registry, "breaker_calls_total", policy="prom-twins", outcome="success") == 2
    assert value(registry, "breaker_state", policy="prom-twins", state="forced_open") == 1
    assert value(registry, "breaker_state", policy="prom-twins", state="closed") == 0


def test_keyed_breakers_export_totals_and_no_key(registry: CollectorRegistry) -> None:
    tenants = breaker("prom-tenants", key=lambda tenant: tenant, max_keys=2)
    for tenant in ("a", "b", "c", "d"):
        tenants.call(str, tenant)
    tenants.of("a").force_open()
    assert value(registry, "breaker_calls_total", policy="prom-tenants", outcome="success") == 4
    assert (
        value(registry, "breaker_transitions_total", policy="prom-tenants", to="forced_open") == 1
    )
    assert b'"a"' not in generate_latest(registry)


def test_retries_timeouts_and_flights_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    again = retry("prom-retry", on=ConnectionError, attempts=2, wait=0)
    with pytest.raises(ConnectionError):
        again.call(fail)
    limit, flight = timeout(1, name="prom-timeout"), singleflight("prom-flight")
    limit.call(int)
    flight.call(int)
    assert value(registry, "retry_calls_total", policy="prom-retry") == 1
    assert value(registry, "retry_retries_total", policy="prom-retry") == 1
    assert value(registry, "retry_gave_up_calls_total", policy="prom-retry", reason="attempts") == 1
    assert value(registry, "retry_gave_up_calls_total", policy="prom-retry", reason="budget") == 0
    assert value(registry, "timeout_calls_total", policy="prom-timeout") == 1
    assert value(registry, "timeout_expired_calls_total", policy="prom-timeout") == 0
    assert value(registry, "singleflight_runs_total", policy="prom-flight") == 1
    assert value(registry, "singleflight_in_flight_runs", policy="prom-flight") == 0


def values(registry: CollectorRegistry, policy: str, *names: str) -> list[float | None]:
    return [value(registry, name, policy=policy) for name in names]


def test_a_bulkheads_places_and_queue_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    pool = bulkhead(1, queue=1, name="prom-bulkhead")
    names = [
        f"bulkhead_{name}"
        for name in ("calls_total", "rejected_calls_total", "limit", "in_flight_calls",
                     "queued_calls")
    ]  # fmt: skip

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(pool.call(asyncio.sleep, 1))
            await asyncio.sleep(0.5)
            with pytest.raises(BulkheadFull):
                await pool.call(asyncio.sleep, 1)
            assert values(registry, "prom-bulkhead", *names) == [1, 1, 1, 1, 1]
        assert values(registry, "prom-bulkhead", *names) == [2, 1, 1, 0, 0]

    virtual_time.run(main)


def test_a_rate_limits_calls_and_queue_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    rate = rate_limit(1, max_wait=1.5, name="prom-rate")
    names = [
        f"rate_limit_{name}" for name in ("calls_total", "rejected_calls_total", "queued_calls")
    ]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(rate.call(asyncio.sleep, 0))
            await asyncio.sleep(0.1)
            with pytest.raises(RateLimited):
                await rate.call(asyncio.sleep, 0)
            assert values(registry, "prom-rate", *names) == [1, 1, 1]
        assert values(registry, "prom-rate", *names) == [2, 1, 0]

    virtual_time.run(main)


def test_an_adaptive_limits_limit_and_latencies_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    limit = adaptive_limit(initial=1, name="prom-adaptive")
    counts = [
        f"adaptive_limit_{name}"
        for name in ("calls_total", "rejected_calls_total", "limit", "in_flight_calls",
                     "queued_calls")
    ]  # fmt: skip
    latencies = ["adaptive_limit_latency_seconds", "adaptive_limit_unloaded_latency_seconds"]
    with limit.admit(), pytest.raises(Overloaded):
        limit.admit()
    assert values(registry, "prom-adaptive", *counts) == [1, 1, 1, 0, 0]
    assert values(registry, "prom-adaptive", *latencies) == [None, None], (
        "no sample before it is known"
    )
    for _ in range(10):
        with limit:
            virtual_time.advance(0.25)
    stats = limit.stats()
    assert stats.limit > 1
    assert values(registry, "prom-adaptive", *counts) == [11, 1, stats.limit, 0, 0]
    found = values(registry, "prom-adaptive", *latencies)
    assert found == [stats.latency, stats.latency_unloaded]
    assert None not in found


def test_a_throttles_requests_and_what_it_rejects_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    throttled = throttle(minimum=1, rng=random.Random(1), name="prom-throttle")
    throttled.call(int)
    for _ in range(20):
        with contextlib.suppress(ConnectionError, Overloaded):
            throttled.call(fail)
    rejected = throttled.stats().rejected
    assert rejected
    names = ("requests_total", "accepts_total", "rejected_calls_total", "rejection_ratio")
    assert values(registry, "prom-throttle", *(f"throttle_{name}" for name in names)) == [
        21 - rejected, 1, rejected, throttled.stats().probability,
    ]  # fmt: skip


def test_a_hedges_attempts_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    hedged = hedge(1.0, budget=RetryBudget(0, 0.1, 10.0), name="prom-hedge")
    unknown = hedge("p95", name="prom-hedge-unknown")

    async def slow_once() -> None:
        starts.append(1)
        await asyncio.sleep(10 if len(starts) == 1 else 0)

    starts: list[int] = []

    async def main() -> None:
        await hedged.call(slow_once)
        starts.clear()
        await hedged.call(slow_once)

    virtual_time.run(main)
    names = ("calls_total", "hedges_total", "won_calls_total", "no_budget_hedges_total",
             "after_seconds")  # fmt: skip
    assert values(registry, "prom-hedge", *(f"hedge_{name}" for name in names)) == [2, 1, 1, 1, 1.0]
    assert values(registry, unknown.name, "hedge_calls_total", "hedge_after_seconds") == [0, None]


def test_a_fallbacks_uses_are_pulled(registry: CollectorRegistry) -> None:
    def worse(error: Exception) -> None:
        if len(error.args) > 0:
            raise LookupError from error

    helped = fallback(worse, name="prom-fallback")

    def fail_with(*args: object) -> None:
        raise ConnectionError(*args)

    helped.call(int)
    helped.call(fail_with)
    with pytest.raises(LookupError):
        helped.call(fail_with, "worse")
    names = ("fallback_calls_total", "fallback_used_calls_total", "fallback_failed_calls_total")
    assert values(registry, "prom-fallback", *names) == [3, 2, 1]


def test_a_caches_look_ups_and_entries_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    kept = cache(
        10, max_size=2, jitter=0, negative_ttl=5, stale=10, exists=lambda key: key != "no",
        name="prom-cache",
    )  # fmt: skip
    down: list[str] = []

    @kept
    def look(key: str) -> str | None:
        if key in down:
            raise ConnectionError
        return None if key == "none" else key

    for key in ("a", "a", "none", "none", "no"):
        look(key)
    down.append("a")
    virtual_time.advance(11)
    assert look("a") == "a"
    for key in ("b", "c"):
        look(key)
    assert {
        result: value(registry, "cache_calls_total", policy="prom-cache", result=result)
        for result in ("hit", "negative_hit", "miss", "refused")
    } == {"hit": 1, "negative_hit": 1, "miss": 5, "refused": 1}
    names = ("stale_served_calls_total", "evictions_total", "entries")
    assert values(registry, "prom-cache", *(f"cache_{name}" for name in names)) == [1, 2, 2]


@pytest.mark.parametrize("works", [True, False])
def test_a_caches_refreshes_are_pulled(
    registry: CollectorRegistry, virtual_time: VirtualTime, works: bool
) -> None:
    kept = cache(10, jitter=0, refresh_ahead=5, name="prom-refresh")
    runs: list[int] = []

    @kept
    async def look() -> None:
        runs.append(1)
        if len(runs) > 1 and not works:
            raise ConnectionError

    async def main() -> None:
        for wait in (0, 6, 0.1):
            await asyncio.sleep(wait)
            await look()
        await asyncio.sleep(0.1)

    virtual_time.run(main)
    assert len(runs) == 2
    names = ("cache_refreshes_total", "cache_failed_refreshes_total")
    assert values(registry, "prom-refresh", *names) == [1, 0 if works else 1]


@pytest.mark.rule("F5")
def test_what_can_not_be_added_up_shows_the_worst_of_its_name(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    twins = [throttle(minimum=1, name="prom-worst") for _ in range(2)]
    slow, slower = (hedge(after, name="prom-worst") for after in (1.0, 2.0))
    limits = [adaptive_limit(initial=limit, name="prom-worst") for limit in (3, 4)]
    with pytest.raises(ConnectionError):
        twins[1].call(fail)
    for number, limit in enumerate(limits):
        for _ in range(10):
            with limit:
                virtual_time.advance(0.25 * (number + 1))
    assert value(registry, "throttle_requests_total", policy="prom-worst") == 1
    assert twins[0].stats().probability == 0
    assert (
        value(registry, "throttle_rejection_ratio", policy="prom-worst")
        == twins[1].stats().probability
        == 0.5
    )
    assert (
        value(registry, "hedge_after_seconds", policy="prom-worst") == slower.stats().after == 2.0
    )
    assert slow.stats().after == 1.0
    assert value(registry, "adaptive_limit_latency_seconds", policy="prom-worst") == 0.5
    assert value(registry, "adaptive_limit_limit", policy="prom-worst") == sum(
        limit.stats().limit for limit in limits
    )


def test_a_protections_parts_are_in_the_scrape(registry: CollectorRegistry) -> None:
    stack = protect("prom-stack", on=ConnectionError, timeout=1.0)
    stack.call(int)
    for name in ("retry", "adaptive_limit", "timeout"):
        assert value(registry, f"{name}_calls_total", policy="prom-stack") == 1
    assert value(registry, "breaker_calls_total", policy="prom-stack", outcome="success") == 1


KEYED: dict[str, Callable[[], Any]] = {
    "bulkhead_calls_total": lambda: bulkhead(5, key="tenant", max_keys=2, name="prom-keyed"),
    "rate_limit_calls_total": lambda: rate_limit(5, key="tenant", max_keys=2, name="prom-keyed"),
    "adaptive_limit_calls_total": lambda: adaptive_limit(
        key="tenant", max_keys=2, name="prom-keyed"
    ),
    "throttle_requests_total": lambda: throttle(key="tenant", max_keys=2, name="prom-keyed"),
}


@pytest.mark.rule("F10")
@pytest.mark.parametrize("metric", KEYED)
def test_keyed_policies_export_their_totals_and_no_key(
    registry: CollectorRegistry, metric: str
) -> None:
    policy = KEYED[metric]()

    def ask(tenant: str) -> None: ...

    guarded = policy(ask)
    for tenant in ("tenant-a", "tenant-b", "tenant-c", "tenant-a"):
        guarded(tenant)
    assert value(registry, metric, policy="prom-keyed") == 4
    assert b"tenant-a" not in generate_latest(registry)


@pytest.mark.rule("M3")
def test_being_scraped_changes_nothing(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    policies: list[Any] = [
        bulkhead(2, name="prom-still"),
        rate_limit(2, name="prom-still"),
        adaptive_limit(name="prom-still"),
        throttle(name="prom-still"),
        hedge("p95", name="prom-still"),
        fallback(default=None, name="prom-still"),
        cache(5, name="prom-still"),
    ]
    for policy in policies[:4]:
        policy.call(int)

    def scraped() -> list[bytes]:  # of these alone: others may be collected meanwhile
        return [line for line in generate_latest(registry).splitlines() if b"prom-still" in line]

    before = [policy.stats() for policy in policies]
    assert scraped() == scraped()
    assert scraped()
    assert [policy.stats() for policy in policies] == before


def test_a_scrape_is_what_the_openmetrics_parser_reads(registry: CollectorRegistry) -> None:
    kept = [
        bulkhead(2, name="prom-parse"), rate_limit(2, name="prom-parse"),
        adaptive_limit(name="prom-parse"), throttle(name="prom-parse"),
        hedge(1.0, name="prom-parse"), fallback(default=None, name="prom-parse"),
        cache(5, name="prom-parse"),
    ]  # fmt: skip
    read: Any = parser.text_string_to_metric_families  # raises where a name or unit is wrong
    write: Any = exposition.generate_latest
    found = {
        family.name
        for family in read(write(registry).decode())
        if any(sample.labels.get("policy") == "prom-parse" for sample in family.samples)
    }
    assert {name.split("_")[1] for name in found} == {
        "bulkhead", "rate", "adaptive", "throttle", "hedge", "fallback", "cache",
    }  # fmt: skip
    assert len(kept) == 7


def test_expired_deadlines_are_counted(
    registry: CollectorRegistry, virtual_time: VirtualTime
) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await asyncio.sleep(2)

    before = value(registry, "deadline_expired_blocks_total") or 0
    virtual_time.run(main)
    assert value(registry, "deadline_expired_blocks_total") == before + 1


@pytest.mark.rule("F14")
def test_a_policy_that_is_gone_leaves_the_scrape(registry: CollectorRegistry) -> None:
    short = breaker("prom-short")
    short.call(int)
    assert value(registry, "breaker_calls_total", policy="prom-short", outcome="success") == 1
    del short
    gc.collect()
    assert value(registry, "breaker_calls_total", policy="prom-short", outcome="success") is None


def test_a_second_registration_is_refused(registry: CollectorRegistry) -> None:
    said = r"^registry <.*> has the policies already, .*: call register\(\) once"
    with pytest.raises(ValueError, match=said) as refused:
        register(registry)
    assert len(str(refused.value)) < 300, "and no list of all metrics"
    assert refused.value.__suppress_context__


def test_promtool_finds_nothing_to_complain_of(registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    kept = (
        breaker("prom-lint"),
        retry("prom-lint", on=ValueError),
        timeout(1, name="prom-lint"),
        singleflight("prom-lint"),
        bulkhead(1, name="prom-lint"),
        rate_limit(1, name="prom-lint"),
        adaptive_limit(name="prom-lint"),
        throttle(name="prom-lint"),
        hedge(1.0, name="prom-lint"),
        fallback(default=None, name="prom-lint"),
        cache(1.0, name="prom-lint"),
    )
    exposed = generate_latest(registry)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposed, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
    assert all(policy.name.encode() in exposed for policy in kept)

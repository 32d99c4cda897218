"""The Prometheus collector, with the real client, and promtool where it is installed."""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from resilient import (
    CircuitOpen,
    DeadlineExceeded,
    breaker,
    deadline,
    retry,
    singleflight,
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
    with pytest.raises(ValueError, match="Duplicated"):
        register(registry)


def test_promtool_finds_nothing_to_complain_of(registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    kept = (
        breaker("prom-lint"),
        retry("prom-lint", on=ValueError),
        timeout(1, name="prom-lint"),
        singleflight("prom-lint"),
    )
    exposed = generate_latest(registry)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposed, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
    assert all(policy.name.encode() in exposed for policy in kept)

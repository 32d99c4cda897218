"""The same stack with and without Prometheus metrics registered, and scraped in between."""

from __future__ import annotations

from benchmarks.floor import answer_async
from benchmarks.stack import our_five
from benchmarks.timing import OURS, Call, Case, Entry


def with_metrics() -> Call:
    """The registry is a fresh one; it was scraped once, as it would be every few seconds."""
    from prometheus_client import CollectorRegistry, generate_latest

    from resilient.telemetry.prometheus import register

    stacked = our_five()
    registry = CollectorRegistry()
    register(registry)
    generate_latest(registry)
    stacked.__dict__["registry"] = registry
    return stacked


CASES = [
    Case(
        "metrics",
        "fallback + retry + breaker + bulkhead + timeout, with Prometheus metrics",
        "async",
        (
            Entry("bare", lambda: answer_async, by_hand=True),
            Entry("without", our_five, by_hand=True),
            Entry(OURS, with_metrics),
        ),
    )
]

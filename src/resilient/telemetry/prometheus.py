"""Metrics for Prometheus, pulled from what the policies counted anyway.

``register()`` adds one collector over `resilient.policies`. A scrape reads totals; the calls
do not notice. Policies of one kind and name are added up, a breaker's state is the worst of
theirs, keyed policies export their totals, and a policy that is gone leaves the scrape:
so the number of series is bounded by the names in the program.

Needs the extra ``prometheus``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from resilient import Breaker, BreakerState, Retry, SingleFlight, Timeout, policies
from resilient._core.retry import REASONS
from resilient._policies.breaker.shell import WORST
from resilient._policies.deadline.block import expired_blocks
from resilient._runtime.locks import new_lock

T = TypeVar("T")
OUTCOMES: Final = ("success", "failure", "ignored")
REJECTING: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN)
_one_scrape = new_lock()


def register(registry: CollectorRegistry = REGISTRY) -> Collector:
    """Add the policies to *registry*; returns the collector, for ``registry.unregister``.

    Raises:
        ValueError: *registry* has them already.
    """
    collector = PolicyCollector()
    registry.register(collector)
    return collector


class PolicyCollector(Collector):
    """Every living policy, at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield from _breakers(_by_name(Breaker))
        yield from _retries(_by_name(Retry))
        yield from _timeouts(_by_name(Timeout))
        yield from _flights(_by_name(SingleFlight))

    def describe(self) -> Iterable[Metric]:
        """The metrics without samples: lets a registry find a second registration."""
        yield from _breakers({})
        yield from _retries({})
        yield from _timeouts({})
        yield from _flights({})


def _by_name(kind: type[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for policy in policies():
        if isinstance(policy, kind):
            found[policy.name].append(policy)
    return found


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"resilient_{name}", text, labels=("policy", *labels))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"resilient_{name}", text, labels=("policy", *labels))


def _breakers(named: dict[str, list[Breaker]]) -> Iterator[Metric]:
    calls = _counter("breaker_calls", "Calls that ended, by outcome.", "outcome")
    slow = _counter("breaker_slow_calls", "Calls that lasted longer than the limit for slow ones.")
    rejected = _counter(
        "breaker_rejected_calls",
        "Calls that were not made, by the state that rejected them.",
        "reason",
    )
    in_flight = _gauge("breaker_in_flight_calls", "Calls that have not ended.")
    state = _gauge(
        "breaker_state", "1 for the state that the breaker is in, 0 for the others.", "state"
    )
    transitions = _counter("breaker_transitions", "Changes of state, by the state entered.", "to")
    for name, breakers in named.items():
        stats, tallies = [one.stats() for one in breakers], [one.tallies() for one in breakers]
        totals = (
            sum(s.successes for s in stats),
            sum(s.failures for s in stats),
            sum(s.ignored for s in stats),
        )
        for outcome, total in zip(OUTCOMES, totals, strict=True):
            calls.add_metric((name, outcome), total)
        slow.add_metric((name,), sum(s.slow for s in stats))
        in_flight.add_metric((name,), sum(s.in_flight for s in stats))
        for one in REJECTING:
            rejected.add_metric((name, one.value), sum(t.rejections.get(one, 0) for t in tallies))
        worst = next(one for one in WORST if any(s.state is one for s in stats))
        for one in BreakerState:
            state.add_metric((name, one.value), one is worst)
            transitions.add_metric(
                (name, one.value), sum(t.transitions.get(one, 0) for t in tallies)
            )
    yield from (calls, slow, rejected, in_flight, state, transitions)


def _retries(named: dict[str, list[Retry]]) -> Iterator[Metric]:
    calls = _counter("retry_calls", "Calls, however often they were tried.")
    retries = _counter("retry_retries", "Attempts after the first.")
    recovered = _counter("retry_recovered_calls", "Calls that succeeded after a retry.")
    gave_up = _counter(
        "retry_gave_up_calls",
        "Calls that failed in the end, by the reason for not trying again.",
        "reason",
    )
    for name, group in named.items():
        stats = [one.stats() for one in group]
        calls.add_metric((name,), sum(s.calls for s in stats))
        retries.add_metric((name,), sum(s.retries for s in stats))
        recovered.add_metric((name,), sum(s.recovered for s in stats))
        for reason in REASONS:
            gave_up.add_metric((name, reason), sum(s.gave_up[reason] for s in stats))
    yield from (calls, retries, recovered, gave_up)


def _timeouts(named: dict[str, list[Timeout]]) -> Iterator[Metric]:
    blocks = CounterMetricFamily(
        "resilient_deadline_expired_blocks", "Blocks of deadline() that were cut short."
    )
    with _one_scrape:
        blocks.add_metric((), expired_blocks.read())
    calls = _counter("timeout_calls", "Calls under a timeout.")
    expired = _counter("timeout_expired_calls", "Calls that were cut short.")
    not_started = _counter("timeout_not_started_calls", "Calls that had no time left to begin.")
    for name, group in named.items():
        stats = [one.stats() for one in group]
        calls.add_metric((name,), sum(s.calls for s in stats))
        expired.add_metric((name,), sum(s.expired for s in stats))
        not_started.add_metric((name,), sum(s.not_started for s in stats))
    yield from (blocks, calls, expired, not_started)


def _flights(named: dict[str, list[SingleFlight]]) -> Iterator[Metric]:
    calls = _counter("singleflight_calls", "Calls, whether they ran or joined a run.")
    runs = _counter("singleflight_runs", "Runs of the function.")
    joined = _counter("singleflight_joined_calls", "Calls that waited for the run of another.")
    in_flight = _gauge("singleflight_in_flight_runs", "Runs that have not ended.")
    for name, group in named.items():
        stats = [one.stats() for one in group]
        calls.add_metric((name,), sum(s.calls for s in stats))
        runs.add_metric((name,), sum(s.runs for s in stats))
        joined.add_metric((name,), sum(s.joined for s in stats))
        in_flight.add_metric((name,), sum(s.in_flight for s in stats))
    yield from (calls, runs, joined, in_flight)

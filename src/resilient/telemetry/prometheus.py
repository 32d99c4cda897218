"""Metrics for Prometheus, pulled from what the policies counted anyway.

``register()`` adds one collector over `resilient.policies`. A scrape reads totals; the calls
do not notice. Policies of one kind and name are added up, of what can't be (a breaker's state, a
latency) the worst is shown, keyed policies export their totals, and a policy that is gone leaves
the scrape: so the number of series is bounded by the names in the program. A pipeline has no
metrics of its own: its policies are there themselves.

It is one table, a few lines for each kind of policy, and so as long as there are kinds.

Needs the extra ``prometheus``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from resilient import (
    AdaptiveLimit,
    Breaker,
    BreakerState,
    Bulkhead,
    Cache,
    Fallback,
    Hedge,
    RateLimit,
    Retry,
    SingleFlight,
    Throttle,
    Timeout,
    policies,
)
from resilient._core.breaker import REJECTING
from resilient._core.retry import REASONS
from resilient._policies.breaker.shell import WORST
from resilient._policies.deadline.block import expired_blocks
from resilient._runtime.locks import new_lock

T = TypeVar("T")
OUTCOMES: Final = ("success", "failure", "ignored")
FOUND: Final = {
    "hit": "hits", "negative_hit": "negative_hits", "miss": "misses", "refused": "refused"
}  # fmt: skip

_one_scrape = new_lock()


def register(registry: CollectorRegistry = REGISTRY) -> Collector:
    """Add the policies to *registry*; returns the collector, for ``registry.unregister``.

    Call it once for each registry, where the program starts. A second collector would count every
    policy twice.

    Raises:
        ValueError: *registry* has them already, or another metric of such a name.
    """
    collector = PolicyCollector()
    try:
        registry.register(collector)
    except ValueError:
        raise ValueError(
            f"registry {registry!r} has the policies already, or metrics of your own whose names "
            "begin with resilient_: call register() once, or registry.unregister(collector) with "
            "what the first call returned"
        ) from None
    return collector


class PolicyCollector(Collector):
    """Every living policy, at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        for kind, metrics in EXPORTED.items():
            yield from metrics(_by_name(kind))

    def describe(self) -> Iterable[Metric]:
        """The metrics without samples: lets a registry find a second registration."""
        for metrics in EXPORTED.values():
            yield from metrics({})


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
        stats = [one.stats() for one in breakers]
        rejections = [one._by_state("rejected") for one in breakers]
        entered = [one._by_state("entered") for one in breakers]
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
            rejected.add_metric((name, one.value), sum(by_state[one] for by_state in rejections))
        worst = next(one for one in WORST if any(s.state is one for s in stats))
        for one in BreakerState:
            state.add_metric((name, one.value), one is worst)
            transitions.add_metric((name, one.value), sum(by_state[one] for by_state in entered))
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


# The others: a row for each metric, and how it is read off the stats of those of one name.

Family = CounterMetricFamily | GaugeMetricFamily
Read = Callable[[list[Any]], float | None]


def _rows(named: Mapping[str, list[Any]], *rows: tuple[Family, Read]) -> Iterator[Metric]:
    """The metrics of *rows*. What is ``None`` is not known yet, and has no sample."""
    for name, group in named.items():
        stats = [one.stats() for one in group]
        for metric, read in rows:
            value = read(stats)
            if value is not None:
                metric.add_metric((name,), value)
    for metric, _ in rows:
        yield metric


def _sum(field: str) -> Read:
    return lambda stats: sum(getattr(one, field) for one in stats)


def _highest(field: str) -> Read:
    def read(stats: list[Any]) -> float | None:
        known = [value for one in stats if (value := getattr(one, field)) is not None]
        return max(known, default=None)

    return read


def _timeouts(named: dict[str, list[Timeout]]) -> Iterator[Metric]:
    blocks = CounterMetricFamily(
        "resilient_deadline_expired_blocks", "Blocks of deadline() that were cut short."
    )
    with _one_scrape:
        blocks.add_metric((), expired_blocks.read())
    yield blocks
    unstarted = _counter("timeout_not_started_calls", "Calls that had no time left to begin.")
    yield from _rows(
        named,
        (_counter("timeout_calls", "Calls under a timeout."), _sum("calls")),
        (_counter("timeout_expired_calls", "Calls that were cut short."), _sum("expired")),
        (unstarted, _sum("not_started")),
    )


def _flights(named: dict[str, list[SingleFlight]]) -> Iterator[Metric]:
    joined = _counter("singleflight_joined_calls", "Calls that waited for the run of another.")
    return _rows(
        named,
        (_counter("singleflight_calls", "Calls, whether they ran or joined a run."), _sum("calls")),
        (_counter("singleflight_runs", "Runs of the function."), _sum("runs")),
        (joined, _sum("joined")),
        (_gauge("singleflight_in_flight_runs", "Runs that have not ended."), _sum("in_flight")),
    )


def _bulkheads(named: dict[str, list[Bulkhead]]) -> Iterator[Metric]:
    return _rows(
        named,
        (_counter("bulkhead_calls", "Calls that were let through."), _sum("calls")),
        (_counter("bulkhead_rejected_calls", "Calls that were not made."), _sum("rejected")),
        (_gauge("bulkhead_limit", "Calls that may be under way at once."), _sum("limit")),
        (_gauge("bulkhead_in_flight_calls", "Calls that have not ended."), _sum("in_flight")),
        (_gauge("bulkhead_queued_calls", "Calls that wait for a place."), _sum("queued")),
    )


def _rate_limits(named: dict[str, list[RateLimit]]) -> Iterator[Metric]:
    return _rows(
        named,
        (_counter("rate_limit_calls", "Calls that were let through."), _sum("calls")),
        (_counter("rate_limit_rejected_calls", "Calls that were not made."), _sum("rejected")),
        (_gauge("rate_limit_queued_calls", "Calls that wait for their turn."), _sum("queued")),
    )


def _adaptive_limits(named: dict[str, list[AdaptiveLimit]]) -> Iterator[Metric]:
    smoothed = "Smoothed recent latency; of several limits or keys the highest."
    unloaded = "What the latency is thought to be without load; of several the highest."
    return _rows(
        named,
        (_counter("adaptive_limit_calls", "Calls that were let through."), _sum("calls")),
        (_counter("adaptive_limit_rejected_calls", "Calls that were not made."), _sum("rejected")),
        (_gauge("adaptive_limit_limit", "Calls that may be under way at once."), _sum("limit")),
        (_gauge("adaptive_limit_in_flight_calls", "Calls that have not ended."), _sum("in_flight")),
        (_gauge("adaptive_limit_queued_calls", "Calls that wait for a place."), _sum("queued")),
        (_gauge("adaptive_limit_latency_seconds", smoothed), _highest("latency")),
        (_gauge("adaptive_limit_unloaded_latency_seconds", unloaded), _highest("latency_unloaded")),
    )


def _throttles(named: dict[str, list[Throttle]]) -> Iterator[Metric]:
    share = "Share of the calls that is rejected now; of several throttles or keys the highest."
    return _rows(
        named,
        (_counter("throttle_requests", "Calls let through that ended."), _sum("requests")),
        (_counter("throttle_accepts", "Requests without a failure."), _sum("accepts")),
        (_counter("throttle_rejected_calls", "Calls that were not made."), _sum("rejected")),
        (_gauge("throttle_rejection_ratio", share), _highest("probability")),
    )


def _hedges(named: dict[str, list[Hedge]]) -> Iterator[Metric]:
    after = "When a hedge is made now, after its call began; of several the highest."
    return _rows(
        named,
        (_counter("hedge_calls", "Calls, however many attempts they made."), _sum("calls")),
        (_counter("hedge_hedges", "Attempts beside the first ones."), _sum("hedges")),
        (_counter("hedge_won_calls", "Calls that a hedge served."), _sum("won")),
        (_counter("hedge_no_budget_hedges", "Hedges that the budget refused."), _sum("no_budget")),
        (_gauge("hedge_after_seconds", after), _highest("after")),
    )


def _fallbacks(named: dict[str, list[Fallback[Any]]]) -> Iterator[Metric]:
    return _rows(
        named,
        (_counter("fallback_calls", "Calls, whether they needed it or not."), _sum("calls")),
        (_counter("fallback_used_calls", "Calls that the fallback was asked for."), _sum("used")),
        (_counter("fallback_failed_calls", "Of these, where it failed, too."), _sum("failed")),
    )


def _caches(named: dict[str, list[Cache[Any]]]) -> Iterator[Metric]:
    calls = _counter("cache_calls", "Calls, by what they found.", "result")
    for name, group in named.items():
        stats = [one.stats() for one in group]
        for result, total in FOUND.items():
            calls.add_metric((name, result), sum(getattr(s, total) for s in stats))
    yield calls
    yield from _rows(
        named,
        (
            _counter(
                "cache_stale_served_calls",
                "Misses that got an old value: the run failed or was late.",
            ),
            _sum("stale_served"),
        ),
        (_counter("cache_refreshes", "Runs begun ahead of an entry's end."), _sum("refreshes")),
        (_counter("cache_failed_refreshes", "Those that failed."), _sum("refresh_failed")),
        (_counter("cache_evictions", "Entries that had to make room."), _sum("evictions")),
        (_gauge("cache_entries", "Entries that are kept."), _sum("size")),
    )


EXPORTED: Final[dict[type[Any], Callable[[dict[str, list[Any]]], Iterator[Metric]]]] = {
    Breaker: _breakers,
    Retry: _retries,
    Timeout: _timeouts,
    SingleFlight: _flights,
    Bulkhead: _bulkheads,
    RateLimit: _rate_limits,
    AdaptiveLimit: _adaptive_limits,
    Throttle: _throttles,
    Hedge: _hedges,
    Fallback: _fallbacks,
    Cache: _caches,
}

"""What to reach, a row for each line of the project's performance goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.report import Report
from benchmarks.timing import FLOOR, OURS

Reading = Callable[[Report], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """A reading of the report that shall not be above *most*."""

    row: str
    unit: str
    most: float
    read: Reading


def over(case: str, world: str, other: str | None, ours: str = OURS) -> Reading:
    """Our time over that of *other*, or of the fastest peer."""

    def read(report: Report) -> float | None:
        outcome = report.outcome(case, world)
        if outcome is None:
            return None
        mine = outcome.figure(ours)
        theirs = outcome.fastest_peer() if other is None else outcome.figure(other)
        return None if mine is None or theirs is None else mine.least / theirs.least

    return read


def _to_floor(report: Report, case: str, world: str) -> float | None:
    return over(case, world, FLOOR)(report)


def spread(cases: list[str], world: str) -> Reading:
    """The largest ratio to the floor over the smallest one."""

    def read(report: Report) -> float | None:
        ratios = [_to_floor(report, case, world) for case in cases]
        known = [ratio for ratio in ratios if ratio is not None]
        return max(known) / min(known) if len(known) == len(cases) else None

    return read


def _threads(report: Report) -> float | None:
    one = _to_floor(report, "1 threads on one breaker", "sync")
    eight = _to_floor(report, "8 threads on one breaker", "sync")
    return None if one is None or eight is None else eight / one


def memory(name: str) -> Reading:
    return lambda report: report.memory.get(name)


def _imports(report: Report) -> float | None:
    times = report.imports
    if not times:
        return None
    return min(times["import resilient"]) / min(times["import anyio, tenacity"])


def over_all_but(fastest: str, case: str, world: str) -> Reading:
    """Our time over that of the fastest peer besides the one that is *fastest*."""

    def read(report: Report) -> float | None:
        outcome = report.outcome(case, world)
        if outcome is None:
            return None
        figures = [one for one in outcome.figures if one.library != fastest]
        rest = replace(outcome, figures=figures)
        mine, theirs = rest.figure(OURS), rest.fastest_peer()
        return None if mine is None or theirs is None else mine.least / theirs.least

    return read


PEER, HAND = "x the fastest peer", "x the loop by hand"
NEXT = "x any peer but hyx"
THEIRS, SHIELD = "x asyncio.timeout", "x task + shield"
FIRST, TWICE = "retry, first time ok", "retry, fails twice"
TIMEOUT = "timeout or deadline that does not fire"
WAVE, ALONE = "single-flight, 1000 waiters, per waiter", "single-flight, nobody else waiting"
TASKS = [f"{size} tasks on one breaker" for size in (1, 100, 10_000)]
KEYS = "100000 keys of one breaker"
SEMAPHORE, LOCKED = "asyncio.Semaphore", "cachetools with a lock"
FREE, PERMITTED, HIT = "bulkhead free", "rate limit, permitted", "cache hit"
FIVE = "fallback + retry + breaker + bulkhead + timeout"
METRICS = f"{FIVE}, with Prometheus metrics"
REQUEST, AS_MUCH = "httpx2 request", "clientwright"
FILLED = "memory of one breaker, window filled"

TARGETS = [
    Target("breaker closed, async", "x floor", 2.1, over("breaker closed", "async", FLOOR)),
    Target("breaker closed, async", PEER, 1.0, over("breaker closed", "async", None)),
    Target("breaker closed, sync", "x floor", 3.0, over("breaker closed", "sync", FLOOR)),
    Target("breaker closed, sync", PEER, 1.0, over("breaker closed", "sync", None)),
    Target("breaker open, async", PEER, 0.8, over("breaker open, rejected", "async", None)),
    Target("breaker open, sync", PEER, 0.8, over("breaker open, rejected", "sync", None)),
    Target("retry, first time ok, async", "x floor", 1.8, over(FIRST, "async", FLOOR)),
    Target("retry, first time ok, sync", "x floor", 2.6, over(FIRST, "sync", FLOOR)),
    Target("retry, fails twice, async", HAND, 2.5, over(TWICE, "async", "loop by hand")),
    Target("retry, fails twice, sync", HAND, 2.5, over(TWICE, "sync", "loop by hand")),
    Target("timeout that does not fire", THEIRS, 0.65, over(TIMEOUT, "async", "asyncio.timeout")),
    Target(
        "deadline that does not fire",
        THEIRS,
        0.65,
        over(TIMEOUT, "async", "asyncio.timeout", "resilient deadline"),
    ),
    Target("single-flight, 1000 waiters", SHIELD, 1.0, over(WAVE, "async", "task + shield")),
    Target("single-flight, alone", "x create_task", 1.5, over(ALONE, "async", "create_task")),
    Target("bulkhead free, async", "x asyncio.Semaphore", 0.8, over(FREE, "async", SEMAPHORE)),
    Target("rate limit, permitted, async", PEER, 1.25, over(PERMITTED, "async", None)),
    Target("rate limit, permitted, async", NEXT, 1.0, over_all_but("hyx", PERMITTED, "async")),
    Target("rate limit, permitted, sync", PEER, 1.0, over(PERMITTED, "sync", None)),
    Target("cache hit, sync", f"x {LOCKED}", 1.0, over(HIT, "sync", LOCKED)),
    Target("cache hit, async", "x async-lru", 1.0, over(HIT, "async", "async-lru")),
    Target("five policies stacked, async", PEER, 0.45, over(FIVE, "async", None)),
    Target("the stack with Prometheus", "x without", 1.1, over(METRICS, "async", "without")),
    Target("a request of httpx2, async", "x bare", 1.3, over(REQUEST, "async", FLOOR)),
    Target("a request of httpx2, async", "x clientwright", 1.0, over(REQUEST, "async", AS_MUCH)),
    Target(FILLED, "bytes", 1500, memory(FILLED)),
    Target("memory of a key of 100,000", "bytes", 1000, memory("memory of a key of 100,000")),
    Target("a call with 100,000 keys, async", "x unkeyed", 1.5, over(KEYS, "async", "unkeyed")),
    Target("1, 100, 10,000 tasks: spread", "x", 1.2, spread(TASKS, "async")),
    Target("8 threads: cost against one", "x", 1 / 0.9, _threads),
    Target("import resilient", "x anyio, tenacity", 1.25, _imports),
]

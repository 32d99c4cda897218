"""A breaker's core in short words, for tests."""

from __future__ import annotations

from typing import Any

from resilient._core.breaker import BreakerConfig, BreakerCore, BreakerState, Moved, Permit, Refusal
from resilient._core.matching import Verdict

OK, BAD, IGNORED, CUT = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED, Verdict.CANCELLED


def rule_of(**changes: Any) -> BreakerConfig:
    """It opens at half of at least two calls in 8 s, for 2 s; one probe, leased for 4 s."""
    settings: dict[str, Any] = {
        "consecutive_failures": None,
        "failure_rate": 0.5,
        "slow": None,
        "slow_rate": 0.5,
        "window": 8.0,
        "window_calls": None,
        "minimum": 2,
        "cooldown": lambda k, u: 2.0,
        "probes": 1,
        "probe_lease": 4.0,
    }
    return BreakerConfig(**{**settings, **changes})


def core_of(
    now: float = 0.0, initial: BreakerState = BreakerState.CLOSED, **changes: Any
) -> BreakerCore:
    """A core that begins at *now*."""
    return BreakerCore(rule_of(**changes), now, 0.0, initial)


def admit(core: BreakerCore, now: float = 0.0, u: float = 0.0) -> Permit:
    """A permit, or the test fails."""
    answer, _ = core.admit(now, u)
    assert isinstance(answer, Permit), answer
    return answer


def refusal(core: BreakerCore, now: float = 0.0) -> Refusal:
    """A refusal, or the test fails."""
    answer, _ = core.admit(now, 0.0)
    assert isinstance(answer, Refusal)
    return answer


def call(
    core: BreakerCore, verdict: Verdict, now: float = 0.0, lasted: float = 0.0
) -> Moved | None:
    """One whole call that ends at *now*."""
    return core.settle(admit(core, now), verdict, now, 0.0, lasted)


def calls(core: BreakerCore, *verdicts: Verdict, now: float = 0.0) -> Moved | None:
    """Calls one after the other; what the last one moved."""
    moved = None
    for verdict in verdicts:
        moved = call(core, verdict, now)
    return moved


def stats(core: BreakerCore, now: float = 0.0) -> Any:
    """A snapshot."""
    return core.stats("test", now)

"""The retry budget's shell: the core with a lock and a clock."""

from __future__ import annotations

from typing import final

from resilient._core.budget import LATE, BudgetConfig, BudgetCore
from resilient._core.checks import Seconds, check_number, check_seconds
from resilient._policies.common.shared import Shared
from resilient._runtime import clock
from resilient._runtime.locks import new_lock
from resilient._runtime.registry import Registry


@final
class RetryBudget(Shared):
    """How many retries all calls together may cost, so that retries can't keep a service down.

    A call deposits *ratio*, a retry withdraws 1. On top of that a reserve allows
    ``per_second * ttl`` retries in any *ttl*; each comes back one *ttl* after it was taken. Pass
    one object to several policies to share it: each deposits for its own calls.

    Args:
        ratio: retries that one call pays for, at least 0.
        per_second: retries a second in reserve, at least 0; a reserve that is smaller than one
            retry in a *ttl* gives one in every ``1 / per_second`` seconds.
        ttl: seconds, above 0; a deposit expires between this and 1.1 times this.

    Source:
        Finagle's ``RetryBudget``; gRPC proposal A6 on throttled retries.
    """

    __slots__ = ("__weakref__", "_config", "_core", "_lock")

    def __init__(self, ratio: float = 0.2, per_second: float = 1.0, ttl: Seconds = 10.0) -> None:
        self._config = BudgetConfig(
            check_number("ratio", ratio, least=0),
            check_number("per_second", per_second, least=0),
            check_seconds("ttl", ttl, above=0),
        )
        self._lock = new_lock()
        self._core = BudgetCore(self._config, clock.now())
        registry.add(self)

    def deposit(self) -> None:
        """Pay for one call."""
        self._core.deposit(clock.now())

    def withdraw(self) -> bool:
        """Take one retry; false when the budget is used up."""
        core, now = self._core, clock.now()
        if core.since <= now < core.quiet_until and next(core.tokens, LATE) is not LATE:
            return True
        with self._lock:
            return core.withdraw(now)

    @property
    def left(self) -> float:
        """How many retries could be taken now, deposits and reserve together."""
        now = clock.now()
        with self._lock:
            return self._core.left(now)

    def _untouched(self) -> bool:
        """Whether a new one would not differ. Waits for no lock that is held: the caller may hold
        one.
        """
        if self._lock.locked():
            return False  # it is in use
        with self._lock:  # if somebody was quicker, it is free in a moment
            return self._core.untouched(clock.now())

    def _reset(self) -> None:
        """Start as new."""
        with self._lock:
            self._core.reset(clock.now())

    def _copy(self, _key: object) -> RetryBudget:
        """A new one with the same settings, for one key."""
        config = self._config
        return RetryBudget(config.ratio, config.per_second, config.ttl)

    def __repr__(self) -> str:
        config = self._config
        limits = f"ratio={config.ratio:g}, per_second={config.per_second:g}"
        return f"RetryBudget({limits}, ttl={config.ttl:g})"


registry: Registry[RetryBudget] = Registry()

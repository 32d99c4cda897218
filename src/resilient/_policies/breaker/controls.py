"""The settings of a breaker, and what it and a key's handle have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient._core.breaker import BreakerConfig, BreakerState, BreakerStats
from resilient._core.matching import Judge, Verdict
from resilient._policies.backoff import Backoff
from resilient._policies.breaker.tripping import Tripping
from resilient._policies.common.calls import Blocks
from resilient._runtime.keying import Key


class Settings(NamedTuple):
    """The settings of a breaker, checked by its factory."""

    config: BreakerConfig
    cooldown: Backoff
    judge: Judge
    on_result: Callable[[Any], object] | None
    key: Key | None
    max_keys: int
    initial: BreakerState
    trip: Tripping | None

    def verdict(self, result: object) -> Verdict:
        """What a returned value says."""
        if self.on_result is None:
            return Verdict.SUCCESS
        return self.judge.result(self.on_result, result)


class Controls(Blocks):
    """What a breaker and a key's handle have in common."""

    @property
    @abc.abstractmethod
    def state(self) -> BreakerState:
        """The state.

        OPEN reads as OPEN until a call comes, however long ago the cooldown ended: nothing but
        calls moves the machine.
        """

    @abc.abstractmethod
    def stats(self) -> BreakerStats:
        """A snapshot. ``state`` and ``retry_after`` read as in `state`.

        No timer moves the machine.
        """

    @abc.abstractmethod
    def _force_state(self, state: BreakerState, how: str) -> None: ...

    def force_open(self) -> None:
        """Reject every call until `reset`, whatever the time."""
        self._force_state(BreakerState.FORCED_OPEN, "force_open")

    def disable(self) -> None:
        """Let every call through, and record nothing of it."""
        self._force_state(BreakerState.DISABLED, "disable")

    def metrics_only(self) -> None:
        """Let every call through, record it, and tell once when the breaker would have opened."""
        self._force_state(BreakerState.METRICS_ONLY, "metrics_only")

    def reset(self) -> None:
        """Close, with nothing remembered. While closed it forgets, too, and tells nobody."""
        self._force_state(BreakerState.CLOSED, "reset")

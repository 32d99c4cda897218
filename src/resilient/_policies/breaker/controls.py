"""What a breaker is told, and what it and a key's handle have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resilient._core.breaker import BreakerCore, BreakerRule, BreakerState, BreakerStats
from resilient._core.matching import Judge, Verdict
from resilient._policies.backoff import Backoff
from resilient._policies.base import Blocks
from resilient._runtime.keying import Key


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a breaker was told, checked by its factory."""

    rule: BreakerRule
    cooldown: Backoff
    judge: Judge
    on_result: Callable[[Any], object] | None
    key: Key | None
    max_keys: int
    initial: BreakerState

    def verdict(self, result: object) -> Verdict:
        """What a returned value says."""
        if self.on_result is None:
            return Verdict.SUCCESS
        return self.judge.result(self.on_result, result)


@dataclass(frozen=True, slots=True)
class BreakerTallies:
    """Rejections by the state that rejected, transitions by the state that was entered."""

    rejections: dict[BreakerState, int]
    transitions: dict[BreakerState, int]

    def add(self, core: BreakerCore) -> None:
        """Add what *core* has counted."""
        for mine, more in (
            (self.rejections, core.rejections),
            (self.transitions, core.transitions),
        ):
            for state, count in more.items():
                mine[state] = mine.get(state, 0) + count


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
    def _turn(self, state: BreakerState, how: str) -> None: ...

    def force_open(self) -> None:
        """Reject every call until `reset`, whatever the time."""
        self._turn(BreakerState.FORCED_OPEN, "force_open")

    def disable(self) -> None:
        """Let every call through, and record nothing of it."""
        self._turn(BreakerState.DISABLED, "disable")

    def metrics_only(self) -> None:
        """Let every call through, record it, and tell once when the breaker would have opened."""
        self._turn(BreakerState.METRICS_ONLY, "metrics_only")

    def reset(self) -> None:
        """Close, with nothing remembered. While closed it forgets, too, and tells nobody."""
        self._turn(BreakerState.CLOSED, "reset")

"""The breaker policy: its states and stats, what is done by hand, and the wrappers."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import cast, final

from resilient._core.breaker import (
    BreakerCore,
    BreakerState,
    BreakerStats,
)
from resilient._policies.breaker import fast_path
from resilient._policies.breaker.admitting import AdmittingBreaker
from resilient._policies.breaker.controls import Controls
from resilient._policies.common.keyed import OfKey, Totals
from resilient._runtime import notify
from resilient._runtime.decorate import AnyFunction
from resilient._runtime.keying import KeyOf

WORST = tuple(
    BreakerState(word)
    for word in ("forced_open", "open", "half_open", "metrics_only", "disabled", "closed")
)
"""The states of a keyed breaker's keys, worst first: its own is the worst of them."""
TOTALS = ("calls", "successes", "failures", "slow", "ignored", "rejected", "opened")


@final
class Breaker(AdmittingBreaker, Controls):
    """Stops calling a dependency that keeps failing; `breaker` makes it.

    Decorates functions, sync and async; guards blocks, ``with payments as call:``; and hands
    out single calls, `admit`. With ``key=`` there is one state for each key; `of` is the handle of
    one.
    """

    # State.

    @property
    def state(self) -> BreakerState:
        self._states.refuse_keyed(self, "state")
        return self._states.only.state

    def stats(self) -> BreakerStats:
        """A snapshot; see `BreakerStats`.

        The state reads as OPEN until a call comes, however long ago the cooldown ended. Of a keyed
        breaker the sums over all keys, also of those that were evicted: the state is the worst
        of them, the generation the highest, and rates are left to the keys.
        """
        if not self._states.is_keyed:
            return self._locked(lambda now: self._states.only.stats(self.name, now))
        return cast("BreakerStats", super().stats())

    def _read(self, state: BreakerCore, now: float) -> tuple[BreakerState, int]:  # noqa: ARG002  # no time moves it
        return state.state, state.generation

    def _stats_of(self, readings: list[tuple[BreakerState, int]], totals: Totals) -> BreakerStats:
        found = {state for state, _ in readings} or {self._future}
        sums = {total: totals.get(total, 0) for total in TOTALS}
        ended = sums["successes"] + sums["failures"] + sums["ignored"]
        return BreakerStats(
            name=self.name,
            state=next(state for state in WORST if state in found),
            generation=max((generation for _, generation in readings), default=1),
            in_flight=sums["calls"] - ended,
            failure_rate=None,
            slow_rate=None,
            retry_after=None,
            **sums,
        )

    def _stats_of_key(self, key: Hashable) -> BreakerStats:
        def step(now: float) -> BreakerStats:
            return (self._states.peek(key) or self._new_state(key)).stats(self.name, now)

        return self._locked(step)

    def _state_of_key(self, key: Hashable) -> BreakerState:
        state = self._states.peek(key)
        return self._future if state is None else state.state

    def _by_state(self, what: str) -> dict[BreakerState, int]:
        """Totals by state, over all keys, for metrics: *what* is "rejected" or "entered"."""
        _, totals = self._sums()
        return {state: totals.get((what, state), 0) for state in BreakerState}

    def of(self, key: Hashable) -> BreakerOfKey:
        """The handle of one *key*, with the breaker's own interface.

        It looks the state up at each use, and makes none before the first call.

        Raises:
            TypeError: the breaker has no ``key=``, or *key* can't be hashed.
        """
        return BreakerOfKey(self, self._states.checked(self, key))

    # By hand.

    def _force_state(self, state: BreakerState, how: str) -> None:
        draw = self._draw()

        def begin() -> None:
            self._future = state

        def force(core: BreakerCore, now: float) -> None:
            # If it is another one by now, whoever set that sees to the rest.
            if self._future is not state or core.retired:
                return
            moved = core.force_state(state, how, now, draw)
            if notify.listening:
                self._emit_move(moved)

        self._visit(force, begin)

    def _force_state_of_key(self, key: Hashable, state: BreakerState, how: str) -> None:
        draw = self._draw()
        self._locked(
            lambda now: self._states.find(key).force_state(state, how, now, draw),
            emit=self._emit_move,
        )

    def _reset(self) -> None:
        draw, initial = self._draw(), self._settings.initial

        def begin() -> None:
            self._future = initial
            if self._states.is_keyed:
                self._states.restart(self._new_state)

        self._visit(lambda state, now: state.reset(now, draw, initial), begin)

    # Wrappers.

    def _wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        if find is None and self._fast_below == math.inf:
            return fast_path.wrap_sync(self, self._states.only, fn)
        return fast_path.wrap_sync_timed(self, self._only(), fn, find)

    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        if find is None and self._fast_below == math.inf:
            return fast_path.wrap_async(self, self._states.only, fn)
        return fast_path.wrap_async_timed(self, self._only(), fn, find)

    def _only(self) -> BreakerCore:
        """The only core; with keys one that never has a permit."""
        if not self._states.is_keyed:
            return self._states.only
        return BreakerCore(self._settings.config, 0.0, 0.0, BreakerState.DISABLED)


@final
class BreakerOfKey(OfKey[Breaker, BreakerStats], Controls):
    """One key of a keyed breaker: the same interface, and no state before the first call."""

    @property
    def state(self) -> BreakerState:
        return self._policy._state_of_key(self._key)

    def _force_state(self, state: BreakerState, how: str) -> None:
        self._policy._force_state_of_key(self._key, state, how)

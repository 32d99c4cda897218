"""How a breaker admits calls, and what it makes of their ends: the core under the shell's lock.

What a call does without the lock is in `fast_path`, in `AdmittingBreaker._acquire_nowait` and in
`AdmittingBreaker._reject_fast`. Everything else is a step of the core under the lock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple, cast

from resilient._core.breaker import (
    BreakerCore,
    BreakerState,
    Moved,
    Permit,
    SharedRejection,
    Transition,
)
from resilient._core.chaining import comes_of_close
from resilient._core.matching import Verdict
from resilient._policies.breaker.controls import Settings
from resilient._policies.common.admission import AdmissionPolicy
from resilient._policies.deadline.cause import cut_by
from resilient._runtime import clock, notify, rng
from resilient._runtime.decorate import AnyFunction, AwaitableReturned, plain_type
from resilient._runtime.keying import hashable
from resilient._runtime.loops import is_cancellation
from resilient.errors import CircuitOpen, Rejected, new_error


class Ended(NamedTuple):
    """A call that ended where the collector may be. One that is collected itself is but a permit,
    and ignored.
    """

    permit: Permit
    verdict: Verdict
    lasted: float = 0.0
    trip: float | None = None


class AdmittingBreaker(AdmissionPolicy[BreakerCore]):
    """The part of a breaker that admits calls and ends them."""

    kind = "breaker"
    _error = CircuitOpen
    _checks_deadline = False

    def __init__(self, name: str | None, settings: Settings) -> None:
        self._settings, self._future = settings, settings.initial
        self._rng = settings.cooldown._rng
        slow = settings.config.slow
        self._fast_below = math.inf if slow is None else slow
        if settings.on_result is not None:
            self._fast_below = -math.inf  # every result must be judged
        super().__init__(name, settings.key, settings.max_keys, retire=BreakerCore.retire)

    def _new_state(self, key: Hashable) -> BreakerCore:
        config = self._settings.config
        draw = self._draw() if self._future is BreakerState.OPEN else 0.0  # none other rests
        return BreakerCore(config, clock.now(), draw, self._future, key)

    def _is_healthy(self, state: BreakerCore) -> bool:
        return state.healthy(clock.now())

    def _draw(self) -> float:
        return rng.draw() if self._rng is None else self._rng.random()

    # Admission.

    def _acquire_nowait(self, key: Hashable) -> Permit:
        """Admit one call, or raise; while the breaker of its key is closed, without the lock."""
        try:
            slot = None if key is None else self._states.slot(key)
        except TypeError:
            hashable(key)  # says it better
            raise
        if slot is not None:
            state = slot.state
            if (permit := state.shared_permit) is not None:
                slot.used = next(self._states.uses)
                next(state.calls.increment)
                if not state.retired:
                    return permit
                with self._lock:
                    state.void += 1
        return cast("Permit", super()._acquire_nowait(key))

    def _admit_to(self, state: BreakerCore, now: float, draw: float) -> Permit | Rejected:
        answer, moves = state.admit(now, draw)
        if notify.listening:
            for moved in moves:
                self._emit_move(moved)
        if isinstance(answer, Permit):
            return answer
        return self._rejection(state, answer.reason, now, answer.retry_after, answer.why)

    def _reject_fast(self, shared: SharedRejection, now: float) -> CircuitOpen:
        """Count a rejection, and make its error, without the lock."""
        next(shared.rejected)
        left = (until := shared.until) - now
        exact = left < shared.longest and now + left >= until  # else rounding, or no time ends it
        retry_after = left if exact else shared.left(now)
        return new_error(
            CircuitOpen, self._name or "breaker", retry_after, shared.reason, shared.why
        )

    # How calls end.

    def _returned(self, permit: Permit, result: object, lasted: float) -> None:
        """End a call that returned."""
        verdict = Verdict.IGNORED  # if the predicate is interrupted
        try:
            verdict = self._settings.verdict(result)
        finally:
            self._settle(permit, verdict, lasted)

    def _is_unwanted(self, result: object) -> bool:
        return self._settings.verdict(result) is Verdict.FAILURE

    def _raised(self, permit: Permit, error: BaseException, began: float) -> None:
        """End a call that raised; *began* matters where slow calls are watched for."""
        lasted, trip = clock.now() - began, None
        verdict = Verdict.IGNORED  # interrupted, perhaps in a predicate
        try:
            if isinstance(error, Exception):
                judge = self._settings.judge
                certain = isinstance(error, judge.certain_failures)
                if certain and not isinstance(error, judge.doubtful):
                    verdict = Verdict.FAILURE  # as the judge says, without a call
                else:
                    verdict = judge.error(error)
                if verdict is Verdict.FAILURE and self._settings.trip is not None:
                    trip = self._settings.trip.rest(error, judge)
            elif is_cancellation(error):
                slow, verdict = self._settings.config.slow, Verdict.CANCELLED
                if (slow is None or lasted > slow) and cut_by(error) is not None:
                    verdict = Verdict.FAILURE  # it hung until a time limit of ours ended it
        finally:
            self._settle(permit, verdict, lasted, trip, error)

    def _settle(
        self,
        permit: Permit,
        verdict: Verdict,
        lasted: float,
        trip: float | None = None,
        error: BaseException | None = None,
    ) -> None:
        if error is not None and comes_of_close(error):
            self._end(Ended(permit, verdict, lasted, trip), error)
            return
        draw = self._draw()
        step = partial(permit.core.settle, permit, verdict, draw=draw, lasted=lasted, trip=trip)
        self._locked(step, emit=self._emit_move)

    def _release(self, ticket: Permit | Ended, now: float) -> None:
        if isinstance(ticket, Permit):
            ticket = Ended(ticket, Verdict.IGNORED)
        permit, verdict, lasted, trip = ticket
        draw = rng.draw()  # no code of the user's here
        moved = permit.core.settle(permit, verdict, now, draw, lasted, trip)
        if notify.listening:
            self._emit_move(moved)

    def _finish_call(
        self,
        ticket: Permit,
        began: float,
        error: BaseException | None,
        outcome_override: str | None,
    ) -> None:
        if outcome_override is None and error is None:
            now = clock.now()
            if now < ticket.until and now - began <= self._fast_below:
                next(ticket.succeeded)  # as in `fast_path`, without the lock
                return
        if outcome_override is not None:
            verdict = Verdict.FAILURE if outcome_override == "fail" else Verdict.IGNORED
        elif error is not None:
            self._raised(ticket, error, began)
            return
        else:
            verdict = Verdict.SUCCESS
        lasted, trip = clock.now() - began, None
        try:
            asked = self._settings.trip
            if asked is not None and verdict is Verdict.FAILURE and isinstance(error, Exception):
                trip = asked.rest(error, self._settings.judge)
        finally:
            self._settle(ticket, verdict, lasted, trip, error)

    def _plain_type(self, fn: AnyFunction, permit: Permit, result: object) -> type | None:
        """`plain_type`, which ends the call if it refuses."""
        try:
            return plain_type(fn, result)
        except AwaitableReturned as error:
            self._raised(permit, error, 0.0)
            raise

    def _emit_move(self, moved: Moved | None) -> None:
        """Tell that a breaker moved, or would have; ``None`` tells nothing."""
        if moved is None:
            return
        of_both: dict[str, Any] = {"at": moved.at, "key": moved.key, "reason": moved.why.watch}
        if isinstance(moved, Transition):
            self._emit("StateChanged", old=moved.old, new=moved.new, **of_both)
        else:
            self._emit("WouldHaveOpened", **of_both)

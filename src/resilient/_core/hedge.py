"""Hedge: when a second attempt may begin beside the first.

1. After a fixed time, or after a quantile of the latencies of its own successes, once
   there are `HISTORY` of them (H4). A quantile is never sooner than `SOONEST`: timers are no
   finer. After 0, all attempts begin at once.
2. An attempt that fails with ``on``, or whose result is unwanted, is replaced at once; any other
   error ends the call (H2).
3. At most ``max`` attempts more than the first; each must be paid for, and is of use only while
   time is left (H4). An attempt is launched first, and begins when its task does: one that then
   comes too late, since the call is decided, was none.
4. Hedges are for single calls that are slow. If many are at once, the dependency is, and more calls
   would make it slower: so by default at most one in ten of the recent calls is hedged, and no
   more than two at once. A budget remembers seconds, which is too long for that.
5. The first acceptable result wins (H1). If there is none, the call ends as its first attempt did:
   with its error, or its unwanted result (H3). An attempt that was not made, because it was
   rejected, is not replaced and ends nothing.

J. Dean and L. A. Barroso, "The Tail at Scale" (2013).
"""

from __future__ import annotations

import math
from typing import Any, Final

from resilient._core.histogram import Histogram
from resilient._core.matching import Verdict

HISTORY: Final = 20
SOONEST: Final = 0.001
ONE_IN: Final = 10
AT_ONCE: Final = 2


class Share:
    """How many hedges the recent calls have earned."""

    __slots__ = ("_earned", "_seen")

    def __init__(self) -> None:
        self._earned, self._seen = AT_ONCE * ONE_IN, 0

    def take(self, calls: int) -> bool:
        """Whether one more hedge may be, now that so many *calls* were made in all."""
        self._earned = min(AT_ONCE * ONE_IN, self._earned + calls - self._seen)
        self._seen = calls
        if self._earned < ONE_IN:
            return False
        self._earned -= ONE_IN
        return True


class HedgeDelay:
    """When to hedge: after ``seconds``, or after the quantile ``share`` of the successes."""

    __slots__ = ("_asked_at", "_known", "latencies", "seconds", "share")

    def __init__(self, seconds: float | None, share: float) -> None:
        self.seconds, self.share = seconds, share
        self.reset()

    def reset(self) -> None:
        """Start as new."""
        self.latencies = Histogram()
        self._asked_at, self._known = 0, math.nan

    def succeeded(self, seconds: float) -> None:
        """An attempt has won after *seconds*."""
        if self.seconds is None:
            self.latencies.add(max(0.0, seconds))

    def after(self) -> float | None:
        """Seconds after which another attempt begins; ``None`` while nobody knows. A quantile is
        read anew when a sixteenth more has been seen.
        """
        if self.seconds is not None:
            return self.seconds
        seen = self.latencies.seen
        if seen < HISTORY:
            return None
        if math.isnan(self._known) or seen - self._asked_at >= min(seen, 1000) / 16:
            self._known, self._asked_at = self.latencies.quantile(self.share), seen
        return max(SOONEST, self._known)


class Race:
    """The attempts of one call, and what they came to."""

    __slots__ = (
        "_errors", "_failed", "_first_error", "_first_result", "_max", "_replaced", "_results",
        "_running", "begun", "launched", "over",
    )  # fmt: skip

    def __init__(self, max_hedges: int) -> None:
        self._max = max_hedges
        self.launched = self.begun = self._running = self._failed = self._replaced = 0
        self.over = False  # decided: nobody waits for the attempts that still run
        self._results: list[Any] = []  # of the winner
        self._first_result: list[Any] = []  # of the first attempt, if it is unwanted
        self._first_error: Exception | None = None
        # What ends the call, the most important first: an exit, whatever the result; the caller's
        # cancellation; what an attempt raised that is not to be replaced.
        self._errors: list[BaseException | None] = [None, None, None]

    @property
    def may_launch(self) -> bool:
        """Whether the bound allows one more hedge."""
        return self.launched <= self._max

    @property
    def is_decided(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.over or not self._running

    def launch(self) -> None:
        """Launch an attempt. It counts as one that runs until it has `ended`."""
        self.launched += 1
        self._running += 1

    def begin(self) -> int:
        """Begin one that was launched: its number, from 1."""
        self.begun += 1
        return self.begun

    def refused(self) -> None:
        """One that was launched may not begin: there may be another in its place."""
        self.launched -= 1

    def ended(self) -> None:
        """End an attempt that was launched, however it ended."""
        self._running -= 1

    def returned(self, result: Any) -> bool:
        """An attempt has a result: whether it has won (H1)."""
        if self.over:
            return False
        self.over = True
        self._results.append(result)
        return True

    def unwanted(self, number: int, result: Any) -> bool:
        """An attempt has a result that is as bad as an error (H2): whether it is kept, since the
        call may have to return it (H3).
        """
        self._failed += 1
        if number > 1 or self.over:
            return False
        self._first_result.append(result)
        return True

    def raised(self, number: int, error: Exception, verdict: Verdict) -> None:
        """An attempt has failed (H2, H3)."""
        if verdict is Verdict.SUCCESS:
            self.end_by(error)
            return
        if verdict is Verdict.FAILURE:
            self._failed += 1
        if number == 1 or self._first_error is None:
            self._first_error = error

    def owed(self) -> int:
        """How many attempts have failed since this was asked last: each is to be replaced (H2)."""
        owed, self._replaced = self._failed - self._replaced, self._failed
        return owed

    def exit_by(self, error: BaseException) -> None:
        """*error* ends the call even if it has a result."""
        self.over = True
        self._errors[0] = self._errors[0] or error

    def cancel_by(self, error: BaseException) -> None:
        """The caller is cancelled."""
        self._errors[1] = error

    def end_by(self, error: BaseException) -> None:
        """*error* ends the call, whatever the other attempts do."""
        if not self.over:
            self.over, self._errors[2] = True, error

    @property
    def has_exit(self) -> bool:
        """Whether an exit must leave the call."""
        return self._errors[0] is not None

    @property
    def has_result(self) -> bool:
        """Whether the call returns a result, and nothing speaks against it."""
        if self._results:
            return self._errors[:2] == [None, None]
        return bool(self._first_result) and self._errors == [None, None, None]

    def take_result(self) -> Any:
        """The result of the call, which is the caller's from now on."""
        return (self._results or self._first_result).pop()

    def take_results(self) -> list[Any]:
        """The results that the caller does not get."""
        results = [*self._results, *self._first_result]
        self._results.clear()
        self._first_result.clear()
        return results

    def take_error(self) -> BaseException:
        """What the call raises: forgotten here, since its traceback leads back to the race."""
        errors = [*self._errors, self._first_error]
        self._errors, self._first_error = [None, None, None], None
        try:
            return next(error for error in errors if error is not None)
        finally:
            errors.clear()

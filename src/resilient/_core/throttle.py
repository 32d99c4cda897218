"""Throttle: reject in the client what the dependency would fail anyway.

1. ``probability = max(0, (requests - k * accepts) / (requests + 1))``, of the calls in the
   window that were let through and have ended. The throttle's own rejections are not in it:
   a throttle that counts them feeds on itself, and is slow to recover (L8).
2. It is never above ``max_reject``, and nothing is rejected while the window holds less than
   ``minimum`` requests.
3. A call passes whatever the draw says if none has for a second (L8).
4. The window forgets everything older than its length: once the dependency accepts again,
   one window later nothing of the outage is left, and all pass (L8).
5. A cancelled call is neither request nor accept.

*Site Reliability Engineering* (2016), ch. 21, "Client-Side Throttling", with point 1 changed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from resilient._core.counter import Counter
from resilient._core.matching import Verdict
from resilient._core.window import TimeWindow

ONE_A: Final = 1.0
"""Seconds without a call after which one passes."""
REACH: Final = 1.1
"""How far a `TimeWindow` may look back, in its lengths."""


@dataclass(frozen=True, slots=True)
class ThrottleConfig:
    """What a throttle was told."""

    k: float
    window: float
    minimum: int
    max_reject: float


class ThrottleCore:
    """The state of one throttle, or of one key of it."""

    __slots__ = (
        "_config", "_passed_at", "_seen", "_window", "accepts", "calls", "in_flight", "key",
        "rejected", "requests",
    )  # fmt: skip

    def __init__(self, config: ThrottleConfig, now: float, key: Hashable = None) -> None:
        self._config, self.key = config, key
        self._window = TimeWindow(config.window / REACH, now, 0)
        self._seen = self._passed_at = now
        self.in_flight = 0
        self.calls, self.rejected = Counter(), Counter()
        self.requests, self.accepts = Counter(), Counter()

    def probability(self, now: float) -> float:
        """The share of calls that is rejected now."""
        self._roll(now)
        accepts = self.accepts.read()
        requests = self._window.calls(accepts)
        if requests < self._config.minimum:
            return 0.0
        good = requests - self._window.failures
        return min(
            self._config.max_reject, max(0.0, (requests - self._config.k * good) / (requests + 1))
        )

    def admit(self, now: float, draw: float) -> bool:
        """Whether a call passes, by a *draw* from [0, 1)."""
        probability = self.probability(now)
        if draw < probability and self._seen - self._passed_at < ONE_A:
            return False
        self._passed_at = self._seen
        self.in_flight += 1
        return True

    def settle(self, verdict: Verdict, now: float) -> None:
        """A call that passed is over."""
        self.in_flight -= 1
        if verdict is Verdict.IGNORED:
            return
        self._roll(now)
        next(self.requests.increment)
        if verdict is Verdict.FAILURE:
            self._window.add(failed=True, slow=False)
        else:
            next(self.accepts.increment)

    def in_window(self, now: float) -> tuple[int, int]:
        """Failures and requests in the window."""
        self._roll(now)
        return self._window.failures, self._window.calls(self.accepts.read())

    def forked(self) -> ThrottleCore:
        """In the child of a fork: it without its calls in flight, which end here if they do."""
        new = ThrottleCore(self._config, self._seen, self.key)
        new._window, new._passed_at = self._window, self._passed_at
        new.calls, new.rejected = self.calls, self.rejected
        new.requests, new.accepts = self.requests, self.accepts
        return new

    def mend(self, now: float) -> None:
        """Go on after a step that was cut short: nobody waits here."""

    def totals(self) -> dict[Hashable, int]:
        """What it has counted."""
        counters = {"requests": self.requests, "accepts": self.accepts, "rejected": self.rejected}
        return {name: counter.read() for name, counter in counters.items()}

    def idle(self) -> bool:
        """Whether no call is in flight."""
        return not self.in_flight

    def _roll(self, now: float) -> None:
        self._seen = max(self._seen, now)
        self._window.roll(self._seen, self.accepts.read())

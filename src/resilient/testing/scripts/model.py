"""A second breaker, written from the rules: it says what the first one may do, and no more.

It is told each thing that happens, and what the breaker did then. Where the rules leave room it
takes what it sees: in a time window (what is between `window` and 1.1 `window` old), and in a
cooldown with jitter until the first rejection has told how long it is. All that can be said of a
breaker's state is here, which is why it is long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from resilient._core.breaker import BreakerConfig, BreakerState
from resilient._core.matching import Verdict
from resilient.testing.scripts.trace import LawBroken

S = BreakerState
CLOSE: Final = 1e-6
"""Seconds: times that differ by less are the same one, rounded."""
COUNTING: Final = (S.CLOSED, S.METRICS_ONLY)


@dataclass(eq=False)
class Held:
    """A call that was let through."""

    generation: int
    began: float
    recorded: bool = True
    lost: bool = False  # a probe whose lease is over


@dataclass
class Result:
    """What is remembered of one that ended."""

    at: float
    failed: bool
    slow: bool


@dataclass
class BreakerModel:
    """What a breaker must do."""

    config: BreakerConfig
    state: BreakerState
    now: float = 0.0
    generation: int = 0
    row: int = 0
    run: int = 0
    since: float = 0.0
    least_rest: float = 0.0
    most_rest: float = 0.0
    open_until: float = 0.0
    slack: float = 0.0  # for times that were rounded
    results: list[Result] = field(default_factory=list)
    probing: list[Held] = field(default_factory=list)
    probed: list[Result] = field(default_factory=list)
    late: int = 0  # probes that were cancelled, and slow
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("calls", "successes", "failures", "ignored", "rejected"), 0
        )
    )

    def __post_init__(self) -> None:
        self.enter(self.state)

    @classmethod
    def of(cls, breaker: Any, now: float, slack: float = 0.0) -> BreakerModel:
        """The model of a breaker that begins now."""
        settings = breaker._settings
        return cls(settings.config, settings.initial, now, slack=slack)

    # What happens: each takes what the breaker did, and raises LawBroken if it may not.

    def arrives(self, now: float, moves: list[BreakerState]) -> None:
        """A call asks; *moves* are the states that the breaker entered before it answered."""
        self.now = now
        moves = list(moves)
        for probe in list(self.probing):
            if now - probe.began >= self.config.probe_lease - CLOSE and probe in self.probing:
                certain = now - probe.began >= self.config.probe_lease
                if not certain and not moves:
                    continue
                probe.lost = True
                self.probing.remove(probe)
                self.totals["failures"] += 1
                self.probed.append(Result(now, failed=True, slow=False))
                to = self._verdict_of_probes()
                if to is not None:  # else what moved, if anything, was another lost one
                    self._must_move("B7", to, moves[:1], "a probe was lost")
                    del moves[:1]
        if self.state is S.OPEN:
            passed = now - self.since
            if moves[:1] == [S.HALF_OPEN]:
                if passed < self.least_rest - CLOSE:
                    raise LawBroken(
                        "B5", f"half-open {passed:g} s after it opened, and the cooldown number "
                        f"{self.row} is at least {self.least_rest:g} s"
                    )  # fmt: skip
                self.enter(S.HALF_OPEN)
                del moves[:1]
            elif now >= self.open_until + self.slack:
                raise LawBroken(
                    "B5", f"still open {passed:g} s after it opened: the cooldown number "
                    f"{self.row} is at most {self.most_rest:g} s, or ended by a retry_after"
                )  # fmt: skip
        if moves:
            raise LawBroken("B5", f"a call that asked made it {moves[0]} from {self.state}")

    def admitted(self) -> Held:
        """It is let through."""
        held = Held(self.generation, self.now, recorded=self.state is not S.DISABLED)
        if self.state is S.HALF_OPEN:
            taken = len(self.probing) + len(self.probed)
            if taken >= self.config.probes:
                raise LawBroken("B6", f"probe {taken + 1}, and probes={self.config.probes}")
            self.probing.append(held)
        elif self.state in {S.OPEN, S.FORCED_OPEN}:
            raise LawBroken(
                "B5" if self.state is S.OPEN else "B10",
                f"a call was let through while {self.state}",
            )
        self.totals["calls"] += held.recorded
        return held

    def rejected(self, retry_after: float | None) -> None:
        """It is turned away."""
        self.totals["rejected"] += 1
        taken = len(self.probing) + len(self.probed)
        if self.state is S.HALF_OPEN and taken >= self.config.probes:
            self._same("B6", "retry_after while no place is free", retry_after, None)
        elif self.state is S.FORCED_OPEN:
            self._same("B10", "retry_after while forced open", retry_after, None)
        elif self.state is not S.OPEN:
            raise LawBroken(
                "B6" if self.state is S.HALF_OPEN else "B3", f"turned away while {self.state}, "
                f"with {taken} of {self.config.probes} probes"
            )  # fmt: skip
        else:
            if retry_after is None:
                raise LawBroken("B5", "turned away by an open one without retry_after")
            rest = self.now - self.since + retry_after
            if not self.least_rest - CLOSE <= rest <= self.most_rest + CLOSE:
                raise LawBroken(
                    "B8", f"retry_after={retry_after:g} {self.now - self.since:g} s after it "
                    f"opened: the cooldown number {self.row} is from {self.least_rest:g} to "
                    f"{self.most_rest:g} s"
                )  # fmt: skip
            self.least_rest = self.most_rest = rest
            self.open_until = min(self.open_until, self.now + retry_after)

    def ended(
        self,
        held: Held,
        verdict: Verdict,
        now: float,
        moves: list[BreakerState],
        *,
        lasted: float | None = None,
        trip: float | None = None,
    ) -> None:
        """A call that was let through ended; *moves* are the states that the breaker entered. Its
        error may open it for *trip* seconds, 0 for the cooldown.
        """
        self.now = now
        if held.lost or not held.recorded:
            self._must_stay("B7" if held.lost else "B10", moves, "a call that counts nothing ended")
            return
        self.totals[
            {Verdict.SUCCESS: "successes", Verdict.FAILURE: "failures"}.get(verdict, "ignored")
        ] += 1
        mine = held in self.probing
        if mine:
            self.probing.remove(held)
        if held.generation != self.generation:
            self._must_stay("B1", moves, f"a call of generation {held.generation} ended")
            return
        lasted = now - held.began if lasted is None else lasted
        slow = self.config.slow is not None and lasted > self.config.slow
        cancelled = verdict is Verdict.CANCELLED
        if verdict is Verdict.IGNORED or (cancelled and not slow):
            self._must_stay("B2", moves, "a call that says nothing of the dependency ended")
            return
        result = Result(now, verdict is Verdict.FAILURE, slow)
        if not mine:
            if not cancelled:  # which is nothing but slow (B14)
                self.run = self.run + 1 if result.failed else 0
            self._judge(result, moves, trip)
        elif trip is not None:
            self._must_move("B15", S.OPEN, moves, "the error of a probe trips it", trip)
        elif cancelled:
            self.late += 1
            self._must_move("B14", self._verdict_of_probes(), moves, "a slow probe was cancelled")
        else:
            self.probed.append(result)
            self._must_move("B6", self._verdict_of_probes(), moves, "a probe ended")

    def forced(self, state: BreakerState, now: float, moves: list[BreakerState]) -> None:
        """Somebody set the state by hand."""
        self.now = now
        if self.state is state:
            self._must_stay("B10", moves, f"set to {state}, as it was")
        elif moves != [state]:
            raise LawBroken("B10", f"set to {state}, and it entered {moves or 'nothing'}")
        self.enter(state)

    def looks(self, stats: Any) -> None:
        """Somebody asks for the stats."""
        for total, count in self.totals.items():
            self._same("B12", f"stats().{total}", getattr(stats, total), count)
        known = self.totals
        in_flight = known["calls"] - known["successes"] - known["failures"] - known["ignored"]
        self._same("B12", "stats().in_flight", stats.in_flight, in_flight)
        self._same("B13", "the state", stats.state, self.state)
        self._same("B1", "the generation", stats.generation, self.generation)

    # The rules.

    def enter(self, state: BreakerState, trip: float | None = None) -> None:
        """Begin a generation; an error may open it for *trip* seconds, 0 for the cooldown."""
        self.generation += 1
        self.state = state
        self.run, self.late, self.results, self.probing, self.probed = 0, 0, [], [], []
        if state is S.OPEN:
            self.row, self.since = self.row + 1, self.now
            self.least_rest, self.most_rest = (
                trip or self.config.cooldown(self.row, draw) for draw in (0.0, 1.0)
            )
            self.open_until = self.now + self.most_rest
        elif state is S.CLOSED:
            self.row = 0

    def _judge(self, result: Result, moves: list[BreakerState], trip: float | None) -> None:
        """One more result while it counts: after every one, a success too."""
        self.results.append(result)
        if self.state is S.METRICS_ONLY:
            self._must_stay("B10", moves, "it only counts")
            return
        may = {trip is not None or self._trips(window) for window in self._windows()}
        opens = moves == [S.OPEN]
        if (moves and not opens) or opens not in may:
            did = f"entered {moves}" if moves else "stayed closed"
            raise LawBroken(
                "B3", f"it {did} after {self.run} failures in a row, and of the last "
                f"{len(self.results)} results {sum(one.failed for one in self.results)} failed and "
                f"{sum(one.slow for one in self.results)} were slow"
            )  # fmt: skip
        if opens:
            self.enter(S.OPEN, trip)

    def _windows(self) -> Iterator[list[Result]]:
        """Every content that the window may have (B4)."""
        if self.config.window_calls is not None:
            yield self.results[-self.config.window_calls :]
            return
        ages = [self.now - result.at for result in self.results]
        must_go = sum(age > 1.1 * self.config.window + CLOSE for age in ages)
        may_go = sum(age >= self.config.window - CLOSE for age in ages)
        for gone in range(must_go, may_go + 1):
            yield self.results[gone:]

    def _trips(self, window: list[Result]) -> bool:
        config, size = self.config, len(window)
        bad, slow = sum(one.failed for one in window), sum(one.slow for one in window)
        if config.consecutive_failures is not None:
            usual = max(0, bad - self.run) / max(1, size - bad)  # protect's breaker asks for more
            if self.run >= config.consecutive_failures + config.tolerance * usual:
                return True
        if size < config.minimum or not size:
            return False
        if config.failure_rate is not None and bad / size >= config.failure_rate:
            return True
        return config.slow is not None and slow / size >= config.slow_rate

    def _verdict_of_probes(self) -> BreakerState | None:
        config, probes = self.config, self.config.probes
        bad, slow = sum(one.failed for one in self.probed), sum(one.slow for one in self.probed)
        slow += self.late
        reopens = bad > 0 if config.failure_rate is None else bad / probes >= config.failure_rate
        if reopens or (config.slow is not None and slow / probes >= config.slow_rate):
            return S.OPEN
        return S.CLOSED if len(self.probed) >= probes else None

    def _must_move(
        self,
        law: str,
        to: BreakerState | None,
        moves: list[BreakerState],
        why: str,
        trip: float | None = None,
    ) -> None:
        if moves != ([] if to is None else [to]):
            must, entered = f"enter {to}" if to else "stay", moves or "nothing"
            bad = sum(one.failed for one in self.probed)
            raise LawBroken(
                law, f"{why}; {bad} of {len(self.probed)} have failed, of {self.config.probes} "
                f"probes: it must {must}, and entered {entered}"
            )  # fmt: skip
        if to is not None:
            self.enter(to, trip)

    def _must_stay(self, law: str, moves: list[BreakerState], why: str) -> None:
        if moves:
            raise LawBroken(law, f"{why} while {self.state}, and made it {moves[0]}")

    def _same(self, law: str, what: str, seen: object, due: object) -> None:
        if seen != due:
            raise LawBroken(law, f"{what} is {seen}, and must be {due}")

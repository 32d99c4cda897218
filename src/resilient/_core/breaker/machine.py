"""Circuit breaker: the rules, and nothing but the rules.

1. Whatever can change a breaker's state is in this file, which is why it is long.
2. Time arrives as ``now`` (monotonic seconds), chance as ``u`` in [0, 1).
3. Methods return what happened; telling anyone is the shell's work.
4. Callers take turns (the shell's lock), with two exceptions: while a standing
   permit is there, calls take it as it is and raise `calls`, and a success that ends
   within ``permit.since <= now < permit.until`` raises `successes` and is done. The
   permit's span is chosen so that no such success could change anything else. And while
   `shut` is there, a call before ``shut.holds_until`` is rejected by raising its tally.

::

    CLOSED ──a watch trips──▶ OPEN
    OPEN ──cooldown over, next call──▶ HALF_OPEN
    HALF_OPEN ──enough probes failed──▶ OPEN
    HALF_OPEN ──all probes are in──▶ CLOSED
    any ──force_open──▶ FORCED_OPEN
    any ──disable──▶ DISABLED
    any ──metrics_only──▶ METRICS_ONLY
    any ──reset──▶ CLOSED
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

from resilient._core.breaker.values import (
    COUNTING,
    BreakerRule,
    BreakerState,
    BreakerStats,
    Moved,
    Permit,
    Refusal,
    Shut,
    Transition,
    Why,
    WouldOpen,
)
from resilient._core.matching import Verdict
from resilient._core.tally import Tally
from resilient._core.window import CountWindow, TimeWindow

S = BreakerState
NOBODY: Final[dict[Permit, None]] = {}
"""The probes of every state but HALF_OPEN."""
OUT_OF_ORDER: Final = 1.0
"""Seconds: readings of several threads may arrive out of order by up to this.
Only a larger step back is the clock's own."""


class BreakerCore:
    """The state machine of one breaker, or of one key of a keyed one."""

    __slots__ = (
        "_by_count", "_by_time", "_entered", "_failures", "_first", "_generation", "_ignored",
        "_opened", "_probe_bad", "_probe_done", "_probe_slow", "_probing", "_rejected", "_row",
        "_rule", "_run", "_seen", "_slow", "_state", "_told", "calls", "key", "retired", "shut",
        "standing", "successes", "void",
    )  # fmt: skip

    def __init__(
        self,
        rule: BreakerRule,
        now: float,
        u: float,
        initial: BreakerState = S.CLOSED,
        key: Hashable = None,
    ) -> None:
        self._rule, self.key = rule, key
        self.calls, self.successes = Tally(), Tally()
        self.standing: Permit | None = None
        self.shut: Shut | None = None
        self.retired = False  # it was one key's, and another has its place now
        self._generation = self._run = 0
        self._told = False
        watched = rule.failure_rate is not None or rule.slow is not None
        self._by_count = CountWindow(rule.window_calls) if watched and rule.window_calls else None
        self._by_time = (
            TimeWindow(rule.window, now, 0) if watched and not rule.window_calls else None
        )
        self.renew(now, u, initial)

    def renew(self, now: float, u: float, initial: BreakerState) -> None:
        """Start as new; what is still running counts nothing any more."""
        self._end_span()
        self.calls.zero()
        self.successes.zero()
        self._failures = self._slow = self._ignored = self._opened = 0
        self.void = 0  # counted in `calls`, and then not made
        self._rejected: dict[BreakerState, Tally] | None = None  # by the state that rejected
        self._entered: dict[BreakerState, int] | None = None  # by the state that was entered
        self._row = 0
        self._first = self._generation + 1
        self._seen = now
        self._begin(initial, Why("initial", 0, 0), u)

    # What happens.

    def admit(self, now: float, u: float) -> tuple[Permit | Refusal, list[Moved]]:
        """Ask leave for one call. Settle a `Permit` exactly once."""
        now = self._tick(now)
        moves: list[Moved] = []
        if self._state is S.HALF_OPEN:
            self._expire_leases(now, u, moves)
        if self._state is S.OPEN and now >= self._shut().until:
            moves.append(self._move(S.HALF_OPEN, Why("cooldown_over", 0, 0), u))
        match self._state:
            case S.CLOSED | S.METRICS_ONLY:
                assert self.standing is not None
                self.calls.up()
                return self.standing, moves
            case S.DISABLED:
                return Permit(self, self._generation, recorded=False), moves
            case S.HALF_OPEN if len(self._probing) + self._probe_done < self._rule.probes:
                permit = Permit(self, self._generation, lease_at=now + self._rule.probe_lease)
                self._probing[permit] = None
                self.calls.up()
                return permit, moves
        self._tally_of(self._state).up()
        if self.shut is None:
            return Refusal(None, self._state.value, None), moves
        return Refusal(self.shut.left(now), self.shut.reason, self.shut.why), moves

    def settle(
        self, permit: Permit, verdict: Verdict, now: float, u: float, lasted: float = 0.0
    ) -> Moved | None:
        """Say how a call ended that lasted *lasted* seconds.

        One of an older generation decides nothing.
        """
        if permit.settled or not permit.recorded or permit.generation < self._first:
            return None
        now = self._tick(now)
        self._roll(now)  # first: a success belongs to the bucket of its own time
        slow = self._rule.slow is not None and lasted > self._rule.slow
        self._total(verdict, slow=slow)
        probe = math.isfinite(permit.lease_at)
        if probe:
            permit.settled = True
            self._probing.pop(permit, None)
        if permit.generation != self._generation:
            if verdict is Verdict.SUCCESS and self._by_time is not None:
                self._by_time.skip_success()
            return None
        if verdict is Verdict.IGNORED:
            return None
        if probe:
            return self._probed(verdict, slow=slow, u=u)
        return self._record(verdict, slow=slow, now=now, u=u)

    def turn(self, state: BreakerState, how: str, now: float, u: float) -> Moved | None:
        """Set the state by hand; the same state again starts afresh and is no event."""
        self._tick(now)
        moved = self._move(state, Why(how, 0, 0), u)
        return None if moved.old is moved.new else moved

    # What can be seen.

    @property
    def state(self) -> BreakerState:
        """The state; OPEN reads as OPEN until a call comes, however long ago the cooldown ended."""
        return self._state

    @property
    def rejections(self) -> dict[BreakerState, int]:
        """How many calls were rejected, by the state that rejected them."""
        tallies = self._rejected or {}
        return {state: count for state, tally in tallies.items() if (count := tally.read())}

    @property
    def transitions(self) -> dict[BreakerState, int]:
        """How often it moved, by the state that it entered."""
        return dict(self._entered or {})

    def healthy(self, now: float) -> bool:
        """Closed, and no failure in the window; without a window, no run of failures."""
        self._roll(self._tick(now))
        if self._by_time is None and self._by_count is None:
            return self._state is S.CLOSED and not self._run
        return self._state is S.CLOSED and not self._bad_in_window()

    def in_flight(self) -> int:
        """Calls that have not ended. Ends are read before starts, so that it is never negative."""
        ended = self.successes.read() + self._failures + self._ignored
        return self.calls.read() - self.void - ended

    def retire(self) -> bool:
        """Let nobody in any more, if nobody is in.

        A call that takes the standing permit without a turn looks at `retired` after it was
        counted: so either it is seen here, or it sees.
        """
        self.retired = True
        if self.in_flight():
            self.retired = False
        else:
            self.standing = None  # and so nothing holds it
        return self.retired

    def stats(self, name: str, now: float) -> BreakerStats:
        """A snapshot."""
        now = self._tick(now)
        self._roll(now)
        successes = self.successes.read()
        ended = successes + self._failures + self._ignored
        calls = self.calls.read() - self.void
        inside = self._calls_in_window()
        known = inside >= max(1, self._rule.minimum) and self._state in COUNTING
        return BreakerStats(
            name=name,
            state=self._state,
            generation=self._generation - self._first + 1,
            calls=calls,
            successes=successes,
            failures=self._failures,
            slow=self._slow,
            ignored=self._ignored,
            rejected=sum(self.rejections.values()),
            in_flight=calls - ended,
            failure_rate=self._bad_in_window() / inside if known else None,
            slow_rate=self._slow_in_window() / inside
            if known and self._rule.slow is not None
            else None,
            opened=self._opened,
            retry_after=None if self.shut is None else self.shut.left(now),
        )

    # The rules.

    def _record(self, verdict: Verdict, *, slow: bool, now: float, u: float) -> Moved | None:
        """Count one result of the present generation, then judge: a success can trip, too."""
        failed = verdict is Verdict.FAILURE
        self._run = self._run + 1 if failed else 0
        if self._by_count is not None:
            self._by_count.add(failed=failed, slow=slow)
        elif self._by_time is not None:
            if failed:
                self._by_time.add_failure(slow=slow)
            elif slow:
                self._by_time.add_slow()
        why = self._judge()
        if why is None:
            self._span()
            return None
        if self._state is S.CLOSED:
            return self._move(S.OPEN, why, u)
        self._span()
        if self._told:
            return None
        self._told = True
        return WouldOpen(why, now)

    def _judge(self) -> Why | None:
        rule, run = self._rule, self._run
        if rule.consecutive_failures is not None and run >= rule.consecutive_failures:
            return Why("consecutive_failures", run, run)
        calls = self._calls_in_window()
        if not calls or calls < rule.minimum:
            return None
        bad, slow = self._bad_in_window(), self._slow_in_window()
        if rule.failure_rate is not None and bad / calls >= rule.failure_rate:
            return Why("failure_rate", bad, calls)
        if rule.slow is not None and slow / calls >= rule.slow_rate:
            return Why("slow_rate", slow, calls)
        return None

    def _probed(self, verdict: Verdict, *, slow: bool, u: float) -> Moved | None:
        """One probe's result: reopen as soon as it is certain, close when all are in."""
        rule = self._rule
        self._probe_done += 1
        self._probe_bad += verdict is Verdict.FAILURE
        self._probe_slow += slow
        bad = (
            self._probe_bad / rule.probes >= rule.failure_rate
            if rule.failure_rate is not None
            else self._probe_bad > 0
        )
        if bad:
            return self._move(S.OPEN, Why("probes", self._probe_bad, rule.probes), u)
        if rule.slow is not None and self._probe_slow / rule.probes >= rule.slow_rate:
            return self._move(S.OPEN, Why("slow_probes", self._probe_slow, rule.probes), u)
        if self._probe_done == rule.probes:
            return self._move(S.CLOSED, Why("probes_succeeded", 0, rule.probes), u)
        return None

    def _expire_leases(self, now: float, u: float, moves: list[Moved]) -> None:
        """A probe that has not reported in time is a failure.

        Its late result counts nothing more.
        """
        for permit in [probe for probe in self._probing if now >= probe.lease_at]:
            if permit.generation == self._generation:
                permit.settled = True
                self._probing.pop(permit)
                self._failures += 1
                moved = self._probed(Verdict.FAILURE, slow=False, u=u)
                moves.extend([moved] if moved else [])

    def _move(self, state: BreakerState, why: Why, u: float) -> Transition:
        old = self._state
        self._end_span()
        if old is not state:
            self._entered = self._entered or {}
            self._entered[state] = self._entered.get(state, 0) + 1
        self._begin(state, why, u)
        return Transition(old, state, why, self._seen)

    def _begin(self, state: BreakerState, why: Why, u: float) -> None:
        """A new generation, with nothing remembered but how often in a row it opened."""
        self._state, self.shut = state, None
        self._generation += 1
        self._run = self._probe_done = self._probe_bad = self._probe_slow = 0
        self._probing: dict[Permit, None] = {} if state is S.HALF_OPEN else NOBODY
        self._told = False
        if self._by_count is not None:
            self._by_count.clear()
        elif self._by_time is not None:
            self._by_time.clear(self._seen, self.successes.read())
        if state is S.OPEN:
            self._row += 1
            self._opened += why.watch != "initial"
            rest = self._rule.cooldown(self._row, u)
            self.shut = Shut(state.value, why, self._seen + rest, rest, self._tally_of(state))
        elif state is S.FORCED_OPEN:
            self.shut = Shut(state.value, None, math.inf, math.inf, self._tally_of(state))
        elif state is S.CLOSED:
            self._row = 0
        self.standing = Permit(self, self._generation) if state in COUNTING else None
        self._span()

    def ask_again(self) -> None:
        """Let the next call take its turn: the clock may have stepped back."""
        self._end_span()
        if self.shut is not None:
            self.shut.holds_until = -math.inf

    def _end_span(self) -> None:
        """Let the next success ask, however late it comes."""
        if self.standing is not None:
            self.standing.until = -math.inf

    def _span(self) -> None:
        """Choose the time in which a plain success can change nothing but the counts.

        It ends a run of failures: none must be going on. It can complete the minimum
        while failures are there: then it must ask, and so it must when old health has left
        the window and nobody has judged since. Beyond that it only lowers the rates.
        """
        permit, window = self.standing, self._by_time
        if permit is None:
            return
        permit.until = -math.inf
        running = self._run and self._rule.consecutive_failures is not None
        if running or self._by_count is not None:
            return
        if window is None:
            permit.since, permit.until = -math.inf, math.inf
        elif not (window.failures or window.slow) or (
            self._calls_in_window() >= self._rule.minimum and (self._told or self._judge() is None)
        ):
            permit.since, permit.until = window.since, window.until

    # Counting.

    def _total(self, verdict: Verdict, *, slow: bool) -> None:
        if verdict is Verdict.IGNORED:
            self._ignored += 1
            return
        if verdict is Verdict.SUCCESS:
            self.successes.up()
        else:
            self._failures += 1
        self._slow += slow

    def _tally_of(self, state: BreakerState) -> Tally:
        tallies = self._rejected = self._rejected or {}
        if state not in tallies:
            tallies[state] = Tally()
        return tallies[state]

    def _roll(self, now: float) -> None:
        if self._by_time is not None:
            self._by_time.roll(now, self.successes.read())
            self._span()

    def _calls_in_window(self) -> int:
        if self._by_count is not None:
            return self._by_count.calls
        return self._by_time.calls(self.successes.read()) if self._by_time is not None else 0

    def _bad_in_window(self) -> int:
        window = self._by_count or self._by_time
        return window.failures if window is not None else 0

    def _slow_in_window(self) -> int:
        window = self._by_count or self._by_time
        return window.slow if window is not None else 0

    def _shut(self) -> Shut:
        assert self.shut is not None
        return self.shut

    def _tick(self, now: float) -> float:
        """The time as the core takes it: a clock that steps back stood still."""
        back = self._seen - now
        if back <= 0:
            self._seen = now
        elif back > OUT_OF_ORDER:
            self._shift(back, now)
            self._seen = now
        return self._seen

    def _shift(self, back: float, now: float) -> None:
        if self._state is S.OPEN:
            shut = self._shut()
            shut.shift(now, min(shut.until - self._seen, shut.longest))
        for permit in self._probing:
            permit.lease_at -= back
        if self._by_time is not None:
            self._by_time.shift(back)
            self._span()

"""Circuit breaker: the rules, and nothing but the rules.

1. Whatever can change a breaker's state is in this file, which is why it is long.
2. Time arrives as ``now`` (monotonic seconds), chance as ``draw`` in [0, 1). Readings of several
   threads may arrive out of order: time never goes back here.
3. Methods return what happened; telling anyone is the shell's work.
4. Callers hold the shell's lock, with two exceptions: while a shared permit is there, calls take it
   as it is and raise `calls`, and a success that ends before ``permit.until`` raises `successes`
   and is done. That instant is chosen so that no such success could change anything else. And
   while a shared rejection is there, a call before its ``until`` is rejected by raising its
   counter.
5. A failure whose error says for how long opens at once, as a watch that trips and as enough
   probes that failed do, and is one more opening in a row (B8, B15).

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
    REJECTING,
    BreakerConfig,
    BreakerState,
    BreakerStats,
    Moved,
    Refusal,
    Transition,
    Why,
    WouldOpen,
)
from resilient._core.counter import Counter
from resilient._core.matching import Verdict
from resilient._core.window import CountWindow, NoWindow, TimeWindow

S = BreakerState


class Permit:
    """Leave to call. Compare `generation`; the rest is between the core and its shell.

    A *shared* permit serves every call of its generation. Before ``until`` a plain success needs no
    more than to be counted, ``next(succeeded)``.
    """

    __slots__ = ("core", "generation", "lease_at", "recorded", "settled", "succeeded", "until")

    def __init__(
        self,
        core: BreakerCore,
        generation: int,
        *,
        recorded: bool = True,
        lease_at: float = math.inf,
    ) -> None:
        self.core = core
        self.generation = generation
        self.recorded = recorded  # False: given in DISABLED
        self.lease_at = lease_at  # finite: a probe's
        self.settled = False  # only a probe's is settled, a shared permit serves many
        self.until = -math.inf
        self.succeeded = core.successes.increment


class SharedRejection:
    """The rejection of a state that rejects whoever calls: it serves every call.

    It stands while ``now < until``: a call then needs no more than to be counted,
    ``next(rejected)``, and to be told what is `left`.
    """

    __slots__ = ("longest", "reason", "rejected", "until", "why")

    def __init__(
        self, reason: str, why: Why | None, until: float, longest: float, rejected: Counter
    ) -> None:
        self.reason, self.why, self.until = reason, why, until
        self.longest = longest  # the whole cooldown: what is left is never more
        self.rejected = rejected.increment

    def left(self, now: float) -> float | None:
        """What is left of the cooldown, so that ``now + left`` is not before its end. ``None``
        where no time ends it.
        """
        left = self.until - now
        if left >= self.longest:
            return None if left == math.inf else self.longest
        if left <= 0.0:
            return 0.0
        while now + left < self.until:
            left = math.nextafter(left, math.inf)
        return left


TRIPPED: Final = Why("trip", 1, 1)
NO_PROBES: Final[dict[Permit, None]] = {}
"""The probes of every state but HALF_OPEN."""


class BreakerCore:
    """The state machine of one breaker, or of one key of a keyed one."""

    __slots__ = (
        "_config", "_counted_rejections", "_entered", "_failures", "_first", "_generation",
        "_ignored", "_oldest", "_opened", "_probe_bad", "_probe_done", "_probe_slow", "_probing",
        "_rejected", "_rejections", "_reported", "_row", "_run", "_seen", "_slow", "_state",
        "_window", "calls", "key", "retired", "shared_permit", "shared_rejection", "successes",
        "void",
    )  # fmt: skip

    def __init__(
        self,
        config: BreakerConfig,
        now: float,
        draw: float,
        initial: BreakerState = S.CLOSED,
        key: Hashable = None,
    ) -> None:
        self._config, self.key = config, key
        self.calls, self.successes = Counter(), Counter()
        self._rejected: Counter | None = None  # made when there is something to reject
        self.shared_permit: Permit | None = None
        self.shared_rejection: SharedRejection | None = None
        self.retired = False  # it was one key's, and another has its place now
        self._generation = self._run = 0
        self._reported = False  # METRICS_ONLY: that it would have opened
        self._window = _window_of(config, now)
        self.reset(now, draw, initial)

    def reset(self, now: float, draw: float, initial: BreakerState) -> None:
        """Start as new; what is still running counts nothing any more."""
        self._end_fast_path()
        self.calls.reset()
        self.successes.reset()
        self._rejected = None
        self._failures = self._slow = self._ignored = self._opened = 0
        self.void = 0  # counted in `calls`, and then not made
        self._rejections: dict[BreakerState, int] | None = None  # by the state that rejected
        self._counted_rejections = 0  # those of `rejected` that stand in `_rejections`
        self._entered: dict[BreakerState, int] | None = None  # by the state that was entered
        self._probing: dict[Permit, None] = NO_PROBES
        self._row = self._probe_done = self._probe_bad = self._probe_slow = 0
        self._first = self._oldest = self._generation + 1
        self._seen = now
        self._begin(initial, Why("initial", 0, 0), draw)

    # What happens.

    def admit(self, now: float, draw: float) -> tuple[Permit | Refusal, list[Moved]]:
        """Ask leave for one call. Settle a `Permit` exactly once."""
        now = self._forward(now)
        moves: list[Moved] = []
        if self._state is S.HALF_OPEN:
            self._expire_leases(now, draw, moves)
        shared = self.shared_rejection
        if self._state is S.OPEN and shared is not None and now >= shared.until:
            moves.append(self._move(S.HALF_OPEN, Why("cooldown_over", 0, 0), draw))
        match self._state:
            case S.CLOSED | S.METRICS_ONLY:
                assert self.shared_permit is not None
                next(self.calls.increment)
                return self.shared_permit, moves
            case S.DISABLED:
                return Permit(self, self._generation, recorded=False), moves
            case S.HALF_OPEN if len(self._probing) + self._probe_done < self._config.probes:
                permit = Permit(self, self._generation, lease_at=now + self._config.probe_lease)
                self._probing[permit] = None
                next(self.calls.increment)
                return permit, moves
        assert self._rejected is not None  # see `_begin`
        next(self._rejected.increment)
        shared = self.shared_rejection
        if shared is None:
            return Refusal(None, self._state.value, None), moves
        return Refusal(shared.left(now), shared.reason, shared.why), moves

    def settle(  # noqa: PLR0917  # in one place
        self,
        permit: Permit,
        verdict: Verdict,
        now: float,
        draw: float,
        lasted: float = 0.0,
        trip: float | None = None,
    ) -> Moved | None:
        """Say how a call ended that lasted *lasted* seconds. One of an older generation decides
        nothing. A failure may open at once for *trip* seconds, 0 for the cooldown (B15).
        """
        if permit.settled or not permit.recorded or permit.generation < self._oldest:
            return None
        now = self._forward(now)
        if now >= self._window.until:  # first: a success belongs to the bucket of its own time
            self._roll(now)
        slow = self._config.slow is not None and lasted > self._config.slow
        self._total(verdict, slow=slow)
        probe = permit.lease_at != math.inf
        if probe:
            permit.settled = True
            self._probing.pop(permit, None)
        if permit.generation != self._generation:
            if verdict is Verdict.SUCCESS:
                self._window.skip_success()
            return None
        if verdict is Verdict.IGNORED or (verdict is Verdict.CANCELLED and not slow):
            return None
        if probe:
            return self._probed(verdict, slow=slow, draw=draw, trip=trip)
        return self._record(verdict, slow=slow, now=now, draw=draw, trip=trip)

    def force_state(
        self, state: BreakerState, how: str, now: float, draw: float
    ) -> Transition | None:
        """Set the state by hand; the same state again starts afresh and is no event."""
        self._forward(now)
        moved = self._move(state, Why(how, 0, 0), draw)
        return None if moved.old is moved.new else moved

    # What can be seen.

    @property
    def state(self) -> BreakerState:
        """The state; OPEN reads as OPEN until a call comes, however long ago the cooldown ended."""
        return self._state

    @property
    def generation(self) -> int:
        """The generation, from 1."""
        return self._generation - self._first + 1

    @property
    def rejected(self) -> int:
        """How many calls were rejected."""
        return 0 if self._rejected is None else self._rejected.read()

    @property
    def rejections(self) -> dict[BreakerState, int]:
        """How many calls were rejected, by the state that rejected them."""
        self._count_rejections()
        return dict(self._rejections or {})

    @property
    def transitions(self) -> dict[BreakerState, int]:
        """How often it moved, by the state that it entered."""
        return dict(self._entered or {})

    def totals(self) -> dict[Hashable, int]:
        """What it has counted; ``("rejected", state)`` and ``("entered", state)`` by state."""
        successes = self.successes.read()
        ended = successes + self._failures + self._ignored
        return {
            # A call of a retired one came too late: it is counted elsewhere.
            "calls": ended if self.retired else self.calls.read() - self.void,
            "successes": successes,
            "failures": self._failures,
            "slow": self._slow,
            "ignored": self._ignored,
            "rejected": self.rejected,
            "opened": self._opened,
            **{("rejected", state): count for state, count in self.rejections.items()},
            **{("entered", state): count for state, count in self.transitions.items()},
        }

    def healthy(self, now: float) -> bool:
        """Closed, and no failure in the window; without a window, no run of failures."""
        self._roll(self._forward(now))
        return self._state is S.CLOSED and not self._window.failures

    def in_flight(self) -> int:
        """Calls that have not ended. Ends are read before starts, so that it is never negative."""
        ended = self.successes.read() + self._failures + self._ignored
        return self.calls.read() - self.void - ended

    def idle(self) -> bool:
        """Whether no call is in flight."""
        return not self.in_flight()

    def retire(self) -> bool:
        """Let nobody in any more, if nobody is in.

        A call that takes the shared permit without the lock looks at `retired` after it was
        counted: so either it is seen here, or it sees.
        """
        self.retired = True
        if self.in_flight():
            self.retired = False
        else:
            self.shared_permit = None  # and so nothing holds it
        return self.retired

    def forked(self) -> BreakerCore:
        """In the child of a fork: calls in flight are ignored. One that ends here counts nothing.

        It is the same one, since wrappers know it; and the same generation for those who ask.
        """
        self._ignored += self.in_flight()
        self._end_fast_path()
        self._generation += 1
        self._first, self._oldest = self._first + 1, self._generation
        if self._probing:
            self._probing = {}
        if self.shared_permit is not None:
            self.shared_permit = Permit(self, self._generation)
            self._allow_fast_path()
        return self

    def mend(self, now: float) -> None:  # noqa: ARG002  # no time in it
        """Go on after a step that was cut short: one that is kept was not retired."""
        self.retired = False
        if self.shared_permit is None and self._state in COUNTING:
            self.shared_permit = Permit(self, self._generation)

    def stats(self, name: str, now: float) -> BreakerStats:
        """A snapshot."""
        now = self._forward(now)
        self._roll(now)
        successes = self.successes.read()
        ended = successes + self._failures + self._ignored
        calls = self.calls.read() - self.void
        window = self._window
        inside = window.calls(successes)
        known = inside >= max(1, self._config.minimum) and self._state in COUNTING
        slow_known = known and self._config.slow is not None
        shared = self.shared_rejection
        return BreakerStats(
            name=name,
            state=self._state,
            generation=self.generation,
            calls=calls,
            successes=successes,
            failures=self._failures,
            slow=self._slow,
            ignored=self._ignored,
            rejected=self.rejected,
            in_flight=calls - ended,
            failure_rate=window.failures / inside if known else None,
            slow_rate=window.slow / inside if slow_known else None,
            opened=self._opened,
            retry_after=None if shared is None else shared.left(now),
        )

    # The rules.

    def _record(
        self, verdict: Verdict, *, slow: bool, now: float, draw: float, trip: float | None
    ) -> Moved | None:
        """Count one result of the present generation, then judge: a success can trip, too. One
        that was cancelled is only slow: it ends no run of failures, and is one of the window's
        calls (B14).
        """
        failed = verdict is Verdict.FAILURE
        if verdict is Verdict.CANCELLED:
            self._window.add_to_calls()
        else:
            self._run = self._run + 1 if failed else 0
        self._window.add(failed=failed, slow=slow)
        why = self._judge() if trip is None else TRIPPED
        if why is not None and self._state is S.CLOSED:
            return self._move(S.OPEN, why, draw, trip)
        self._allow_fast_path()
        if why is None or self._reported:
            return None
        self._reported = True
        return WouldOpen(why, now, self.key)

    def _judge(self) -> Why | None:
        config, run, window = self._config, self._run, self._window
        calls = window.calls(self.successes.read())
        if config.consecutive_failures is not None and run >= config.consecutive_failures:
            usual = max(0, window.failures - run) / max(1, calls - window.failures)
            if run >= config.consecutive_failures + config.tolerance * usual:
                return Why("consecutive_failures", run, run)
        if not calls or calls < config.minimum:
            return None
        if config.failure_rate is not None and window.failures / calls >= config.failure_rate:
            return Why("failure_rate", window.failures, calls)
        if config.slow is not None and window.slow / calls >= config.slow_rate:
            return Why("slow_rate", window.slow, calls)
        return None

    def _probed(
        self, verdict: Verdict, *, slow: bool, draw: float, trip: float | None = None
    ) -> Moved | None:
        """One probe's result: reopen as soon as it is certain, close when all are in. It counts
        when that is decided: one that is interrupted in between has not reported. A slow one that
        was cancelled gives its place to another, and may only reopen (B14).
        """
        config = self._config
        done = self._probe_done + (verdict is not Verdict.CANCELLED)
        bad = self._probe_bad + (verdict is Verdict.FAILURE)
        late = self._probe_slow + slow
        reopens = (
            bad / config.probes >= config.failure_rate
            if config.failure_rate is not None
            else bad > 0
        )
        if trip is not None:
            return self._move(S.OPEN, TRIPPED, draw, trip)
        if reopens:
            return self._move(S.OPEN, Why("probes", bad, config.probes), draw)
        if config.slow is not None and late / config.probes >= config.slow_rate:
            return self._move(S.OPEN, Why("slow_probes", late, config.probes), draw)
        if done == config.probes:
            return self._move(S.CLOSED, Why("probes_succeeded", 0, config.probes), draw)
        self._probe_done, self._probe_bad, self._probe_slow = done, bad, late
        return None

    def _expire_leases(self, now: float, draw: float, moves: list[Moved]) -> None:
        """A probe that has not reported in time is a failure; its late result counts nothing."""
        for permit in [probe for probe in self._probing if now >= probe.lease_at]:
            if permit.generation == self._generation:
                permit.settled = True
                self._probing.pop(permit)
                self._failures += 1
                moved = self._probed(Verdict.FAILURE, slow=False, draw=draw)
                moves.extend([moved] if moved else [])

    def _move(
        self, state: BreakerState, why: Why, draw: float, rest: float | None = None
    ) -> Transition:
        old = self._state
        self._end_fast_path()
        if old not in COUNTING:
            self._count_rejections()
        if old is not state:
            self._entered = self._entered or {}
            self._entered[state] = self._entered.get(state, 0) + 1
        self._begin(state, why, draw, rest)
        return Transition(old, state, why, self._seen, self.key)

    def _begin(self, state: BreakerState, why: Why, draw: float, rest: float | None = None) -> None:
        """A new generation, with nothing remembered but how often in a row it opened. OPEN lasts
        *rest* seconds, or the cooldown if that is 0 or ``None``.

        What takes a call comes first, since an interrupt may come there: the state is changed as a
        whole, or it is not.
        """
        rejected, rejection, row = self._rejected or Counter(), None, self._row
        if state is S.OPEN:
            row += 1
            rest = rest or self._config.cooldown(row, draw)
            rejection = SharedRejection("open", why, self._seen + rest, rest, rejected)
        elif state is S.FORCED_OPEN:
            never = math.inf
            rejection = SharedRejection("forced_open", None, never, never, rejected)
        elif state is S.CLOSED:
            row = 0
        opened = state is S.OPEN and why.watch != "initial"
        probing: dict[Permit, None] = {} if state is S.HALF_OPEN else NO_PROBES
        generation, rejects = self._generation + 1, state in REJECTING
        permit = Permit(self, generation) if state in COUNTING else None
        self._window.clear(self._seen, self.successes.read())
        self._state, self._generation, self._row = state, generation, row
        self.shared_permit, self.shared_rejection = permit, rejection
        self._run = self._probe_done = self._probe_bad = self._probe_slow = 0
        self._probing, self._reported = probing, False
        self._opened += opened
        if rejects:  # the others keep none: most breakers never open
            self._rejected = rejected
        self._allow_fast_path()

    # The path without the lock.

    def _end_fast_path(self) -> None:
        """Let the next success ask, however late it comes."""
        if self.shared_permit is not None:
            self.shared_permit.until = -math.inf

    def _allow_fast_path(self) -> None:
        """Choose until when a plain success can change nothing but the counts.

        It ends a run of failures: none must be going on. It can complete the minimum
        while failures are there: then it must ask, and so it must when old health has left
        the window and nobody has judged since. Beyond that it only lowers the rates.
        """
        permit, window = self.shared_permit, self._window
        if permit is None:
            return
        permit.until = -math.inf
        running = self._run and self._config.consecutive_failures is not None
        if running or not window.reads_total:
            return
        if not (window.failures or window.slow) or (
            window.calls(self.successes.read()) >= self._config.minimum
            and (self._reported or self._judge() is None)
        ):
            permit.until = window.until

    # Counting.

    def _total(self, verdict: Verdict, *, slow: bool) -> None:
        if verdict is Verdict.IGNORED:
            self._ignored += 1
            return
        if verdict is Verdict.SUCCESS:
            next(self.successes.increment)
        elif verdict is Verdict.FAILURE:
            self._failures += 1
        else:
            self._ignored += 1
        self._slow += slow

    def _count_rejections(self) -> None:
        """Put those of the present state down as its own."""
        count = self.rejected
        if more := count - self._counted_rejections:
            self._counted_rejections = count
            by_state = self._rejections = self._rejections or {}
            by_state[self._state] = by_state.get(self._state, 0) + more

    def _roll(self, now: float) -> None:
        self._window.roll(now, self.successes.read())
        self._allow_fast_path()

    def _forward(self, now: float) -> float:
        """The time as the core takes it: it never goes back."""
        self._seen = max(self._seen, now)
        return self._seen


def _window_of(config: BreakerConfig, now: float) -> NoWindow:
    if config.failure_rate is None and config.slow is None:
        return NoWindow()
    if config.window_calls is not None:
        return CountWindow(config.window_calls)
    return TimeWindow(config.window, now, 0)

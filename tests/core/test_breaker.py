"""The rules of the breaker, B1 to B13.

`Reference` is a second breaker, written from the contract: it remembers every result with its
time, and where the contract leaves a span (B4: what is between `window` and 1.1 `window` old)
it allows either. All times of the machine are eighths of a second, so that its sums are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resilient._core import breaker as module
from resilient._core.breaker import (
    BY_HAND,
    TRANSITIONS,
    BreakerConfig,
    BreakerCore,
    BreakerState,
    Permit,
    Refusal,
    Transition,
    Why,
    WouldOpen,
    machine,
)
from resilient._core.matching import Verdict
from tests.core.breakers import (
    BAD,
    CUT,
    IGNORED,
    OK,
    admit,
    call,
    calls,
    core_of,
    refusal,
    rule_of,
    stats,
)

S = BreakerState
WINDOW, EDGE, LEASE = 10.0, 11.0, 4.0


def cooldown(k: int, u: float) -> float:
    """2, 3, 4, 4, … seconds, and up to twice that by chance."""
    return min(1.0 + k, 4.0) * (1 + u)


RULES = [
    rule_of(cooldown=cooldown, window=WINDOW, **changes)
    for changes in (
        {"consecutive_failures": 2, "failure_rate": None},
        {"consecutive_failures": 3, "minimum": 4, "probes": 2},
        {"minimum": 3, "probes": 3, "failure_rate": 0.6},
        {"slow": 1.0, "minimum": 2, "probes": 2},
        {"slow": 1.0, "minimum": 2, "probes": 4, "failure_rate": None, "slow_rate": 0.75},
        {"window_calls": 3, "minimum": 2, "slow": 1.0, "slow_rate": 1.0, "consecutive_failures": 5},
        {"window_calls": 2, "minimum": 2, "failure_rate": 1.0, "probes": 2},
        {"minimum": 1, "probes": 2, "probe_lease": LEASE, "failure_rate": 1.0},
        {"minimum": 2, "probes": 1, "failure_rate": 0.3},
    )
]


@dataclass
class Result:
    """What the reference remembers of one counted call."""

    at: float
    failed: bool
    slow: bool


@dataclass
class Ticket:
    """A permit of the core, and what the reference knows of it."""

    permit: Permit
    generation: int
    recorded: bool = True
    probe_at: float | None = None
    lost: bool = False


@dataclass
class Reference:
    """The contract's breaker: a reading before the last one counts as the last one."""

    rule: BreakerConfig
    state: BreakerState
    seen: float
    generation: int = 1
    row: int = 0
    run: int = 0
    told: bool = False
    since: float = 0.0
    rest: float = 0.0
    results: list[Result] = field(default_factory=list)
    out: list[Ticket] = field(default_factory=list)  # probes of this generation that run
    done: list[Result] = field(default_factory=list)  # and those that ended
    cut: int = 0  # and slow ones that were cancelled
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("calls", "ok", "bad", "slow", "ignored", "rejected", "opened"), 0
        )
    )

    def take(self, reading: float) -> float:
        """Readings of several threads may arrive out of order."""
        self.seen = max(self.seen, reading)
        return self.seen

    def move(
        self, state: BreakerState, now: float, u: float, rest: float = 0.0
    ) -> tuple[BreakerState, BreakerState]:
        old, self.state = self.state, state
        self.generation += 1
        self.run, self.told = 0, False
        self.results, self.out, self.done, self.cut = [], [], [], 0
        if state is S.OPEN:
            self.row += 1
            self.totals["opened"] += 1
            self.since, self.rest = now, rest or cooldown(self.row, u)
        if state is S.CLOSED:
            self.row = 0
        return old, state

    def windows(self, now: float) -> Iterator[list[Result]]:
        """Every content that B4 allows the window to have."""
        if self.rule.window_calls is not None:
            yield self.results[-self.rule.window_calls :]
            return
        kept = [result for result in self.results if now - result.at <= EDGE]
        may_go = sum(now - result.at >= WINDOW for result in kept)
        for gone in range(may_go + 1):
            yield kept[gone:]

    def trips(self, window: list[Result]) -> bool:
        told, size = self.rule, len(window)
        if told.consecutive_failures is not None and self.run >= told.consecutive_failures:
            return True
        if size < told.minimum:
            return False
        bad, slow = sum(one.failed for one in window), sum(one.slow for one in window)
        if told.failure_rate is not None and bad >= told.failure_rate * size:
            return True
        return told.slow is not None and slow >= told.slow_rate * size

    def probes_say(self) -> BreakerState | None:
        told, probes = self.rule, self.rule.probes
        bad = sum(one.failed for one in self.done)
        slow = sum(one.slow for one in self.done) + self.cut
        enough = 1 if told.failure_rate is None else told.failure_rate * probes
        if bad >= enough or (told.slow is not None and slow >= told.slow_rate * probes):
            return S.OPEN
        return S.CLOSED if len(self.done) == probes else None

    def retry_after(self, now: float) -> float | None:
        return max(0.0, self.since + self.rest - now) if self.state is S.OPEN else None

    def rates(self, now: float, what: str) -> set[float | None]:
        if self.state not in {S.CLOSED, S.METRICS_ONLY}:
            return {None}
        return {
            sum(getattr(one, what) for one in window) / len(window)
            if len(window) >= self.rule.minimum
            else None
            for window in self.windows(now)
        }


class BreakerMachine(RuleBasedStateMachine):
    tickets: Bundle[Ticket] = Bundle("tickets")

    @initialize(
        told=st.sampled_from(RULES),
        initial=st.sampled_from([S.CLOSED, S.CLOSED, S.OPEN, S.METRICS_ONLY]),
    )
    def begin(self, told: BreakerConfig, initial: BreakerState) -> None:
        self.reading = 100.0
        self.core = BreakerCore(told, self.reading, 0.0, initial)
        self.model = Reference(told, initial, self.reading)
        if initial is S.OPEN:
            self.model.row, self.model.since, self.model.rest = 1, self.reading, cooldown(1, 0.0)

    @rule(
        seconds=st.sampled_from([0.125, 1.0, 2.0, 3.0, LEASE, WINDOW, EDGE, 11.125])
        | st.integers(0, 120).map(lambda n: n / 8)
    )
    def time_passes(self, seconds: float) -> None:
        self.reading += seconds

    @rule(seconds=st.sampled_from([0.125, 0.5, 1.0, 5.0]))
    def a_reading_is_late(self, seconds: float) -> None:
        """Those that follow are of a thread that is behind the others."""
        self.reading -= seconds

    @precondition(lambda self: self.model.state is S.OPEN)
    @rule(early=st.sampled_from([0.0, 0.0, 0.125]))
    def the_cooldown_ends(self, early: float) -> None:
        left = self.model.retry_after(self.model.take(self.reading))
        assert left is not None
        self.look()
        self.reading = self.model.seen + max(0.0, left - early)

    @rule(target=tickets, many=st.integers(2, 4))
    def admit_many(self, many: int) -> Ticket:
        asked = [self.ask(0.0) for _ in range(many)]
        return multiple(*filter(None, asked))  # type: ignore[return-value]  # any number of them

    @rule(target=tickets, u=st.sampled_from([0.0, 0.0, 0.5]))
    def admit(self, u: float) -> Ticket:
        ticket = self.ask(u)
        return multiple() if ticket is None else ticket  # type: ignore[return-value]  # no ticket

    def ask(self, u: float) -> Ticket | None:
        model, now = self.model, self.model.take(self.reading)
        expected = self.expired_leases(now, u)
        if model.state is S.OPEN and now - model.since >= model.rest:
            expected.append(model.move(S.HALF_OPEN, now, u))
        answer, moves = self.core.admit(self.reading, u)
        assert [(one.old, one.new) for one in moves if isinstance(one, Transition)] == expected
        assert len(moves) == len(expected)
        admitted = (
            model.state in {S.CLOSED, S.DISABLED, S.METRICS_ONLY}
            or (model.state is S.HALF_OPEN and len(model.out) + len(model.done) < model.rule.probes)
        )  # fmt: skip
        if isinstance(answer, Refusal):
            assert not admitted, "turned away for nothing"
            assert answer.retry_after == model.retry_after(now)
            assert answer.reason == model.state.value
            model.totals["rejected"] += 1
            return None
        assert admitted, f"let in while {model.state}"
        assert answer.generation == model.generation
        ticket = Ticket(answer, model.generation, recorded=model.state is not S.DISABLED)
        model.totals["calls"] += ticket.recorded
        if model.state is S.HALF_OPEN:
            ticket.probe_at = now
            model.out.append(ticket)
        return ticket

    def expired_leases(self, now: float, u: float) -> list[tuple[BreakerState, BreakerState]]:
        model, moves = self.model, []
        for ticket in list(model.out):
            assert ticket.probe_at is not None
            if ticket in model.out and now - ticket.probe_at >= model.rule.probe_lease:
                ticket.lost = True
                model.out.remove(ticket)
                model.totals["bad"] += 1
                model.done.append(Result(now, failed=True, slow=False))
                if (said := model.probes_say()) is not None:
                    moves.append(model.move(said, now, u))
        return moves

    @rule(
        ticket=consumes(tickets),
        verdict=st.sampled_from([OK, BAD, BAD, IGNORED, CUT]),
        lasted=st.sampled_from([0.0, 1.0, 1.125]),
        u=st.sampled_from([0.0, 0.5]),
        trip=st.sampled_from([None, None, None, 0.0, 7.0]),
    )
    def settle(
        self, ticket: Ticket, verdict: Verdict, lasted: float, u: float, trip: float | None
    ) -> None:
        model = self.model
        trip = trip if verdict is BAD else None
        moved = self.core.settle(ticket.permit, verdict, self.reading, u, lasted, trip)
        if ticket.lost or not ticket.recorded:
            assert moved is None, "a call that counts nothing decided something"
            return
        now = model.take(self.reading)
        slow = model.rule.slow is not None and lasted > model.rule.slow
        model.totals[{OK: "ok", BAD: "bad"}.get(verdict, "ignored")] += 1
        model.totals["slow"] += slow and verdict is not IGNORED
        if ticket in model.out:
            model.out.remove(ticket)
        ignored = verdict is IGNORED or (verdict is CUT and not slow)
        if ticket.generation != model.generation or ignored:
            assert moved is None, "a late or ignored result decided something"
        elif trip is not None and model.state is not S.METRICS_ONLY:
            assert isinstance(moved, Transition)
            assert (moved.old, moved.new) == model.move(S.OPEN, now, u, trip)
        elif model.state is S.HALF_OPEN:
            if verdict is CUT:
                model.cut += 1
            else:
                model.done.append(Result(now, verdict is BAD, slow))
            self.follow(moved, model.probes_say(), now, u)
        else:
            run = model.run if verdict is CUT else (model.run + 1) * (verdict is BAD)
            self.judge(Result(now, verdict is BAD, slow), run, moved, now, u, trip=trip)

    def follow(self, moved: object, to: BreakerState | None, now: float, u: float) -> None:
        if to is None:
            assert moved is None
            return
        assert isinstance(moved, Transition)
        assert (moved.old, moved.new) == self.model.move(to, now, u)

    def judge(  # one step of the machine
        self, result: Result, run: int, moved: object, now: float, u: float, *, trip: float | None
    ) -> None:
        model = self.model
        model.results.append(result)
        model.run = run
        verdicts = {trip is not None or model.trips(window) for window in model.windows(now)}
        if model.state is S.METRICS_ONLY:
            if model.told:
                assert moved is None, "told twice"
            else:
                assert isinstance(moved, WouldOpen) in verdicts
                model.told = isinstance(moved, WouldOpen)
            return
        assert (moved is not None) in verdicts
        self.follow(moved, None if moved is None else S.OPEN, now, u)

    @rule(how=st.sampled_from(BY_HAND), u=st.sampled_from([0.0, 0.5]))
    def by_hand(self, how: tuple[str, BreakerState], u: float) -> None:
        word, state = how
        same = self.model.state is state
        moved = self.core.force_state(state, word, self.reading, u)
        old, new = self.model.move(state, self.model.take(self.reading), u)
        if same:
            assert moved is None
        else:
            assert isinstance(moved, Transition)
            assert (moved.old, moved.new) == (old, new)

    @rule()
    def look(self) -> None:
        model, seen = self.model, stats(self.core, self.reading)
        now, totals = model.take(self.reading), model.totals
        assert (seen.state, seen.generation, seen.opened) == (
            model.state,
            model.generation,
            totals["opened"],
        )
        assert seen.retry_after == model.retry_after(now)
        assert (seen.calls, seen.successes, seen.failures) == (
            totals["calls"],
            totals["ok"],
            totals["bad"],
        )
        assert (seen.slow, seen.ignored, seen.rejected) == (
            totals["slow"],
            totals["ignored"],
            totals["rejected"],
        )
        assert seen.calls == seen.successes + seen.failures + seen.ignored + seen.in_flight
        windowed = model.rule.failure_rate is not None or model.rule.slow is not None
        assert seen.failure_rate in (model.rates(now, "failed") if windowed else {None})
        assert seen.slow_rate in (
            model.rates(now, "slow") if model.rule.slow is not None else {None}
        )

    @rule()
    def ask_for_its_health(self) -> None:
        healthy, now = self.core.healthy(self.reading), self.model.take(self.reading)
        clean = {not any(one.failed for one in window) for window in self.model.windows(now)}
        if self.model.rule.failure_rate is None and self.model.rule.slow is None:
            clean = {not self.model.run}  # it has no window
        if self.model.state is not S.CLOSED or clean == {False}:
            assert not healthy
        elif clean == {True} and not self.model.run:
            assert healthy

    @invariant()
    def nothing_but_calls_moves_it(self) -> None:
        if hasattr(self, "core"):
            assert self.core.state is self.model.state
            ended = sum(self.model.totals[what] for what in ("ok", "bad", "ignored"))
            assert self.core.in_flight() == self.model.totals["calls"] - ended
            assert self.core.idle() == (self.model.totals["calls"] == ended)

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.look()


@pytest.mark.rule("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B10", "B12", "B13", "T2")
def test_it_is_the_breaker_of_the_contract() -> None:
    run_state_machine_as_test(
        BreakerMachine, settings=settings(max_examples=300, stateful_step_count=40)
    )


class Twins(RuleBasedStateMachine):
    """Two cores that are told the same.

    One counts a success before its permit's `until` in `successes` alone, the other settles it.
    """

    pairs: Bundle[tuple[Permit, Permit]] = Bundle("pairs")

    @initialize(
        told=st.sampled_from(RULES) | st.just(RULES[-1]),
        initial=st.sampled_from([S.CLOSED, S.METRICS_ONLY]),
    )
    def begin(self, told: BreakerConfig, initial: BreakerState) -> None:
        self.now = 100.0
        self.short, self.long = (BreakerCore(told, self.now, 0.0, initial) for _ in "ab")

    @rule(
        seconds=st.sampled_from([0.125, 1.0, 5.0, 6.0, WINDOW, EDGE, 30.0]) | st.floats(0, 12),
        look=st.booleans(),
    )
    def time_passes(self, seconds: float, look: bool) -> None:
        self.now += seconds
        if look:
            self.look()

    @rule(verdicts=st.lists(st.sampled_from([OK, OK, BAD]), max_size=6))
    def serve(self, verdicts: list[Verdict]) -> None:
        """Whole calls, one after the other."""
        for verdict in verdicts:
            (one, moves), (two, others) = (
                core.admit(self.now, 0.0) for core in (self.short, self.long)
            )
            assert moves == others
            if not isinstance(one, Permit) or not isinstance(two, Permit):
                assert one == two
            elif verdict is OK:
                self.succeed((one, two))
            else:
                self.end((one, two), verdict, 0.0)

    @rule(after=st.booleans())
    def the_span_ends(self, after: bool) -> None:
        permit = self.short.shared_permit
        if permit is not None and self.now <= permit.until < math.inf:
            self.now = permit.until if after else max(self.now, math.nextafter(permit.until, 0.0))

    @rule(target=pairs, many=st.sampled_from([1, 1, 5]))
    def admit(self, many: int) -> tuple[Permit, Permit]:
        given_out = []
        for _ in range(many):
            (one, moves), (two, others) = (
                core.admit(self.now, 0.0) for core in (self.short, self.long)
            )
            assert moves == others
            if isinstance(one, Permit) and isinstance(two, Permit):
                assert one.until == two.until
                given_out.append((one, two))
            else:
                assert one == two
        return multiple(*given_out)  # type: ignore[return-value]  # any number of them

    @rule(good=st.integers(1, 6), bad=st.integers(1, 2), look=st.booleans())
    def old_health_leaves_the_window(self, good: int, bad: int, look: bool) -> None:
        self.serve([OK] * good)
        self.time_passes(5.0, look=False)
        self.serve([BAD] * bad + [OK])
        self.time_passes(6.0, look=look)
        self.serve([OK])

    @rule(pair=consumes(pairs))
    def success(self, pair: tuple[Permit, Permit]) -> None:
        self.succeed(pair)

    def succeed(self, pair: tuple[Permit, Permit]) -> None:
        one, two = pair
        moved = self.long.settle(two, OK, self.now, 0.0)
        if self.now < one.until:
            assert moved is None, "a success in the span had to be judged"
            next(self.short.successes.increment)
        else:
            assert self.short.settle(one, OK, self.now, 0.0) == moved

    @rule(
        pair=consumes(pairs),
        verdict=st.sampled_from([OK, BAD, BAD, IGNORED, CUT]),
        lasted=st.sampled_from([0.0, 2.0]),
    )
    def other_end(self, pair: tuple[Permit, Permit], verdict: Verdict, lasted: float) -> None:
        self.end(pair, verdict, lasted)

    def end(self, pair: tuple[Permit, Permit], verdict: Verdict, lasted: float) -> None:
        one, two = (
            core.settle(permit, verdict, self.now, 0.0, lasted)
            for core, permit in zip((self.short, self.long), pair, strict=True)
        )
        assert one == two

    @rule(how=st.sampled_from(BY_HAND))
    def by_hand(self, how: tuple[str, BreakerState]) -> None:
        assert self.short.force_state(how[1], how[0], self.now, 0.0) == self.long.force_state(
            how[1], how[0], self.now, 0.0
        )

    @rule()
    def look(self) -> None:
        assert stats(self.short, self.now) == stats(self.long, self.now)
        assert self.short.healthy(self.now) == self.long.healthy(self.now)

    @invariant()
    def they_are_alike(self) -> None:
        if hasattr(self, "short"):
            assert self.short.state is self.long.state
            assert self.short.in_flight() == self.long.in_flight()

    def teardown(self) -> None:
        if hasattr(self, "short"):
            self.look()


@pytest.mark.rule("B3", "B4", "B11")
def test_the_shortcut_of_the_healthy_path_changes_nothing_that_can_be_seen() -> None:
    run_state_machine_as_test(Twins, settings=settings(max_examples=300, stateful_step_count=40))


seconds = st.floats(0, 1e6)


@pytest.mark.rule("B5", "T2")
@settings(max_examples=400)
@given(
    opened=seconds,
    rest=st.floats(0, 1e3),
    waited=st.floats(0, 1),
    late=st.just(0.0) | st.floats(0, 2),
)
def test_a_call_made_when_retry_after_has_passed_is_admitted_whatever_the_floats(
    opened: float, rest: float, waited: float, late: float
) -> None:
    core = core_of(opened, minimum=1, cooldown=lambda k, u: rest)
    call(core, BAD, now=opened)
    now = opened + waited * rest
    left = stats(core, now).retry_after
    answer, _ = core.admit(now - late, 0.0)
    if isinstance(answer, Refusal):
        assert answer.retry_after is not None
        assert 0 < answer.retry_after <= rest
        assert stats(core, now - late).retry_after == answer.retry_after == left
        admit(core, now + answer.retry_after)


# Each law once, in plain words.


@pytest.mark.rule("B5")
def test_a_call_at_the_very_end_of_retry_after_is_admitted_where_floats_round_down() -> None:
    core = core_of(0.62, minimum=1, cooldown=lambda k, u: 6.9)
    call(core, BAD, now=0.62)
    assert 1.1 + (0.62 + 6.9 - 1.1) < 0.62 + 6.9
    left = refusal(core, 1.1).retry_after
    assert left is not None
    assert left == pytest.approx(6.42)
    admit(core, 1.1 + left)


@pytest.mark.rule("B3")
def test_a_call_of_which_no_length_is_told_is_not_slow() -> None:
    core = core_of(slow=0.5)
    core.settle(admit(core), OK, 0.0, 0.0)
    assert stats(core).slow == 0


@pytest.mark.rule("B1")
def test_a_result_from_before_a_change_of_state_decides_nothing() -> None:
    core = core_of(minimum=1)
    late = [admit(core), admit(core)]
    call(core, BAD)
    call(core, OK, now=2.0)  # the probe: closed again
    assert core.state is S.CLOSED
    assert core.settle(late[0], BAD, 2.0, 0.0) is None
    assert core.settle(late[1], OK, 2.0, 0.0) is None
    assert core.state is S.CLOSED
    assert stats(core, 2.0).failure_rate is None  # not in the window either
    assert (stats(core, 2.0).failures, stats(core, 2.0).successes) == (2, 2)


@pytest.mark.rule("B1", "B4")
def test_neither_a_late_success_nor_a_late_failure_is_in_the_window() -> None:
    for late in (OK, BAD):
        core = core_of(minimum=1, failure_rate=1.0)
        permit = admit(core)
        core.force_state(S.CLOSED, "reset", 0.0, 0.0)
        core.settle(permit, late, 0.0, 0.0)
        assert stats(core).failure_rate is None
        call(core, OK)
        call(core, BAD)
        assert stats(core).failure_rate == 0.5


@pytest.mark.rule("B5", "B10")
def test_only_a_state_that_lets_all_through_and_records_has_a_standing_permit() -> None:
    core = core_of(minimum=1)
    standing = [core.shared_permit is admit(core)]
    call(core, BAD)
    standing.append(core.shared_permit is not None)  # OPEN
    admit(core, 2.0)
    standing.append(core.shared_permit is not None)  # HALF_OPEN
    assert standing == [True, False, False]
    for how, state in BY_HAND:
        core.force_state(state, how, 2.0, 0.0)
        assert (core.shared_permit is not None) is (state in {S.CLOSED, S.METRICS_ONLY})


@pytest.mark.rule("B1")
def test_every_change_of_state_begins_a_generation() -> None:
    core = core_of(minimum=1)
    generations = [stats(core).generation]
    call(core, BAD)
    generations.append(stats(core).generation)
    permit = admit(core, 2.0)
    generations.append(stats(core, 2.0).generation)
    core.settle(permit, OK, 2.0, 0.0)
    generations.append(stats(core, 2.0).generation)
    assert generations == [1, 2, 3, 4]
    assert permit.generation == 3


@pytest.mark.rule("B2")
def test_an_ignored_call_counts_nowhere_but_among_the_ignored() -> None:
    core = core_of(minimum=1, consecutive_failures=2, failure_rate=None, slow=1.0)
    call(core, BAD)
    assert call(core, IGNORED, lasted=5.0) is None
    assert call(core, IGNORED) is None
    seen = stats(core)
    assert (seen.ignored, seen.successes, seen.failures, seen.slow, seen.in_flight) == (
        2,
        0,
        1,
        0,
        0,
    )
    assert seen.failure_rate == 1.0
    assert call(core, BAD) is not None  # nor did it break the run


@pytest.mark.rule("B3")
def test_it_opens_at_the_failure_rate_once_the_window_holds_the_minimum() -> None:
    core = core_of(minimum=4, failure_rate=0.5)
    assert calls(core, BAD, BAD, OK) is None
    moved = call(core, OK)  # a success trips it, too
    assert moved == Transition(S.CLOSED, S.OPEN, Why("failure_rate", 2, 4), 0.0)


@pytest.mark.rule("B3")
def test_below_the_failure_rate_it_stays_closed() -> None:
    core = core_of(minimum=3, failure_rate=0.5)
    assert calls(core, OK, OK, BAD, OK, BAD) is None
    assert call(core, BAD) is not None


@pytest.mark.rule("B3")
def test_a_call_is_slow_when_it_lasted_longer_than_the_limit() -> None:
    core = core_of(failure_rate=None, slow=1.0, slow_rate=0.5, minimum=2)
    call(core, OK, lasted=1.0)
    assert stats(core).slow == 0
    call(core, OK, lasted=1.0)
    call(core, OK, lasted=1.0)
    assert call(core, OK, lasted=1.001) is None
    assert (stats(core).slow, stats(core).slow_rate) == (1, 0.25)
    call(core, OK, lasted=2.0)
    assert call(core, OK, lasted=2.0) == Transition(S.CLOSED, S.OPEN, Why("slow_rate", 3, 6), 0.0)


@pytest.mark.rule("B3")
def test_a_slow_failure_counts_in_both() -> None:
    core = core_of(failure_rate=1.0, slow=1.0, slow_rate=1.0, minimum=3)
    call(core, OK)
    call(core, BAD, lasted=2.0)
    call(core, OK)
    seen = stats(core)
    assert (seen.failures, seen.slow, seen.failure_rate, seen.slow_rate) == (1, 1, 1 / 3, 1 / 3)


@pytest.mark.rule("B3")
def test_a_run_of_failures_opens_whatever_the_minimum() -> None:
    core = core_of(consecutive_failures=3, failure_rate=0.5, minimum=100)
    calls(core, BAD, BAD, OK, BAD, BAD)
    assert core.state is S.CLOSED
    assert call(core, BAD) == Transition(S.CLOSED, S.OPEN, Why("consecutive_failures", 3, 3), 0.0)


@pytest.mark.rule("B3")
def test_a_run_of_failures_may_be_spread_over_hours() -> None:
    core = core_of(consecutive_failures=3)
    assert [type(call(core, BAD, now=3600.0 * n)) for n in (1, 2, 3)] == [
        type(None),
        type(None),
        Transition,
    ]


def test_with_tolerance_a_run_must_be_longer_where_failures_came_with_successes() -> None:
    core = core_of(consecutive_failures=2, tolerance=2.0, minimum=100)
    calls(core, BAD, OK, BAD, OK)
    assert calls(core, BAD, BAD, BAD) is None, "as many failures as successes: two more, twice"
    assert call(core, BAD) == Transition(S.CLOSED, S.OPEN, Why("consecutive_failures", 4, 4), 0.0)


@pytest.mark.parametrize("before", [(), (OK,), (OK, OK, OK)])
def test_tolerance_is_for_nothing_where_no_failure_came_before(before: tuple[Verdict, ...]) -> None:
    core = core_of(consecutive_failures=2, tolerance=1e9, minimum=100)
    assert calls(core, *before, BAD) is None
    assert isinstance(call(core, BAD), Transition)


def test_tolerance_ends_with_the_failures_that_the_window_has_forgotten() -> None:
    core = core_of(consecutive_failures=2, tolerance=1e9, minimum=100)
    calls(core, BAD, OK, BAD)
    assert call(core, BAD, now=1.0) is None
    assert isinstance(call(core, BAD, now=20.0), Transition)


@pytest.mark.rule("B3")
def test_a_rate_that_is_off_never_opens() -> None:
    core = core_of(failure_rate=None, slow=1.0, minimum=1)
    assert calls(core, BAD, BAD, BAD) is None
    core = core_of(failure_rate=0.5, minimum=1)
    assert call(core, OK, lasted=1e9) is None
    assert stats(core).slow == 0
    assert stats(core).slow_rate is None


@pytest.mark.rule("B4")
def test_the_window_forgets_nothing_younger_and_everything_older() -> None:
    core = core_of(window=WINDOW, minimum=1, failure_rate=1.0)
    call(core, OK, now=0.0)
    call(core, BAD, now=0.5)
    call(core, OK, now=5.0)
    assert stats(core, 9.99).failure_rate == 1 / 3
    assert stats(core, 11.6).failure_rate == 0.0
    assert stats(core, 16.01).failure_rate is None


@pytest.mark.rule("B4")
def test_after_a_long_idle_time_the_window_is_empty() -> None:
    core = core_of(window=WINDOW, minimum=2)
    call(core, BAD, now=0.0)
    assert call(core, BAD, now=11.01) is None
    assert call(core, BAD, now=11.01) is not None


@pytest.mark.rule("B4")
def test_a_count_window_is_exact() -> None:
    core = core_of(window_calls=3, minimum=3, failure_rate=1.0)
    assert calls(core, BAD, BAD, OK, BAD, BAD) is None
    assert stats(core, 1e9).failure_rate == 2 / 3
    assert call(core, BAD, now=1e9) is not None


@pytest.mark.rule("B5")
def test_open_rejects_until_the_cooldown_is_over_and_then_probes() -> None:
    core = core_of(minimum=1)
    call(core, BAD, now=1.0)
    answer = refusal(core, 1.5)
    assert answer == Refusal(1.5, "open", Why("failure_rate", 1, 1))
    refusal(core, 2.999)
    probe, moves = core.admit(3.0, 0.0)
    assert isinstance(probe, Permit)
    assert moves == [Transition(S.OPEN, S.HALF_OPEN, Why("cooldown_over", 0, 0), 3.0)]


@pytest.mark.rule("B5")
def test_nothing_but_calls_moves_it() -> None:
    core = core_of(minimum=1)
    call(core, BAD)
    assert stats(core, 1e6).state is S.OPEN
    assert stats(core, 1e6).retry_after == 0.0
    assert core.state is S.OPEN


@pytest.mark.rule("B6")
def test_half_open_lets_so_many_probes_through_running_and_finished() -> None:
    core = core_of(minimum=1, probes=3, failure_rate=0.5)
    call(core, BAD)
    first, second = admit(core, 2.0), admit(core, 2.0)
    core.settle(first, OK, 2.0, 0.0)
    third = admit(core, 2.0)
    assert refusal(core, 2.0).retry_after is None
    core.settle(second, OK, 2.0, 0.0)
    assert refusal(core, 2.0).reason == "half_open"
    assert core.settle(third, OK, 3.0, 0.0) == Transition(
        S.HALF_OPEN, S.CLOSED, Why("probes_succeeded", 0, 3), 3.0
    )


@pytest.mark.rule("B6")
def test_it_reopens_at_the_first_result_that_makes_the_verdict_certain() -> None:
    core = core_of(minimum=1, probes=4, failure_rate=0.5)
    call(core, BAD)
    probes = [admit(core, 2.0) for _ in range(4)]
    assert core.settle(probes[0], BAD, 2.0, 0.0) is None
    assert core.settle(probes[1], BAD, 2.0, 0.0) == Transition(
        S.HALF_OPEN, S.OPEN, Why("probes", 2, 4), 2.0
    )


@pytest.mark.rule("B6")
def test_without_a_failure_rate_the_first_failed_probe_reopens() -> None:
    core = core_of(consecutive_failures=1, failure_rate=None, probes=4)
    call(core, BAD)
    assert call(core, OK, now=2.0) is None
    assert isinstance(call(core, BAD, now=2.0), Transition)
    assert core.state is S.OPEN


@pytest.mark.rule("B14")
@pytest.mark.parametrize("changes", [{}, {"window_calls": 4}], ids=str)
def test_a_slow_call_that_was_cancelled_is_one_of_the_window_s_calls_and_slow(
    changes: dict[str, Any],
) -> None:
    core = core_of(
        failure_rate=0.75, slow=1.0, slow_rate=0.75, minimum=4, consecutive_failures=3, **changes
    )
    assert calls(core, BAD, BAD) is None
    assert call(core, CUT, lasted=1.0) is None, "no longer than that"
    assert call(core, CUT, lasted=5.0) is None
    seen = stats(core)
    assert (seen.calls, seen.failures, seen.ignored, seen.slow) == (4, 2, 2, 1)
    assert seen.failure_rate is None, "three calls"
    assert call(core, CUT, lasted=5.0) is None
    assert (stats(core).failure_rate, stats(core).slow_rate) == (0.5, 0.5)
    moved = call(core, BAD)
    assert moved == Transition(S.CLOSED, S.OPEN, Why("consecutive_failures", 3, 3), 0.0), (
        "it ended no run"
    )


@pytest.mark.rule("B14")
@pytest.mark.parametrize("changes", [{}, {"window_calls": 9}], ids=str)
def test_calls_that_are_cancelled_alone_can_open(changes: dict[str, Any]) -> None:
    core = core_of(slow=1.0, minimum=3, **changes)
    assert [call(core, CUT, lasted=5.0) for _ in range(2)] == [None, None]
    moved = call(core, CUT, lasted=5.0)
    assert moved == Transition(S.CLOSED, S.OPEN, Why("slow_rate", 3, 3), 0.0)
    assert stats(core).successes == stats(core).failures == 0
    assert stats(core).ignored == 3


@pytest.mark.rule("B4", "B14")
def test_they_leave_the_window_as_others_do() -> None:
    core = core_of(slow=1.0, slow_rate=1.0, minimum=2, window=8.0)
    assert [call(core, CUT, lasted=5.0), call(core, OK)] == [None, None]
    assert stats(core, 8.0).slow_rate == 0.5
    assert stats(core, 8.8).slow_rate is None
    assert [call(core, CUT, 9.0, 5.0), call(core, OK, 9.0), call(core, OK, 9.0)] == [None] * 3
    assert stats(core, 9.0).slow_rate == 1 / 3


@pytest.mark.rule("B6", "B14")
def test_a_slow_probe_that_was_cancelled_gives_its_place_back_and_may_reopen() -> None:
    core = core_of(minimum=1, probes=2, failure_rate=1.0, slow=1.0, slow_rate=1.0)
    call(core, BAD)
    assert call(core, CUT, 2.0, lasted=0.5) is None
    assert call(core, OK, 2.0) is None
    assert call(core, CUT, 2.0, lasted=5.0) is None, "two are in, but one of them is no success"
    moved = call(core, CUT, 2.0, lasted=5.0)
    assert moved == Transition(S.HALF_OPEN, S.OPEN, Why("slow_probes", 2, 2), 2.0)
    assert call(core, CUT, 4.0, lasted=5.0) is None
    assert calls(core, OK, OK, now=4.0) == Transition(
        S.HALF_OPEN, S.CLOSED, Why("probes_succeeded", 0, 2), 4.0
    )


@pytest.mark.rule("B1", "B14")
def test_a_slow_call_of_an_older_generation_that_was_cancelled_is_in_the_totals_alone() -> None:
    core = core_of(slow=1.0, minimum=1)
    late = admit(core)
    core.force_state(S.CLOSED, "reset", 0.0, 0.0)
    assert core.settle(late, CUT, 9.0, 0.0, 9.0) is None
    seen = stats(core, 9.0)
    assert (seen.slow, seen.ignored, seen.slow_rate, seen.state) == (1, 1, None, S.CLOSED)


@pytest.mark.rule("B15")
@pytest.mark.parametrize(("trip", "rest"), [(30.0, 30.0), (0.0, 2.0), (0.5, 0.5)])
def test_a_failure_may_open_at_once_for_as_long_as_its_error_says(trip: float, rest: float) -> None:
    core = core_of(minimum=100)
    moved = core.settle(admit(core, 5.0), BAD, 5.0, 0.0, 0.0, trip)
    assert moved == Transition(S.CLOSED, S.OPEN, Why("trip", 1, 1), 5.0)
    assert isinstance(moved, Transition)
    assert str(moved.why) == "tripped by an error"
    assert refusal(core, 5.0).retry_after == rest
    assert refusal(core, 5.25).retry_after == rest - 0.25
    assert (stats(core, 5.25).opened, stats(core, 5.25).failures) == (1, 1)
    admit(core, 5.0 + rest)
    assert core.state is S.HALF_OPEN


@pytest.mark.rule("B8", "B15")
def test_a_probe_may_reopen_for_as_long_and_that_is_an_opening_like_any_other() -> None:
    core = core_of(
        minimum=1, probes=3, failure_rate=1.0, consecutive_failures=1, cooldown=lambda k, u: 2.0 * k
    )
    call(core, BAD)
    moved = core.settle(admit(core, 2.0), BAD, 2.0, 0.0, 0.0, 30.0)
    assert moved == Transition(S.HALF_OPEN, S.OPEN, Why("trip", 1, 1), 2.0)
    assert refusal(core, 2.0).retry_after == 30.0
    moved = core.settle(admit(core, 32.0), BAD, 32.0, 0.0, 0.0, 0.0)
    assert refusal(core, 32.0).retry_after == 6.0, "the third in a row"


@pytest.mark.rule("B1", "B15")
def test_a_late_error_opens_nothing() -> None:
    core = core_of(minimum=100)
    late = admit(core)
    core.force_state(S.CLOSED, "reset", 0.0, 0.0)
    assert core.settle(late, BAD, 1.0, 0.0, 0.0, 30.0) is None
    assert core.state is S.CLOSED
    earlier = admit(core)
    core.settle(admit(core), BAD, 1.0, 0.0, 0.0, 30.0)
    assert core.settle(earlier, BAD, 2.0, 0.0, 0.0, 99.0) is None
    assert refusal(core, 2.0).retry_after == 29.0


@pytest.mark.rule("B10", "B15")
def test_in_metrics_only_it_is_told_once_and_in_disabled_nothing_is() -> None:
    core = core_of(minimum=100, initial=S.METRICS_ONLY)
    moves = [core.settle(admit(core), BAD, 1.0, 0.0, 0.0, 30.0) for _ in range(2)]
    assert moves == [WouldOpen(Why("trip", 1, 1), 1.0), None]
    assert (core.state, stats(core).failures) == (S.METRICS_ONLY, 2)
    core.force_state(S.DISABLED, "disable", 1.0, 0.0)
    assert core.settle(admit(core), BAD, 1.0, 0.0, 0.0, 30.0) is None


@pytest.mark.rule("B6")
def test_slow_probes_reopen() -> None:
    core = core_of(minimum=1, probes=2, failure_rate=1.0, slow=1.0, slow_rate=1.0)
    call(core, BAD)
    assert call(core, OK, now=2.0, lasted=1.5) is None
    assert call(core, OK, now=2.0, lasted=1.5) == Transition(
        S.HALF_OPEN, S.OPEN, Why("slow_probes", 2, 2), 2.0
    )


@pytest.mark.rule("B6", "B8")
def test_slow_and_lost_probes_throw_the_dice_of_the_cooldown_too() -> None:
    core = core_of(
        minimum=1, slow=1.0, slow_rate=1.0, probe_lease=4.0, cooldown=lambda k, u: 2.0 + u
    )
    call(core, BAD)
    probe = admit(core, 2.0)
    core.settle(probe, OK, 2.0, 0.5, 1.5)
    assert refusal(core, 2.0).retry_after == 2.5
    admit(core, 4.5)
    answer, _ = core.admit(8.5, 0.25)
    assert isinstance(answer, Refusal)
    assert answer.retry_after == 2.25


@pytest.mark.rule("B6")
def test_a_probe_that_is_settled_twice_counts_once() -> None:
    core = core_of(minimum=1, probes=2, failure_rate=1.0)
    call(core, BAD)
    probe = admit(core, 2.0)
    assert core.settle(probe, OK, 2.0, 0.0) is None
    assert core.settle(probe, OK, 2.0, 0.0) is None
    assert (core.state, stats(core, 2.0).successes) == (S.HALF_OPEN, 1)


@pytest.mark.rule("B6")
def test_an_ignored_probe_gives_its_place_back() -> None:
    core = core_of(minimum=1)
    call(core, BAD)
    assert call(core, IGNORED, now=2.0) is None
    assert core.state is S.HALF_OPEN
    assert call(core, OK, now=2.0) is not None


@pytest.mark.rule("B7")
def test_a_lost_probe_is_a_failure_to_the_next_call() -> None:
    core = core_of(minimum=1, probe_lease=4.0)
    call(core, BAD)
    lost = admit(core, 2.0)
    assert refusal(core, 5.999).reason == "half_open"
    answer, moves = core.admit(6.0, 0.0)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.retry_after) == ("open", 2.0)
    assert moves == [Transition(S.HALF_OPEN, S.OPEN, Why("probes", 1, 1), 6.0)]
    assert (stats(core, 6.0).failures, stats(core, 6.0).in_flight) == (2, 0)
    assert core.settle(lost, OK, 6.0, 0.0) is None
    assert (stats(core, 6.0).successes, stats(core, 6.0).in_flight) == (0, 0)


@pytest.mark.rule("B7")
def test_a_lost_probe_that_decides_nothing_leaves_half_open() -> None:
    core = core_of(minimum=1, probes=2, failure_rate=1.0, probe_lease=4.0)
    call(core, BAD)
    admit(core, 2.0)
    kept = admit(core, 4.0)
    answer, moves = core.admit(6.0, 0.0)
    assert (isinstance(answer, Refusal), moves) == (True, [])
    assert core.settle(kept, OK, 6.5, 0.0) == Transition(
        S.HALF_OPEN, S.CLOSED, Why("probes_succeeded", 0, 2), 6.5
    )


@pytest.mark.rule("B7")
def test_a_lost_probe_is_not_a_slow_one() -> None:
    core = core_of(minimum=1, probes=2, failure_rate=1.0, slow=1.0, slow_rate=0.5, probe_lease=4.0)
    call(core, BAD)
    admit(core, 2.0)
    _, moves = core.admit(6.0, 0.0)
    assert (core.state, moves) == (S.HALF_OPEN, [])
    assert stats(core, 6.0).slow == 0


@pytest.mark.rule("B7")
def test_of_several_lost_probes_the_first_that_decides_is_the_last_that_counts() -> None:
    core = core_of(minimum=1, probes=2, failure_rate=0.5, probe_lease=4.0)
    call(core, BAD)
    late = [admit(core, 2.0), admit(core, 2.0)]
    refusal(core, 6.0)
    assert (stats(core, 6.0).failures, stats(core, 6.0).in_flight) == (2, 1)
    core.settle(late[1], OK, 6.0, 0.0)
    assert (stats(core, 6.0).successes, stats(core, 6.0).in_flight) == (1, 0)


@pytest.mark.rule("B7")
def test_a_lost_probe_and_a_cooldown_of_nothing_make_the_next_call_a_probe() -> None:
    core = core_of(minimum=1, probe_lease=4.0, cooldown=lambda k, u: 0.0)
    call(core, BAD)
    admit(core, 0.0)
    answer, moves = core.admit(4.0, 0.0)
    assert isinstance(answer, Permit)
    assert [move.new for move in moves if isinstance(move, Transition)] == [S.OPEN, S.HALF_OPEN]


@pytest.mark.rule("B8")
def test_each_opening_in_a_row_waits_as_the_cooldown_says_and_closing_begins_anew() -> None:
    core = core_of(minimum=1, cooldown=lambda k, u: k + u)
    call(core, BAD)
    waits, now = [refusal(core).retry_after], 10.0
    for verdict in (BAD, BAD, OK, BAD):
        call(core, verdict, now=now)
        if core.state is S.OPEN:
            waits.append(refusal(core, now).retry_after)
        now += 10
    assert waits == [1.0, 2.0, 3.0, 1.0]
    permit = admit(core, 100.0)
    core.settle(permit, BAD, 100.0, 0.25)
    assert refusal(core, 100.0).retry_after == 2.25


@pytest.mark.rule("B8", "B5")
def test_it_may_begin_open_with_its_cooldown_running() -> None:
    core = core_of(5.0, S.OPEN)
    assert refusal(core, 5.0) == Refusal(2.0, "open", Why("initial", 0, 0))
    assert stats(core, 5.0).opened == 0
    admit(core, 7.0)


@pytest.mark.rule("B10")
def test_forced_open_rejects_whatever_the_time() -> None:
    core = core_of()
    core.force_state(S.FORCED_OPEN, "force_open", 0.0, 0.0)
    answer = refusal(core, 1e9)
    assert (answer.retry_after, answer.reason) == (None, "forced_open")
    assert stats(core, 1e9).retry_after is None


@pytest.mark.rule("B10")
def test_disabled_records_nothing_of_its_calls_not_even_the_call() -> None:
    core = core_of(minimum=1)
    core.force_state(S.DISABLED, "disable", 0.0, 0.0)
    inside = admit(core)
    call(core, BAD)
    core.force_state(S.CLOSED, "reset", 0.0, 0.0)
    assert core.settle(inside, BAD, 0.0, 0.0) is None
    seen = stats(core)
    assert (seen.calls, seen.failures, seen.in_flight, seen.state) == (0, 0, 0, S.CLOSED)


@pytest.mark.rule("B10")
def test_metrics_only_records_and_tells_once_that_it_would_have_opened() -> None:
    core = core_of(minimum=2, initial=S.METRICS_ONLY)
    assert call(core, BAD, now=1.0) is None
    assert call(core, BAD, now=1.5) == WouldOpen(Why("failure_rate", 2, 2), 1.5)
    assert call(core, BAD, now=1.5) is None
    assert (stats(core, 1.5).failure_rate, stats(core, 1.5).opened) == (1.0, 0)
    core.force_state(S.METRICS_ONLY, "metrics_only", 2.0, 0.0)
    assert calls(core, BAD, BAD, now=2.0) == WouldOpen(Why("failure_rate", 2, 2), 2.0)


@pytest.mark.rule("B10")
def test_reset_while_closed_forgets_and_is_no_event() -> None:
    core = core_of(minimum=2, consecutive_failures=2)
    late = admit(core)
    call(core, BAD)
    assert core.force_state(S.CLOSED, "reset", 0.0, 0.0) is None
    assert stats(core).generation == 2
    assert core.settle(late, BAD, 0.0, 0.0) is None
    assert call(core, BAD) is None
    assert stats(core).failure_rate is None


@pytest.mark.rule("B10")
@pytest.mark.parametrize(("how", "state"), BY_HAND)
def test_a_change_by_hand_is_an_event(how: str, state: BreakerState) -> None:
    core = core_of(minimum=1)
    call(core, BAD, now=1.0)
    assert core.force_state(state, how, 1.5, 0.0) == Transition(S.OPEN, state, Why(how, 0, 0), 1.5)


@pytest.mark.rule("B3", "B11")
def test_a_run_of_failures_that_the_window_has_forgotten_is_ended_by_the_next_success() -> None:
    core = core_of(consecutive_failures=3, window=10.0, minimum=10)
    permit = admit(core)
    for _ in range(2):
        core.settle(permit, BAD, 0.0, 0.0)
    assert stats(core, 30.0).failure_rate is None
    assert permit.until == -math.inf, "a success must ask, although the window is empty"
    core.settle(permit, OK, 30.0, 0.0)
    core.settle(permit, BAD, 30.0, 0.0)
    assert core.state is S.CLOSED


@pytest.mark.rule("B11")
@pytest.mark.parametrize("window_calls", [None, 5])
def test_the_shortcut_is_there_when_all_is_well_and_gone_while_failures_matter(
    window_calls: int | None,
) -> None:
    core = core_of(minimum=3, failure_rate=1.0, window_calls=window_calls)
    permit = admit(core)
    assert (permit.until > 0.0) is (window_calls is None)
    core.settle(permit, BAD, 0.0, 0.0)
    assert permit.until == -math.inf  # a run of failures, to be ended by the next success
    call(core, OK)
    assert permit.until == -math.inf  # one more completes the minimum
    call(core, OK)
    assert (permit.until > 0.0) is (window_calls is None)
    core.force_state(S.CLOSED, "reset", 0.0, 0.0)
    assert permit.until == -math.inf  # late results must ask


@pytest.mark.rule("B11")
def test_with_a_run_as_the_only_watch_the_shortcut_has_no_end() -> None:
    core = core_of(consecutive_failures=2, failure_rate=None)
    permit = admit(core)
    assert permit.until == math.inf


@pytest.mark.rule("B12")
def test_calls_are_successes_failures_ignored_and_in_flight_and_rejections_are_apart() -> None:
    core = core_of(minimum=4)
    admit(core)
    calls(core, OK, IGNORED, BAD, BAD)
    admit(core)
    call(core, BAD)
    refusal(core)
    refusal(core)
    seen = stats(core)
    assert (seen.calls, seen.successes, seen.failures, seen.ignored, seen.in_flight) == (
        7,
        1,
        3,
        1,
        2,
    )
    assert (seen.rejected, seen.opened, core.in_flight()) == (2, 1, 2)


@pytest.mark.rule("B13")
def test_rejections_and_changes_are_counted_by_state() -> None:
    core = core_of(minimum=1)
    call(core, BAD)
    refusal(core)
    admit(core, 2.0)
    refusal(core, 2.0)
    refusal(core, 2.0)
    core.force_state(S.CLOSED, "reset", 2.0, 0.0)
    core.force_state(S.CLOSED, "reset", 2.0, 0.0)
    call(core, BAD, now=2.0)
    assert core.rejections == {S.OPEN: 1, S.HALF_OPEN: 2}
    assert core.transitions == {S.OPEN: 2, S.HALF_OPEN: 1, S.CLOSED: 1}
    assert stats(core, 2.0).opened == 2


@pytest.mark.rule("B12", "B13")
def test_totals_say_what_was_counted_in_its_whole_life_and_by_state() -> None:
    core = core_of(minimum=2, slow=1.0)
    calls(core, OK, IGNORED)
    call(core, BAD, lasted=2.0)
    refusal(core)
    inside = admit(core, 2.0)
    refusal(core, 2.0)
    refusal(core, 2.0)
    next(core.calls.increment)
    core.void += 1
    assert core.totals() == {
        "calls": 4, "successes": 1, "failures": 1, "slow": 1, "ignored": 1, "rejected": 3,
        "opened": 1, ("rejected", S.OPEN): 1, ("rejected", S.HALF_OPEN): 2, ("entered", S.OPEN): 1,
        ("entered", S.HALF_OPEN): 1,
    }  # fmt: skip
    core.settle(inside, OK, 2.0, 0.0)
    assert (core.totals()["calls"], core.totals()["successes"]) == (4, 2)
    assert core.totals()["entered", S.CLOSED] == 1


@pytest.mark.rule("F10", "B12")
def test_a_call_that_comes_to_a_core_that_has_retired_is_not_in_its_totals() -> None:
    core = core_of(minimum=9)
    calls(core, OK, BAD, IGNORED)
    assert core.retire()
    next(core.calls.increment)  # by one who took the permit before, and looks at `retired` next
    assert core.totals()["calls"] == 3


@pytest.mark.rule("B13")
def test_stats_say_all_that_the_contract_names() -> None:
    core = core_of(minimum=2, slow=1.0)
    call(core, BAD, lasted=2.0)
    assert (stats(core).failure_rate, stats(core).slow_rate) == (None, None)
    call(core, OK)
    seen = stats(core, 0.5)
    assert seen == module.BreakerStats(
        name="test", state=S.OPEN, generation=2, calls=2, successes=1, failures=1, slow=1,
        ignored=0, rejected=0, in_flight=0, failure_rate=None, slow_rate=None, opened=1,
        retry_after=1.5,
    )  # fmt: skip


@pytest.mark.rule("B13")
def test_rates_are_told_while_the_window_is_judged_and_never_of_an_empty_one() -> None:
    core = core_of(minimum=0, failure_rate=1.0, slow=1.0, slow_rate=1.0)
    assert (stats(core).failure_rate, stats(core).slow_rate) == (None, None)
    assert calls(core, OK, OK, BAD) is None
    assert (stats(core).failure_rate, stats(core).slow_rate) == (1 / 3, 0.0)
    core.force_state(S.FORCED_OPEN, "force_open", 0.0, 0.0)
    assert stats(core).failure_rate is None


@pytest.mark.rule("B13")
def test_without_a_watch_on_the_window_there_are_no_rates() -> None:
    core = core_of(consecutive_failures=5, failure_rate=None, minimum=1)
    calls(core, BAD, OK)
    assert (stats(core).failure_rate, stats(core).slow_rate) == (None, None)


@pytest.mark.rule("F10")
def test_healthy_is_closed_without_a_failure_in_the_window() -> None:
    core = core_of(minimum=10, window=WINDOW)
    assert core.healthy(0.0)
    call(core, BAD)
    assert not core.healthy(0.0)
    call(core, OK)
    assert not core.healthy(0.0)
    assert core.healthy(11.1)
    core.force_state(S.METRICS_ONLY, "metrics_only", 12.0, 0.0)
    assert not core.healthy(12.0)


@pytest.mark.rule("T2")
def test_readings_a_little_out_of_order_are_taken_as_one_instant() -> None:
    core = core_of(minimum=1)
    call(core, BAD, now=10.0)
    assert refusal(core, 9.0).retry_after == 2.0
    refusal(core, 11.5)
    assert refusal(core, 8.0).retry_after == 0.5
    probe = admit(core, 12.0)
    assert refusal(core, 11.0).reason == "half_open"
    moved = core.settle(probe, BAD, 10.0, 0.0)
    assert moved == Transition(S.HALF_OPEN, S.OPEN, Why("probes", 1, 1), 12.0)
    assert refusal(core, 13.0).retry_after == 1.0


@pytest.mark.rule("T2", "B4")
def test_a_result_whose_reading_is_late_is_in_the_window_as_of_the_last_one() -> None:
    core = core_of(1000.0, minimum=3, window=WINDOW)
    call(core, OK, now=1005.0)
    call(core, BAD, now=1000.0)
    assert stats(core, 1001.0).failures == 1
    assert call(core, OK, now=1014.9) is None  # 9.9 s after the others
    assert stats(core, 1014.9).failure_rate == 1 / 3


@pytest.mark.rule("T3")
def test_a_renewed_breaker_is_as_new_and_keeps_no_permit_alive() -> None:
    core = core_of(minimum=1, slow=1.0)
    late = admit(core)
    call(core, BAD, lasted=2.0)
    refusal(core)
    core.force_state(S.METRICS_ONLY, "metrics_only", 0.0, 0.0)
    core.force_state(S.CLOSED, "reset", 0.0, 0.0)
    standing = admit(core)
    core.reset(50.0, 0.0, S.CLOSED)
    assert standing.until == -math.inf
    assert core.settle(late, BAD, 50.0, 0.0) is None
    assert core.settle(standing, BAD, 50.0, 0.0) is None
    assert stats(core, 50.0) == stats(core_of(50.0, minimum=1, slow=1.0), 50.0)
    assert (core.rejections, core.transitions) == ({}, {})


@pytest.mark.rule("T3")
def test_a_renewed_breaker_begins_as_it_is_told_and_at_the_first_cooldown() -> None:
    core = core_of(minimum=1, cooldown=lambda k, u: k + u)
    call(core, BAD)
    core.reset(50.0, 0.5, S.OPEN)
    assert refusal(core, 50.0) == Refusal(1.5, "open", Why("initial", 0, 0))


@pytest.mark.rule("E2")
@pytest.mark.parametrize(
    ("why", "words"),
    [
        (Why("consecutive_failures", 10, 10), "10 failures in a row"),
        (Why("consecutive_failures", 1, 1), "1 failure in a row"),
        (Why("consecutive_failures", 2, 2), "2 failures in a row"),
        (Why("probes", 1, 3), "1 of 3 probes failed"),
        (Why("slow_probes", 2, 3), "2 of 3 probes were slow"),
        (Why("failure_rate", 25, 40), "failure rate 62% of 40 calls"),
        (Why("slow_rate", 20, 40), "slow rate 50% of 40 calls"),
        (Why("force_open", 0, 0), "force open"),
    ],
)
def test_why_it_moved_reads_as_a_sentence(why: Why, words: str) -> None:
    assert str(why) == words


def test_the_diagram_at_the_head_is_the_machine() -> None:
    assert machine.__doc__ is not None
    drawn = {line.strip() for line in machine.__doc__.splitlines() if "──" in line}
    told = {f"{old.name} ──{what}──▶ {new.name}" for old, what, new in TRANSITIONS}
    by_hand = {f"any ──{how}──▶ {new.name}" for how, new in BY_HAND}
    assert drawn == told | by_hand


@pytest.mark.rule("F10", "B11", "B12")
def test_a_core_retires_only_while_nobody_is_in() -> None:
    core = core_of()
    permit = admit(core)
    assert not core.retire()
    assert (core.retired, core.shared_permit) == (False, permit)
    core.settle(permit, OK, 0.0, 0.0)
    assert core.retire()
    assert (core.retired, core.shared_permit) == (True, None)


@pytest.mark.rule("B12")
def test_a_call_that_was_counted_and_not_made_is_in_no_total() -> None:
    core = core_of()
    next(core.calls.increment)
    core.void += 1
    assert (core.in_flight(), stats(core).calls, stats(core).in_flight) == (0, 0, 0)


@pytest.mark.rule("B5", "B11")
def test_while_it_is_open_a_standing_refusal_says_what_admit_would() -> None:
    core = core_of(minimum=1)
    call(core, BAD, 10.0)
    shut = core.shared_rejection
    assert shut is not None
    for now in (9.5, 10.0, 11.25, math.nextafter(12.0, 0.0)):
        assert now < shut.until
        answer = refusal(core, now)
        assert (answer.retry_after, answer.reason, answer.why) == (
            shut.left(now),
            shut.reason,
            shut.why,
        )
        next(shut.rejected)
    assert shut.left(9.5) == 2.0, "never more than the cooldown"
    assert shut.left(12.5) == 0.0
    assert core.rejections == {S.OPEN: 8}
    assert not shut.until > 12.0, "at its end a call is the first probe"
    admit(core, 12.0)
    assert core.shared_rejection is None


@pytest.mark.rule("B10")
def test_forced_open_refuses_whatever_the_time() -> None:
    core = core_of()
    core.force_state(S.FORCED_OPEN, "force_open", 1.0, 0.0)
    assert core.shared_rejection is not None
    assert core.shared_rejection.left(1e9) is None
    assert core.shared_rejection.until > 1e300


@pytest.mark.rule("B1")
def test_a_standing_permit_counts_its_successes_where_its_core_does() -> None:
    core = core_of()
    permit = admit(core)
    assert permit.core is core
    next(permit.succeeded)
    assert stats(core).successes == 1

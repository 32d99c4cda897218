"""`BreakerMachine`: a stateful test of a breaker."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from resilient._core.breaker import BreakerState
from resilient._core.checks import refuse_type
from resilient._core.matching import Verdict
from resilient._policies.breaker import Breaker
from resilient._policies.common.calls import Call
from resilient._runtime import clock
from resilient.errors import CircuitOpen
from resilient.events import Event, StateChanged, WouldHaveOpened, subscribe
from resilient.testing.scripts.laws.breaker import trip_of, verdict_of
from resilient.testing.scripts.model import BreakerModel, Held
from resilient.testing.scripts.trace import LawBroken
from resilient.testing.virtual import virtual_time

Open = tuple[Call, Held]
"""A call that is under way, and what the model knows of it."""
Opened = Open | MultipleResults[Open]
"""One, or several, or none: what rules put into a bundle."""
BY_HAND: Final[dict[str, BreakerState]] = {
    "reset": BreakerState.CLOSED,
    "force_open": BreakerState.FORCED_OPEN,
    "disable": BreakerState.DISABLED,
    "metrics_only": BreakerState.METRICS_ONLY,
}
REJECTING: Final = (BreakerState.OPEN, BreakerState.FORCED_OPEN)
ADMITS: Final = precondition(lambda self: self.breaker.state not in REJECTING)
"""Where every call is rejected, one that asks is enough: so other states are reached more often."""


class BreakerMachine(RuleBasedStateMachine):
    """Hypothesis calls a breaker of yours in any order, and holds each step against its rules.

    Subclass it, and say which breaker: ::

        class Payments(BreakerMachine):
            def make(self):
                return breaker("payments", consecutive_failures=3, cooldown=5, probes=2)

        TestPayments = Payments.TestCase

    Calls begin and end, in any order; they succeed, fail, are slow, are cancelled; time passes, to
    the very end of a cooldown or a lease too; the state is set by hand. After each step the state,
    the totals and each rejection are what the rules B1 to B8, B10, B12 and B13 say, or `LawBroken`
    names the rule. You may add rules of your own, which use `breaker`.

    Attributes:
        breaker: the breaker under test.
        time: its virtual time.
        failure: what a call that fails raises: one that your ``on=`` counts.
    """

    failure: ClassVar[Exception] = ConnectionError("the dependency failed")
    under_way: Bundle[Open] = Bundle("under_way")

    def make(self) -> Breaker:
        """The breaker under test, without ``key=``: made here, or one that your program has."""
        raise NotImplementedError("subclass BreakerMachine, and return a breaker from make()")

    def __init__(self) -> None:
        super().__init__()
        with ExitStack() as stack:
            self.time = stack.enter_context(virtual_time(fresh=True))
            self.breaker = self.make()
            if not isinstance(self.breaker, Breaker) or self.breaker._states.is_keyed:
                refuse_type("what make() returns", self.breaker, "a breaker without key=")
            self._model = BreakerModel.of(self.breaker, clock.now())
            self._moves: list[BreakerState] = []
            self._told: list[int] = []
            stack.enter_context(subscribe(self._note, StateChanged, WouldHaveOpened))
            self._stack = stack.pop_all()

    def teardown(self) -> None:
        """Leave virtual time."""
        super().teardown()
        self._stack.close()

    # Calls.

    @rule(target=under_way)
    def begin(self) -> Opened:
        """A call begins, if it may."""
        return self._begin() or multiple()

    @ADMITS
    @rule(target=under_way, many=st.integers(2, 4))
    def several_begin(self, many: int) -> Opened:
        """Calls begin at one instant."""
        asked = [self._begin() for _ in range(many)]
        return multiple(*filter(None, asked))

    @rule(one=consumes(under_way))
    def succeeds(self, one: Open) -> None:
        """A call that is under way returns."""
        self._end(one, None)

    @rule(one=consumes(under_way))
    def fails(self, one: Open) -> None:
        """A call that is under way raises."""
        self._end(one, self.failure)

    @rule(one=consumes(under_way))
    def is_cancelled(self, one: Open) -> None:
        """A call that is under way is cancelled."""
        self._end(one, asyncio.CancelledError())

    @ADMITS
    @rule(
        ends=st.lists(
            st.sampled_from(["returns", "raises", "is cancelled", "is ignored"]),
            min_size=1,
            max_size=6,
        )
    )
    def whole_calls(self, ends: list[str]) -> None:
        """Whole calls, one after the other."""
        errors = {"raises": self.failure, "is cancelled": asyncio.CancelledError()}
        for how in ends:
            if one := self._begin():
                self._end(one, errors.get(how), ignored=how == "is ignored")

    @ADMITS
    @rule(fails=st.booleans())
    def enough_calls_end(self, fails: bool) -> None:  # noqa: FBT001  # a rule's draw
        """As many whole calls as any watch asks for."""
        for _ in range(self._enough()):
            if one := self._begin():
                self._end(one, self.failure if fails else None)

    @ADMITS
    @rule(fails=st.booleans())
    def enough_calls_outlive_a_reset(self, fails: bool) -> None:  # noqa: FBT001  # the same
        """They begin, the breaker is reset, and they end: that must decide nothing."""
        begun = [one for _ in range(self._enough()) if (one := self._begin())]
        self.by_hand("reset")
        for one in begun:
            self._end(one, self.failure if fails else None)

    @ADMITS
    @precondition(lambda self: self.breaker._settings.config.slow is not None)
    @rule(late=st.sampled_from([0.0, 0.125]), fails=st.booleans())
    def call_is_slow(self, late: float, fails: bool) -> None:  # noqa: FBT001  # a rule's draw
        """A call takes just as long as is not slow yet, or longer."""
        if one := self._begin():
            slow = self.breaker._settings.config.slow
            assert slow is not None
            self.time.advance(slow + late)
            self._end(one, self.failure if fails else None)

    # Time.

    @rule(seconds=st.sampled_from([0.125, 0.5, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        """Some time."""
        self.time.advance(seconds)

    @precondition(lambda self: self.breaker.state is BreakerState.OPEN)
    @rule(target=under_way, early=st.sampled_from([0.0, 0.0, 0.125]))
    def begins_after_the_cooldown(self, early: float) -> Opened:
        """A call comes just when `retry_after` is over, or a little before."""
        left = self.breaker.stats().retry_after
        if left is None:
            raise LawBroken("B5", "it is open, and does not say when to come back")
        self.time.advance(max(0.0, left - early))
        return self.begin()

    @precondition(lambda self: bool(self._model.probing))
    @rule(target=under_way, early=st.sampled_from([0.0, 0.0, 0.125]))
    def begins_after_the_lease(self, early: float) -> Opened:
        """A call comes just when the last probe is lost, if it has not reported, or before."""
        lease = self.breaker._settings.config.probe_lease
        self.time.advance(max(0.0, self._model.probing[-1].began + lease - clock.now() - early))
        return self.begin()

    @ADMITS
    @rule()
    def the_window_passes(self) -> None:
        """Until nothing is left of what was."""
        self.time.advance(1.2 * self.breaker._settings.config.window)

    # By hand.

    @rule(how=st.sampled_from(["reset", *BY_HAND]))
    def by_hand(self, how: str) -> None:
        """Somebody sets the state."""
        self._moves.clear()
        getattr(self.breaker, how)()
        self._model.forced(BY_HAND[how], clock.now(), self._moves)

    @invariant()
    def what_is_seen_is_what_was(self) -> None:
        """The totals, the state and the generation."""
        self._model.looks(self.breaker.stats())

    # Inside.

    def _enough(self) -> int:
        config = self.breaker._settings.config
        return max(config.minimum, config.consecutive_failures or 1)

    def _begin(self) -> Open | None:
        self._moves.clear()
        try:
            call = self.breaker.admit()
        except CircuitOpen as error:
            self._model.arrives(clock.now(), self._moves)
            self._model.rejected(error.retry_after)
            return None
        self._model.arrives(clock.now(), self._moves)
        return call, self._model.admitted()

    def _end(self, one: Open, error: BaseException | None, *, ignored: bool = False) -> None:
        call, held = one
        self._moves.clear()
        if ignored:
            call.ignore()
        call.close(error)
        if ignored:
            verdict = Verdict.IGNORED
        elif error is None:
            verdict = Verdict.SUCCESS
        else:
            verdict = verdict_of(self.breaker._settings.judge, error)
        trip = trip_of(self.breaker._settings, verdict, error)
        self._model.ended(held, verdict, clock.now(), self._moves, trip=trip)

    def _note(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._moves.append(event.new)
        elif self._model.generation in self._told:
            raise LawBroken("B10", "it told twice in one generation that it would have opened")
        else:
            self._told.append(self._model.generation)

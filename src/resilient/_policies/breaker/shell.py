"""The breaker's shell: the core with a lock, a clock, dice and listeners.

All that holds the lock is in this file, so that it can be seen at once that nothing of users
runs under it. What a call does without it is in `wrappers`, and in `enter_of` and `rejection`;
everything else goes through `enter` and `_settle`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, final

from resilient._core.breaker import (
    BreakerCore,
    BreakerState,
    BreakerStats,
    Moved,
    Permit,
    Refusal,
    Shut,
    Transition,
)
from resilient._core.keys import Keys
from resilient._core.matching import Verdict
from resilient._policies.base import Call, PolicyBase
from resilient._policies.breaker import wrappers
from resilient._policies.breaker.controls import BreakerTallies, Controls, Settings
from resilient._policies.breaker.of_key import BreakerOfKey
from resilient._policies.deadline.cause import cut_by
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction, CoroutineReturned, refuse_coroutine
from resilient._runtime.keying import KeyOf, hashable, key_of
from resilient.errors import CircuitOpen, quick

if TYPE_CHECKING:
    from resilient.events import Event

P = ParamSpec("P")
R = TypeVar("R")

TOTALS = ("calls", "successes", "failures", "slow", "ignored", "rejected", "opened")
WORST = tuple(
    BreakerState(word)
    for word in ("forced_open", "open", "half_open", "metrics_only", "disabled", "closed")
)
"""The states of a keyed breaker's keys, worst first: its own is the worst of them."""


@final
class Breaker(PolicyBase, Controls):
    """Stops calling a dependency that keeps failing; `breaker` makes it.

    Decorates functions, sync and async; guards blocks, ``with payments as call:``; and hands
    out single calls, `admit`. With ``key=`` there is one state for each key; `of` is the handle of
    one.
    """

    kind = "breaker"

    def __init__(self, name: str | None, settings: Settings) -> None:
        super().__init__(name)
        self._settings, self._future = settings, settings.initial
        self.cooldown = settings.cooldown
        slow = settings.rule.slow
        self._quick = math.inf if slow is None else slow
        if settings.on_result is not None:
            self._quick = -math.inf  # every result must be judged
        self._hung_after = -math.inf if slow is None else slow
        self._lost: list[tuple[Permit, Verdict]] = []
        self._only = self._new_core(None) if settings.key is None else None
        self._keys: Keys[BreakerCore] | None = None
        if settings.key is not None:
            self._none_gone()
            self._keys = Keys(
                settings.max_keys,
                idle=lambda core: not core.in_flight(),
                healthy=lambda core: core.healthy(clock.now()),
                retire=BreakerCore.retire,
            )
            self._slots, self._uses = self._keys.slots, self._keys.uses
        self.list_me()

    # Single calls.

    def admit(self) -> Call:
        """Take leave for one call, in your own hands. Never waits.

        Raises:
            CircuitOpen: the breaker does not let it through.
            TypeError: the breaker is keyed; write ``.of(key).admit()``.
        """
        core = self._unkeyed("admit(), or `with policy.of(key):`")
        return Call(self, self.enter(core, None), clock.now())

    def close_call(
        self, ticket: Permit, began: float, error: BaseException | None, said: str | None
    ) -> None:
        """See `Call.close`."""
        if said is not None:
            verdict = Verdict.FAILURE if said == "fail" else Verdict.IGNORED
        elif error is not None:
            self.raised(ticket, error, began)
            return
        else:
            verdict = Verdict.SUCCESS
        if isinstance(error, GeneratorExit):  # perhaps the collector's, which may be anywhere
            self._lost.append((ticket, verdict))
            return
        now = clock.now()
        self._settle(ticket, verdict, now, now - began)

    def lose_call(self, ticket: Permit) -> None:
        """See `Bracket.lose_call`; the place is given back before anybody is judged, or looks."""
        self._lost.append((ticket, Verdict.IGNORED))

    # State.

    @property
    def state(self) -> BreakerState:
        return self._unkeyed("state").state

    def stats(self) -> BreakerStats:
        """A snapshot; see `BreakerStats`.

        The state reads as OPEN until a call comes, however long ago the cooldown ended. Of a keyed
        breaker the sums over all keys, also of those that had to make room: the state is the worst
        of them, the generation the highest, and rates are left to the keys.
        """
        with self._lock:
            now = clock.now()
            self._drain(now)
            if self._keys is None:
                return self._unkeyed("stats()").stats(self.name, now)
            return _sum(
                self.name,
                self._future,
                [core.stats("", now) for core in self._keys.states()],
                self._gone,
            )

    def tallies(self) -> BreakerTallies:
        """Rejections and transitions by state, over all keys: for metrics."""
        with self._lock:
            sums = BreakerTallies({}, {})
            if self._keys is not None:
                sums.rejections.update(self._gone_tallies.rejections)
                sums.transitions.update(self._gone_tallies.transitions)
            for core in self._cores():
                sums.add(core)
            return sums

    def of(self, key: Hashable) -> BreakerOfKey:
        """The handle of one *key*, with the breaker's own interface.

        It looks the state up at each use, and makes none before the first call.

        Raises:
            TypeError: the breaker has no ``key=``, or *key* can't be hashed.
        """
        if self._keys is None:
            raise TypeError(f"{self!r} has no key=, so there is no of()")
        return BreakerOfKey(self, hashable(key))

    def keys(self) -> list[Hashable]:
        """The keys that are kept; none if the breaker is not keyed."""
        return [] if self._keys is None else list(self._keys)

    def renew(self) -> None:
        """See `PolicyBase.renew`."""
        with self._lock:
            now, u = clock.now(), self.cooldown.draw()
            self._drain(now)
            self._future = self._settings.initial
            for core in self._cores():
                core.renew(now, u, self._future)
            if self._keys is not None:
                self._keys.clear()
                self._none_gone()
        self.let_go()

    def clock_changed(self) -> None:
        """See `PolicyBase.clock_changed`."""
        with self._lock:
            for core in self._cores():
                core.ask_again()

    # Wrappers.

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`."""
        return self.wrapper(fn, self._finder(fn))

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""
        return self.wrapper_async(fn, self._finder(fn))

    def wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """A bare wrapper for a sync function whose key is what *find* says."""
        if self._only is not None and self._quick == math.inf:
            return wrappers.plain(self, self._only, fn)
        return wrappers.timed(self, self._only or self._nobody(), fn, find, self._quick)

    def wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """A bare wrapper for an async function whose key is what *find* says."""
        if self._only is not None and self._quick == math.inf:
            return wrappers.plain_async(self, self._only, fn)
        return wrappers.timed_async(self, self._only or self._nobody(), fn, find, self._quick)

    def _finder(self, fn: AnyFunction) -> KeyOf | None:
        return None if self._settings.key is None else key_of(self._settings.key, fn)

    def _nobody(self) -> BreakerCore:
        """A core that never has a permit: that of no key."""
        return BreakerCore(self._settings.rule, 0.0, 0.0, BreakerState.DISABLED)

    # What the wrappers ask.

    def refuse(self, fn: AnyFunction, permit: Permit, result: object) -> None:
        """End a call whose sync function returned a coroutine, and say what to write."""
        try:
            refuse_coroutine(fn, result)
        except CoroutineReturned as error:
            self.raised(permit, error, 0.0)
            raise

    def enter_of(self, key: Hashable) -> Permit:
        """Admit one call of *key*, or raise; while its breaker is closed, without a turn."""
        try:
            slot = self._slots.get(key)
        except TypeError:
            hashable(key)  # says it better
            raise
        if slot is not None and (permit := (core := slot.state).standing) is not None:
            slot.used = next(self._uses)
            next(core.calls.ticks)
            if not core.retired:
                return permit
            with self._lock:
                core.void += 1
        return self.enter(None, key)

    def rejection(self, shut: Shut, now: float) -> CircuitOpen:
        """What a call raises that *shut* rejects, without a turn."""
        next(shut.rejected)
        left = (until := shut.until) - now
        exact = left < shut.longest and now + left >= until  # else rounding, or no time ends it
        retry_after = left if exact else shut.left(now)
        return quick(CircuitOpen, self._name or "breaker", retry_after, shut.reason, shut.why)

    # Steps of the core, under the lock; what they changed is told after it.

    def enter(self, core: BreakerCore | None, key: Hashable) -> Permit:
        """Admit one call to *core*, or to that of *key*, or raise."""
        u, now = self.cooldown.draw(), clock.now()
        with self._lock:
            self._drain(now)
            if core is None:
                core = self._core_of(key)
            answer, moves = core.admit(now, u)
            if notify.listening:
                for moved in moves:
                    self.outbox.put(self._event(core, moved))
                if isinstance(answer, Refusal):
                    self.outbox.put(self._rejection(core, answer, now))
        self.let_go()
        try:
            self.outbox.deliver()
        except BaseException:  # a listener was interrupted: the call will not be made
            if not isinstance(answer, Refusal):
                self._lost.append((answer, Verdict.IGNORED))
            raise
        if isinstance(answer, Refusal):
            raise CircuitOpen(self.name, answer.retry_after, answer.reason, answer.why)
        return answer

    def _settle(self, permit: Permit, verdict: Verdict, now: float, lasted: float) -> None:
        core, u = permit.core, self.cooldown.draw()
        with self._lock:
            self._drain(now)
            moved = core.settle(permit, verdict, now, u, lasted)
            if moved is not None and notify.listening:
                self.outbox.put(self._event(core, moved))
        if moved is not None:
            self.outbox.deliver()

    def returned(self, permit: Permit, result: object, now: float, lasted: float) -> None:
        """End a call that returned."""
        verdict = Verdict.IGNORED  # if the predicate is interrupted
        try:
            verdict = self._settings.verdict(result)
        finally:
            self._settle(permit, verdict, now, lasted)

    def raised(self, permit: Permit, error: BaseException, began: float) -> None:
        """End a call that raised; *began* matters where slow calls are watched for."""
        if isinstance(error, GeneratorExit):  # perhaps the collector's, which may be anywhere
            self._lost.append((permit, Verdict.IGNORED))
            return
        now = clock.now()
        verdict = Verdict.IGNORED  # cancelled, or a predicate is interrupted
        try:
            if isinstance(error, Exception):
                verdict = self._settings.judge.error(error)
            elif now - began > self._hung_after and cut_by(error) is not None:
                verdict = Verdict.FAILURE  # it hung until a time limit of ours ended it
        finally:
            self._settle(permit, verdict, now, now - began)

    def _drain(self, now: float) -> None:
        """Settle the calls that ended where no lock could be taken."""
        while self._lost:
            permit, verdict = self._lost.pop(0)
            core, u = permit.core, self.cooldown.draw()
            moved = core.settle(permit, verdict, now, u)
            if moved is not None and notify.listening:
                self.outbox.put(self._event(core, moved))

    def _turn(self, state: BreakerState, how: str) -> None:
        u, now = self.cooldown.draw(), clock.now()
        with self._lock:
            self._drain(now)
            if self._only is None:
                self._future = state
            for core in self._cores():
                self._turn_core(core, state, how, now, u)
        self.outbox.deliver()

    def _turn_core(
        self, core: BreakerCore, state: BreakerState, how: str, now: float, u: float
    ) -> None:
        moved = core.turn(state, how, now, u)
        if moved is not None and notify.listening:
            self.outbox.put(self._event(core, moved))

    # Keys.

    def _unkeyed(self, what: str) -> BreakerCore:
        if self._only is None:
            raise TypeError(f"{self!r} has a state for each key: write .of(key).{what}")
        return self._only

    def _core_of(self, key: Hashable) -> BreakerCore:
        assert self._keys is not None
        core = self._keys.get(key)
        if core is None:
            core = self._new_core(key)
            for gone in self._keys.add(key, core):
                self._remember(gone)
        return core

    def let_go(self) -> None:
        """Outside the lock: let go of the keys that made room, which may be code of the user's."""
        if self._keys is not None:
            self._keys.departed.clear()

    def _new_core(self, key: Hashable) -> BreakerCore:
        settings = self._settings
        return BreakerCore(settings.rule, clock.now(), settings.cooldown.draw(), self._future, key)

    def _remember(self, gone: BreakerCore) -> None:
        stats = gone.stats("", clock.now())
        for total in TOTALS:
            self._gone[total] += getattr(stats, total)
        self._gone["calls"] -= stats.in_flight  # of one that came too late: it is counted elsewhere
        self._gone_tallies.add(gone)

    def _none_gone(self) -> None:
        self._gone: dict[str, int] = dict.fromkeys(
            TOTALS, 0
        )  # what the keys that made room had counted
        self._gone_tallies = BreakerTallies({}, {})

    def _cores(self) -> list[BreakerCore]:
        """Those that are kept: one, or one for each key."""
        if self._only is not None:
            return [self._only]
        assert self._keys is not None
        return self._keys.states()

    # Words.

    def _event(self, core: BreakerCore, moved: Moved) -> Event:
        from resilient.events import StateChanged, WouldHaveOpened  # noqa: PLC0415  # whoever listens has loaded it

        if isinstance(moved, Transition):
            return StateChanged(
                policy=self.name,
                kind=self.kind,
                at=moved.at,
                key=core.key,
                old=moved.old,
                new=moved.new,
                reason=moved.why.watch,
            )
        return WouldHaveOpened(
            policy=self.name, kind=self.kind, at=moved.at, key=core.key, reason=moved.why.watch
        )

    def _rejection(self, core: BreakerCore, refusal: Refusal, now: float) -> Event:
        from resilient.events import CallRejected  # noqa: PLC0415  # whoever listens has loaded it

        return CallRejected(
            policy=self.name,
            kind=self.kind,
            at=now,
            key=core.key,
            reason=refusal.reason,
            retry_after=refusal.retry_after,
        )


def _sum(
    name: str, future: BreakerState, each: list[BreakerStats], gone: dict[str, int]
) -> BreakerStats:
    totals = {
        total: past + sum(getattr(stats, total) for stats in each) for total, past in gone.items()
    }
    states = {stats.state for stats in each} or {future}
    return BreakerStats(
        name=name,
        state=next(state for state in WORST if state in states),
        generation=max((stats.generation for stats in each), default=1),
        in_flight=sum(stats.in_flight for stats in each),
        failure_rate=None,
        slow_rate=None,
        retry_after=None,
        **totals,
    )

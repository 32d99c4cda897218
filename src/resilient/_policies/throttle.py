"""Throttle: reject in the client what the dependency would fail anyway."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, cast, final

from resilient._core.checks import Seconds, number, refuse_type, seconds, text, whole
from resilient._core.matching import Judge, Verdict
from resilient._core.throttle import ThrottleCore, ThrottleRule
from resilient._policies.bracketing import Bracketing, OfKey
from resilient._policies.verdicts import KNOWN, known
from resilient._runtime import clock, dice
from resilient._runtime.decorate import AnyFunction, refuse_coroutine
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient._runtime.notify import predicate_failed
from resilient._typing import ErrorSpec
from resilient.errors import Overloaded


@dataclass(frozen=True, slots=True)
class ThrottleStats:
    """Totals of a throttle, and what it does now.

    ``requests`` were let through and have ended, ``accepts`` of them without a failure;
    ``probability`` is the share of calls that is rejected now, of a keyed one the highest.
    """

    name: str
    requests: int
    accepts: int
    rejected: int
    probability: float


class Ticket:
    """A call that was let through, and how it ended."""

    __slots__ = ("core", "verdict")

    def __init__(self, core: ThrottleCore) -> None:
        self.core, self.verdict = core, Verdict.IGNORED


@final
class Throttle(Bracketing[ThrottleCore]):
    """Rejects a share of the calls while the dependency fails; `throttle` makes it.

    Decorates functions, sync and async; guards blocks, ``with throttled as call:``, and hands out
    single calls, `admit`. It never waits, and has no state to wait for: some calls always pass.
    """

    kind = "throttle"
    error = Overloaded
    reason = "throttled"
    heeds_deadline = False
    totals = ("requests", "accepts", "rejected")

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        name: str | None,
        rule: ThrottleRule,
        judge: Judge,
        key: Key | None,
        most: int,
        rng: random.Random | None,
    ) -> None:
        super().__init__(name, key, most)
        self._rule, self._judge, self._rng = rule, judge, rng
        self.begin()

    def of(self, key: Hashable) -> ThrottleOfKey:
        """See `Bracketing.of`."""
        return ThrottleOfKey(self, self.checked(key))

    def close_call(
        self,
        ticket: Ticket,
        began: float,  # noqa: ARG002  # how long it took tells nothing
        error: BaseException | None,
        said: str | None,
    ) -> None:
        """See `Call.close`."""
        if said is None:
            self._finish(ticket, error)
        else:
            ticket.verdict = Verdict.FAILURE if said == "fail" else Verdict.IGNORED
            self.end(ticket)

    def new_core(self, key: Hashable) -> ThrottleCore:
        """See `Bracketing.new_core`."""
        return ThrottleCore(self._rule, clock.now(), key)

    def take_place(self, core: ThrottleCore, priority: float, now: float) -> Ticket | None:  # noqa: ARG002  # all are alike
        """See `Bracketing.take_place`."""
        draw = dice.draw if self._rng is None else self._rng.random
        return Ticket(core) if core.admit(now, draw()) else None

    def settle(self, ticket: Ticket, now: float) -> None:
        """See `Bracketing.settle`."""
        ticket.core.settle(ticket.verdict, now)

    def healthy(self, core: ThrottleCore) -> bool:
        """See `Bracketing.healthy`."""
        return not core.in_window(clock.now())[0]

    def describe(self, core: ThrottleCore) -> str:
        """See `Bracketing.describe`."""
        failures, requests = core.in_window(clock.now())
        return f"{failures} of {requests} calls failed"

    def stats(self) -> ThrottleStats:
        """A snapshot; see `ThrottleStats`."""
        return cast("ThrottleStats", super().stats())

    def stats_of(self, cores: list[ThrottleCore], totals: dict[str, int]) -> ThrottleStats:
        """See `Bracketing.stats_of`."""
        now = clock.now()
        highest = max((core.probability(now) for core in cores), default=0.0)
        return ThrottleStats(name=self.name, probability=highest, **totals)

    def wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper`."""

        def throttled(*args: Any, **kwargs: Any) -> Any:
            ticket = self.enter_now(None if find is None else find(*args, **kwargs))
            try:
                result = fn(*args, **kwargs)
                if type(result) is CoroutineType:
                    refuse_coroutine(fn, result)
            except BaseException as error:
                self._finish(ticket, error)
                raise
            self._finish(ticket, None)
            return result

        return throttled

    def wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """See `Bracketing.wrapper_async`."""

        async def throttled(*args: Any, **kwargs: Any) -> Any:
            ticket = self.enter_now(None if find is None else find(*args, **kwargs))
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                self._finish(ticket, error)
                raise
            self._finish(ticket, None)
            return result

        return throttled

    def _finish(self, ticket: Ticket, error: BaseException | None) -> None:
        try:
            if error is None:
                ticket.verdict = Verdict.SUCCESS
            elif isinstance(error, Exception):
                ticket.verdict = self._judge.error(error)
        finally:
            self.end(ticket)


@final
class ThrottleOfKey(OfKey[ThrottleCore]):
    """One key of a keyed throttle."""

    def stats(self) -> ThrottleStats:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        return cast("ThrottleStats", super().stats())


def throttle(
    *,
    k: float = 2.0,
    window: Seconds = 10.0,
    minimum: int = 10,
    max_reject: float = 0.9,
    on: ErrorSpec = Exception,
    key: Key | None = None,
    max_keys: int = 1024,
    rng: random.Random | None = None,
    name: str | None = None,
) -> Throttle:
    """Reject in the client a share of the calls that the dependency would fail anyway.

    A breaker is open or closed; a throttle is as open as the dependency is able: if it accepts
    half of what it is sent, nothing is rejected with ``k=2``; if it accepts a tenth, four
    fifths are. At least one call a second passes, and one *window* after an outage all do.

    Args:
        k: requests that are let through for each that is accepted, at least 1: higher is more
            patient.
        window: seconds that it looks back, above 0.
        minimum: calls in the window below which nothing is rejected, at least 1.
        max_reject: the share that it rejects at most, in (0, 1).
        on: which exceptions are failures. Calls that were cancelled, or that an inner policy did
            not make, count as nothing.
        key: a function of the call's arguments, or the name of a parameter: a state for each key.
        max_keys: how many keys are kept, at least 1: the least recently used idle one without
            failures goes first.
        rng: a `random.Random` of its own.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        Overloaded: from a call that is turned away; ``retry_after`` is None, since chance
            decides.

    Source:
        *Site Reliability Engineering* (2016), ch. 21, "Client-Side Throttling". There a client's
        own rejections are requests as well, which makes it slow to recover.
    """
    if callable(k):
        raise TypeError(f"k must be a number, not {k!r}: write @throttle(), with parentheses")
    if rng is not None and not isinstance(rng, random.Random):
        refuse_type("rng", rng, "a random.Random or None")
    rule = ThrottleRule(
        number("k", k, least=1),
        seconds("window", window, above=0),
        whole("minimum", minimum),
        number("max_reject", max_reject, above=0, below=1),
    )
    return Throttle(
        text("name", name, instead="@throttle()"),
        rule,
        Judge(on, known=known, known_types=KNOWN, tell=predicate_failed),
        check_key(key),
        whole("max_keys", max_keys),
        rng,
    )

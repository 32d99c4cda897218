"""Throttle: reject in the client what the dependency would fail anyway."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, cast, final

from resilient._core.checks import (
    Seconds,
    check_int,
    check_name,
    check_number,
    check_seconds,
    check_sync,
    refuse_type,
)
from resilient._core.matching import Judge, Verdict
from resilient._core.throttle import ThrottleConfig, ThrottleCore
from resilient._policies.common.admission import AdmissionPolicy
from resilient._policies.common.factory import factory
from resilient._policies.common.keyed import OfKey, Totals
from resilient._policies.common.verdicts import judge_of
from resilient._runtime import clock, rng
from resilient._runtime.decorate import AnyFunction, plain_type
from resilient._runtime.keying import Key, KeyOf, check_key
from resilient._typing import ErrorSpec
from resilient.errors import Overloaded, Rejected


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

    __slots__ = ("state", "verdict")

    def __init__(self, state: ThrottleCore) -> None:
        self.state, self.verdict = state, Verdict.IGNORED


@final
class Throttle(AdmissionPolicy[ThrottleCore]):
    """Rejects a share of the calls while the dependency fails; `throttle` makes it.

    Decorates functions, sync and async; guards blocks, ``with throttled as call:``, and hands out
    single calls, `admit`. It never waits, and has no state to wait for: some calls always pass.
    """

    kind = "throttle"
    _error = Overloaded
    _checks_deadline = False

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        name: str | None,
        config: ThrottleConfig,
        judge: Judge,
        on_result: Callable[[Any], object] | None,
        key: Key | None,
        max_keys: int,
        own_rng: random.Random | None,
    ) -> None:
        self._config, self._judge, self._on_result = config, judge, on_result
        self._rng = own_rng
        super().__init__(name, key, max_keys)

    def of(self, key: Hashable) -> ThrottleOfKey:
        return ThrottleOfKey(self, self._states.checked(self, key))

    def _finish_call(
        self,
        ticket: Ticket,
        began: float,  # noqa: ARG002  # how long it took tells nothing
        error: BaseException | None,
        outcome_override: str | None,
    ) -> None:
        if outcome_override is None:
            self._finish(ticket, error)
        else:
            ticket.verdict = Verdict.FAILURE if outcome_override == "fail" else Verdict.IGNORED
            self._end(ticket, error)

    def _new_state(self, key: Hashable) -> ThrottleCore:
        return ThrottleCore(self._config, clock.now(), key)

    def _draw(self) -> float:
        return rng.draw() if self._rng is None else self._rng.random()

    def _admit_to(self, state: ThrottleCore, now: float, draw: float) -> Ticket | Rejected:
        if state.admit(now, draw):
            return Ticket(state)
        next(state.rejected.increment)
        failures, requests = state.in_window(now)
        why = f"{failures} of {requests} calls failed"
        return self._rejection(state, "throttled", now, None, why)

    def _release(self, ticket: Ticket, now: float) -> None:
        ticket.state.settle(ticket.verdict, now)

    def _is_healthy(self, state: ThrottleCore) -> bool:
        return not state.in_window(clock.now())[0]

    def stats(self) -> ThrottleStats:
        """A snapshot; see `ThrottleStats`."""
        return cast("ThrottleStats", super().stats())

    def _read(self, state: ThrottleCore, now: float) -> float:
        return state.probability(now)

    def _stats_of(self, readings: list[float], totals: Totals) -> ThrottleStats:
        return ThrottleStats(
            name=self.name,
            requests=totals.get("requests", 0),
            accepts=totals.get("accepts", 0),
            rejected=totals.get("rejected", 0),
            probability=max(readings, default=0.0),
        )

    def _wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        plain: type | None = None  # the type that it returned last

        def throttled(*args: Any, **kwargs: Any) -> Any:
            nonlocal plain
            ticket = self._acquire_nowait(None if find is None else find(*args, **kwargs))
            try:
                result = fn(*args, **kwargs)
                if type(result) is not plain:
                    plain = plain_type(fn, result)
            except BaseException as error:
                self._finish(ticket, error)
                raise
            self._finish_result(ticket, result)
            return result

        return throttled

    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:

        async def throttled(*args: Any, **kwargs: Any) -> Any:
            ticket = self._acquire_nowait(None if find is None else find(*args, **kwargs))
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                self._finish(ticket, error)
                raise
            self._finish_result(ticket, result)
            return result

        return throttled

    def _is_unwanted(self, result: object) -> bool:
        unwanted = self._on_result
        return unwanted is not None and self._judge.result(unwanted, result) is Verdict.FAILURE

    def _finish_result(self, ticket: Ticket, result: object) -> None:
        try:
            unwanted = self._is_unwanted(result)
            ticket.verdict = Verdict.FAILURE if unwanted else Verdict.SUCCESS
        finally:
            self._end(ticket)

    def _finish(self, ticket: Ticket, error: BaseException | None) -> None:
        try:
            if error is None:
                ticket.verdict = Verdict.SUCCESS
            elif isinstance(error, Exception):
                ticket.verdict = self._judge.error(error)
        finally:
            self._end(ticket, error)


@final
class ThrottleOfKey(OfKey[Throttle, ThrottleStats]):
    """One key of a keyed throttle."""


@factory("throttle()")
def throttle(
    *,
    k: float = 2.0,
    window: Seconds = 10.0,
    minimum: int = 10,
    max_reject: float = 0.9,
    on: ErrorSpec = Exception,
    on_result: Callable[[Any], object] | None = None,
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
        on_result: a predicate on the result; true makes it a failure. Blocks and single calls have
            no result: write ``call.fail()``.
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
    if rng is not None and not isinstance(rng, random.Random):
        refuse_type("rng", rng, "a random.Random or None")
    rule = ThrottleConfig(
        check_number("k", k, least=1),
        check_seconds("window", window, above=0),
        check_int("minimum", minimum),
        check_number("max_reject", max_reject, above=0, below=1),
    )
    return Throttle(
        check_name("name", name, instead="@throttle()"),
        rule,
        judge_of(on),
        check_sync("on_result", on_result),
        check_key(key),
        check_int("max_keys", max_keys),
        rng,
    )

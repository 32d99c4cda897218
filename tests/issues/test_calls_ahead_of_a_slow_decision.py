"""A thread that asked a rate limit for places read the clock, and only then closed what was given
ahead: calls that passed in between were reckoned up as of later than that reading. If the thread
was held up there for more than a second, the reading looked like that of a clock that was set
back: what had been used up was forgiven.

And an interrupt between two steps of that reckoning lost the calls, or invented others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import RateLimited, rate_limit
from resilient._core.counter import Counter
from resilient._core.rate_limit import RateLimitConfig, RateLimitCore
from resilient._core.waiters import Waiter
from resilient._runtime import clock

RATE, BURST, STALL = 10, 20, 5.0


class SlowClock:
    """A clock one of whose readings takes long to arrive."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.meanwhile: Callable[[], None] | None = None

    def now(self) -> float:
        at, act, self.meanwhile = self.at, self.meanwhile, None
        if act is not None:
            act()
        return at

    def sleep(self, seconds: float, event: clock.Event | None = None, /) -> None:
        self.at += seconds

    def wait(self, event: clock.Event, until: float) -> None:
        raise NotImplementedError


def take(policy: Any) -> None:
    policy.take()


def block(policy: Any) -> None:
    with policy:
        pass


@pytest.mark.rule("L4")
@pytest.mark.parametrize("say_when", [True, False], ids=["they say when", "they don't yet"])
@pytest.mark.parametrize("ask", [take, block])
def test_calls_that_pass_while_a_thread_is_held_up_in_its_decision_still_count(
    ask: Callable[[Any], None], say_when: bool
) -> None:
    time, passed = SlowClock(), 0
    with clock.install(time):
        policy = rate_limit(RATE, burst=BURST)
        policy(lambda: None)()  # and others are given ahead
        at_once = policy._states.only.ahead

        def others_pass() -> None:
            nonlocal passed
            time.at += STALL
            places, times = at_once
            for place in places:  # as the wrapper does
                if say_when:
                    times[place] = clock.now()
                passed += 1

        time.meanwhile = others_pass
        with pytest.raises(RateLimited):
            while True:
                ask(policy)
                passed += 1
        time.meanwhile = None
        with pytest.raises(RateLimited):
            while True:
                policy.take()
                passed += 1
        assert passed <= BURST + 1  # after the pause, and the one that was held up before it


@pytest.mark.rule("L4")
def test_one_who_says_late_when_it_passed_takes_nothing_back() -> None:
    time, passed = SlowClock(), 0
    with clock.install(time):
        policy = rate_limit(RATE, burst=BURST)
        fn = policy(lambda: None)
        fn()
        places, times = policy._states.only.ahead
        taken = [next(places) for _ in range(BURST - 1)]
        for place in taken[1:]:
            times[place] = clock.now()

        def says_when() -> None:
            time.at += STALL
            times[taken[0]] = clock.now()

        time.meanwhile = says_when
        with pytest.raises(RateLimited):
            while True:
                fn()
                passed += 1
        assert passed == BURST  # after the pause, and not one more


def core_with_three_passed() -> RateLimitCore:
    core = RateLimitCore(RateLimitConfig.of(RATE, 1.0, BURST), 1000.0, list[Waiter]())
    assert core.take_ahead(1000.0)
    for _ in range(3):
        places, times = core.ahead
        times[next(places)] = 1000.0
    return core


class Interrupted(list[float]):
    """Times at which somebody presses Ctrl-C when they are first looked at."""

    pressed = False

    def __getitem__(self, at: Any) -> Any:
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        return super().__getitem__(at)


class InterruptedCounter(Counter):
    """The same for a count."""

    pressed = False

    def add(self, n: int) -> None:
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        super().add(n)


@pytest.mark.rule("L4")
def test_an_interrupt_while_what_was_given_ahead_is_closed_invents_no_calls() -> None:
    core = core_with_three_passed()
    places, times = core.ahead
    core.ahead = places, Interrupted(times)
    with pytest.raises(KeyboardInterrupt):
        core.close()
    core.close()
    core.reckon(1000.0)
    assert core.calls.read() == 3
    assert core.take(1000.0, BURST - 4)
    assert not core.take(1000.0)


@pytest.mark.rule("L4")
def test_an_interrupt_while_calls_are_reckoned_up_loses_none() -> None:
    core = core_with_three_passed()
    core.calls = InterruptedCounter()
    core.close()
    with pytest.raises(KeyboardInterrupt):
        core.reckon(1000.0)
    core.reckon(1000.0)
    assert core.calls.read() == 3
    assert core.take(1000.0, BURST - 4)
    assert not core.take(1000.0)

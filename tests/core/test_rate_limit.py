"""The rate limit, L4 to L6: exact sums, over a hundred thousand steps.

A `Book` notes what was let through and when, and holds it against the promise: in no window of
length t more than rate * t + burst. A `Bucket` is the same limit a second time, in fractions and
without nanoseconds: what it lets through must be let through. Times are multiples of 2**-9 s,
which are whole nanoseconds, where a test says exactly; elsewhere any float.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient._core.rate_limit import NANO, RateLimitConfig, RateLimitCore
from resilient._core.waiters import Waiter

TICK = 2.0**-9  # a whole number of nanoseconds, so that no reading is rounded
ROUNDING = Fraction(2, NANO)
"""Where a reading is any float it is cut to a nanosecond; that of a far moment is rounded, too."""
RATES = [(1 / 3, 1.0), (0.1, 1.0), (7.0, 0.3), (10.0, 1.0), (1.0, 1.0), (1e3, 1.0), (2.5, 60.0)]


def core_of(
    rate: float, per: float = 1.0, burst: int | None = None, now: float = 0.0
) -> tuple[RateLimitCore, list[Waiter]]:
    woken: list[Waiter] = []
    return RateLimitCore(RateLimitConfig.of(rate, per, burst), now, woken), woken


def exact(rate: float, per: float) -> Fraction:
    """Calls a second, as they are written."""
    return Fraction(repr(rate)) / Fraction(repr(per))


@dataclass
class Book:
    """What was let through, held against the promise."""

    rate: Fraction
    burst: int
    slack: Fraction = Fraction(0)
    count: int = 0
    least: Fraction | None = None

    def note(self, at: Fraction, n: int = 1) -> None:
        """*n* calls pass at *at*.

        Calls i to j pass in the window from i to j. They are too many if j - i + 1 is more than
        rate * (t_j - t_i) + burst; so what counts is the least i - rate * t_i so far.
        """
        for _ in range(n):
            level = self.count - self.rate * at
            self.least = level if self.least is None else min(self.least, level)
            most = self.rate * self.slack + self.burst
            assert level - self.least + 1 <= most, f"call {self.count} is one too many"
            self.count += 1


@dataclass
class Bucket:
    """The same limit, in fractions: the tokens that are there."""

    rate: Fraction
    burst: int
    at: Fraction
    tokens: Fraction = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.burst)

    def has(self, n: int, at: Fraction) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + self.rate * (at - self.at))
        self.at = at
        return self.tokens >= n

    def spend(self, n: int) -> None:
        self.tokens -= n


def ticks(count: int) -> float:
    return count * TICK


# The promise.


@pytest.mark.rule("L4", "L5", "L6")
@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    limit=st.sampled_from(RATES),
    burst=st.none() | st.integers(1, 9),
    start=st.integers(0, 10**7),
    whole=st.booleans(),
)
def test_in_no_window_pass_more_than_the_rate_and_the_burst_and_never_fewer_than_may(
    seed: int, limit: tuple[float, float], burst: int | None, start: int, whole: bool
) -> None:
    """A thousand steps each: callers that take, that wait, that go, and time that passes."""
    dice = random.Random(seed)
    rate = exact(*limit)
    at = start if whole else start * 0.01
    now = ticks(start) if whole else at
    core, woken = core_of(*limit, burst, now)
    most = core.config.burst
    book = Book(rate, most, Fraction(0) if whole else ROUNDING)
    bucket = Bucket(rate, most, Fraction(now))
    line: list[Waiter] = []
    each = float(1 / rate)

    def passes(n: int) -> None:
        book.note(Fraction(now), n)
        if whole:
            assert bucket.has(n, Fraction(now)), "it let through what it had not"
            bucket.spend(n)

    for _ in range(1000):
        step = dice.random()
        if step < 0.3:
            length = dice.expovariate(1 / each) * dice.choice((0.1, 1, 1, 10))
            now = now + max(1, round(length / TICK)) * TICK if whole else now + length
        elif step < 0.65:
            n = dice.randint(1, most) if dice.random() < 0.3 else 1
            if core.take(now, n):
                assert not line, "it came between"
                passes(n)
            elif whole:
                assert line or not bucket.has(n, Fraction(now)), "it might have passed"
        elif step < 0.8 and len(line) < 6:
            waiter = Waiter(cost=dice.randint(1, most))
            core.queue.join(waiter)
            line.append(waiter)
        elif step < 0.9 and line:
            gone = dice.choice(line)
            first = gone is line[0]
            line.remove(gone)
            woken.clear()
            core.give_up(gone)
            assert list(woken) == (line[:1] if first else []), "who is first now must know"
        elif line:
            assert all(core.try_pass(other, now, over=False) == math.inf for other in line[1:])
            wait, cost = core.try_pass(line[0], now, over=False), line[0].cost
            if wait == 0:
                passes(cost)
                assert line.pop(0).given
            else:
                assert not line[0].given
                assert not whole or not bucket.has(cost, Fraction(now)), "it might have passed"
        assert list(core.queue) == line
        assert core.queue.cost == sum(waiter.cost for waiter in line)
    assert book.count > 0


@pytest.mark.rule("L5")
@pytest.mark.parametrize(("rate", "per"), [(1 / 3, 1.0), (0.1, 1.0), (7.0, 0.3)])
@pytest.mark.parametrize("burst", [1, 2])
def test_a_rate_that_is_no_whole_number_does_not_drift_over_a_hundred_thousand_calls(
    rate: float, per: float, burst: int
) -> None:
    """A caller who is there each time at the first moment that it may.

    With a burst of 1 the promise binds every two calls that follow each other, so that each
    pause is rounded up to what the clock can tell: a whole nanosecond.
    """
    start, calls = 1000.0, 100_000
    core, _ = core_of(rate, per, burst, start)
    now = start
    for _ in range(calls):
        now += core.wait(now)
        assert core.take(now)
    late = Fraction(now) - Fraction(start) - (calls - burst) / exact(rate, per)
    assert late >= -ROUNDING
    rounded = Fraction(calls if burst == 1 else 0, NANO)
    assert late <= rounded + ROUNDING + Fraction(math.ulp(now)), "each call adds its own error"


@pytest.mark.rule("L5")
@settings(max_examples=300)
@given(
    limit=st.sampled_from(RATES) | st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e4)),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3)),
    start=st.floats(0, 1e6),
    gaps=st.lists(st.floats(0, 100), max_size=6),
)
def test_a_call_is_refused_just_before_the_wait_is_over_and_passes_when_it_is(
    limit: tuple[float, float], sizes: tuple[int, int, int], start: float, gaps: list[float]
) -> None:
    burst, n, waiting = sizes
    core, _ = core_of(*limit, burst, start)
    n = min(n, burst)
    now = start
    for gap in gaps:
        core.take(now)
        now += gap
    while core.take(now):
        pass
    line = [Waiter(cost=1 + place % burst) for place in range(waiting)]
    for waiter in line:
        core.queue.join(waiter)
    at = now + core.wait(now, n)
    assert at == now + core.wait(now, n), "asking takes nothing"
    for waiter in line:
        left = core.try_pass(waiter, now, over=False)
        now += left
        assert not left or core.try_pass(waiter, now, over=False) == 0, (
            "it waited, and must wait again"
        )
    just_before = at - float(ROUNDING) - waiting / NANO - 2 * math.ulp(at)
    assert just_before <= now or not core.take(just_before, n)
    if waiting:  # each of them may be a nanosecond late
        at += float(ROUNDING) + waiting / NANO
    assert core.take(at, n)


@pytest.mark.rule("L5")
@pytest.mark.parametrize(("start", "step"), [(0.0, 1), (0.1, 1), (3.7, 5_000_017), (1e5 + 0.3, 1)])
def test_no_rounding_of_a_float_makes_a_wait_too_short(start: float, step: int) -> None:
    """Waits of 1, 2, 3, ... steps of so many nanoseconds.

    Of the first some instants are cut to a nanosecond less than they are; of the others some sums
    of an instant and a wait are a little less than they were meant to be.
    """
    for count in range(1, 2001):
        length = count * step / NANO
        core, _ = core_of(1.0, length, 1, start)
        assert core.take(start)
        wait = core.wait(start)
        assert abs(wait - length) < 2 / NANO
        assert core.take(start + wait)


@pytest.mark.rule("L5")
def test_no_wait_is_less_than_nothing() -> None:
    core, _ = core_of(1.0, burst=1)
    assert core.take(0.0)
    assert core.wait(1.0 + 1e-10) == 0.0, "its moment is a fraction of a nanosecond ago"


@pytest.mark.rule("L5", "L6")
def test_the_wait_counts_those_who_stand_before() -> None:
    core, _ = core_of(1.0, burst=1)
    assert core.take(0.0)
    line = [Waiter() for _ in range(3)]
    waits = []
    for waiter in line:
        waits.append(core.wait(0.5))
        core.queue.join(waiter)
    assert waits == [0.5, 1.5, 2.5]
    assert core.wait(0.5, 1) == 3.5
    assert not core.take(0.5)
    assert not core.take(1.0), "its time has come, but it is the first waiter's"
    for at, waiter in enumerate(line, 1):
        assert core.try_pass(waiter, float(at), over=False) == 0
    assert not core.take(3.5)
    assert core.take(4.0)


# L4.


@pytest.mark.rule("L4")
@settings(max_examples=200)
@given(
    limit=st.sampled_from(RATES),
    burst=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 8)), min_size=1, max_size=30),
)
def test_n_at_once_are_n_single_ones(
    limit: tuple[float, float], burst: int, steps: list[tuple[int, int]]
) -> None:
    whole, _ = core_of(*limit, burst)
    singly, _ = core_of(*limit, burst)
    now = 0.0
    for gap, n in steps:
        now += ticks(gap)
        room = next(k for k in range(burst, -1, -1) if k == 0 or whole.wait(now, k) == 0)
        assert whole.take(now, n) == (n <= room), "all or none, and all if they fit"
        if n <= room:
            assert [singly.take(now) for _ in range(n)] == [True] * n
        assert [whole.wait(now, k) for k in range(1, burst + 1)] == [
            singly.wait(now, k) for k in range(1, burst + 1)
        ]


@pytest.mark.rule("L4")
def test_those_that_do_not_all_fit_take_nothing() -> None:
    core, _ = core_of(10.0, burst=5)
    assert core.take(0.0, 3)
    assert not core.take(0.0, 3)
    assert core.take(0.0, 2)
    assert not core.take(0.0)
    assert core.wait(0.0, 5) == 0.5
    assert core.take(0.5, 5)


@pytest.mark.rule("L4")
@pytest.mark.parametrize(
    ("rate", "burst"), [(0.2, 1), (1.0, 1), (1.5, 2), (7.0, 7), (7.001, 8), (100, 100)]
)
def test_the_burst_is_one_period_s_worth_unless_given(rate: float, burst: int) -> None:
    for per in (0.1, 1.0, 60.0):
        core, _ = core_of(rate, per)
        assert core.config.burst == burst
        assert core.take(0.0, burst)
        assert not core.take(0.0)


# L6.


@pytest.mark.rule("L6")
def test_who_stands_behind_one_that_goes_moves_up() -> None:
    core, woken = core_of(1.0, burst=1)
    assert core.take(0.0)
    first, second, third = Waiter(), Waiter(), Waiter()
    for waiter in (first, second, third):
        core.queue.join(waiter)
    assert core.try_pass(first, 0.0, over=False) == 1.0
    assert core.try_pass(second, 0.0, over=False) == math.inf
    core.give_up(first)
    assert (list(woken), core.idle()) == ([second], False)
    assert core.try_pass(second, 0.25, over=False) == 0.75
    assert core.try_pass(second, 1.0, over=False) == 0
    assert (second.given, list(woken)) == (True, [second, third])
    assert core.try_pass(third, 1.0, over=False) == 1.0
    core.give_up(third)
    core.give_up(third)
    assert core.idle()
    assert not core.take(1.5)
    assert core.take(2.0)


@pytest.mark.rule("L6")
def test_one_that_goes_from_the_middle_disturbs_nobody() -> None:
    core, woken = core_of(1.0, burst=1)
    assert core.take(0.0)
    first, second, third = Waiter(), Waiter(), Waiter()
    for waiter in (first, second, third):
        core.queue.join(waiter)
    core.give_up(second)
    assert not woken
    assert core.try_pass(first, 1.0, over=False) == 0
    assert core.try_pass(third, 2.0, over=False) == 0


@pytest.mark.rule("L6")
def test_a_wait_that_is_over_by_another_clock_is_over_and_is_paid_for() -> None:
    core, _ = core_of(1.0, burst=1)
    assert core.take(0.0)
    waiter = Waiter()
    core.queue.join(waiter)
    assert core.try_pass(waiter, 0.25, over=True) == 0
    assert core.wait(0.25) == 1.75


# The clock, and the ends of the scale.


@pytest.mark.rule("T2", "L5")
@pytest.mark.parametrize("back", [0.5, 1.0, 60.0])
def test_a_reading_before_the_last_one_counts_as_the_last_one(back: float) -> None:
    core, _ = core_of(1.0, burst=2, now=100.0)
    assert core.take(100.0, 2)
    assert core.wait(100.0 - back) == 1.0 + back
    assert not core.take(100.0 - back)
    assert not core.take(100.75)
    assert core.take(101.0)


@pytest.mark.rule("T2", "L5")
def test_a_reading_before_the_one_it_began_with_counts_as_that_one() -> None:
    core, _ = core_of(1.0, burst=2, now=100.0)
    assert core.take(99.5, 2)
    assert core.wait(100.0) == 1.0


@pytest.mark.rule("T2", "L5")
@settings(max_examples=100)
@given(
    limit=st.sampled_from(RATES),
    burst=st.none() | st.integers(1, 4),
    steps=st.lists(st.integers(-4000, 4000) | st.integers(-500, 500), min_size=10, max_size=60),
)
def test_however_far_readings_are_out_of_order_as_many_pass_as_at_the_last_of_them(
    limit: tuple[float, float], burst: int | None, steps: list[int]
) -> None:
    core, _ = core_of(*limit, burst, ticks(10**7))
    in_order, _ = core_of(*limit, burst, ticks(10**7))
    book = Book(exact(*limit), core.config.burst)
    reading = seen = 10**7
    for step in steps:
        reading += step
        seen = max(seen, reading)
        while core.take(ticks(reading)):
            assert in_order.take(ticks(seen))
            book.note(Fraction(ticks(seen)))
        assert not in_order.take(ticks(seen))


@pytest.mark.rule("L5")
@pytest.mark.parametrize(("rate", "per"), [(1e-300, 1.0), (5e-324, 1e308), (1e-9, 1e300)], ids=str)
def test_a_wait_that_no_clock_can_tell_is_infinite(rate: float, per: float) -> None:
    core, _ = core_of(rate, per, now=1e5)
    assert core.take(1e5)
    assert core.wait(1e5) == math.inf
    assert not core.take(1e9)


@pytest.mark.rule("L5")
@pytest.mark.parametrize(("rate", "per"), [(1e308, 1.0), (1.0, 5e-324), (1e308, 5e-324)], ids=str)
def test_a_rate_beyond_every_clock_lets_its_burst_pass_in_every_nanosecond(
    rate: float, per: float
) -> None:
    core, _ = core_of(rate, per, 3, now=1e5)
    assert core.take(1e5, 3)
    assert not core.take(1e5)
    wait = core.wait(1e5, 3)
    assert 0 < wait < 1e-8
    assert core.take(1e5 + wait, 3)


@pytest.mark.rule("F10")
def test_a_bucket_is_full_when_a_new_one_would_not_differ() -> None:
    core, _ = core_of(1.0, burst=2, now=7.0)
    assert core.full(7.0)
    assert core.take(7.0, 2)
    assert not core.full(8.9)
    assert core.full(9.0)


def test_its_totals_are_what_its_shell_has_counted() -> None:
    core, _ = core_of(1.0)
    assert core.totals() == {"calls": 0, "rejected": 0}
    core.calls.add(3)
    next(core.rejected.increment)
    assert core.totals() == {"calls": 3, "rejected": 1}


# What a call costs.


@pytest.mark.rule("L6")
def test_who_waits_for_much_is_not_overtaken_and_those_behind_count_all_of_it() -> None:
    core, woken = core_of(1.0, burst=5)
    assert core.take(0.0, 5)
    dear, cheap, dearer = Waiter(cost=4), Waiter(cost=1), Waiter(cost=5)
    waits = []
    for waiter in (dear, cheap, dearer):
        waits.append(core.wait(0.0, waiter.cost))
        core.queue.join(waiter)
    assert waits == [4.0, 5.0, 10.0]
    assert core.wait(0.0, 2) == 12.0
    assert not core.take(3.0), "there is enough for it, but not its turn"
    assert core.try_pass(cheap, 3.0, over=False) == math.inf
    assert core.try_pass(dear, 3.0, over=False) == 1.0
    core.give_up(dear)
    assert list(woken) == [cheap]
    assert core.wait(3.0, 2) == 5.0, "those behind move up by what it would have cost"
    assert core.try_pass(cheap, 3.0, over=False) == 0
    assert core.try_pass(dearer, 3.0, over=False) == 3.0
    assert core.try_pass(dearer, 6.0, over=False) == 0
    assert core.queue.cost == 0


@pytest.mark.rule("L4", "L6")
def test_a_call_that_costs_nothing_passes_in_any_case() -> None:
    core, _ = core_of(1.0, burst=1)
    assert core.take(0.0)
    core.queue.join(Waiter())
    assert core.take(0.0, 0)
    assert core.wait(0.0) == 2.0

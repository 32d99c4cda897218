"""The cache's rule: how long an entry is good, who goes, and what may still be kept."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from resilient._core.cache import CacheConfig, CacheCore, Entry, Fetching

RULE = CacheConfig(ttl=10.0, max_size=2, negative_ttl=2.0, stale=5.0, jitter=0.0, refresh_ahead=4.0)
NEARLY_1 = 1 - 2**-53


def core_of(**changes: Any) -> CacheCore:
    return CacheCore(RULE._replace(**changes))


def put(
    core: CacheCore, key: Hashable, now: float = 0.0, *, negative: bool = False, u: float = 0.5
) -> Entry:
    entry = Entry(f"value of {key}", negative=negative)
    core.keep(key, entry, now, u)
    return entry


def released(core: CacheCore) -> list[object]:
    """The entries that were laid aside since the last look, alone or with their keys."""
    entries = [one[0] if isinstance(one, tuple) else one for one in core.evicted]
    core.evicted.clear()
    return [one for one in entries if isinstance(one, Entry)]


# How long it is good.


def test_a_life_of_its_own_is_a_life_like_any_other_and_half_of_it_is_ahead_at_most() -> None:
    core = core_of(ttl=None, jitter=0.5)
    entry = Entry("value", negative=False)
    core.keep("k", entry, 100.0, 0.0, 12.0)
    assert (entry.ends_at, entry.stale_until) == (106.0, 111.0)
    assert entry.refresh_at == 103.0
    core.keep("k", entry := Entry("value", negative=False), 100.0, 0.5, 12.0)
    assert (entry.ends_at, entry.refresh_at) == (112.0, 108.0)
    assert core.claim_refresh("k", entry, 109.0)
    core.refresh_over(entry, 109.0, failed=True)
    assert entry.refresh_at == 109.4


def test_of_a_short_life_the_next_refresh_is_a_tenth_of_it_away() -> None:
    core = core_of(ttl=None, stale=0.0)
    core.keep("k", entry := Entry("value", negative=False), 100.0, 0.5, 1.0)
    core.refresh_over(entry, 100.5, failed=True)
    assert entry.refresh_at == 100.6


def test_what_was_not_kept_takes_the_place_of_what_was() -> None:
    core = core_of()
    put(core, "k")
    core.discard("k")
    core.discard("k")
    assert (core.entries, list(core.order), len(released(core))) == ({}, [], 1)


@given(
    ttl=st.floats(1e-6, 1e9),
    jitter=st.floats(0, 1, exclude_max=True),
    u=st.floats(0, NEARLY_1),
    negative=st.booleans(),
)
def test_an_entry_lives_its_ttl_within_the_jitter_and_never_outside(
    ttl: float, jitter: float, u: float, negative: bool
) -> None:
    core = core_of(ttl=1.0 if negative else ttl, negative_ttl=ttl, jitter=jitter)
    lives = Fraction(put(core, "k", negative=negative, u=u).ends_at)
    least, most = (Fraction(ttl) * (1 + way * Fraction(jitter)) for way in (-1, 1))
    rounding = Fraction(ttl) / 2**51
    assert least - rounding <= lives <= most + rounding
    assert abs(lives - (least + (most - least) * Fraction(u))) <= rounding


@pytest.mark.parametrize(("u", "lives"), [(0.0, 8.0), (0.5, 10.0), (0.75, 11.0)])
def test_the_draw_says_where_within_the_jitter(u: float, lives: float) -> None:
    assert put(core_of(jitter=0.2), "k", 100.0, u=u).ends_at == pytest.approx(100 + lives)


def test_an_entry_is_fresh_until_its_end_and_not_at_it() -> None:
    core = core_of()
    entry = put(core, "k", 1.0)
    assert core.fresh("k", math.nextafter(11.0, 0)) is entry
    assert core.fresh("k", 11.0) is None
    assert core.fresh("other", 1.0) is None


@pytest.mark.rule("C4")
def test_past_its_end_an_entry_is_better_than_nothing_for_stale_seconds() -> None:
    core = core_of()
    entry = put(core, "k")
    assert core.stale_entry("k", math.nextafter(15.0, 0)) is entry
    assert core.stale_entry("k", 15.0) is None
    assert core.stale_entry("other", 0.0) is None


@pytest.mark.rule("C4")
def test_what_is_served_to_a_caller_that_waits_no_longer_is_old_and_has_no_error() -> None:
    core = core_of()
    entry = put(core, "k")
    assert core.late_result("k", math.nextafter(10.0, 0)) is None, "it is fresh"
    late = core.late_result("k", 10.0)
    assert late is not None
    assert (late.entry, late.error) == (entry, None)
    assert core.late_result("k", 15.0) is None
    core.drop("k")
    assert core.late_result("k", 12.0) is None


@pytest.mark.rule("C4")
def test_what_is_served_in_place_of_an_error_tells_of_it() -> None:
    core, error = core_of(), OSError()
    entry = put(core, "k")
    result = core.stale_result("k", math.nextafter(15.0, 0), error)
    assert result is not None
    assert (result.entry, result.error) == (entry, error)
    assert core.stale_result("k", 15.0, error) is None
    assert core.stale_result("other", 0.0, error) is None


@pytest.mark.rule("C3", "C4")
def test_a_negative_entry_lives_negative_ttl_and_is_neither_stale_nor_refreshed() -> None:
    core = core_of()
    entry = put(core, "k", 1.0, negative=True)
    assert (entry.ends_at, entry.stale_until, entry.refresh_at) == (3.0, 3.0, 3.0)
    assert core.stale_entry("k", 3.0) is None


def test_what_lives_for_ever_has_no_end() -> None:
    core = core_of(ttl=math.inf, stale=math.inf, refresh_ahead=None)
    entry = put(core, "k")
    assert (entry.ends_at, entry.stale_until) == (math.inf, math.inf)
    assert core.fresh("k", 1e300) is entry


# Who goes.


def test_the_least_recently_used_goes_first_and_is_laid_aside_with_its_key() -> None:
    core = core_of()
    first, second, third = (
        Entry(1, negative=False),
        Entry(2, negative=False),
        Entry(3, negative=False),
    )
    core.keep("a", first, 0.0, 0.5)
    core.keep("b", second, 0.0, 0.5)
    core.order.move_to_end(core.entries["a"])  # as a hit does
    assert not core.evicted
    core.keep("c", third, 0.0, 0.5)
    assert list(core.evicted) == [(second, "b")]
    assert list(core.order.values()) == ["a", "c"]
    assert core.evictions.read() == 1


def test_a_new_value_takes_the_place_of_the_old_one_and_makes_it_the_last_used() -> None:
    core = core_of()
    old = put(core, "a")
    put(core, "b")
    new = Entry("new", negative=False)
    core.keep("a", new, 1.0, 0.5)
    assert released(core) == [old]
    assert list(core.order.values()) == ["b", "a"]
    assert core.entries["a"] is new
    assert core.evictions.read() == 0


# What may be kept.


@pytest.mark.rule("C6")
def test_dropping_a_key_takes_the_leave_of_the_runs_that_are_under_way() -> None:
    core = core_of()
    entry, other = put(core, "k"), put(core, "other")
    before = core.begin("k")
    assert core.begin("k") is before
    elsewhere = core.begin("other")
    core.drop("k")
    assert released(core) == [entry]
    after = core.begin("k")
    assert (before.wanted, after.wanted, elsewhere.wanted) == (False, True, True)
    assert list(core.entries.values()) == [other]
    core.drop("never there")
    assert not core.evicted


@pytest.mark.rule("C6")
def test_the_end_of_an_old_run_leaves_the_new_one_to_be_dropped() -> None:
    core = core_of()
    before = core.begin("k")
    core.drop("k")
    after = core.begin("k")
    core.end(before)
    core.begin("other")  # when ends are counted
    core.drop("k")
    assert not after.wanted


@pytest.mark.rule("C6")
def test_the_end_of_one_run_leaves_another_of_the_key_to_be_dropped() -> None:
    core = core_of()
    fetching = core.begin("k")
    core.begin("k")
    core.end(fetching)
    assert core.begin("k") is fetching
    core.drop("k")
    assert not fetching.wanted


@pytest.mark.rule("C6")
def test_clearing_takes_the_leave_of_every_run() -> None:
    core = core_of()
    entries = [put(core, "a"), put(core, "b")]
    runs = [core.begin("a"), core.begin("c")]
    core.clear()
    assert released(core) == entries
    assert not any(run.wanted for run in runs)
    assert core.begin("a").wanted
    assert not core.entries


def test_runs_that_are_over_leave_nothing_behind() -> None:
    core = core_of()
    for number in range(100):
        core.end(core.begin(number))
    core.begin("last")
    assert list(core._fetching) == ["last"]
    assert not core._ended


# Ahead of the end.


@pytest.mark.rule("C8")
def test_a_refresh_is_claimed_ahead_of_the_end_and_once() -> None:
    core = core_of()
    entry = put(core, "k")
    assert not core.claim_refresh("k", entry, math.nextafter(6.0, 0))
    assert core.claim_refresh("k", entry, 6.0)
    assert not core.claim_refresh("k", entry, 6.0)
    core.refresh_over(entry, 7.0, failed=False)
    assert core.claim_refresh("k", entry, 7.0), "it ended without a new value: somebody else may"


@pytest.mark.rule("C8")
def test_a_refresh_that_failed_is_tried_again_after_a_tenth_of_what_is_ahead() -> None:
    core = core_of()
    entry = put(core, "k")
    assert core.claim_refresh("k", entry, 6.0)
    core.refresh_over(entry, 7.0, failed=True)
    assert not core.claim_refresh("k", entry, math.nextafter(7.4, 0))
    assert core.claim_refresh("k", entry, 7.4)


@pytest.mark.rule("C8")
def test_only_the_entry_that_is_there_is_refreshed() -> None:
    core = core_of()
    old = put(core, "k")
    new = put(core, "k", 1.0)
    assert not core.claim_refresh("k", old, 9.0)
    assert core.claim_refresh("k", new, 9.0)
    core.refresh_over(old, 9.0, failed=True)
    assert not core.claim_refresh("k", new, 10.0), "the old one's end is nothing to the new one"
    core.drop("k")
    assert not core.claim_refresh("k", new, 10.0)


@pytest.mark.rule("C8")
def test_without_refresh_ahead_nothing_is_refreshed() -> None:
    core = core_of(refresh_ahead=None)
    entry = put(core, "k")
    assert not core.claim_refresh("k", entry, 9.0)


# All of it at once, beside a model.

KEYS = ("a", "b", "c")


@dataclass
class Known:
    """What the model knows of an entry."""

    entry: Entry
    ends_at: float
    stale_until: float
    refresh_at: float
    refreshing: bool = False


@dataclass(eq=False)  # two runs of one key are two
class Flying:
    """A run of the model: its leave is lost when its key is dropped."""

    key: str
    fetching: Fetching
    wanted: bool = field(default=True)


class CacheMachine(RuleBasedStateMachine):
    """Runs that begin and end in any order, looks, drops, refreshes and time."""

    runs = Bundle("runs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.core = core_of(max_size=2, jitter=0.1)
        self.now = 0.0
        self.known: dict[str, Known] = {}  # the last used last
        self.flying: list[Flying] = []
        self.evicted = 0

    @rule(seconds=st.sampled_from([0.4, 1.0, 2.0, 4.0, 6.0, 10.0]) | st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=runs, key=st.sampled_from(KEYS))
    def begin(self, key: str) -> Flying:
        run = Flying(key, self.core.begin(key))
        self.flying.append(run)
        return run

    @rule(run=consumes(runs), negative=st.booleans(), u=st.sampled_from([0.0, 0.5, NEARLY_1]))
    def bring(self, run: Flying, negative: bool, u: float) -> None:
        self.flying.remove(run)
        assert run.fetching.wanted == run.wanted, "the leave to keep it"
        if run.wanted:
            entry = Entry(object(), negative=negative)
            self.core.keep(run.key, entry, self.now, u)
            self.model_keeps(run.key, entry, u)
        self.core.end(run.fetching)

    def model_keeps(self, key: str, entry: Entry, u: float) -> None:
        old = self.known.pop(key, None)
        ends_at = self.now + (2.0 if entry.negative else 10.0) * (0.9 + 0.2 * u)
        self.known[key] = Known(
            entry,
            ends_at,
            stale_until=ends_at + (0.0 if entry.negative else 5.0),
            refresh_at=ends_at - (0.0 if entry.negative else 4.0),
        )
        expected = [] if old is None else [old.entry]
        while len(self.known) > 2:
            ended = {key: one for key, one in self.known.items() if one.stale_until <= self.now}
            last_used = next(iter(self.known))
            gone = min(ended, key=lambda key: ended[key].stale_until, default=last_used)
            expected.append(self.known.pop(gone).entry)
            self.evicted += 1
        assert released(self.core) == expected

    @rule(run=consumes(runs))
    def fail(self, run: Flying) -> None:
        self.flying.remove(run)
        self.core.end(run.fetching)

    @rule(key=st.sampled_from(KEYS))
    def look(self, key: str) -> None:
        known = self.known.get(key)
        fresh, help_ = self.core.fresh(key, self.now), self.core.stale_entry(key, self.now)
        assert fresh is (known.entry if known and self.now < known.ends_at else None)
        assert help_ is (known.entry if known and self.now < known.stale_until else None)
        if known is not None and fresh is not None:
            self.core.order.move_to_end(self.core.entries[key])
            self.known[key] = self.known.pop(key)

    @rule(target=claims, key=st.sampled_from(KEYS))
    def claim(self, key: str) -> Any:
        known = self.known.get(key)
        if known is None:
            return multiple()
        claimed = self.core.claim_refresh(key, known.entry, self.now)
        assert claimed == (not known.refreshing and self.now >= known.refresh_at)
        if not claimed:
            return multiple()
        known.refreshing = True
        return known

    @rule(known=consumes(claims), failed=st.booleans())
    def refresh_ends(self, known: Known, failed: bool) -> None:
        self.core.refresh_over(known.entry, self.now, failed=failed)
        known.refreshing = False
        if failed:
            known.refresh_at = self.now + 0.4

    @rule(key=st.sampled_from(KEYS))
    def drop(self, key: str) -> None:
        known = self.known.pop(key, None)
        self.core.drop(key)
        assert released(self.core) == ([] if known is None else [known.entry])
        for run in self.flying:
            run.wanted = run.wanted and run.key != key

    @rule()
    def clear(self) -> None:
        self.core.clear()
        assert released(self.core) == [known.entry for known in self.known.values()]
        self.known.clear()
        for run in self.flying:
            run.wanted = False

    @invariant()
    def they_agree(self) -> None:
        assert list(self.core.order.values()) == list(self.known)
        assert list(self.core.order) == [self.core.entries[key] for key in self.known]
        assert len(self.core.entries) == len(self.known)
        assert self.core.evictions.read() == self.evicted
        assert all(run.fetching.wanted == run.wanted for run in self.flying)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

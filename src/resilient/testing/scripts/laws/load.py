"""The laws of load control: how many at once, and how many in a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from resilient.errors import Rejected
from resilient.testing.scripts.laws.common import broken, by_key, is_wanted, key_of
from resilient.testing.scripts.model import CLOSE
from resilient.testing.scripts.trace import Entry, Passage, Visit


def bulkheads(passage: Passage) -> None:
    """Never more at once than the limit, first come first served (L1), nobody too long (L3)."""
    policy = passage.policy
    for entries in by_key(passage, passage.entries, key_of):
        for entry, running, present in _crowd(entries):
            if entry.what == "began" and running > policy._limit:
                raise broken(
                    passage,
                    "L1",
                    f"{running} calls at once at {entry.at:g} s, and its limit is {policy._limit}",
                )
            _turned_away(passage, entry, present, policy._limit, "L3")
        visits = _visits(entries)
        for one, other in pairwise([visit for visit in visits if visit.runs]):
            if other.runs[0].began < one.runs[0].began - CLOSE:
                raise broken(
                    passage,
                    "L1",
                    f"a call that came at {other.began:g} s was served before one that came at "
                    f"{one.began:g} s",
                )
        _waits(passage, visits, policy._max_wait, "L3")


def _crowd(entries: list[Entry]) -> Iterator[tuple[Entry, int, int]]:
    """Each entry, with how many calls run after it, and how many are there."""
    running = present = 0
    for entry in entries:
        running += (entry.what == "began") - (entry.what == "ended")
        present += (entry.what == "arrived") - (entry.what == "left")
        yield entry, running, present


def _visits(entries: list[Entry]) -> list[Visit]:
    return [one.visit for one in entries if one.what == "arrived" and one.visit is not None]


def _turned_away(passage: Passage, entry: Entry, others: int, limit: int, law: str) -> None:
    """A call that is turned away at once has found no place free."""
    visit = entry.visit
    if entry.what != "left" or visit is None or visit.runs or entry.at > visit.began:
        return
    if isinstance(visit.error, Rejected) and others < limit:
        what = f"turned a call away with {others} others there, and its limit is {limit}"
        raise broken(passage, law, what)


def _waits(passage: Passage, visits: list[Visit], most: float, law: str) -> None:
    for visit in visits:
        until = visit.runs[0].began if visit.runs else visit.left
        if until - visit.began > most + CLOSE:
            raise broken(
                passage, law, f"a call waited for {until - visit.began:g} s, and max_wait={most:g}"
            )


def rates(passage: Passage) -> None:
    """Never more in any stretch of time than the rate and the burst allow (L4, L5)."""
    policy = passage.policy
    if callable(getattr(policy, "_cost", None)):
        return  # how much each call took is not seen
    config = policy._config
    gap = config.cost / config.scale / 1e9  # seconds that one call costs
    for visits in by_key(passage, passage.visits, lambda visit: visit.key):
        passed = sorted(visit.runs[0].began for visit in visits if visit.runs)
        for n, began in enumerate(passed):
            for many in range(config.burst, len(passed) - n):
                due = (many - config.burst + 1) * gap
                if passed[n + many] - began < due - CLOSE:
                    raise broken(
                        passage,
                        "L4",
                        f"{many + 1} calls in "
                        f"{passed[n + many] - began:g} s, at one in {gap:g} s and a burst of "
                        f"{config.burst}",
                    )
        _waits(passage, visits, policy._max_wait, "L5")
        _retry_after_holds(passage, visits)


def _retry_after_holds(passage: Passage, visits: list[Visit]) -> None:
    """If nothing passed meanwhile, a call passes once `retry_after` is over (L5)."""
    for n, visit in enumerate(visits):
        error = visit.error
        if not isinstance(error, Rejected) or error.retry_after is None or visit.runs:
            continue
        free_at = visit.left + error.retry_after
        if any(other.left > visit.left for other in visits[:n]):
            continue  # one that waits may take it
        for other in visits[n + 1 :]:
            if other.runs or not isinstance(other.error, Rejected):
                break
            if other.began >= free_at + CLOSE:
                raise broken(
                    passage,
                    "L5",
                    f"at {visit.left:g} s it said to come back after "
                    f"{error.retry_after:g} s, and turned a call away at {other.began:g} s",
                )


def adaptive_limits(passage: Passage) -> None:
    """Never more at once than its limit, never fewer than `min` refused a place (L9)."""
    policy = passage.policy
    for entries in by_key(passage, passage.entries, key_of):
        for entry, running, present in _crowd(entries):
            if entry.what == "began":
                limit = max(entry.stats.limit, policy._config.min)
                if running > limit:
                    what = f"{running} calls at once at {entry.at:g} s, and its limit is {limit}"
                    raise broken(passage, "L9", what)
            elif not callable(policy._priority):
                _turned_away(passage, entry, present, policy._config.min, "L9")


def throttles(passage: Passage) -> None:
    """It rejects nothing of a healthy dependency, and at least one call a second passes (L8)."""
    policy = passage.policy
    for visits in by_key(passage, passage.visits, lambda visit: visit.key):
        runs = [run for visit in visits for run in visit.runs]
        for visit in visits:
            if visit.runs or not isinstance(visit.error, Rejected):
                continue
            at = visit.began
            if not any(at - 1.0 - CLOSE < run.began <= at for run in runs):
                raise broken(
                    passage,
                    "L8",
                    f"turned a call away at {at:g} s, and none had passed for a second",
                )
            if not any(
                not is_wanted(run, policy._judge, policy._on_result)
                and at - policy._config.window - CLOSE <= run.ended <= at
                for run in runs
                if run.ended is not None
            ):
                raise broken(
                    passage,
                    "L8",
                    f"turned a call away at {at:g} s, and none had failed for "
                    f"{policy._config.window:g} s",
                )

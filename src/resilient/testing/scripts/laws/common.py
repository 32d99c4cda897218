"""What the laws share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from resilient._core.matching import Judge, Verdict
from resilient.testing.scripts.trace import NO_KEY, Attempt, Entry, LawBroken, Passage, Trace

LIMITED: Final = frozenset({"timeout", "retry", "singleflight", "cache", "hedge"})
"""Kinds that may cut short what is inside of them."""
MANY: Final = frozenset({"retry", "hedge"})
"""Kinds that may run more than once for one call."""
SHARING: Final = frozenset({"singleflight", "cache"})
"""Kinds that may run less than once for one call, and hand one result to several."""


def broken(passage: Passage, law: str, what: str) -> LawBroken:
    """*what* a policy did against a law."""
    return LawBroken(law, f"{passage.policy.kind} {passage.policy.name!r}: {what}")


def by_key(passage: Passage, items: Iterable[Any], key: Callable[[Any], Any]) -> list[list[Any]]:
    """*items* apart by key, where the policy keeps them apart."""
    if not is_keyed(passage.policy):
        return [list(items)]
    apart: dict[Any, list[Any]] = {}
    for item in items:
        if (found := key(item)) is not NO_KEY:
            apart.setdefault(found, []).append(item)
    if len(apart) > passage.policy._states._keys._max_keys:
        return []  # some were evicted, and began anew: when is not seen
    return list(apart.values())


def is_keyed(policy: Any) -> bool:
    """Whether it keeps a state per key."""
    states = getattr(policy, "_states", None)
    return states is not None and bool(states.is_keyed)


def key_of(entry: Entry) -> Any:
    """The key of the state that an entry is about."""
    if entry.move is not None:
        return entry.move.key
    assert entry.visit is not None
    return entry.visit.key


def is_alone(passage: Passage, trace: Trace) -> bool:
    """Whether all that happened to a policy is in this passage, and no move of another one.

    It is not if the policy stands twice in the stack. Moves are told apart by name.
    """
    policy = passage.policy
    others = [one.policy for one in trace.passages if one is not passage]
    return not any(
        one is policy or (one.kind == policy.kind == "breaker" and one.name == policy.name)
        for one in others
    )


def copy_of(policy: Any) -> Callable[[Any], Any] | None:
    """What copies a result for its callers, of a policy that shares it."""
    copy: Callable[[Any], Any] | None
    copy = policy._settings.copy if policy.kind == "cache" else policy._copy
    return copy


def is_cut(error: BaseException | None) -> bool:
    """Whether it is a cancellation or an interrupt."""
    return error is not None and not isinstance(error, Exception)


def is_wanted(run: Attempt, judge: Judge, on_result: Callable[[Any], object] | None) -> bool:
    """Whether it returned what ``on_result``, if it is given, takes for an answer (F16)."""
    if not run.answered or on_result is None:
        return run.answered
    return judge.result(on_result, run.result) is not Verdict.FAILURE

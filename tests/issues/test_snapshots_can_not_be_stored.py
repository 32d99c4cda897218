"""A retry's snapshot could not be copied, pickled or made JSON, nor what held a policy copied."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import resilient
from resilient import BreakerState
from resilient.integrations.invalidation import InProcessInvalidation
from resilient.testing import virtual_time
from tests.kinds import MAKERS

MORE: dict[str, Callable[[], Any]] = {
    **MAKERS,
    "breaker by key": lambda: resilient.breaker(key="id"),
    "protect with a fallback": lambda: resilient.protect(
        on=OSError, timeout=1, fallback=resilient.fallback(default=None)
    ),
}
SHARED: dict[str, Callable[[], Any]] = {
    **MORE,
    "a breaker's key": lambda: resilient.breaker(key="id").of(1),
    "a bulkhead's key": lambda: resilient.bulkhead(1, key="id").of(1),
    "a call": lambda: resilient.bulkhead(1).admit(),
    "budget": resilient.RetryBudget,
    "channel": InProcessInvalidation,
}


def snapshots(found: Any) -> Iterator[Any]:
    if isinstance(found, tuple):
        for one in found:
            yield from snapshots(one)
    else:
        yield found


def fails() -> None:
    raise KeyError


@pytest.mark.rule("F6")
@pytest.mark.parametrize("kind", MORE)
def test_a_snapshot_can_be_copied_pickled_and_made_json(kind: str) -> None:
    policy = MORE[kind]()
    if kind != "hedge":
        with virtual_time(), suppress(LookupError, TypeError):  # some wait and try again
            policy.call(fails)
    before = policy.stats()
    assert copy.copy(before) == copy.deepcopy(before) == pickle.loads(pickle.dumps(before))
    for stats in snapshots(before):
        fields = dataclasses.asdict(stats)
        assert json.loads(json.dumps(fields)) == fields


@pytest.mark.rule("F6", "R12")
@pytest.mark.parametrize(
    "made",
    [
        lambda stats: stats.gave_up,
        lambda stats: copy.copy(stats).gave_up,
        lambda stats: copy.deepcopy(stats).gave_up,
        lambda stats: pickle.loads(pickle.dumps(stats)).gave_up,
        lambda stats: dataclasses.asdict(stats)["gave_up"],
    ],
    ids=["itself", "copy", "deepcopy", "pickle", "asdict"],
)
def test_a_mapping_in_a_snapshot_stays_read_only(made: Callable[[Any], Any]) -> None:
    policy = resilient.retry(on=KeyError, wait=0)
    with suppress(KeyError):
        policy.call(fails)
    gave_up = made(policy.stats())
    assert gave_up == {"attempts": 1, "deadline": 0, "budget": 0, "not_retryable": 0, "stop": 0}
    changes: list[Callable[[], object]] = [
        lambda: gave_up.__setitem__("attempts", 7),
        lambda: gave_up.__delitem__("attempts"),
        lambda: gave_up.__ior__({"attempts": 7}),
        lambda: gave_up.update(attempts=7),
        lambda: gave_up.setdefault("more", 7),
        lambda: gave_up.pop("attempts"),
        gave_up.popitem,
        gave_up.clear,
    ]
    for change in changes:
        with pytest.raises(TypeError, match="a snapshot is read-only"):
            change()
    assert gave_up["attempts"] == 1
    assert repr(gave_up) == repr(dict(gave_up))


@pytest.mark.rule("F6")
def test_a_state_is_a_string_and_prints_as_its_value() -> None:
    assert str(BreakerState.OPEN) == f"{BreakerState.OPEN}" == "open"
    assert isinstance(BreakerState.OPEN, str)
    assert json.dumps(BreakerState.HALF_OPEN) == '"half_open"'
    assert repr(BreakerState.OPEN) == "<BreakerState.OPEN: 'open'>"
    assert pickle.loads(pickle.dumps(BreakerState.OPEN)) is BreakerState.OPEN


@pytest.mark.rule("F15")
@pytest.mark.parametrize("kind", SHARED)
def test_a_copy_of_a_policy_is_the_policy(kind: str) -> None:
    policy = SHARED[kind]()
    assert copy.copy(policy) is policy
    assert copy.deepcopy(policy) is policy
    assert copy.deepcopy({"client": [policy]})["client"][0] is policy


@pytest.mark.rule("F15")
@pytest.mark.parametrize("kind", SHARED)
def test_a_policy_is_not_pickled_and_says_what_to_do(kind: str) -> None:
    policy = SHARED[kind]()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"can't be pickled.*build one in each process"):
            pickle.dumps(policy, protocol)

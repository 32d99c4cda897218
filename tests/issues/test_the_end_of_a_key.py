"""A key that made room ended under the lock: where that used the policy, the thread hung."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    bulkhead,
    cache,
    retry,
)
from tests.kinds import KEYED
from tests.worlds import in_threads


class Last:
    """A key whose end looks at the policy that it was a key of, and uses it."""

    def __init__(self, policy: Any, ended: list[object]) -> None:
        self._policy, self._ended = policy, ended

    def __del__(self) -> None:
        self._policy.stats()
        self._policy.call(str, object())
        self._ended.append(self._policy.kind)


def first(key: object) -> object:
    return key


MORE: dict[str, Callable[[], Any]] = {
    **{kind: functools.partial(make, first, max_keys=1) for kind, make in KEYED.items()},
    "bulkhead, queue": lambda: bulkhead(1, queue=1, key=first, max_keys=1),
    "cache": lambda: cache(60.0, max_size=1, key=first),
}


def another(policy: Any, fn: Callable[[object], object]) -> None:
    fn("another")


def renew(policy: Any, fn: Callable[[object], object]) -> None:
    policy._reset()


@pytest.mark.rule("F4", "C6")
@pytest.mark.parametrize("make", MORE.values(), ids=MORE)
@pytest.mark.parametrize("end", [another, renew])
def test_the_end_of_a_key_may_use_its_policy(
    make: Callable[[], Any], end: Callable[[Any, Callable[[object], object]], None]
) -> None:
    policy, ended = make(), list[object]()
    fn = policy(lambda key: None)

    def work() -> str:
        fn(Last(policy, ended))
        end(policy, fn)
        return "ended"

    assert in_threads(work) == ["ended"]
    gc.collect()
    assert ended == [policy.kind]


@pytest.mark.rule("F4")
@pytest.mark.parametrize("end", [another, renew])
def test_the_end_of_the_key_of_a_budget_may_use_its_retry(
    end: Callable[[Any, Callable[[object], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient._policies.retry.shell.MAX_KEYS", 1)
    policy, ended = retry(on=OSError, wait=0, attempts=2, key=first), list[object]()
    tried: list[int] = []

    def fails_once(key: object) -> None:
        tried.append(1)
        if len(tried) % 2:
            raise OSError

    fn = policy(fails_once)

    def work() -> str:
        fn(Last(policy, ended))
        end(policy, fn)
        return "ended"

    assert in_threads(work) == ["ended"]
    assert ended == ["retry"]


@pytest.mark.rule("F4", "C6")
@pytest.mark.parametrize("way", ["evicted", "dropped", "after it was dropped", "cleared"])
def test_the_end_of_an_object_in_a_key_of_a_cache_may_use_the_cache(way: str) -> None:
    policy, ended = cache(60.0, max_size=1 if way == "evicted" else 9), list[object]()

    def fetch(owner: object) -> None:
        if way == "after it was dropped":
            policy.invalidate(policy.key_of(fn, owner))

    fn = policy(fetch)

    class Equal(Last):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

    def work() -> str:
        fn(Equal(policy, ended))
        fn("another")  # when the run that brought the first in is let go
        if way == "dropped":
            policy.invalidate(policy.key_of(fn, Equal(policy, ended)))
        elif way == "cleared":
            policy.clear()
        fn("a third")
        return "ended"

    assert in_threads(work) == ["ended"]
    assert set(ended) == {"cache"}

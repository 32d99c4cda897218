"""A policy without keys held its own method by its state: only the collector let go of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

import resilient

MAKERS: dict[str, Callable[[], object]] = {
    "breaker": resilient.breaker,
    "bulkhead": lambda: resilient.bulkhead(1),
    "rate_limit": lambda: resilient.rate_limit(1),
    "adaptive_limit": resilient.adaptive_limit,
    "throttle": resilient.throttle,
    "retry": lambda: resilient.retry(on=OSError),
    "timeout": lambda: resilient.timeout(1),
    "singleflight": resilient.singleflight,
    "hedge": lambda: resilient.hedge(1),
    "fallback": lambda: resilient.fallback(default=None),
    "cache": lambda: resilient.cache(1),
    "protect": lambda: resilient.protect(on=OSError, timeout=1),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.rule("F14")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_policy_that_nobody_uses_is_gone_at_once(kind: str) -> None:
    policy = weakref.ref(MAKERS[kind]())
    assert policy() is None

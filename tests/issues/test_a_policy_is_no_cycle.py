"""A policy without keys held its own method by its state: only the collector let go of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from tests.kinds import MAKERS


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.rule("F14")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", MAKERS)
def test_a_policy_that_nobody_uses_is_gone_at_once(kind: str) -> None:
    policy = weakref.ref(MAKERS[kind]())
    assert policy() is None

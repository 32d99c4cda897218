"""`protect` built a breaker for its settings, and then another: for a moment both were listed."""

from __future__ import annotations

import pytest

from resilient import protect
from resilient._policies.common.policy import PolicyBase


@pytest.mark.rule("F14", "P1")
@pytest.mark.parametrize("key", [None, "sku"])
def test_each_part_of_a_protection_is_built_once(
    monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    listed: list[PolicyBase] = []
    register = PolicyBase._register

    def note(self: PolicyBase) -> None:
        listed.append(self)
        register(self)

    monkeypatch.setattr(PolicyBase, "_register", note)
    made = protect(on=OSError, timeout=1, key=key)
    parts = [made.retry, made.breaker, made.limit, made.timeout]
    assert listed == [*parts, made]

"""A positional-only parameter's key was read off a keyword of the same name."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import breaker


@pytest.mark.rule("F10")
def test_a_keyword_of_the_same_name_is_not_the_positional_only_parameter() -> None:
    policy = breaker(key="tenant")

    @policy
    def call(tenant: str = "default", /, **labels: Any) -> str:
        return tenant

    assert call(tenant="a label") == "default"
    assert policy.keys() == ["default"]

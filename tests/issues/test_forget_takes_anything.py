"""`forget` of what can't be a key was an error or silence, as it happened."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import singleflight


@pytest.mark.rule("F7", "S5")
def test_forgetting_what_can_not_be_hashed_is_refused_by_name() -> None:
    nonsense: Any = ["a"]
    with pytest.raises(TypeError, match="key must be hashable"):
        singleflight().forget(nonsense)

"""A handler that raised what the error came from made it the cause of its own cause."""

from __future__ import annotations

import pytest

from resilient import fallback


def test_what_a_handler_unwraps_has_no_cause_below_itself() -> None:
    root = OSError("root")

    def unwrap(error: Exception) -> None:
        assert error.__cause__ is not None
        raise error.__cause__

    @fallback(unwrap)
    def fn() -> None:
        raise KeyError from root

    with pytest.raises(OSError, match="root"):
        fn()
    assert root.__cause__ is None

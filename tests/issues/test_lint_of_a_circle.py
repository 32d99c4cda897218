"""`lint` of a function whose ``__wrapped__`` leads back to itself never returned."""

from __future__ import annotations

import pytest

from resilient import lint


def test_a_function_that_wraps_itself_is_refused() -> None:
    def fn() -> None: ...

    def other() -> None: ...

    fn.__wrapped__ = other  # type: ignore[attr-defined]
    other.__wrapped__ = fn  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="which wraps itself"):
        lint(fn)

"""Types that several public signatures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Predicate: TypeAlias = Callable[[Any], object]
ErrorSpec: TypeAlias = "type[BaseException] | Predicate | tuple[ErrorSpec, ...]"

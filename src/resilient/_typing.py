"""What several public signatures share."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, TypeAlias

Predicate: TypeAlias = Callable[[Any], object]
ErrorSpec: TypeAlias = "type[BaseException] | Predicate | tuple[ErrorSpec, ...]"


class Default(enum.Enum):
    """Stands for an argument that was not given."""

    DEFAULT = enum.auto()


DEFAULT: Final = Default.DEFAULT

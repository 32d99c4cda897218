"""A name for others to import: a method of an imported name is looked up in a slower way."""

from __future__ import annotations

from contextvars import ContextVar

variable: ContextVar[object] = ContextVar("variable", default=None)

"""Lint: stacks that contradict themselves."""

from __future__ import annotations

from resilient._policies.lint.findings import Finding
from resilient._policies.lint.make import lint

__all__ = ["Finding", "lint"]

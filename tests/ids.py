"""Readable test ids that are the same in every run, so that a single test can be named."""

from __future__ import annotations

import re

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def shown(value: object) -> str:
    """The `repr` of *value*, without the memory address of an object that has no better one."""
    return ADDRESS.sub("", repr(value))

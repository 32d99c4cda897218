"""Chance: jitter and other draws of policies that have no ``rng`` of their own."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_own = random.Random()  # noqa: S311  # jitter, no secrets
draw: Callable[[], float] = _own.random

if hasattr(os, "register_at_fork"):  # else children of one parent would all wait alike
    os.register_at_fork(after_in_child=_own.seed)


@contextmanager
def install(source: Callable[[], float]) -> Iterator[None]:
    """Let all draws come from *source* inside the block."""
    global draw  # noqa: PLW0603  # the seam itself: one reference for all
    before, draw = draw, source
    try:
        yield
    finally:
        draw = before

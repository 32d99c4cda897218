"""Backoff: `BackoffRule` with dice."""

from __future__ import annotations

import math
import random
from typing import final

from resilient._core.backoff import BackoffRule, Jitter
from resilient._core.checks import Seconds, refuse_type
from resilient._runtime import dice


@final
class Backoff:
    """How long to wait before the n-th try; `backoff` makes it. Frozen, to be shared at will."""

    __slots__ = ("_rng", "rule")

    def __init__(self, rule: BackoffRule, rng: random.Random | None) -> None:
        self.rule, self._rng = rule, rng

    def delay(self, n: int) -> float:
        """Seconds before try *n*, counted from 1; every call throws the dice anew.

        Raises:
            ValueError: *n* is below 1.
        """
        return self.rule.delay(n, self.draw())

    def draw(self) -> float:
        """One number in [0, 1)."""
        return dice.draw() if self._rng is None else self._rng.random()

    def __repr__(self) -> str:
        rule = self.rule
        limits = f"factor={rule.factor:g}, max={rule.max:g}"
        return f"backoff({rule.base:g}, {limits}, jitter={rule.jitter!r})"


def backoff(
    base: Seconds,
    *,
    factor: float = 2.0,
    max: Seconds = math.inf,  # noqa: A002  # the field's word
    jitter: Jitter = "full",
    rng: random.Random | None = None,
) -> Backoff:
    """Exponential growth with a cap and jitter: ``min(base * factor**(n-1), max)``.

    Args:
        base: seconds before the first try again, at least 0.
        factor: growth from one to the next, above 0.
        max: seconds, the cap; no jitter exceeds it.
        jitter: ``"full"`` draws from [0, d), ``"equal"`` from [d/2, d), ``"none"`` takes d, a
            number j in [0, 1] draws from [d(1-j), d(1+j)).
        rng: dice of your own, for repeatable delays.

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015), which
        names full and equal jitter.
    """
    if rng is not None and not isinstance(rng, random.Random):
        refuse_type("rng", rng, "a random.Random or None")
    return Backoff(BackoffRule(base, factor, max, jitter), rng)  # type: ignore[arg-type]  # __post_init__ makes them floats

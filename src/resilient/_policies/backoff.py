"""Backoff: `BackoffConfig` with chance."""

from __future__ import annotations

import math
import random
from typing import final

from resilient._core.backoff import BackoffConfig, Jitter
from resilient._core.checks import Seconds, refuse_type
from resilient._runtime import rng


@final
class Backoff:
    """How long to wait before the n-th try; `backoff` makes it. Frozen, to be shared at will."""

    __slots__ = ("_config", "_rng")

    def __init__(self, config: BackoffConfig, own_rng: random.Random | None) -> None:
        self._config, self._rng = config, own_rng

    def delay(self, n: int) -> float:
        """Seconds before try *n*, counted from 1; every call draws anew.

        Raises:
            ValueError: *n* is below 1.
        """
        draw = rng.draw() if self._rng is None else self._rng.random()
        return self._config.delay(n, draw)

    def __repr__(self) -> str:
        config = self._config
        limits = f"factor={config.factor:g}, max={config.max:g}"
        return f"backoff({config.base:g}, {limits}, jitter={config.jitter!r})"


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
        rng: a `random.Random` of your own, for repeatable delays.

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015), which
        names full and equal jitter.
    """
    if rng is not None and not isinstance(rng, random.Random):
        refuse_type("rng", rng, "a random.Random or None")
    return Backoff(BackoffConfig(base, factor, max, jitter), rng)  # type: ignore[arg-type]  # __post_init__ makes them floats

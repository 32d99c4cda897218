"""How a limit follows the latency: three ways, each a pure step from window to window.

All of them take the latency without load from `Baseline`, and leave to their caller that a
limit of which less than half is used does not grow (L7), and stays in its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from resilient._core.adaptive_limit.sampling import Reading

Algorithm = Callable[[float, Reading, float], float]
"""``algorithm(limit, reading, unloaded)`` is the next limit."""

TOLERATED: Final = 0.1
"""The share of drops that says nothing: single calls hang for reasons of their own."""
CUT: Final = 0.7
SMOOTHING: Final = 0.3


def gradient(limit: float, reading: Reading, unloaded: float) -> float:
    """Let the limit shrink by the ratio of the latencies, and grow by what a short queue holds.

    The ratio is taken at the lower end of what the mean may be by chance, so that noise alone
    shrinks nothing. With a knee at k calls the limit settles where it is ``k + sqrt(limit) / 2``.
    Drops cut it at once, from what was in flight.

    Source:
        ``Gradient2Limit`` of Netflix's concurrency-limits. There the latency without load is a
        long mean of all, which a lasting overload teaches to be content; ours is measured.
    """
    if reading.dropped > TOLERATED:
        return min(limit, reading.peak) * CUT
    surely, queue = reading.mean - 2 * reading.error, max(1.0, math.sqrt(limit) / 2)
    if surely <= unloaded:
        return limit + queue
    return limit + SMOOTHING * (limit * max(0.5, unloaded / surely) + queue - limit)


def aimd(limit: float, reading: Reading, unloaded: float) -> float:
    """One more while all is well, a tenth less after a drop or when calls take twice as long.

    Settles where calls take twice as long as without load: twice the knee.

    Source:
        ``AIMDLimit`` of Netflix's concurrency-limits; D.-M. Chiu and R. Jain, "Analysis of the
        increase and decrease algorithms for congestion avoidance" (1989).
    """
    if reading.dropped > 0 or reading.mean > 2 * unloaded:
        return limit * 0.9
    return limit + 1


def vegas(limit: float, reading: Reading, unloaded: float) -> float:
    """Keep a short queue: as many calls as the latency says beyond what it is without load.

    Source:
        ``VegasLimit`` of Netflix's concurrency-limits; L. Brakmo and L. Peterson, "TCP Vegas"
        (1995).
    """
    step = max(1.0, math.log10(limit))
    if reading.dropped > TOLERATED:
        return limit - step
    queue = math.ceil(limit * (1 - unloaded / reading.mean)) if reading.mean > unloaded else 0
    if queue <= step:
        return limit + 6 * step
    if queue < 3 * step:
        return limit + step
    return limit - step if queue > 6 * step else limit


ALGORITHMS: Final[Mapping[str, Algorithm]] = {"gradient": gradient, "aimd": aimd, "vegas": vegas}

"""How long to wait before the n-th try: exponential growth, a cap, jitter.

``d = min(base * factor**(n-1), max)``, and then jitter by one *draw* from [0, 1):

=========  =============================================
full       ``d * draw``
equal      ``d/2 + d/2 * draw``
none       ``d``
a float j  ``d * (1-j + 2*j*draw)``, never above ``max``
=========  =============================================
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Literal

from resilient._core.checks import check_number, check_seconds, refuse, refuse_type

Jitter = Literal["full", "equal", "none"] | float


@dataclass(frozen=True, slots=True)
class BackoffConfig:
    """The growth and the jitter, without the dice."""

    base: float
    factor: float
    max: float
    jitter: Jitter

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", check_seconds("base", self.base))
        object.__setattr__(self, "factor", check_number("factor", self.factor, above=0))
        object.__setattr__(self, "max", check_seconds("max", self.max, finite=False))
        if isinstance(self.jitter, str):
            if self.jitter not in {"full", "equal", "none"}:
                refuse("jitter", self.jitter, "'full', 'equal', 'none' or a number in [0, 1]")
        else:
            object.__setattr__(self, "jitter", check_number("jitter", self.jitter, least=0, most=1))

    def ceiling(self, n: int) -> float:
        """The delay before try *n* (from 1) without jitter."""
        if isinstance(n, bool) or not isinstance(n, int):
            refuse_type("n", n, "a whole number of at least 1")
        if n < 1:
            refuse("n", n, "a whole number of at least 1")
        if not self.base:
            return 0.0
        try:
            grown = self.base * self.factor ** (n - 1)
        except OverflowError:
            grown = math.inf
        return min(grown, self.max, sys.float_info.max)

    def delay(self, n: int, draw: float) -> float:
        """The delay before try *n*, with a *draw* from [0, 1)."""
        d = self.ceiling(n)
        match self.jitter:
            case "full":
                return d * draw
            case "equal":
                return d / 2 + d / 2 * draw
            case "none":
                return d
            case j:
                return min(d * (1 - j + 2 * j * draw), self.max, sys.float_info.max)

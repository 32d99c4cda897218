"""When what happens in a run, in seconds from its start.

::

    0 ──healthy 25 %──▶ fault_at ──fault 35 %──▶ heal_at ──recovery 40 %──▶ ends_at
                                                    └──grace──▶ settled_at

``grace`` is what a client gets to come back: half of the recovery, at most 10 s.
From then on, to the end of the run, at least 99 % of the calls must succeed.
A run of 20 s is healthy for 5 s, broken for 7 s, and has 4 s to come back and 4 s to
show that it did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

HEALTHY: Final = 0.25
FAULT: Final = 0.35
MOST_GRACE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The plan of a run of `seconds`."""

    seconds: float

    @property
    def fault_at(self) -> float:
        """When the service is to break."""
        return self.seconds * HEALTHY

    @property
    def heal_at(self) -> float:
        """When it is to be well again."""
        return self.seconds * (HEALTHY + FAULT)

    @property
    def ends_at(self) -> float:
        """When the last call may arrive."""
        return self.seconds

    @property
    def grace(self) -> float:
        """How long a client may take to come back, if all goes by this plan."""
        return settled_at(self.heal_at, self.ends_at) - self.heal_at

    def phase(self, at: float) -> str:
        """What is going on *at* this instant."""
        if at < self.fault_at:
            return "healthy"
        return "fault" if at < self.heal_at else "recovery"


def settled_at(healed: float, ends: float) -> float:
    """From when on nearly all must succeed, if the service was well at *healed*."""
    return healed + min(MOST_GRACE, max(0.0, ends - healed) / 2)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Instants at which calls arrive: a Poisson process, the same for the same *seed*."""
    dice = Random(f"arrivals {seed}")  # noqa: S311  # a load, no secret
    at = 0.0
    while (at := at - math.log(1.0 - dice.random()) / rate) < seconds:
        yield at

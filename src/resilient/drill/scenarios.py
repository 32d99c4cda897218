"""What can be done to a service, and what each of it means for a target that is not ours.

================ ================================= =========================================
scenario         the drill's own service           ``--target``: by the proxy alone
================ ================================= =========================================
``partition``    the proxy swallows every byte     the same
``crash``        SIGKILL, started again later      connections are reset, new ones as well
``hang``         SIGSTOP, then SIGCONT             connections are accepted, their bytes held
                                                   back and delivered when the fault is over
``slow``         50 x the latency                  answers are held back for 49 x the target's
                                                   usual latency, at least twice the deadline
``flaky``        10 % of the answers are 503       the proxy gives 10 % of the answers: 503, or
                                                   where TLS hides the words, a reset
================ ================================= =========================================

A target's process is never signalled, and nothing of it needs to be known but its URL.
"""

from __future__ import annotations

import enum
from typing import Final


class Scenario(enum.StrEnum):
    """A way for a service to fail."""

    PARTITION = "partition"
    CRASH = "crash"
    HANG = "hang"
    SLOW = "slow"
    FLAKY = "flaky"


SLOWDOWN: Final = 50
"""By how much `Scenario.SLOW` multiplies the latency."""

UNAVAILABLE: Final = 0.1
"""The share of answers that are 503 in `Scenario.FLAKY`."""

OUTAGES: Final = frozenset(Scenario) - {Scenario.FLAKY}
"""What a breaker has to open for; a tenth of the answers is work for the retry."""

SAYS: Final = {
    Scenario.PARTITION: "the proxy swallows every byte",
    Scenario.CRASH: "SIGKILL, started again at the end of the fault",
    Scenario.HANG: "SIGSTOP, then SIGCONT",
    Scenario.SLOW: f"latency x {SLOWDOWN}",
    Scenario.FLAKY: f"{UNAVAILABLE:.0%} of the answers are 503",
}

SAYS_OF_TARGET: Final = {
    Scenario.PARTITION: "the proxy swallows every byte",
    Scenario.CRASH: "the proxy resets every connection",
    Scenario.HANG: "the proxy accepts and holds every byte back",
    Scenario.SLOW: f"the proxy holds answers back: latency x {SLOWDOWN}",
    Scenario.FLAKY: f"the proxy answers {UNAVAILABLE:.0%} itself: 503, or a reset under TLS",
}

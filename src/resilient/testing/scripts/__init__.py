"""Property-based tests of policies: scripts, what comes of them, and the laws that must hold.

A script says when calls are made and what the dependency does with each. `play` plays it through
any policy under virtual time. The `Trace` that it returns can `check` itself against the laws of
the policies. `outcomes` and `outages` are Hypothesis strategies that make scripts, and
`BreakerMachine` is a stateful test of a breaker. All of it needs hypothesis.
"""

try:
    import hypothesis as _hypothesis
except ImportError as error:
    raise ImportError(
        "resilient.testing.scripts needs hypothesis: pip install hypothesis", name="hypothesis"
    ) from error

from resilient.testing.scripts.machine import BreakerMachine
from resilient.testing.scripts.playing import play
from resilient.testing.scripts.script import Answer, Fail, Hang, Outage, Outcome, Script, Step
from resilient.testing.scripts.strategies import outages, outcomes
from resilient.testing.scripts.trace import Attempt, Called, LawBroken, Trace

del _hypothesis

__all__ = [
    "Answer",
    "Attempt",
    "BreakerMachine",
    "Called",
    "Fail",
    "Hang",
    "LawBroken",
    "Outage",
    "Outcome",
    "Script",
    "Step",
    "Trace",
    "outages",
    "outcomes",
    "play",
]

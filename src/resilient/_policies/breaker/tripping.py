"""``trip=``: what an error says of how long to leave its dependency alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from resilient._core.checks import Seconds, check_seconds
from resilient._core.functions import at_once
from resilient._core.matching import Judge, Verdict, each
from resilient._runtime.notify import FaultLog

Trip = Callable[[Any], Seconds | bool | None]


class Tripping:
    """A function of the user's that is asked of the errors of a breaker's failures."""

    __slots__ = ("_ask", "_complain")

    def __init__(self, ask: Trip) -> None:
        self._ask, self._complain = ask, FaultLog()

    def rest(self, error: Exception, judge: Judge) -> float | None:
        """For how many seconds *error* opens the breaker: 0 for its cooldown, ``None`` if it does
        not. Of a group each error is asked that counts, and the longest time is taken.
        """
        if not isinstance(error, ExceptionGroup):
            return self._rest(error)
        verdicts = [(one, judge.error(one)) for one in each(error) if isinstance(one, Exception)]
        asked = [one for one, verdict in verdicts if verdict is Verdict.FAILURE] or [
            one for one, verdict in verdicts if verdict is not Verdict.IGNORED
        ]  # where none of them counts, the group itself does
        said = [self._rest(one) for one in asked]
        return max((rest for rest in said if rest is not None), default=None)

    def _rest(self, error: Exception) -> float | None:
        try:
            said = at_once(self._ask(error))
            if said is None or isinstance(said, bool):
                return 0.0 if said else None
            if isinstance(said, dt.timedelta):
                said = said.total_seconds()
            return check_seconds("trip's answer", said, above=0) if not said <= 0 else None
        except Exception as fault:  # noqa: BLE001  # any fault of it changes nothing
            self._complain(self._ask, fault, "trip")
            return None

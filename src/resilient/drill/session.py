"""One command line, from its first scenario to the exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Final

from rich.console import Console

from resilient.drill import report, results, target
from resilient.drill.conductor import Result, View, conduct
from resilient.drill.crew import DrillError
from resilient.drill.live import LiveView
from resilient.drill.plain import PlainView
from resilient.drill.plan import Plan

PASSED: Final = 0
MISSED: Final = 1
CANNOT: Final = 2
SIGNALLED: Final = 128
WIDTH: Final = 110
"""Of what is printed where there is no terminal to ask."""
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(plan: Plan) -> int:
    """Do all that was asked for; the exit code."""
    try:
        return asyncio.run(Session(plan).run())
    except (DrillError, OSError) as error:
        with suppress(OSError):
            sys.stderr.write(f"resilient drill: {error}\n")
        if isinstance(error, BrokenPipeError):  # else Python complains of it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CANNOT


class Session:
    """The runs of one command line, and the signal that ended them early, if one did."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        terminal = sys.stdout.isatty() and not plan.plain
        self._console = Console() if terminal else Console(width=WIDTH, no_color=True)
        self._view: View = LiveView(self._console) if terminal else PlainView(sys.stdout)
        self._ended_by: signal.Signals | None = None

    async def run(self) -> int:
        """Run the scenarios one after the other, or until a signal comes."""
        working = asyncio.create_task(self._run())
        for each in ENDINGS:
            if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(each, self._end, each, working)
        await asyncio.wait([working])
        if self._ended_by is None:
            return working.result()
        sys.stderr.write(f"resilient drill: ended by {self._ended_by.name}\n")
        return SIGNALLED + self._ended_by

    def _end(self, by: signal.Signals, working: asyncio.Task[int]) -> None:
        if self._ended_by is None:  # a second Ctrl-C must not disturb the cleaning up
            self._ended_by = by
            working.cancel()

    async def _run(self) -> int:
        if self._plan.target is not None:
            await target.check(self._plan.target)
        found: list[Result] = []
        for scenario in self._plan.scenarios:
            self._console.print(
                f"{scenario}: starting the services, the proxies and the traffic ..."
            )
            found.append(await conduct(self._plan, scenario, self._view))
            report.show(found[-1], self._console)
        if len(found) > 1:
            self._console.print(report.summary(found))
        if self._plan.json is not None:
            results.write(self._plan.json, self._plan, found)
        return PASSED if all(result.passed for result in found) else MISSED

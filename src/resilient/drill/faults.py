"""How the stage is broken, and made well again. `resilient.drill.scenarios` says what for."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from resilient.drill.messages import Behave, Change
from resilient.drill.scenarios import SLOWDOWN, UNAVAILABLE, Scenario
from resilient.drill.weather import Weather

if TYPE_CHECKING:
    from resilient.drill.stage import Stage


class Fault(Protocol):
    """A fault; both ends of it return when they are in force for every client."""

    async def begin(self, stage: Stage) -> None:
        """Break it."""

    async def end(self, stage: Stage) -> None:
        """Let it be well."""


@dataclass(frozen=True, slots=True)
class BadWeather:
    """The proxy's doing. Answers that it holds back take at least two deadlines."""

    weather: Weather

    async def begin(self, stage: Stage) -> None:
        """Change the weather."""
        change = Change(self.weather, slowest=2 * stage.plan.deadline)
        await asyncio.gather(*(each.ask(change) for each in stage.proxies.values()))

    async def end(self, stage: Stage) -> None:
        """Clear up."""
        change = Change(Weather.CLEAR)
        await asyncio.gather(*(each.ask(change) for each in stage.proxies.values()))


@dataclass(frozen=True, slots=True)
class BadService:
    """The service's own doing."""

    behave: Behave

    async def begin(self, stage: Stage) -> None:
        """Tell it to misbehave."""
        await asyncio.gather(*(each.ask(self.behave) for each in stage.services.values()))

    async def end(self, stage: Stage) -> None:
        """Tell it to behave."""
        await asyncio.gather(*(each.ask(Behave()) for each in stage.services.values()))


@dataclass(frozen=True, slots=True)
class Crash:
    """SIGKILL. Those that take over have been waiting since the start, but not listening."""

    async def begin(self, stage: Stage) -> None:
        """Kill them."""
        for each in stage.services.values():
            each.signal(signal.SIGKILL)
        await asyncio.gather(*(each.process.wait() for each in stage.services.values()))

    async def end(self, stage: Stage) -> None:
        """Start them again, on the same ports."""
        stage.services = stage.spares
        await stage.serve()


@dataclass(frozen=True, slots=True)
class Hang:
    """SIGSTOP: the kernel still accepts connections, nobody answers them."""

    async def begin(self, stage: Stage) -> None:
        """Stop them."""
        for each in stage.services.values():
            each.signal(signal.SIGSTOP)

    async def end(self, stage: Stage) -> None:
        """Let them go on."""
        for each in stage.services.values():
            each.signal(signal.SIGCONT)


OF_OURS: Final[dict[Scenario, Fault]] = {
    Scenario.PARTITION: BadWeather(Weather.SILENT),
    Scenario.CRASH: Crash(),
    Scenario.HANG: Hang(),
    Scenario.SLOW: BadService(Behave(slowdown=SLOWDOWN)),
    Scenario.FLAKY: BadService(Behave(unavailable=UNAVAILABLE)),
}
"""What is done to the drill's own service."""

OF_TARGET: Final[dict[Scenario, Fault]] = {
    Scenario.PARTITION: BadWeather(Weather.SILENT),
    Scenario.CRASH: BadWeather(Weather.REFUSING),
    Scenario.HANG: BadWeather(Weather.STALLED),
    Scenario.SLOW: BadWeather(Weather.SLOW),
    Scenario.FLAKY: BadWeather(Weather.FLAKY),
}
"""What is done before a target."""

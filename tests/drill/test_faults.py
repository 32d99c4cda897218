"""What each fault tells to whom."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import cast

import pytest

from resilient.drill import faults
from resilient.drill.messages import Behave, Change, Done
from resilient.drill.plan import CLIENTS, Plan
from resilient.drill.scenarios import Scenario
from resilient.drill.stage import Stage
from resilient.drill.weather import Weather
from tests.drill.records import plan


@dataclass
class Dummy:
    """A child that does as it is told."""

    told: list[object] = field(default_factory=list)

    @property
    def process(self) -> Dummy:
        return self

    async def wait(self) -> None:
        self.told.append("waited for")

    async def ask(self, order: object) -> object:
        self.told.append(order)
        return Done()

    def signal(self, number: signal.Signals) -> None:
        self.told.append(number)


@dataclass
class Scenery:
    """A stage of dummies."""

    plan: Plan = field(default_factory=plan)
    proxies: dict[str, Dummy] = field(default_factory=lambda: {name: Dummy() for name in CLIENTS})
    services: dict[str, Dummy] = field(default_factory=lambda: {name: Dummy() for name in CLIENTS})
    spares: dict[str, Dummy] = field(default_factory=lambda: {name: Dummy() for name in CLIENTS})

    async def serve(self) -> None:
        for each in self.services.values():
            await each.ask("serve")


def played(fault: faults.Fault) -> tuple[list[object], list[object], list[object]]:
    """What each proxy, each first service and each spare was told."""
    stage = Scenery()
    first = stage.services

    async def story() -> None:
        await fault.begin(cast("Stage", stage))
        await fault.end(cast("Stage", stage))

    asyncio.run(story())
    for each in (stage.proxies, first, stage.spares):
        assert all(dummy.told == each["bare"].told for dummy in each.values())
    return stage.proxies["bare"].told, first["bare"].told, stage.spares["bare"].told


CLEAR = Change(Weather.CLEAR)


@pytest.mark.parametrize(
    ("scenario", "proxy", "service", "spare"),
    [
        (Scenario.PARTITION, [Change(Weather.SILENT, slowest=1.0), CLEAR], [], []),
        (Scenario.CRASH, [], [signal.SIGKILL, "waited for"], ["serve"]),
        (Scenario.HANG, [], [signal.SIGSTOP, signal.SIGCONT], []),
        (Scenario.SLOW, [], [Behave(slowdown=50), Behave()], []),
        (Scenario.FLAKY, [], [Behave(unavailable=0.1), Behave()], []),
    ],
)
def test_what_is_done_to_our_own_service(
    scenario: Scenario, proxy: list[object], service: list[object], spare: list[object]
) -> None:
    assert played(faults.OF_OURS[scenario]) == (proxy, service, spare)


@pytest.mark.parametrize(
    ("scenario", "weather"),
    [
        (Scenario.PARTITION, Weather.SILENT),
        (Scenario.CRASH, Weather.REFUSING),
        (Scenario.HANG, Weather.STALLED),
        (Scenario.SLOW, Weather.SLOW),
        (Scenario.FLAKY, Weather.FLAKY),
    ],
)
def test_before_a_target_all_is_the_weathers_doing(scenario: Scenario, weather: Weather) -> None:
    told = [Change(weather, slowest=1.0), CLEAR]
    assert played(faults.OF_TARGET[scenario]) == (told, [], [])

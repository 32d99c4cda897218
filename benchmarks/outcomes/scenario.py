"""One outage: clients, arrivals, a fault, and what each user got."""

from __future__ import annotations

import asyncio
import importlib
import random
from dataclasses import dataclass, replace

from benchmarks.outcomes.contenders import (
    CONTENDERS,
    DEADLINE,
    HIDDEN,
    NEEDS,
    Guarded,
    patched,
)
from benchmarks.outcomes.faults import BEGINS, Fault
from benchmarks.outcomes.service import Service, Shape
from resilient.testing import virtual_time

CLIENTS = 20
KEYS = 10
COMES_BACK = 30.0  # seconds after which a user who was not served does, on average
PATIENCE = 10.0  # seconds for which the simulation waits for the last calls


@dataclass(frozen=True)
class Scenario:
    """The service and how it is used."""

    name: str
    shape: Shape


SCENARIOS = (
    Scenario("8 workers", Shape()),
    Scenario("2 workers", Shape(workers=2)),
    Scenario("64 workers", Shape(workers=64)),
    Scenario("twice the spread", Shape(spread=1.0)),
)


@dataclass(slots=True)
class UserCall:
    """What one call of a user came to; times are seconds since the beginning."""

    began: float
    key: int
    ended: float = 0.0
    good: bool = False
    user: int = 0


@dataclass
class Run:
    """One outage under one contender."""

    scenario: Scenario
    fault: Fault
    contender: str
    seed: int
    calls: list[UserCall]
    sent: list[float]
    wasted: int
    executed: int


def run(
    scenario: Scenario, fault: Fault, contender: str, seed: int, total: float | None = None
) -> Run:
    """Play one outage."""
    if total is not None:
        fault = replace(fault, total=total)
    for module in NEEDS.get(contender, ()):  # before their clocks are patched
        importlib.import_module(module)
    with virtual_time(seed=seed, fresh=True) as time, patched(time.reading):
        play = _Play(scenario, fault, contender, seed)
        time.run(play.main)
    return Run(
        scenario,
        fault,
        contender,
        seed,
        play.calls,
        [at - play.start for at in play.service.sent],
        play.service.wasted,
        play.service.executed,
    )


class _Play:
    def __init__(self, scenario: Scenario, fault: Fault, contender: str, seed: int) -> None:
        self.scenario, self.fault, self.seed = scenario, fault, seed
        self.make = CONTENDERS.get(contender) or HIDDEN[contender]
        self.calls: list[UserCall] = []
        self.out = 0

    async def main(self) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.start = loop.time()
        fault, shape = self.fault, self.scenario.shape
        self.service = Service(shape, f"{self.seed}-service", loop)
        self.clients: list[Guarded] = [self.make(self.service, fault) for _ in range(CLIENTS)]
        random.seed(self.seed)  # the peers' jitter
        for at, condition in fault.conditions:
            if at < fault.total:
                loop.call_at(self.start + at, self.service.set, condition)
        self.tasks: set[asyncio.Task[None]] = set()
        rng = random.Random(f"{self.seed}-arrivals")
        self.back = random.Random(f"{self.seed}-returns")
        rate = shape.capacity * fault.utilisation
        now, user = 0.0, 0
        while True:
            surging = BEGINS <= now < BEGINS + fault.surge_lasts
            now += rng.expovariate(rate * (fault.surge if surging else 1.0))
            if now >= fault.total:
                break
            await asyncio.sleep(self.start + now - loop.time())
            key = rng.choices(range(KEYS), fault.weights)[0]
            self.arrive(rng.randrange(CLIENTS), key, user, 0)
            user += 1
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=PATIENCE)
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def arrive(self, client: int, key: int, user: int, returned: int) -> None:
        task = self.loop.create_task(self.call(client, key, user, returned))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def call(self, client: int, key: int, user: int, returned: int) -> None:
        call = UserCall(self.loop.time() - self.start, key, user=user)
        self.calls.append(call)
        good = False
        try:
            await self.clients[client](key)
            good = True
        except Exception:  # whatever a contender makes of it: the user was not served
            pass
        finally:
            call.ended = self.loop.time() - self.start
            call.good = good and call.ended - call.began <= DEADLINE + 1e-9
        if not call.good and returned < self.fault.users_return:
            wait = self.back.expovariate(1 / COMES_BACK)
            self.loop.call_later(wait, self.arrive, client, key, user, returned + 1)

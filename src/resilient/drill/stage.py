"""What is set up for one run: services, the proxy before them, the traffic before that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from resilient.drill.crew import Child, Crew, DrillError
from resilient.drill.messages import (
    Count,
    Counts,
    Finished,
    Go,
    Guard,
    Opened,
    Prepare,
    Prepared,
    Report,
    Serve,
)
from resilient.drill.plan import CLIENTS, PATH, Address, Plan, Tuning
from resilient.drill.records import Ledger

PATIENCE: Final = 30.0
"""Seconds after which what has not answered, or not ended, never will."""

M = TypeVar("M")
Hear = Callable[[str, object], None]


@dataclass(slots=True)
class Stage:
    """The children of one run, by client, and what they report."""

    plan: Plan
    proxies: dict[str, Child]
    services: dict[str, Child]
    spares: dict[str, Child]
    traffic: dict[str, Child]
    ports: dict[str, int]
    reports: Reports
    settings: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CLIENTS})
    metrics: str | None = None

    async def serve(self) -> None:
        """Let the services listen."""
        orders = {
            name: Serve(self.ports[name], self.plan.latency, self.plan.seed)
            for name in self.services
        }
        await asyncio.gather(*(self.services[name].ask(order) for name, order in orders.items()))

    async def prepare(self) -> None:
        """Put the pieces together, from the service to the traffic, and warm them up."""
        await asyncio.gather(
            *(each.ask() for each in (*self.services.values(), *self.spares.values()))
        )
        await self.serve()
        address = Address.of(self.plan.target or f"http://127.0.0.1{PATH}")
        await asyncio.gather(*(self._prepare(name, address) for name in CLIENTS))

    async def _prepare(self, client: str, address: Address) -> None:
        port = self.ports.get(client, address.port)
        http = address.scheme == "http"
        guard = Guard(address.host, port, self.plan.seed, speaks_http=http)
        opened = expect(Opened, await self.proxies[client].ask(guard))
        order = _order(self.plan, client, address, opened.port)
        prepared = expect(Prepared, await self.traffic[client].ask(order))
        self.settings[client] = prepared.settings
        self.metrics = self.metrics or prepared.metrics

    def go(self, at: float) -> None:
        """Start the run at this instant."""
        for each in (*self.proxies.values(), *self.traffic.values()):
            each.tell(Go(at))

    async def finish(self) -> None:
        """Wait for the last call of each client, then count a last time."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.reports.all_finished.wait()
        except TimeoutError:
            raise DrillError(
                f"some calls had not ended after {PATIENCE:g} s; lower --rate, or free the machine"
            ) from None
        await asyncio.gather(*(each.ask(Count()) for each in self.proxies.values()))


class Reports:
    """What the children say unasked, sorted into the ledgers of the clients."""

    def __init__(self) -> None:
        self.ledgers = {name: Ledger() for name in CLIENTS}
        self.all_finished = asyncio.Event()
        self._finished: set[str] = set()

    def of_proxy(self, client: str, message: object) -> None:
        """Hear one client's proxy."""
        counts, ledger = expect(Counts, message), self.ledgers[client]
        ledger.accepted.update(counts.accepted)
        ledger.reached.update(counts.reached)

    def of_traffic(self, client: str, message: object) -> None:
        """Hear one client's traffic."""
        if isinstance(message, Finished):
            self._finished.add(client)
            if len(self._finished) == len(CLIENTS):
                self.all_finished.set()
            return
        report, ledger = expect(Report, message), self.ledgers[client]
        ledger.add(report.calls)
        ledger.stalls += report.stalls
        ledger.moves += report.moves
        ledger.state = report.state
        ledger.latest_start = report.latest_start


async def set_up(plan: Plan, crew: Crew, ports: list[int], *, spares: bool) -> Stage:
    """Start every process; with *spares*, a second service for each client."""
    reports = Reports()
    ours = () if plan.target else CLIENTS

    async def hire(module: str, names: Sequence[str], hear: Hear | None = None) -> dict[str, Child]:
        return {
            name: await crew.hire(f"{name} {module}", module, partial(hear, name) if hear else None)
            for name in names
        }

    stage = Stage(
        plan=plan,
        proxies=await hire("proxy", CLIENTS, reports.of_proxy),
        services=await hire("service", ours),
        spares=await hire("service", ours if spares else ()),
        traffic=await hire("traffic", CLIENTS, reports.of_traffic),
        ports=dict(zip(ours, ports, strict=False)),
        reports=reports,
    )
    await stage.prepare()
    return stage


def expect(kind: type[M], message: object) -> M:
    """*message*, which must be of this kind."""
    if not isinstance(message, kind):
        raise TypeError(f"expected {kind.__name__}, got {message!r}")
    return message


def _order(plan: Plan, client: str, address: Address, port: int) -> Prepare:
    resilient = client == "resilient"
    return Prepare(
        client=client,
        url=address.at(port),
        headers={"host": address.authority} if plan.target else {},
        sni=address.host if address.scheme == "https" else None,
        rate=plan.rate,
        seconds=plan.seconds,
        seed=plan.seed,
        tuning=Tuning.of(plan.deadline, plan.seconds),
        without=plan.without if resilient else frozenset(),
        metrics=plan.metrics if resilient else None,
    )

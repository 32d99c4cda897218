"""The traffic of one client, in its own process.

The load is open: calls arrive by schedule, whether or not earlier ones have ended, as
users do. Each leaves a record.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Final

import httpx2

from resilient import Rejected, ResilienceError
from resilient.drill import child, clients, heartbeat
from resilient.drill.clients import Client, ServiceUnavailable, Trip
from resilient.drill.messages import Failed, Finished, Go, Prepare, Prepared, Report
from resilient.drill.records import Call, Move, Outcome, Stall
from resilient.drill.timeline import arrivals
from resilient.events import StateChanged, subscribe

REPORT_EVERY: Final = 0.2
WARM_UP: Final = 3
NAMED: Final = (ResilienceError, httpx2.HTTPError, TimeoutError, ServiceUnavailable)


@dataclass(slots=True)
class Journal:
    """What is to be reported next; instants are seconds from the start of the run."""

    begins_at: float
    calls: list[Call] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    latest_start: float = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self.begins_at

    def note_stall(self, stall: Stall) -> None:
        """Keep a time in which the machine did not run us."""
        begin, end = stall.begin - self.begins_at, stall.end - self.begins_at
        self.stalls.append(Stall(begin, end, stall.away))

    def note_move(self, event: StateChanged) -> None:
        """Keep a change of the breaker's state."""
        at = event.at - self.begins_at
        self.moves.append(Move(at, event.old.value, event.new.value, event.reason))

    def take(self, state: str | None) -> Report:
        """All that was noted since the last time."""
        report = Report(self.calls, self.stalls, self.moves, state, self.latest_start)
        self.calls, self.stalls, self.moves = [], [], []
        return report


async def live(parent: child.Parent) -> None:
    """Get ready, wait for the start, send the traffic, report."""
    order = await parent.order()
    if not isinstance(order, Prepare):
        raise TypeError(order)
    async with clients.make_http(keep_alive=order.sni is None) as http:
        ask = clients.asking(http, order.url, order.headers, order.sni)
        try:
            metrics = None if order.metrics is None else serve_metrics(order.metrics)
            await warm_up(ask)
        except (OSError, httpx2.HTTPError, ServiceUnavailable) as error:
            parent.say(Failed(f"{error}"))
            return
        client = make_client(order, ask)
        parent.say(Prepared(client.settings, metrics))
        go = await parent.order()
        if not isinstance(go, Go):
            raise TypeError(go)
        gc.freeze()  # all that was imported would else be searched for garbage, 30 ms each time
        await run(order, client, Journal(go.at), parent)
        await parent.order()  # none will come: it is the conductor who ends this


def make_client(order: Prepare, ask: clients.Ask) -> Client:
    """The client that the order names."""
    match order.client:
        case "bare":
            return clients.bare(ask)
        case "usual":
            return clients.usual(ask, order.tuning.deadline)
        case _:
            return clients.resilient(ask, order.tuning, order.without)


async def warm_up(ask: clients.Ask) -> None:
    """Let everything be imported and compiled that the first call would have to wait for."""
    for number in range(WARM_UP):
        await ask(Trip(-1 - number))


async def run(order: Prepare, client: Client, journal: Journal, parent: child.Parent) -> None:
    """Send all the traffic, reporting meanwhile, and a last time when every call has ended."""
    with subscribe(journal.note_move, StateChanged):
        async with asyncio.TaskGroup() as group:
            helpers = (
                group.create_task(heartbeat.listen(journal.note_stall, heartbeat.waiting())),
                group.create_task(_report(journal, client, parent)),
            )
            await _send(order, client, journal)
            for helper in helpers:
                helper.cancel()
    parent.say(journal.take(client.state))
    parent.say(Finished())


async def _report(journal: Journal, client: Client, parent: child.Parent) -> None:
    while True:
        await asyncio.sleep(REPORT_EVERY)
        parent.say(journal.take(client.state))


async def _send(order: Prepare, client: Client, journal: Journal) -> None:
    out: dict[asyncio.Task[None], float] = {}
    for number, at in enumerate(arrivals(order.rate, order.seconds, order.seed)):
        if (wait := at - journal.now()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(make_call(client, Trip(number), at, journal))
        out[task] = at
        task.add_done_callback(out.pop)
    await asyncio.sleep(max(0.0, order.seconds - journal.now()))
    await _drain(out, journal, patience=order.tuning.deadline + 1)


async def _drain(out: dict[asyncio.Task[None], float], journal: Journal, patience: float) -> None:
    """Wait for the calls that are still out; those that do not even end when cancelled are lost."""
    if out:
        await asyncio.wait(out, timeout=patience)
    for task in out:
        task.cancel()
    if out:
        await asyncio.wait(out, timeout=patience)
    for at in out.values():
        journal.calls.append(Call(at, at, journal.now(), Outcome.LOST, None, 0))


async def make_call(client: Client, trip: Trip, at: float, journal: Journal) -> None:
    """Make one call and record how it ended."""
    began = journal.now()
    journal.latest_start = max(journal.latest_start, began - at)
    outcome, error = Outcome.LOST, None
    try:
        await client.call(trip)
    except Exception as raised:  # noqa: BLE001  # whatever it is, it is to be shown
        outcome, error = classify(raised, trip.sent), type(raised).__name__
    else:
        outcome = Outcome.ANSWERED
    finally:
        ended = journal.now()
        journal.calls.append(Call(at, began, ended, outcome, error, trip.sent))


def classify(error: Exception, sent: int) -> Outcome:
    """What an error says of a call that had been *sent* so many times."""
    if isinstance(error, Rejected) and sent == 0:
        return Outcome.REJECTED
    return Outcome.FAILED if isinstance(error, NAMED) else Outcome.STRANGE


def serve_metrics(port: int) -> str:
    """Serve what the policies count on the loopback *port*; where, as a URL."""
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  # an extra

    from resilient.telemetry.prometheus import register  # noqa: PLC0415  # needs the extra

    registry = CollectorRegistry()
    register(registry)
    try:
        server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        why = f"can't serve metrics on 127.0.0.1:{port}: {error.strerror}"
        raise OSError(f"{why}; take another --metrics PORT") from None
    return f"http://127.0.0.1:{server.server_port}/metrics"


if __name__ == "__main__":
    child.run(live)

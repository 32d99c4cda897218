"""What the processes of a drill say to each other, over the children's standard input and output.

All instants here are readings of the loop's clock, which is one and the same for the
processes of a machine.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from dataclasses import dataclass, field
from typing import Final

from resilient.drill.plan import Tuning
from resilient.drill.records import Call, Move, Stall
from resilient.drill.weather import Weather

_LENGTH: Final = struct.Struct("!I")


def encode(message: object) -> bytes:
    """A message as it goes through a pipe."""
    body = pickle.dumps(message)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> object:
    """The next message; `EOFError` when there will be none."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError from None
    return pickle.loads(body)  # noqa: S301  # our own child, or our own parent


@dataclass(frozen=True, slots=True)
class Done:
    """An order was followed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An order could not be followed: `why`, in a sentence for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Serve:
    """To a service: listen on `port`."""

    port: int
    latency: float
    seed: int


@dataclass(frozen=True, slots=True)
class Behave:
    """To a service: multiply the latency, answer 503 to a share of the requests."""

    slowdown: float = 1.0
    unavailable: float = 0.0


@dataclass(frozen=True, slots=True)
class Guard:
    """To a proxy: open a gate in front of `host` and `port`."""

    host: str
    port: int
    seed: int
    speaks_http: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """From a proxy: on which port its gate listens."""

    port: int


@dataclass(frozen=True, slots=True)
class Change:
    """To a proxy: let this weather begin."""

    weather: Weather
    slowest: float = 0.0


@dataclass(frozen=True, slots=True)
class Prepare:
    """To the traffic: which client to be, and whom to ask."""

    client: str
    url: str
    headers: dict[str, str]
    sni: str | None
    rate: float
    seconds: float
    seed: int
    tuning: Tuning
    without: frozenset[str] = field(default_factory=frozenset)
    metrics: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """From the traffic: ready; the settings in words, and where the metrics are served."""

    settings: list[str]
    metrics: str | None


@dataclass(frozen=True, slots=True)
class Go:
    """To all: the run begins at this instant."""

    at: float


@dataclass(frozen=True, slots=True)
class Count:
    """To a proxy: report all counts, now."""


@dataclass(frozen=True, slots=True)
class Counts:
    """From a proxy: requests by second of the run; later ones replace earlier ones."""

    accepted: dict[int, int]
    reached: dict[int, int]


@dataclass(frozen=True, slots=True)
class Report:
    """From the traffic: what happened since the last report."""

    calls: list[Call]
    stalls: list[Stall]
    moves: list[Move]
    state: str | None
    latest_start: float


@dataclass(frozen=True, slots=True)
class Finished:
    """From the traffic: every call has ended, and was reported."""

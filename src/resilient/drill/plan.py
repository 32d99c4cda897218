"""What a drill is asked to do, and the settings that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from resilient.drill.scenarios import SAYS, SAYS_OF_TARGET, Scenario
from resilient.drill.timeline import FAULT, Timeline

CLIENTS: Final = ("bare", "usual", "resilient")
PATH: Final = "/work"
"""Where the drill's own service does its work."""
CALL_HEADER: Final = "x-drill-call"
"""Which call, and which attempt of it, a request belongs to."""
MOST_PATIENCE: Final = 1.0
"""Seconds for one attempt, however long the deadline: an outage is to be noticed soon."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One command line, checked."""

    scenarios: tuple[Scenario, ...]
    rate: float
    seconds: float
    deadline: float
    seed: int
    target: str | None = None
    json: Path | None = None
    plain: bool = False
    metrics: int | None = None
    without: frozenset[str] = field(default_factory=frozenset)

    @property
    def timeline(self) -> Timeline:
        """When what happens."""
        return Timeline(self.seconds)

    @property
    def latency(self) -> float:
        """Seconds that the drill's own service takes when it is well: a part of the deadline."""
        return self.deadline / 25

    def says(self, scenario: Scenario) -> str:
        """What the scenario does here."""
        return (SAYS_OF_TARGET if self.target else SAYS)[scenario]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the resilient client is set: what a careful engineer would choose for a deadline.

    An attempt gets six times the time that a healthy answer takes at most, and two of them
    fit into the deadline. The breaker is the library's default, but a short run is a
    time-lapse: so that it can be seen whether the client comes back, the longest cooldown and
    the attempt before it must fit into four fifths of the grace, and the cooldown shrinks.
    """

    deadline: float
    timeout: float
    attempts: int
    wait: float
    cooldown: float
    longest_cooldown: float

    @classmethod
    def of(cls, deadline: float, seconds: float) -> Tuning:
        """The settings for a *deadline* in a run of *seconds*."""
        timeout = min(0.4 * deadline, MOST_PATIENCE)
        longest = min(3.0, 0.8 * Timeline(seconds).grace - timeout)
        return cls(
            deadline=deadline,
            timeout=timeout,
            attempts=3,
            wait=0.04 * deadline,
            cooldown=longest / 3,
            longest_cooldown=longest,
        )


FEWEST_IN_FAULT: Final = 40
DEADLINES_IN_RUN: Final = 5


def complaint(rate: float, seconds: float, deadline: float) -> str | None:
    """Why these can't be drilled together, and what to change; ``None`` if they can."""
    if seconds < DEADLINES_IN_RUN * deadline:
        return (
            f"--seconds {seconds:g} is too short for --deadline {deadline:g}: "
            f"it takes at least {DEADLINES_IN_RUN} deadlines ({DEADLINES_IN_RUN * deadline:g} s)"
        )
    in_fault = rate * seconds * FAULT
    if in_fault < FEWEST_IN_FAULT:
        needed = FEWEST_IN_FAULT / (FAULT * seconds)
        return (
            f"--rate {rate:g} with --seconds {seconds:g} makes only {in_fault:.0f} calls during "
            f"the fault; {FEWEST_IN_FAULT} are needed: --rate {needed:.0f} or more, or a longer run"
        )
    return None


DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart: where to connect, and how to ask once another address answers there."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Take *url* apart; `ValueError` if it is no HTTP URL with a host."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError(
                f"{url!r} is no URL of a service; write it like http://127.0.0.1:8000/health"
            )
        if "@" in parts.netloc:
            raise ValueError("a target with a user and a password is not supported; leave them out")
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname, port, parts.netloc, _path(parts))

    def at(self, port: int) -> str:
        """The same resource, asked of the loopback *port*."""
        return f"{self.scheme}://127.0.0.1:{port}{self.path}"


def _path(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    return (parts.path or "/") + query

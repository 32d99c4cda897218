"""The fault proxy's front: a listening port, the weather behind it, and what is counted there."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from random import Random
from statistics import median
from typing import Final

from resilient.drill.link import Link
from resilient.drill.scenarios import SLOWDOWN, UNAVAILABLE
from resilient.drill.weather import Weather

BACKLOG: Final = 2048
REMEMBERED: Final = 200


class Gate:
    """What stands between one client and its service.

    It counts the requests that are sent: a connection counts as one when it is accepted,
    whatever becomes of it, and each request after the first on the same connection as
    another. Under TLS, where requests can't be told apart, clients use a connection for each.
    """

    def __init__(
        self, upstream: tuple[str, int], *, seed: int = 0, speaks_http: bool = True
    ) -> None:
        self.upstream = upstream
        self.weather = Weather.CLEAR
        self.hold = 0.0
        self.links: set[Link] = set()
        self.sent_in: Counter[int] = Counter()
        self.reached_in: Counter[int] = Counter()
        self.begins_at = math.inf
        self.speaks_http = speaks_http
        self._dice = Random(seed)  # noqa: S311  # no secret
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Listen on a loopback port of the system's choice, and say which."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Link(self).near, "127.0.0.1", 0, backlog=BACKLOG
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop listening, and break what is open."""
        if self._server is not None:
            self._server.close()
        self._reset_all()

    def change(self, weather: Weather, slowest: float = 0.0) -> None:
        """Let *weather* begin; SLOW holds answers back, for *slowest* seconds at least."""
        before, self.weather = self.weather, weather
        typical = median(self._latencies) if self._latencies else 0.0
        slow = weather is Weather.SLOW
        self.hold = max((SLOWDOWN - 1) * typical, slowest) if slow else 0.0
        if weather is Weather.REFUSING:
            self._reset_all()
        elif before is Weather.STALLED:
            self._release_all()

    def accepted(self, link: Link) -> None:
        """A client connected."""
        self.asked_again()
        self.links.add(link)
        match self.weather:
            case Weather.REFUSING:
                link.reset()
            case Weather.SILENT:
                link.silent = True
            case Weather.STALLED:
                pass
            case Weather.FLAKY if not self.speaks_http and self._unlucky():
                link.reset()
            case _:
                link.connect()

    def asked_again(self) -> None:
        """A request was sent."""
        self.sent_in[self._second()] += 1

    def reached(self, requests: int) -> None:
        """So many *requests* were passed on to the service."""
        self.reached_in[self._second()] += requests

    def answers_itself(self) -> bool:
        """Whether to say 503 in the service's place."""
        return self.weather is Weather.FLAKY and self.speaks_http and self._unlucky()

    def left(self, link: Link) -> None:
        """A client is gone."""
        self.links.discard(link)

    def answered(self, *, after: float) -> None:
        """The service answered; learn how long it takes while nothing disturbs it."""
        if self.weather is Weather.CLEAR:
            self._latencies.append(after)

    def _unlucky(self) -> bool:
        return self._dice.random() < UNAVAILABLE

    def _second(self) -> int:
        return math.floor(max(-1.0, asyncio.get_running_loop().time() - self.begins_at))

    def _reset_all(self) -> None:
        for link in list(self.links):
            link.reset()

    def _release_all(self) -> None:
        for link in list(self.links):
            link.release()

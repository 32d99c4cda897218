"""The three clients. They ask for the same thing, and differ in what guards the asking.

All use httpx2 with its default timeouts, and read a 5xx answer as an error,
`ServiceUnavailable`. Two things differ from httpx2's defaults:

* They may open any number of connections. httpx2's pool sorts its queue anew at each event,
  for each request that waits and each connection: with the default of 100, an outage of some
  seconds keeps a processor busy for a minute, and nothing but that would be measured.
* Under TLS they keep no connection alive, so that the proxy can count requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import httpx2
import tenacity

from resilient import Backoff, Breaker, Policy, backoff, breaker, deadline, pipeline, retry, timeout
from resilient.drill.plan import CALL_HEADER, Tuning

SERVER_ERROR: Final = 500


class ServiceUnavailable(Exception):  # noqa: N818  # named for what happened
    """The service answered, and said that it can't."""


TRANSIENT: Final = (httpx2.TransportError, TimeoutError, ServiceUnavailable)
"""What is worth another try: the drill's request is a GET, which does no harm twice."""


@dataclass(slots=True)
class Trip:
    """One call on its way: its number, and how often it was sent."""

    number: int
    sent: int = 0


Ask = Callable[[Trip], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Client:
    """Someone who makes calls: `call` returns if an answer came, else raises."""

    call: Ask
    settings: list[str]
    breaker: Breaker | None = None

    @property
    def state(self) -> str | None:
        """The state of its breaker, if it has one."""
        return None if self.breaker is None else self.breaker.state.value


def make_http(*, keep_alive: bool) -> httpx2.AsyncClient:
    """Make the httpx2 client that all three use."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20 if keep_alive else 0)
    return httpx2.AsyncClient(limits=limits, trust_env=False, verify=httpx2.create_ssl_context())


def asking(http: httpx2.AsyncClient, url: str, headers: dict[str, str], sni: str | None) -> Ask:
    """The work itself: one request and its answer."""
    extensions = {} if sni is None else {"sni_hostname": sni}

    async def ask(trip: Trip) -> None:
        trip.sent += 1
        name = f"{trip.number}.{trip.sent}"
        response = await http.get(
            url, headers={**headers, CALL_HEADER: name}, extensions=extensions
        )
        if response.status_code >= SERVER_ERROR:
            raise ServiceUnavailable(f"HTTP {response.status_code}")

    return ask


def bare(ask: Ask) -> Client:
    """Ask, and do nothing else."""
    return Client(
        ask,
        [
            "httpx2.AsyncClient(limits=Limits(max_connections=None)), as the others use it;",
            "    its default timeout: 5 s for each wait",
        ],
    )


def usual(ask: Ask, limit: float) -> Client:
    """What many services have: three attempts, and a timeout on each."""

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
        retry=tenacity.retry_if_exception_type(TRANSIENT),
        reraise=True,
    )
    async def call(trip: Trip) -> None:
        async with asyncio.timeout(limit):
            await ask(trip)

    return Client(
        call,
        [
            "tenacity.retry(stop=stop_after_attempt(3),",
            "    wait=wait_random_exponential(multiplier=0.1, max=1.0),",
            "    retry=retry_if_exception_type((httpx2.TransportError, TimeoutError, 503)))",
            f"    and inside it asyncio.timeout({limit:g})",
        ],
    )


def resilient(ask: Ask, tuning: Tuning, without: frozenset[str] = frozenset()) -> Client:
    """A deadline around a pipeline of retry, breaker and timeout."""
    again = retry("drill", on=TRANSIENT, attempts=tuning.attempts, wait=backoff(tuning.wait))
    guard = breaker("drill", cooldown=_cooldown(tuning))
    each = timeout(tuning.timeout, name="drill")
    stack: dict[str, Policy] = {"retry": again, "breaker": guard, "timeout": each}
    policies = pipeline(*(policy for kind, policy in stack.items() if kind not in without))

    @policies
    async def guarded(trip: Trip) -> None:
        await ask(trip)

    async def call(trip: Trip) -> None:
        async with deadline(tuning.deadline):
            await guarded(trip)

    said = _settings(tuning)
    return Client(
        call,
        [f"{line}{'  (taken out)' if kind in without else ''}" for kind, line in said.items()],
        None if "breaker" in without else guard,
    )


def _cooldown(tuning: Tuning) -> Backoff:
    return backoff(tuning.cooldown, factor=1.5, max=tuning.longest_cooldown, jitter=0.2)


def _settings(tuning: Tuning) -> dict[str, str]:
    cooldown, longest = f"{tuning.cooldown:.3g}", f"{tuning.longest_cooldown:.3g}"
    return {
        "deadline": f"deadline({tuning.deadline:g}) around a pipeline of",
        "retry": f"    retry(on=(httpx2.TransportError, TimeoutError, 503), "
        f"attempts={tuning.attempts}, wait=backoff({tuning.wait:g}))",
        "breaker": "    breaker(cooldown="
        f"backoff({cooldown}, factor=1.5, max={longest}, jitter=0.2))",
        "timeout": f"    timeout({tuning.timeout:g})",
    }

"""The arguments of a server's middleware, checked, and what they say of a request."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from resilient._core.checks import (
    Seconds,
    check_name,
    check_seconds,
    check_sync,
    refuse_type,
)
from resilient._core.functions import at_once
from resilient._policies.adaptive_limit import AdaptiveLimit
from resilient._policies.bulkhead import Bulkhead
from resilient._policies.rate_limit import RateLimit
from resilient._policies.throttle import Throttle
from resilient._runtime.notify import FaultLog
from resilient.integrations.http import Wire

Limiter = Bulkhead | RateLimit | AdaptiveLimit | Throttle
Timeout = Seconds | Callable[[Any], Seconds | None]
Trust = bool | Callable[[Any], object]
LIMITERS: Final = (Bulkhead, RateLimit, AdaptiveLimit, Throttle)


class Settings(NamedTuple):
    """What a server's middleware was told. Both functions take its scope, environ or context."""

    timeout_of: Callable[[Any], float]
    trusts: Callable[[Any], bool]
    max_deadline: float
    margin: float
    wire: Wire | None
    name: str

    def at_most(self, limit: float) -> float:
        """A caller's *limit*, cut; one that has none has none."""
        return limit if limit == math.inf else min(limit, self.max_deadline)


def check_settings(
    kind: str,
    *,
    timeout: Timeout | None,
    trust: Trust | None,
    max_deadline: Seconds,
    margin: Seconds,
    wire: Wire | None,
    name: str | None,
    peer: Callable[[Any], str | None],
) -> Settings:
    """The settings of a server of that *kind*, or the error that names the argument. *peer* is the
    address of a request's caller, if it has one.
    """
    if wire is not None and not isinstance(wire, Wire):
        refuse_type("wire", wire, "a Wire(...), or None for no headers")
    return Settings(
        _timeout_of(timeout),
        _trusts(trust, peer),
        check_seconds("max_deadline", max_deadline, above=0),
        check_seconds("margin", margin),
        wire,
        check_name("name", name, instead="name=...") or kind,
    )


def check_limiter(limit: Limiter | None) -> Limiter | None:
    """The *limit* of a server, or the error that it is none."""
    if limit is not None and not isinstance(limit, LIMITERS):
        refuse_type(
            "limit", limit, "a bulkhead, rate limit, adaptive limit or throttle, or None for none"
        )
    return limit


def _timeout_of(timeout: Timeout | None) -> Callable[[Any], float]:
    """Seconds that a request may take, ``inf`` for no limit."""
    if not callable(timeout):
        seconds = math.inf if timeout is None else check_seconds("timeout", timeout, above=0)
        return lambda _scope: seconds
    check_sync("timeout", timeout, "seconds, a function of the scope, or None")
    complain = FaultLog()

    def ask(scope: Any) -> float:
        try:
            said = at_once(timeout(scope))
            return math.inf if said is None else check_seconds("timeout's answer", said, above=0)
        except Exception as fault:  # noqa: BLE001  # the request is served without it
            complain(timeout, fault, "timeout function")
            return math.inf

    return ask


def _trusts(trust: Trust | None, peer: Callable[[Any], str | None]) -> Callable[[Any], bool]:
    """Whose headers count (W21)."""
    if trust is None:
        return lambda scope: is_near(peer(scope))
    if isinstance(trust, bool):
        return lambda _scope: trust
    check_sync("trust", trust, "True, False, or a predicate, or None for near peers alone")
    complain = FaultLog()

    def ask(scope: Any) -> bool:
        try:
            return bool(at_once(trust(scope)))
        except Exception as fault:  # noqa: BLE001  # it means no
            complain(trust, fault, "trust predicate")
            return False

    return ask


def is_near(address: str | None) -> bool:
    """Whether a peer is this machine, on a network of ours, or behind a socket without address."""
    if not address:
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_private or found.is_link_local

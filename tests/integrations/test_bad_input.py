"""A policy is no function: servers and clients say so in the words of the argument (F7, F17)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import breaker, timeout
from resilient.integrations.asgi import ResilientMiddleware
from resilient.integrations.httpx import ResilientTransport

pytestmark = pytest.mark.rule("F7", "F17")
POLICIES = {
    "timeout": lambda: timeout(1),
    "of a key": lambda: breaker("db", key="tenant").of("a"),
}


async def app(_scope: Any, _receive: Any, _send: Any) -> None: ...


WIRED: dict[str, Callable[[Any], object]] = {
    "timeout": lambda policy: ResilientMiddleware(app, timeout=policy),
    "trust": lambda policy: ResilientMiddleware(app, trust=policy),
    "failures": lambda policy: ResilientTransport(failures=policy),
    "idempotent": lambda policy: ResilientTransport(idempotent=policy),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize(
    ("argument", "allowed"),
    [
        ("timeout", "seconds, a function of the scope, or None"),
        ("trust", "True, False, or a predicate, or None for near peers alone"),
        ("failures", "a collection of statuses, or a predicate on one"),
        ("idempotent", "a collection of methods, or a predicate"),
    ],
)
def test_a_server_and_a_client_refuse_it_too(policy: Any, argument: str, allowed: str) -> None:
    with pytest.raises(TypeError) as caught:
        WIRED[argument](made := policy())
    assert str(caught.value) == (
        f"{argument} must be {allowed}, not {made!r}: a policy is no function, it decorates one"
    )

"""A request whose caller says nothing of a limit was cut after ``max_deadline``: a stream of events
ended after five minutes.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from resilient import remaining
from resilient.integrations.asgi import ResilientMiddleware
from resilient.testing import virtual_time


@pytest.mark.rule("W20")
def test_a_request_without_a_limit_has_none() -> None:
    found: list[float] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        found.append(remaining())

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request"}

    async def main() -> None:
        for headers in ([], [(b"request-timeout", b"900")]):
            scope = {"type": "http", "method": "GET", "headers": headers}
            await ResilientMiddleware(app)(scope, nothing, nothing)

    with virtual_time() as time:
        time.run(main)
    assert found == [math.inf, pytest.approx(300 - 0.005)]

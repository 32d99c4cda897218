"""Three clients in a row over a service that is dead: one of them repeats, not each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from resilient import RetryBudget, deadline, remaining, retry
from resilient.integrations.asgi import ResilientMiddleware
from resilient.integrations.httpx2 import TRANSIENT, ResilientTransport
from tests.integrations.test_asgi import answer
from tests.worlds import World, world_named

DEAD: dict[str, Any] = {
    "503": lambda: httpx2.Response(503),
    "429": lambda: httpx2.Response(429),
    "504": lambda: httpx2.Response(504),
    "broken": lambda: httpx2.ReadError("broken"),
    "refused": lambda: httpx2.ConnectError("refused"),
}

pytestmark = pytest.mark.filterwarnings(  # httpx2's own transport leaves a generator, on trio
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(params=["asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_named(request.param) as one:
        yield one


def client_of(inner: Any, budget: RetryBudget | None = None) -> httpx2.AsyncClient:
    again = retry(on=TRANSIENT, attempts=3, wait=0, budget=budget)
    transport = ResilientTransport(inner, policy=again)
    return httpx2.AsyncClient(transport=transport, base_url="http://next.test")


def server_over(client: httpx2.AsyncClient, *, hides: bool) -> Any:
    """A service that asks the next one. One that *hides* answers for itself, whatever it met."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            below = await client.get("/")
            below.raise_for_status()
        except httpx2.HTTPError:
            if not hides:
                raise
            await answer(send, 502, b"it does not work")
        else:
            await answer(send, 200, below.content)

    return httpx2.ASGITransport(ResilientMiddleware(app), raise_app_exceptions=False)


@pytest.mark.rule("W25", "W8")
@pytest.mark.parametrize("dead", DEAD)
@pytest.mark.parametrize("hides", [False, True])
def test_three_attempts_reach_the_bottom(world: World, dead: str, hides: bool) -> None:
    asked = 0

    def bottom(_request: Any) -> Any:
        nonlocal asked
        asked += 1
        outcome = DEAD[dead]()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scenario(_: World) -> None:
        last = client_of(httpx2.MockTransport(bottom))
        middle = client_of(server_over(last, hides=hides))
        edge = client_of(server_over(middle, hides=hides))
        found = await edge.get("/")
        assert found.status_code >= 500
        assert asked == 3

    world.run(scenario)


@pytest.mark.rule("W11", "W22")
def test_the_deadline_reaches_the_bottom(world: World) -> None:
    async def scenario(_: World) -> None:
        left: list[float] = []

        async def leaf(_scope: Any, _receive: Any, send: Any) -> None:
            left.append(remaining(99))
            await answer(send)

        last = client_of(httpx2.ASGITransport(ResilientMiddleware(leaf)))
        middle = client_of(server_over(last, hides=False))
        edge = client_of(server_over(middle, hides=False))
        async with deadline(0.5):
            assert (await edge.get("/")).status_code == 200
        (found,) = left
        assert 0.5 - 3 * 0.0065 <= found <= 0.5 - 3 * 0.005

    world.run(scenario)

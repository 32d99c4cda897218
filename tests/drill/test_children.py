"""Service, proxy and traffic as their processes live them, but in this process."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest

from resilient.drill import proxy, service, traffic
from resilient.drill.child import Life, Parent, live_until_eof
from resilient.drill.messages import (
    Behave,
    Change,
    Count,
    Counts,
    Done,
    Failed,
    Finished,
    Go,
    Guard,
    Opened,
    Prepare,
    Prepared,
    Report,
    Serve,
    encode,
    receive,
)
from resilient.drill.plan import CALL_HEADER, PATH, Tuning
from resilient.drill.ports import bind, reserved
from resilient.drill.records import Outcome
from resilient.drill.weather import Weather

pytestmark = pytest.mark.real_clock

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def no_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child freezes what it has imported; here that is everybody's."""
    monkeypatch.setattr(gc, "freeze", lambda: None)


class Line(io.BytesIO):
    """A child's answers, and the way to its ear."""

    def __init__(self) -> None:
        super().__init__()
        self.orders = asyncio.StreamReader()
        self.said: asyncio.Queue[object] = asyncio.Queue()

    def write(self, data: object) -> int:
        assert isinstance(data, bytes)
        asyncio.get_running_loop().create_task(self._take(data))
        return len(data)

    async def _take(self, data: bytes) -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        self.said.put_nowait(await receive(reader))

    async def ask(self, order: object) -> object:
        self.orders.feed_data(encode(order))
        return await self.hear()

    async def hear(self) -> object:
        async with asyncio.timeout(PATIENCE):
            return await self.said.get()


def play(life: Life, story: Callable[[Line], Awaitable[None]]) -> None:
    """Let a child live while the story is told, then hang up."""

    async def run() -> None:
        line = Line()
        async with asyncio.TaskGroup() as group:
            group.create_task(live_until_eof(life, Parent(line), line.orders))
            try:
                await story(line)
            finally:
                line.orders.feed_eof()

    asyncio.run(run())


async def get(port: int, call: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as http:
        return await http.get(f"http://127.0.0.1:{port}{PATH}", headers={CALL_HEADER: call})


def test_the_service_serves_and_behaves_as_told() -> None:
    async def story(line: Line) -> None:
        assert isinstance(await line.hear(), Done)
        with reserved(1) as (port,):
            assert isinstance(await line.ask(Serve(port, 0.001, seed=1)), Done)
            assert (await get(port, "1.1")).text == "done\n"
            assert isinstance(await line.ask(Behave(unavailable=0.5)), Done)
            first = [(await get(port, f"{n}.1")).status_code for n in range(20)]
            again = [(await get(port, f"{n}.1")).status_code for n in range(20)]
        assert set(first) == {200, 503}
        assert first == again, "the same request meets the same fate"

    play(service.live, story)


def test_a_service_whose_port_is_taken_says_so() -> None:
    async def story(line: Line) -> None:
        await line.hear()
        with bind() as other:
            other.listen()
            taken = await line.ask(Serve(other.getsockname()[1], 0.001, seed=1))
        assert isinstance(taken, Done), "a port is shared with those of us that hold it"

    play(service.live, story)


def test_a_port_of_somebody_else_is_not_taken() -> None:
    async def story(line: Line) -> None:
        await line.hear()
        async with upstream() as port:
            failed = await line.ask(Serve(port, 0.001, seed=1))
        assert isinstance(failed, Failed)
        assert f"can't listen on 127.0.0.1:{port}" in failed.why

    play(service.live, story)


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """A service that answers each request with nothing; its port."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()  # without waiting: newer Pythons wait for open connections too
    for writer in writers:
        writer.transport.abort()


def test_the_proxy_opens_a_gate_changes_its_weather_and_counts() -> None:
    async def story(line: Line) -> None:
        async with upstream() as port:
            opened = await line.ask(Guard("127.0.0.1", port, seed=1))
            assert isinstance(opened, Opened)
            line.orders.feed_data(encode(Go(asyncio.get_running_loop().time())))
            assert (await get(opened.port, "1.1")).status_code == 200
            counts = await line.hear()
            assert isinstance(counts, Counts)
            assert sum(counts.accepted.values()) == 1
            await told(line, Change(Weather.REFUSING))
            with pytest.raises(httpx2.TransportError):
                await get(opened.port, "1.1")
            final = await told(line, Count())
            assert final is not None
            assert sum(final.accepted.values()) == 2
            assert sum(final.reached.values()) == 1

    play(proxy.live, story)


async def told(line: Line, order: object) -> Counts | None:
    """The last counts that the proxy reports before the order is done."""
    last, heard = None, await line.ask(order)
    while not isinstance(heard, Done):
        assert isinstance(heard, Counts)
        last, heard = heard, await line.hear()
    return last


def prepare(client: str, port: int, **more: object) -> Prepare:
    return Prepare(
        client=client, url=f"http://127.0.0.1:{port}{PATH}", headers={}, sni=None,
        rate=50, seconds=0.6, seed=1, tuning=Tuning.of(0.5, 4), **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("client", ["bare", "usual", "resilient"])
def test_the_traffic_reports_each_call(client: str) -> None:
    async def story(line: Line) -> None:
        async with upstream() as port:
            prepared = await line.ask(prepare(client, port))
            assert isinstance(prepared, Prepared)
            assert prepared.settings
            assert prepared.metrics is None
            reports = [await line.ask(Go(asyncio.get_running_loop().time()))]
            while not isinstance(reports[-1], Finished):
                reports.append(await line.hear())
        calls = [call for r in reports if isinstance(r, Report) for call in r.calls]
        assert len(calls) > 10
        assert {call.outcome for call in calls} == {Outcome.ANSWERED}
        assert {call.sent for call in calls} == {1}
        states = {r.state for r in reports if isinstance(r, Report)}
        assert states == ({"closed"} if client == "resilient" else {None})

    play(traffic.live, story)


def test_traffic_that_can_not_be_sent_says_why() -> None:
    async def story(line: Line) -> None:
        with reserved(1) as (port,):
            failed = await line.ask(prepare("bare", port))
        assert isinstance(failed, Failed)
        assert "connection attempts failed" in failed.why

    play(traffic.live, story)


def test_metrics_on_a_port_that_is_taken_say_what_to_do() -> None:
    async def story(line: Line) -> None:
        with bind() as other:
            other.listen()
            port = other.getsockname()[1]
            failed = await line.ask(prepare("resilient", port, metrics=port))
        assert isinstance(failed, Failed)
        assert f"can't serve metrics on 127.0.0.1:{port}" in failed.why
        assert "take another --metrics PORT" in failed.why

    play(traffic.live, story)


@pytest.mark.parametrize("life", [service.live, proxy.live, traffic.live])
def test_a_child_that_is_told_nonsense_ends(life: Life) -> None:
    async def story(line: Line) -> None:
        line.orders.feed_data(encode("nonsense"))
        await line.hear()
        await line.hear()

    with pytest.raises(ExceptionGroup) as raised:
        play(life, story)
    assert raised.group_contains(TypeError, match="nonsense")


def test_a_message_that_is_cut_short_is_the_end() -> None:
    async def story() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(encode(Done())[:-1])
        reader.feed_eof()
        with pytest.raises(EOFError):
            await receive(reader)

    asyncio.run(story())

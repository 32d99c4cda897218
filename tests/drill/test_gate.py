"""The fault proxy: what it lets through in which weather, and what it counts."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from resilient.drill.gate import Gate
from resilient.drill.link import UNAVAILABLE
from resilient.drill.weather import Weather

pytestmark = pytest.mark.real_clock

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SOON = 0.15
PATIENCE = 10.0


class Upstream:
    """A service that answers each request, until told to do otherwise."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.breaks = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while data := await reader.readuntil(b"\r\n\r\n"):
                self.heard.append(data)
                if self.breaks:
                    reset(writer)
                    return
                writer.write(ANSWER)
        writer.close()


class Caller:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes = REQUEST) -> bytes:
        self.writer.write(request)
        return await self.hear()

    async def hear(self, within: float = PATIENCE) -> bytes:
        async with asyncio.timeout(within):
            return await self.reader.read(1000)

    async def hears_nothing(self) -> bool:
        with suppress(TimeoutError):
            await self.hear(SOON)
            return False
        return True


class Scene:
    """A service, a gate before it, and whoever comes."""

    def __init__(self, gate: Gate, upstream: Upstream, port: int, server: asyncio.Server) -> None:
        self.gate, self.upstream, self.port, self.server = gate, upstream, port, server
        self.callers: list[Caller] = []

    async def caller(self) -> Caller:
        self.callers.append(Caller(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.callers[-1]


@asynccontextmanager
async def scene(*, speaks_http: bool = True) -> AsyncIterator[Scene]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    gate = Gate(server.sockets[0].getsockname()[:2], seed=1, speaks_http=speaks_http)
    gate.begins_at = asyncio.get_running_loop().time()
    made = Scene(gate, upstream, await gate.open(), server)
    try:
        yield made
    finally:
        for caller in made.callers:
            caller.writer.close()
        gate.close()
        server.close()
        for writer in upstream.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def play(story: Callable[[Scene], Awaitable[None]], *, speaks_http: bool = True) -> None:
    async def run() -> None:
        async with scene(speaks_http=speaks_http) as made:
            await story(made)

    asyncio.run(run())


def reset(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def counted(gate: Gate) -> tuple[int, int]:
    return gate.sent_in.total(), gate.reached_in.total()


def test_in_clear_weather_everything_passes_and_each_request_is_counted() -> None:
    async def story(scene: Scene) -> None:
        first, second = await scene.caller(), await scene.caller()
        assert [await first.ask(), await first.ask(), await second.ask()] == [ANSWER] * 3
        assert counted(scene.gate) == (3, 3)

    play(story)


def test_a_request_in_pieces_is_one_and_two_in_one_piece_are_two() -> None:
    async def story(scene: Scene) -> None:
        caller = await scene.caller()
        caller.writer.write(REQUEST[:-3])
        assert await caller.hears_nothing()
        assert await caller.ask(REQUEST[-3:]) == ANSWER
        assert counted(scene.gate) == (1, 1)
        await caller.ask(REQUEST * 2)
        assert counted(scene.gate) == (3, 3)

    play(story)


def test_a_connection_counts_as_sent_though_nothing_was_said() -> None:
    async def story(scene: Scene) -> None:
        await scene.caller()
        await asyncio.sleep(SOON)
        assert counted(scene.gate) == (1, 0)

    play(story)


def test_silence_swallows_every_byte_of_old_and_new_connections_for_good() -> None:
    async def story(scene: Scene) -> None:
        old, idle = await scene.caller(), await scene.caller()
        assert await old.ask() == ANSWER
        assert await idle.ask() == ANSWER
        scene.gate.change(Weather.SILENT)
        new = await scene.caller()
        for caller in (old, new):
            caller.writer.write(REQUEST)
            assert await caller.hears_nothing()
        assert counted(scene.gate) == (4, 2), "counted, and swallowed"
        scene.gate.change(Weather.CLEAR)
        for caller in (old, new):
            caller.writer.write(REQUEST)
            assert await caller.hears_nothing()
        assert await idle.ask() == ANSWER, "one that lost nothing goes on"
        assert len(scene.upstream.heard) == 3

    play(story)


def test_silence_also_hides_that_the_service_hangs_up() -> None:
    async def story(scene: Scene) -> None:
        callers = [await scene.caller(), await scene.caller()]
        for caller in callers:
            await caller.ask()
        scene.gate.change(Weather.SILENT)
        scene.upstream.writers[0].close()
        reset(scene.upstream.writers[1])
        for caller in callers:
            assert await caller.hears_nothing()

    play(story)


def test_refusing_resets_old_and_new_connections() -> None:
    async def story(scene: Scene) -> None:
        old = await scene.caller()
        await old.ask()
        scene.gate.change(Weather.REFUSING)
        with pytest.raises(ConnectionResetError):
            await old.hear()
        with pytest.raises(ConnectionResetError):
            await (await scene.caller()).hear()
        assert counted(scene.gate) == (2, 1)
        scene.gate.change(Weather.CLEAR)
        assert await (await scene.caller()).ask() == ANSWER

    play(story)


def test_stalled_holds_back_and_delivers_later() -> None:
    async def story(scene: Scene) -> None:
        old = await scene.caller()
        await old.ask()
        scene.gate.change(Weather.STALLED)
        new, impatient = await scene.caller(), await scene.caller()
        for caller in (old, new, impatient):
            caller.writer.write(REQUEST)
            assert await caller.hears_nothing()
        impatient.writer.close()
        await asyncio.sleep(SOON)
        assert counted(scene.gate) == (4, 1)
        scene.gate.change(Weather.CLEAR)
        assert await old.hear() == ANSWER
        assert await new.hear() == ANSWER
        assert counted(scene.gate) == (4, 3), "who had left was not served"

    play(story)


def test_what_ends_while_stalled_is_heard_of_later() -> None:
    async def story(scene: Scene) -> None:
        callers = [await scene.caller(), await scene.caller()]
        for caller in callers:
            await caller.ask()
        scene.gate.change(Weather.STALLED)
        scene.upstream.writers[0].close()
        reset(scene.upstream.writers[1])
        for caller in callers:
            assert await caller.hears_nothing()
        scene.gate.change(Weather.CLEAR)
        for caller in callers:
            assert await caller.hear() == b""

    play(story)


def test_slow_holds_answers_back_for_as_long_as_it_is_told_at_least() -> None:
    async def story(scene: Scene) -> None:
        caller = await scene.caller()
        await caller.ask()
        scene.gate.change(Weather.SLOW, slowest=2 * SOON)
        caller.writer.write(REQUEST)
        assert await caller.hears_nothing()
        assert await caller.hear() == ANSWER
        scene.gate.change(Weather.CLEAR)
        assert scene.gate.hold == 0
        assert await caller.ask() == ANSWER

    play(story)


def test_slow_is_a_multiple_of_what_the_service_took_before() -> None:
    gate = Gate(("127.0.0.1", 1))
    for seconds in (0.01, 0.01, 0.5):
        gate.answered(after=seconds)
    gate.change(Weather.SLOW, slowest=0.1)
    assert gate.hold == pytest.approx(0.49)
    gate.answered(after=9.0)
    gate.change(Weather.SLOW, slowest=0.6)
    assert gate.hold == 0.6, "what it learns of while it is slow is its own doing"


def test_flaky_answers_a_tenth_itself() -> None:
    async def story(scene: Scene) -> None:
        scene.gate.change(Weather.FLAKY)
        found = [await (await scene.caller()).ask() for _ in range(200)]
        assert set(found) == {ANSWER, UNAVAILABLE}
        assert 5 <= found.count(UNAVAILABLE) <= 40
        assert counted(scene.gate) == (200, found.count(ANSWER))

    play(story)


def test_flaky_resets_a_tenth_where_it_can_not_speak() -> None:
    async def story(scene: Scene) -> None:
        scene.gate.change(Weather.FLAKY)
        reset = 0
        for _ in range(100):
            try:
                assert await (await scene.caller()).ask() == ANSWER
            except ConnectionResetError:
                reset += 1
        assert 2 <= reset <= 25
        assert counted(scene.gate) == (100, 100 - reset)

    play(story, speaks_http=False)


def test_a_service_that_is_not_there_is_seen_as_a_reset() -> None:
    async def story(scene: Scene) -> None:
        scene.server.close()
        await scene.server.wait_closed()
        with pytest.raises(ConnectionResetError):
            await (await scene.caller()).ask()
        assert counted(scene.gate) == (1, 0)

    play(story)


def test_the_end_of_the_service_reaches_the_client_after_its_last_word() -> None:
    async def story(scene: Scene) -> None:
        caller = await scene.caller()
        await caller.ask()
        scene.upstream.writers[0].write(b"goodbye")
        scene.upstream.writers[0].close()
        assert await caller.hear() == b"goodbye"
        assert await caller.hear() == b""

    play(story)


def test_a_break_of_the_service_reaches_the_client_as_a_break() -> None:
    async def story(scene: Scene) -> None:
        caller = await scene.caller()
        await caller.ask()
        scene.upstream.breaks = True
        with pytest.raises(ConnectionResetError):
            await caller.ask()

    play(story)


def test_who_leaves_is_forgotten_and_the_service_told() -> None:
    async def story(scene: Scene) -> None:
        caller = await scene.caller()
        await caller.ask()
        assert len(scene.gate.links) == 1
        caller.writer.close()
        await asyncio.sleep(SOON)
        assert not scene.gate.links
        assert scene.upstream.writers[0].is_closing()

    play(story)

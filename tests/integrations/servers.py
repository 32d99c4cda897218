"""A real server on loopback that does what a path says, also what no framework would do.

It speaks just enough HTTP/1.1, in a thread with a loop of its own: ``with Server() as server``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


class Server:
    """``server.url`` is where it listens; ``asked`` counts requests by path, ``open`` are the
    connections that are open now.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.body = b""
        self.heads: list[dict[str, str]] = []
        self.open = 0
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the server does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server does not end"

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        self.open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: Reader, writer: Writer) -> bool:
        """One request and its answer; whether another may follow on the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        path = head[0].split()[1]
        self.body = await body_of(reader, headers)
        self.asked[path] += 1
        self.heads.append(headers)
        return await self._answer(path, writer)

    async def _answer(self, path: str, writer: Writer) -> bool:
        return await ANSWERS[path](self, writer)

    # What a path does.

    async def _ok(self, writer: Writer) -> bool:
        return await say(writer, "200 OK", b"hello")

    async def _busy(self, writer: Writer) -> bool:
        return await say(writer, "503 Busy", b"later", "retry-after-ms: 5")

    async def _busy_once(self, writer: Writer) -> bool:
        return await (self._busy if self.asked["/busy-once"] == 1 else self._ok)(writer)

    async def _slow(self, writer: Writer) -> bool:
        await asyncio.sleep(0.003)
        return await self._ok(writer)

    async def _hangs(self, _writer: Writer) -> bool:
        await asyncio.sleep(60)
        return False

    async def _silent(self, _writer: Writer) -> bool:
        return False

    async def _half(self, writer: Writer) -> bool:
        await send(writer, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return False

    async def _stalls(self, writer: Writer) -> bool:
        await send(writer, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return await self._hangs(writer)

    async def _half_a_chunk(self, writer: Writer) -> bool:
        await send(writer, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf")
        return False

    async def _zipped(self, writer: Writer) -> bool:
        return await say(writer, "200 OK", gzip.compress(b"z" * 999), "content-encoding: gzip")

    async def _not_zipped(self, writer: Writer) -> bool:
        return await say(writer, "200 OK", b"no gzip at all", "content-encoding: gzip")

    async def _echo(self, writer: Writer) -> bool:
        busy = self.asked["/echo-once-busy"] == 1
        return await say(writer, "503 Busy" if busy else "200 OK", self.body, "retry-after-ms: 5")

    async def _trickles(self, writer: Writer) -> bool:
        await send(writer, b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
        return await self._for_ever(writer)

    async def _trickles_in_a_chunk(self, writer: Writer) -> bool:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1869f\r\n"
        await send(writer, head)
        return await self._for_ever(writer)

    async def _for_ever(self, writer: Writer) -> bool:
        """A byte now and then: each in time, and never all of them."""
        while True:
            await send(writer, b"x")
            await asyncio.sleep(0.002)

    async def _drips(self, writer: Writer) -> bool:
        await send(writer, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(5):
            await send(writer, b"2\r\nab\r\n")
            await asyncio.sleep(0.002)
        await send(writer, b"0\r\n\r\n")
        return True


async def body_of(reader: Reader, headers: dict[str, str]) -> bytes:
    """The body of a request."""
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while length := int(await reader.readline(), 16):
        body += (await reader.readexactly(length + 2))[:-2]
    await reader.readline()
    return body


async def say(writer: Writer, status: str, body: bytes, *headers: str) -> bool:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers])
    await send(writer, f"{head}\r\n\r\n".encode() + body)
    return True


async def send(writer: Writer, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


ANSWERS: dict[str, Callable[[Server, Writer], Awaitable[bool]]] = {
    "/ok": Server._ok,
    "/busy": Server._busy,
    "/busy-once": Server._busy_once,
    "/slow": Server._slow,
    "/hangs": Server._hangs,
    "/silent": Server._silent,
    "/half": Server._half,
    "/stalls": Server._stalls,
    "/drips": Server._drips,
    "/half-a-chunk": Server._half_a_chunk,
    "/zipped": Server._zipped,
    "/not-zipped": Server._not_zipped,
    "/echo-once-busy": Server._echo,
    "/trickles": Server._trickles,
    "/trickles-in-a-chunk": Server._trickles_in_a_chunk,
}

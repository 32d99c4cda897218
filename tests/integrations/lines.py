"""Connections of aiohttp in memory, so that all of it runs in virtual time.

A `Service` answers by its script, as a real one would: aiohttp writes its requests on a `Line`,
reads what comes back with its own parser, and keeps the lines in its own pool. Give a session
``connector=service.connector()``, and let the service itself be the last of its middlewares.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

HELD_BACK = None
"""A part of a body that comes when the test lets it: `Service.go_on`."""


class Line(asyncio.Transport):
    """A connection, of which the other end is *service*."""

    def __init__(self, service: Service, protocol: ResponseHandler) -> None:
        super().__init__()
        self._service, self._protocol = service, protocol
        self._sent, self._closing = b"", False
        self._answering: asyncio.Task[None] | None = None

    def write(self, data: Any) -> None:
        self._sent += bytes(data)
        head, blank, body = self._sent.partition(b"\r\n\r\n")
        if not blank:
            return
        lines = head.decode().split("\r\n")[1:]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if headers.get("expect") and not body and headers.get("content-length") != "0":
            asyncio.get_running_loop().call_soon(self._let_go_on, self._sent)
        elif (
            body.endswith(b"0\r\n\r\n")
            if "transfer-encoding" in headers
            else len(body) >= int(headers.get("content-length", 0))
        ):
            self._sent = b""
            number = int(headers["x-number"])
            self._service.bodies[number] = body
            self._answering = asyncio.ensure_future(self._answer(number))

    def _let_go_on(self, head: bytes) -> None:
        if self._sent == head:  # it waits for this word, as it should
            self._service.continued += 1
            self._protocol.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    async def _answer(self, number: int) -> None:
        status, headers, *parts = self._service.answers[number]
        head = [f"HTTP/1.1 {status} As the test says"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        if not parts:
            self._receive("\r\n".join([*head, "content-length: 0", "", ""]).encode())
            return
        head += ["transfer-encoding: chunked", "", ""]
        self._receive("\r\n".join(head).encode())
        for part in parts:
            await asyncio.sleep(0)  # or the body comes with the head
            if part is HELD_BACK:
                await self._service.go_on.wait()
            elif isinstance(part, Exception):
                self._protocol.connection_lost(part)
                return
            else:
                self._receive(b"%x\r\n%b\r\n" % (len(part), part))
        self._receive(b"0\r\n\r\n")

    def _receive(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._service.lines.discard(self)
            if self._answering is not None:
                self._answering.cancel()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Lines(aiohttp.BaseConnector):
    """Connects everything to *service*."""

    def __init__(self, service: Service, **settings: Any) -> None:
        super().__init__(**settings)
        self._service = service

    async def _create_connection(self, *_: Any) -> ResponseHandler:
        await self._service.reachable.wait()
        protocol = ResponseHandler(self._loop)
        line = Line(self._service, protocol)
        self._service.lines.add(line)
        protocol.connection_made(line)
        return protocol


class Service:
    """It answers by its *script*, the last entry again and again, and keeps what it was asked.

    An entry is a status, or that with headers and parts of a body, or an error that is raised in
    place of an answer, or a function of the request, perhaps async, that returns one of them.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[aiohttp.ClientRequest] = []
        self.answers: list[tuple[Any, ...]] = []
        self.bodies: dict[int, bytes] = {}
        self.continued = 0
        """How often a request has waited for the word to go on with its body."""
        self.lines: set[Line] = set()
        """Those that are open now, in use or in the pool."""

    def connector(self, **settings: Any) -> Lines:
        self.go_on, self.reachable = asyncio.Event(), asyncio.Event()
        self.reachable.set()
        return Lines(self, **settings)

    @property
    def open(self) -> int:
        """How many connections are open now, in use or in the pool."""
        return len(self.lines)

    async def __call__(self, request: aiohttp.ClientRequest, handler: Any) -> Any:
        self.asked.append(request)
        number = len(self.asked) - 1
        self.answers.append(())
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(entry, Callable):  # type: ignore[arg-type]  # a type, for isinstance
            entry = entry(request)
            entry = await entry if inspect.isawaitable(entry) else entry
        if isinstance(entry, Exception):
            raise entry
        self.answers[number] = entry if isinstance(entry, tuple) else (entry, {})
        request.headers["x-number"] = str(number)
        return await handler(request)

    def attempts(self) -> list[str | None]:
        return [request.headers.get("x-request-attempt") for request in self.asked]

"""One connection through the fault proxy: two ends, and what goes between them.

What is to leave at an end waits in its queue. In clear weather it leaves at once; the
gate's `Weather` says otherwise. The end of the service's answer is queued like its bytes
are, and so never overtakes them. A client that hangs up has left: its link ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from resilient.drill.weather import Weather

if TYPE_CHECKING:
    from resilient.drill.gate import Gate

UNAVAILABLE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
_HEAD_ENDS: Final = b"\r\n\r\n"
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class End(asyncio.Protocol):
    """One side of a link. What it hears goes out at the other end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.transport: asyncio.Transport | None = None
        self.queue: deque[bytes | None] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's: connected."""
        self.transport = cast("asyncio.Transport", transport)
        self._link.opened(self)

    def data_received(self, data: bytes) -> None:
        """The loop's: bytes came in here."""
        self._link.heard(self, data)

    def eof_received(self) -> bool:
        """The loop's: no more will come in here."""
        return self._link.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop's: this end is gone."""
        self.transport = None
        self._link.lost(self, broken=exc is not None)

    def flush(self) -> None:
        """Send what is queued here."""
        while self.queue and self.transport is not None:
            data = self.queue.popleft()
            if data is None:
                self.transport.close()
            else:
                self.transport.write(data)

    def reset(self) -> None:
        """Hang up so that the peer sees a reset, not an end."""
        if self.transport is not None:
            peer: socket.socket = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()


class Link:
    """A client's connection, and the one to the service that belongs to it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.near = End(self)
        self.far = End(self)
        self.silent = False
        self._requests = 0
        self._asking = 0
        self._tail = b""
        self._connecting: asyncio.Task[None] | None = None
        self._asked_at: float | None = None

    def opened(self, end: End) -> None:
        """An end is connected."""
        if end is self.near:
            self._gate.accepted(self)
        else:
            self._flush(self.far)

    def connect(self) -> None:
        """Go and get the service, unless that was done."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.far, *self._gate.upstream)
        except OSError:
            self.near.reset()

    def heard(self, end: End, data: bytes) -> None:
        """*data* came in at *end*."""
        asked = self._count(data) if end is self.near else 0
        if self.silent or self._gate.weather is Weather.SILENT:
            self.silent = True
        elif end is self.near:
            self._ask(data, asked)
        else:
            self._learn()
            self._tell_client(data)

    def ended(self, end: End) -> bool:
        """No more will come in at *end*; whether to keep it open."""
        if end is self.near:
            return False
        if self.silent or self._gate.weather is Weather.SILENT:
            self.silent = True
        else:
            self._tell_client(None)
        return True

    def lost(self, end: End, *, broken: bool) -> None:
        """*end* is gone; let the other one know as it would have without a proxy."""
        if end is self.near:
            self._gate.left(self)
            if self._connecting is not None:
                self._connecting.cancel()
            if self.far.transport is not None:
                self.far.transport.abort()
        elif self._gate.weather is Weather.SILENT:
            self.silent = True
        elif self._gate.weather is Weather.STALLED:
            self.near.queue.append(None)
        elif broken and not self.silent:
            self.near.reset()

    def reset(self) -> None:
        """Break both ends."""
        self.near.reset()
        self.far.reset()

    def release(self) -> None:
        """Let go what was held back."""
        if not self.silent:
            self.connect()
            self._flush(self.near)
            self._flush(self.far)

    def _count(self, data: bytes) -> int:
        """How many requests *data* ends; the first one was counted when it was accepted."""
        if not self._gate.speaks_http:
            ended = int(self._requests == 0)
        else:
            seen = self._tail + data
            self._tail = seen[-len(_HEAD_ENDS) + 1 :]
            ended = seen.count(_HEAD_ENDS)
        for _ in range(ended - (self._requests == 0)):
            self._gate.asked_again()
        self._requests += ended
        return ended

    def _ask(self, data: bytes, asked: int) -> None:
        if asked and self._gate.answers_itself():
            self.near.queue.extend((UNAVAILABLE, None))
            self.near.flush()
            return
        self.far.queue.append(data)
        self._asking += asked
        self._asked_at = asyncio.get_running_loop().time()
        self._flush(self.far)

    def _tell_client(self, data: bytes | None) -> None:
        self.near.queue.append(data)
        if (hold := self._gate.hold) > 0:
            asyncio.get_running_loop().call_later(hold, self._flush, self.near)
        else:
            self._flush(self.near)

    def _flush(self, end: End) -> None:
        if self._gate.weather in {Weather.SILENT, Weather.STALLED}:
            return
        end.flush()
        if end is self.far and end.transport is not None:
            self._gate.reached(self._asking)
            self._asking = 0

    def _learn(self) -> None:
        if self._asked_at is not None:
            self._gate.answered(after=asyncio.get_running_loop().time() - self._asked_at)
            self._asked_at = None

"""What a client asks of httpx; see `Library`."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, Final

from resilient._core.http import Fault
from resilient.integrations._client.exchange import Held, current
from resilient.integrations._client.library import Outgoing
from resilient.integrations._httpx.bodies import HeldBody, WatchedBody
from resilient.integrations._httpx.orphans import close_orphans
from resilient.integrations._httpx.sheltered import ShelteredBody, needs_shelter, sheltered
from resilient.integrations.http import BadStatus

PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
WAITS: Final = ("connect", "read", "write", "pool")
"""What the library has a limit for."""


class HttpxFamily:
    """What a client asks of httpx; see `Library`."""

    def __init__(self, name: str, module: ModuleType, core: str) -> None:
        self.name, self.module = name, module
        self._sheltered = needs_shelter(core)
        self.not_sent = (module.ConnectError, module.ConnectTimeout, module.ProxyError)
        self.own = (module.PoolTimeout, module.UnsupportedProtocol, module.LocalProtocolError)
        self.transient: tuple[type[Exception], ...] = (
            *self.not_sent,
            module.ReadError, module.WriteError, module.CloseError,
            module.ReadTimeout, module.WriteTimeout, module.RemoteProtocolError,
            BadStatus, TimeoutError,
        )  # fmt: skip
        self.rejected, self.timed_out = module.TransportError, module.TimeoutException
        self.answer = module.Response
        self.transports = (module.BaseTransport, module.AsyncBaseTransport)
        streams = (module.SyncByteStream, module.AsyncByteStream)
        self._watched = type("Body", (WatchedBody, *streams), {})
        self._shelter = type("Body", (ShelteredBody, module.AsyncByteStream), {})
        self._bodies = {
            which: type("Body", (HeldBody, *which), {})
            for which in (streams, streams[:1], streams[1:])
        }

    def origin(self, request: Any) -> str:
        url = request.url
        host = f"[{url.host}]" if ":" in url.host else url.host
        return f"{url.scheme}://{host}:{url.port or PORTS.get(url.scheme, 0)}".lower()

    def method(self, request: Any) -> str:
        return request.method  # type: ignore[no-any-return]  # a str

    def has_header(self, request: Any, name: str) -> bool:
        return name in request.headers

    def is_replayable(self, request: Any) -> bool:
        return isinstance(request.stream, self.module.ByteStream)

    def fault(self, error: BaseException) -> Fault:
        if isinstance(error, self.not_sent):
            return Fault.NOT_SENT
        return Fault.OWN if isinstance(error, (*self.own, self.module.InvalidURL)) else Fault.BROKEN

    def status(self, answer: Any) -> int:
        return answer.status_code  # type: ignore[no-any-return]  # an int

    def values(self, answer: Any, name: str) -> list[str]:
        return answer.headers.get_list(name)  # type: ignore[no-any-return]  # of str

    def in_error(self, answer: Any) -> object:
        return answer

    def hold(self, answer: Any, held: Held) -> None:
        if answer.is_closed:  # it came whole, from a transport that makes it
            held.end()
            return
        which = (self.module.SyncByteStream, self.module.AsyncByteStream)
        which = tuple(kind for kind in which if isinstance(answer.stream, kind))
        if (body := self._bodies.get(which)) is None:  # of which the client will complain
            held.end()
        else:
            answer.stream = body(answer.stream, held, self.name, self.timed_out)

    def close(self, answer: Any) -> None:
        answer.close()

    async def close_async(self, answer: Any) -> None:
        await answer.aclose()

    async def ask(self, transport: Any, request: Any) -> Any:
        """Let *transport* send *request* in async code, so that a cancellation costs it nothing."""
        send = transport.handle_async_request
        try:
            if self._sheltered:
                answer = await sheltered(send, request, undo=self.close_async)
            else:
                answer = await send(request)
        except Exception:
            raise
        except BaseException:
            await close_orphans(transport)
            raise
        if not answer.is_closed:
            answer.stream = self._shelter(answer.stream, each_part=self._sheltered)
        return answer

    def outgoing(self, request: Any, outgoing: Outgoing) -> Any:
        """*request* as one attempt sends it (W11, W12). The caller's stays as it is."""
        made = self.module.Request.__new__(type(request))  # `copy` leaves out what is not pickled
        made.__dict__.update(request.__dict__)
        made.headers, made.extensions = request.headers.copy(), dict(request.extensions)
        exchange = current.get()
        if not exchange.is_replayable:
            made.stream = self._watched(request.stream, exchange)
        for name, value in outgoing.headers.items():
            made.headers[name] = value
        if outgoing.longest < math.inf:
            told = dict.fromkeys(WAITS) | (request.extensions.get("timeout") or {})
            made.extensions["timeout"] = {
                wait: outgoing.longest if seconds is None else min(seconds, outgoing.longest)
                for wait, seconds in told.items()
            }
        return made

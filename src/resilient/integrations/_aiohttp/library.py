"""What a client asks of aiohttp; see `Library`."""

from __future__ import annotations

from asyncio import CancelledError
from traceback import walk_tb
from typing import Any, Final

import aiohttp
from aiohttp import BytesPayload, ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.http import HttpProcessingError

from resilient._core.http import Fault
from resilient.integrations._aiohttp import bodies
from resilient.integrations._client.exchange import Exchange, Held, current
from resilient.integrations._client.families import of_both
from resilient.integrations._client.http import HttpLibrary
from resilient.integrations._client.library import Outgoing
from resilient.integrations.http import BadStatus

QUEUEING: Final = "_wait_for_available_connection"
"""The function of a connector in which a request waits until a connection is free."""
NOT_SENT: Final = (
    aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch, aiohttp.ClientHttpProxyError,
)  # fmt: skip


class Aiohttp(HttpLibrary):
    """What a client asks of aiohttp; see `Library`."""

    name: str = "aiohttp"
    transient: tuple[type[Exception], ...] = (
        aiohttp.ClientOSError, aiohttp.ClientConnectionResetError, aiohttp.ServerConnectionError,
        aiohttp.ClientHttpProxyError, aiohttp.ClientPayloadError, HttpProcessingError,
        BadStatus, TimeoutError,
    )  # fmt: skip
    rejected: type[Exception] = aiohttp.ClientConnectionError
    timed_out: type[Exception] = aiohttp.ServerTimeoutError
    answer: type = ClientResponse

    def origin(self, request: ClientRequest) -> str:
        url = request.url
        host = url.host or ""
        host = f"[{host}]" if ":" in host else host
        return f"{url.scheme}://{host}:{url.port or 0}".lower()

    def method(self, request: ClientRequest) -> str:
        return request.method

    def has_header(self, request: ClientRequest, name: str) -> bool:
        return name in request.headers

    def is_replayable(self, request: ClientRequest) -> bool:
        return not request.body or isinstance(request.body, BytesPayload)

    def fault(self, error: BaseException) -> Fault:
        if has_queued(error):
            return Fault.OWN
        if isinstance(error, NOT_SENT):
            return Fault.NOT_SENT
        return Fault.OWN if isinstance(error, ValueError) else Fault.BROKEN

    def status(self, answer: ClientResponse) -> int:
        return answer.status

    def values(self, answer: ClientResponse, name: str) -> list[str]:
        return answer.headers.getall(name, [])

    def in_error(self, answer: ClientResponse) -> object:
        return answer.headers

    def hold(self, answer: ClientResponse, held: Held) -> None:
        bodies.hold(answer, held)

    def close(self, answer: ClientResponse) -> None:
        answer.release()

    async def close_async(self, answer: ClientResponse) -> None:
        answer.release()
        await answer.wait_for_close()  # until what sends the request has ended, too


async def transmit(
    handler: ClientHandlerType, request: ClientRequest, outgoing: Outgoing
) -> ClientResponse:
    """Let *handler* make one attempt."""
    exchange, timer = current.get(), request._timer
    try:
        with timer:  # or ``total`` would end the wait for a connection as a cancellation does
            answer = await handler(_made(request, outgoing, exchange))
    except Exception as error:
        if _is_over(timer):  # and goes on no more: so there is no other attempt
            exchange.is_replayable = False
        if exchange.body_error is not None and error.__cause__ is exchange.body_error:
            exchange.body_error = error
        if isinstance(error.__cause__, HttpProcessingError):
            raise of_both(error, aiohttp.ClientPayloadError) from error.__cause__
        raise
    return answer


def _made(request: ClientRequest, outgoing: Outgoing, exchange: Exchange) -> ClientRequest:
    """*request* as one attempt sends it (W12). The caller's stays as it is."""
    made = object.__new__(type(request))  # `copy.copy` takes thrice as long
    made.__dict__.update(request.__dict__)
    made.headers = request.headers.copy()
    made.headers.update(outgoing.headers)
    made.update_expect_continue()  # its wait is its own
    if not exchange.is_replayable:
        made._body = bodies.WatchedBody(request.body, exchange)  # type: ignore[assignment]
    return made


def _is_over(timer: Any) -> bool:
    """Whether the limit ``total`` of a call has passed."""
    try:
        timer.assert_timeout()
    except TimeoutError:
        return True
    return False


def has_queued(error: BaseException) -> bool:
    """Whether *error* is a limit that ended the wait for a free connection (W4).

    aiohttp has one limit and one error for that and for the making of a connection. But both limits
    cancel, and the cancellation that became this error tells where it came.
    """
    if type(error) not in {aiohttp.ConnectionTimeoutError, TimeoutError}:
        return False
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CancelledError):
        cause = cause.__context__
    return cause is not None and any(
        frame.f_code.co_name == QUEUEING for frame, _line in walk_tb(cause.__traceback__)
    )

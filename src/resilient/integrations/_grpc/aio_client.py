"""The interceptors of async channels: one for each kind, since a channel takes each for one."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

import grpc
from grpc import StatusCode
from grpc.aio import AioRpcError

from resilient._policies.common.policy import Policy
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import left_here
from resilient._runtime import loops
from resilient.errors import DeadlineExceeded, Rejected
from resilient.integrations._client.exchange import Held
from resilient.integrations._client.families import of_both
from resilient.integrations._client.library import Outgoing
from resilient.integrations._grpc.client import GrpcClient
from resilient.integrations._grpc.family import told
from resilient.integrations._grpc.refused import AioRefused
from resilient.integrations._grpc.rpc import Answer, Rpc

T = TypeVar("T")
TICK = 0.01
"""Seconds by which gRPC's timers may be early: then its time-out is the deadline's."""


class AioInterceptor:
    """Puts policies around each call of one kind.

    Attributes:
        policy: what is around each call.
    """

    def __init__(self, client: GrpcClient) -> None:
        self._client = client

    @property
    def policy(self) -> Policy | None:
        """What is around each call."""
        return self._client.engine.policy

    async def _unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        answer = await self._send(Rpc(details, request, continuation, is_unary=True))
        return answer.call if isinstance(answer, Answer) else answer

    async def _stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        answer = await self._send(Rpc(details, request, continuation, is_unary=False))
        if not isinstance(answer, Answer):
            return AioGiven(answer)
        if answer.held is None:
            return answer.call
        return AioHeldCall(answer.call, answer.held, self._client)

    async def _send(self, rpc: Rpc) -> Any:
        try:
            answer = await self._client.engine.send_async(rpc, _transmit)
        finally:
            rpc.let_go()
        if not isinstance(answer, Answer) or answer.error is None:
            return answer
        try:
            raise _as_the_caller_gets_it(answer.error, self._client.settings.name)
        finally:
            del answer  # or the error would keep itself alive

    def __repr__(self) -> str:
        return f"aio_client_interceptors(policy={self.policy!r})"


class UnaryUnary(AioInterceptor, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = AioInterceptor._unary


class UnaryStream(AioInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = AioInterceptor._stream


class StreamUnary(AioInterceptor, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = AioInterceptor._stream


class StreamStream(AioInterceptor, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = AioInterceptor._stream


def interceptors(**settings: Any) -> list[grpc.aio.ClientInterceptor]:
    """One of each kind, with one client behind them."""
    client = GrpcClient(AioRefused, **settings)
    return [UnaryUnary(client), UnaryStream(client), StreamUnary(client), StreamStream(client)]


async def _transmit(rpc: Rpc, outgoing: Outgoing) -> Answer:
    """Make an attempt. What is no status of the call is raised, as is a cancellation."""
    try:
        call = await rpc.attempt_async(outgoing)
        if not rpc._is_unary:
            return Answer(call, is_open=True)
        await call  # which cancels it, if this is cancelled
    except (Rejected, DeadlineExceeded):
        raise  # by an interceptor of ours inside
    except AioRpcError as error:
        if error.code() is StatusCode.CANCELLED:
            raise
        return Answer(None, error.with_traceback(None))  # the same: it leads to the answer
    return Answer(call)


def _as_the_caller_gets_it(error: AioRpcError, name: str) -> Exception:
    """*error*, or the end of the deadline that it is: gRPC's timer and ours have one instant."""
    limit = deadline_here()
    if error.code() is StatusCode.DEADLINE_EXCEEDED and limit is not None and left_here() <= TICK:
        return of_both(limit._exceeded(name, started=True), AioRefused)
    return told(error)  # type: ignore[no-any-return]  # what it was given


class AioHeldCall:
    """A call that is under way, for its caller: as the library's own, but that its end is known
    (W10), and its error says what the server asks (W42).
    """

    def __init__(self, call: Any, held: Held, client: GrpcClient) -> None:
        self._call, self._held, self._client = call, held, client
        add_done_callback = getattr(call, "add_done_callback", None)  # what is no call has none
        if add_done_callback is not None:
            add_done_callback(partial(_ended, loops.running_loop(), held, client))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            message = yield from self._call.__await__()
        except BaseException as error:  # noqa: BLE001  # the caller gets it
            raise self._ends_by(error)  # noqa: B904  # it is that very error
        self._held.end()
        return message

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for message in self._call:
                yield message
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # the caller gets it
            raise self._ends_by(error)  # noqa: B904  # it is that very error
        self._held.end()

    def _ends_by(self, error: BaseException) -> BaseException:
        self._client.end(self._held, error)
        if isinstance(error, AioRpcError):
            return _as_the_caller_gets_it(error, self._client.settings.name)
        return error


def _ended(loop: Any, held: Held, client: GrpcClient, call: Any) -> None:
    """The call is over. Who awaits it knows more of a cancellation, so it comes first: that may be
    cancelled in a task of the library's, whose end wakes who awaits.
    """
    code = at_once(call.code())
    if code is StatusCode.CANCELLED:
        loop.call_soon(loop.call_soon, held.ignore)
    else:
        details = at_once(call.details())
        error = AioRpcError(code, None, None, details)
        client.end(held, None if code is StatusCode.OK else error)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What *work* returns, which has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # a T
    work.close()
    raise RuntimeError(f"{work!r} has something to wait for")


class AioGiven:
    """What a fallback gave, in place of a call with many messages there or back."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._value

    async def __aiter__(self) -> AsyncIterator[Any]:
        if isinstance(self._value, AsyncIterable):
            async for message in self._value:
                yield message
        else:
            for message in self._value:
                yield message

    async def code(self) -> StatusCode:
        return StatusCode.OK

    async def details(self) -> str:
        return ""

    debug_error_string = details

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata()

    trailing_metadata = initial_metadata

    async def wait_for_connection(self) -> None:
        """There is none to wait for."""

    def done(self) -> bool:
        return True

    def cancelled(self) -> bool:
        return False

    cancel = cancelled

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)


for _kind in (grpc.aio.UnaryStreamCall, grpc.aio.StreamUnaryCall, grpc.aio.StreamStreamCall):
    _kind.register(AioHeldCall)
    _kind.register(AioGiven)

"""The interceptor of sync channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import ref

import grpc
from grpc import StatusCode

from resilient._policies.common.policy import Policy
from resilient.errors import DeadlineExceeded, Rejected
from resilient.integrations._client.exchange import Held, note_deadline
from resilient.integrations._client.library import Outgoing
from resilient.integrations._grpc.client import GrpcClient
from resilient.integrations._grpc.family import code_of, is_own, told
from resilient.integrations._grpc.refused import Refused
from resilient.integrations._grpc.rpc import Answer, Rpc


class Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Puts policies around each call, of all four kinds.

    Attributes:
        policy: what is around each call.
    """

    def __init__(self, **settings: Any) -> None:
        self._client = GrpcClient(Refused, **settings)

    @property
    def policy(self) -> Policy | None:
        """What is around each call."""
        return self._client.engine.policy

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return self._call(Rpc(client_call_details, request, continuation, is_unary=True))

    def _stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return self._call(Rpc(client_call_details, request, continuation, is_unary=False))

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _stream

    def _call(self, rpc: Rpc) -> Any:
        answer = self._client.engine.send(rpc, _transmit)
        if not isinstance(answer, Answer):
            return Given(answer)
        if answer.held is not None:
            return HeldCall(answer.call, answer.held, self._client)
        if answer.error is not None:
            return _as_the_caller_gets_it(answer.error, self._client.settings.name)
        return answer.call

    def __repr__(self) -> str:
        return f"client_interceptors(policy={self.policy!r})"


def _transmit(rpc: Rpc, outgoing: Outgoing) -> Answer:
    """Make an attempt. What is no answer of the service's is raised."""
    call = rpc.attempt(outgoing)
    if not hasattr(call, "done"):  # an interceptor of others has given it in place of a call
        if isinstance(call, BaseException):
            raise call
        return Answer(iter(call), is_open=True)
    error = call.exception() if call.done() and not call.cancelled() else None
    if hasattr(call, "__next__") and (error is None or error is call):  # a stream, or a future
        return Answer(call, is_open=True)
    if isinstance(error, (Rejected, DeadlineExceeded)):
        raise error
    if error is not None and (is_own(error) or code_of(error) is None):
        raise error
    return Answer(call, error)


def _as_the_caller_gets_it(error: Any, name: str) -> Any:
    if error.code() is StatusCode.DEADLINE_EXCEEDED:
        note_deadline(error, name)
    return told(error)


class HeldCall:
    """A call that is under way, for its caller: as the library's own, but that its end is known
    (W10), and its error says what the server asks (W42).
    """

    def __init__(self, call: Any, held: Held, client: GrpcClient) -> None:
        self._call, self._held, self._client = call, held, client
        add_callback = getattr(call, "add_callback", None)  # messages without a call have none
        if add_callback is not None and not add_callback(partial(_ended, ref(call), held, client)):
            _ended(ref(call), held, client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except StopIteration:
            self._held.end()
            raise
        except Exception as error:  # noqa: BLE001  # the caller gets it
            raise self._ends_by(error)  # noqa: B904  # it is that very error

    next = __next__

    def result(self, timeout: float | None = None) -> Any:
        """The answer of a call that has one, when it is there."""
        try:
            message = self._call.result(timeout)
        except grpc.RpcError as error:
            raise self._ends_by(error)  # noqa: B904  # it is that very error
        self._held.end()
        return message

    def exception(self, timeout: float | None = None) -> Any:
        """The error by which it ends, when it has ended."""
        error = self._call.exception(timeout)
        if error is None:
            self._held.end()
            return None
        return self._ends_by(error)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Let *fn* know when it has ended."""
        self._call.add_done_callback(lambda _call: fn(self))

    def _ends_by(self, error: Any) -> Any:
        """What the caller sees counts at once: the library tells of an end in another thread."""
        self._client.end(self._held, error)
        if code_of(error) is None:
            return error
        return _as_the_caller_gets_it(error, self._client.settings.name)


def _ended(call_of: ref[Any], held: Held, client: GrpcClient) -> None:
    """The call is over. Who waits for that must not hold it: a call that is lost is cancelled."""
    if (call := call_of()) is None:
        held.ignore()
    else:
        client.end(held, None if call.code() is StatusCode.OK else call)


class Given:
    """What a fallback gave, in place of a call."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._messages: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._messages is None:
            self._messages = iter(self._value)
        return next(self._messages)

    next = __next__

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002  # it is there
        return self._value

    def code(self) -> StatusCode:
        return StatusCode.OK

    def details(self) -> str:
        return ""

    def initial_metadata(self) -> tuple[()]:
        return ()

    trailing_metadata = initial_metadata

    def exception(self, timeout: float | None = None) -> None:  # noqa: ARG002  # there is none
        return None

    traceback = time_remaining = exception

    def done(self) -> bool:
        return True

    def cancelled(self) -> bool:
        return False

    running = cancel = is_active = cancelled

    def add_callback(self, callback: Any) -> bool:  # noqa: ARG002  # as of a call that has ended
        return False

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


for _kind in (HeldCall, Given):
    grpc.Call.register(_kind)
    grpc.Future.register(_kind)

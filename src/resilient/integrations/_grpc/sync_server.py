"""The interceptor of sync servers, and of the sync handlers of async ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import grpc

from resilient._policies.common.served import Served, served
from resilient.integrations._grpc.server import (
    GrpcServer,
    Refusal,
    check_in_time,
    has_failed,
    has_spoken,
    mark_used_up,
    refusal_of,
    trailing_of,
)
from resilient.integrations._server.place import Place
from resilient.integrations.http import ServerStats

Handler = Any
"""Of gRPC's, of whatever kind."""


class ServerInterceptor(grpc.ServerInterceptor):
    """Puts a deadline around each call, and answers for a handler that could not."""

    def __init__(self, **settings: Any) -> None:
        self._server = GrpcServer(**settings)

    def stats(self) -> ServerStats:
        """A snapshot of its totals."""
        return self._server.stats()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = continuation(handler_call_details)
        return handler and guarded(handler, guard(self._server, handler_call_details, handler))


def function_of(handler: Any) -> Callable[[Any, Any], Any]:
    """The function of *handler*, of whatever kind."""
    return (  # type: ignore[no-any-return]  # one of them is there
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def guarded(handler: Any, fn: Callable[..., Any]) -> Handler:
    """*handler*, with another function."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(fn, handler.request_deserializer, handler.response_serializer)


def guard(server: GrpcServer, details: Any, handler: Any) -> Callable[[Any, Any], Any]:
    """The function of *handler*, which is sync, under a limit and in a place."""
    fn = function_of(handler)

    def serve_one(request: Any, context: Any) -> Any:
        messages = _serving(server, details, context, lambda: (fn(request, context),), _abort)
        [message] = messages
        return message

    def serve_many(request: Any, context: Any) -> Any:
        return Messages(_serving(server, details, context, lambda: fn(request, context), _end))

    return serve_many if handler.response_streaming else serve_one


def _serving(
    server: GrpcServer,
    details: Any,
    context: Any,
    handle: Callable[[], Any],
    refuse: Callable[[Any, Refusal], None],
) -> Iterator[Any]:
    """The messages of one call, from its arrival to its status."""
    server.counts.add("requests")
    place = Place(server.counts)
    try:
        block, request = server.arrived(context)
        token = served.set(request)
        try:
            with block:
                check_in_time(block)
                place.take(server.opener, details)
                yield from handle()
        except BaseException as error:
            place.end(error)
            if isinstance(error, Exception):
                refusal = _refusal(error, place, request, context)
                if refusal is not None:
                    refuse(context, refusal)
                    return
            raise
        finally:
            with suppress(ValueError):  # it is closed elsewhere
                served.reset(token)
        place.end()
        if request.used_up and has_failed(context):
            mark_used_up(context)
    finally:
        if not getattr(context, "is_active", _always)():
            server.counts.add("disconnected")
        server.counts.add("ended")
        place.forget()


def _refusal(error: Exception, place: Place, request: Served, context: Any) -> Refusal | None:
    """The status in place of *error*; ``None`` if it is for the server to see (W43)."""
    if has_spoken(context):  # by its own `abort`
        return None
    answer = place.answer_to(error)
    if answer is not None:
        place.count(answer)
        return refusal_of(error, answer, trailing_of(context))
    if request.used_up:
        mark_used_up(context)
    return None


def _abort(context: Any, refusal: Refusal) -> None:
    """End a call that has one message: there is none."""
    context.set_trailing_metadata(refusal.trailing)
    context.abort(refusal.code, refusal.details)


def _end(context: Any, refusal: Refusal) -> None:
    """End a stream. Not by `abort`: after that an async server does not end a sync handler's."""
    context.set_trailing_metadata(refusal.trailing)
    context.set_code(refusal.code)
    context.set_details(refusal.details)


def _always() -> bool:
    """Where the context does not tell."""
    return True


class Messages:
    """An iterator that runs in a context of its own: its deadline does not stay with the server."""

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages, self._context = messages, copy_context()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._context.run(next, self._messages)

    def __del__(self) -> None:
        """The server has let go of it: the caller is gone."""
        self._context.run(self._messages.close)  # type: ignore[attr-defined]  # a generator

"""The interceptor of async servers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from resilient._policies.common.served import Served, served
from resilient.integrations._grpc.server import (
    GrpcServer,
    check_in_time,
    has_failed,
    has_spoken,
    mark_used_up,
    refusal_of,
    trailing_of,
)
from resilient.integrations._grpc.sync_server import Handler, function_of, guard, guarded
from resilient.integrations._server.place import Place
from resilient.integrations.http import ServerStats


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Puts a deadline around each call, and answers for a handler that could not."""

    def __init__(self, **settings: Any) -> None:
        self._server = GrpcServer(**settings)

    def stats(self) -> ServerStats:
        """A snapshot of its totals."""
        return self._server.stats()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        fn = function_of(handler)
        is_async = inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)
        make = _guard if is_async else guard  # as the server tells them apart
        return guarded(handler, make(self._server, handler_call_details, handler))


def _guard(server: GrpcServer, details: Any, handler: Any) -> Callable[[Any, Any], Any]:
    """The function of *handler*, under a limit and in a place."""
    fn = function_of(handler)

    async def serve(request: Any, context: Any) -> Any:
        return await _serve(server, details, context, lambda: fn(request, context))

    async def serve_generated(request: Any, context: Any) -> None:
        async def write_all() -> None:
            async for message in fn(request, context):
                await context.write(message)

        await _serve(server, details, context, write_all)

    return serve_generated if inspect.isasyncgenfunction(fn) else serve


async def _serve(
    server: GrpcServer, details: Any, context: Any, handle: Callable[[], Awaitable[Any]]
) -> Any:
    """The work on one call, from its arrival to its status."""
    server.counts.add("requests")
    place = Place(server.counts)
    try:
        block, request = server.arrived(context)
        token = served.set(request)
        try:
            async with block:
                check_in_time(block)
                await place.take_async(server.opener_async, details)
                message = await handle()
        except BaseException as error:
            place.end(error)
            if isinstance(error, asyncio.CancelledError):
                server.counts.add("disconnected")
            if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
                await _conclude(error, place, request, context)
            raise
        finally:
            served.reset(token)
        place.end()
        if request.used_up and has_failed(context):
            mark_used_up(context)
        return message
    finally:
        server.counts.add("ended")
        place.forget()


async def _conclude(error: Exception, place: Place, request: Served, context: Any) -> None:
    """End the call for a handler that has raised *error*, or return, for it to be raised (W43)."""
    answer = place.answer_to(error)
    if answer is None:
        if request.used_up:
            mark_used_up(context)
    elif not has_spoken(context):
        place.count(answer)
        await context.abort(*refusal_of(error, answer, trailing_of(context)))
    elif not context.done():  # the server itself would tell of the error
        await context.abort(context.code(), context.details())

"""Awaiting httpcore where asyncio's own cancellation would make it lose what it holds.

httpcore and httpcore2 clean up inside scopes of anyio that nothing cancels. `asyncio.Task.cancel`
knows no scopes: if it comes while an answer is being closed, the pool keeps its request, and with
it a place, for ever. In httpcore up to 1.0.9, and httpcore2 before 2.16, that is so everywhere. So
they are awaited in a task of their own, and what is cancelled there is a scope of anyio's. Trio
needs none of this.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from resilient._runtime import loops

SOUND: Final = {"httpcore": (1, 0, 10), "httpcore2": (2, 16)}
"""The first versions that lose nothing but where they close an answer."""


def needs_shelter(name: str) -> bool:
    """Whether the httpcore of this *name* that is installed is older than that."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < SOUND[name]


async def sheltered(
    fn: Callable[..., Awaitable[Any]],
    *args: Any,
    undo: Callable[[Any], Awaitable[object]] | None = None,
) -> Any:
    """Await ``fn(*args)``. If the caller is cancelled, cancel it by anyio, and wait for its end; a
    result that comes all the same is given to *undo*.
    """
    loop = loops.running_loop()
    if loop is None:  # trio
        return await fn(*args)
    import asyncio  # noqa: PLC0415  # loaded already: its loop runs here

    from anyio import CancelScope  # noqa: PLC0415  # as it is first needed

    scope = CancelScope()

    async def run(scope: CancelScope) -> Any:
        try:
            with scope:
                return await fn(*args)
        finally:
            del scope  # which knows its task, and the task its error, and that this frame

    task = loop.create_task(run(scope))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        with CancelScope(shield=True):  # or anyio cancels again and again, which breakers would see
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:  # once more: the first one is raised below
                    continue
        came = not task.cancelled() and task.exception() is None and task.result() is not None
        if came and undo is not None:
            with suppress(Exception):  # the caller is cancelled, whatever comes of it
                await sheltered(undo, task.result())
        raise
    finally:
        del task, scope  # or what it raised would keep itself alive


class ShelteredBody:
    """The body of an answer: its end is awaited so, and each part where that is needed."""

    def __init__(self, stream: Any, *, each_part: bool) -> None:
        self._stream, self._each_part = stream, each_part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = self._stream.__aiter__()
        try:
            if self._each_part:
                while (part := await sheltered(anext, parts, None)) is not None:
                    yield part
            else:
                async for part in parts:
                    yield part
        except BaseException:
            if isinstance(parts, AsyncGenerator):  # or its end is a task of the loop's
                await (sheltered(parts.aclose) if self._each_part else parts.aclose())
            raise

    async def aclose(self) -> None:
        await sheltered(self._stream.aclose)

"""Work that outlives the call that began it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from resilient._runtime import loops

if TYPE_CHECKING:
    import asyncio

_tasks: Final[set[asyncio.Task[Any]]] = set()
"""A loop holds its tasks weakly: these are held until they end."""


def start(work: Callable[[], Awaitable[None]], name: str, context: Context) -> None:
    """Let *work*, which raises nothing, run in a task of the loop that runs here."""
    loop = loops.running_loop()
    if loop is not None and loops.current_task(loop) is not None:
        task = loop.create_task(_run(work), name=name, context=context)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return
    import trio  # noqa: PLC0415  # loaded already: we are inside it

    trio.lowlevel.spawn_system_task(_run, work, name=name, context=context)


def start_thread(work: Callable[[], None], name: str, context: Context) -> None:
    """Let *work*, which raises nothing, run in a thread that does not keep the program alive."""
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()

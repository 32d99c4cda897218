"""Work that outlives the call that began it."""

from __future__ import annotations

import threading
import types
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from resilient._runtime import loops

if TYPE_CHECKING:
    import asyncio


class _Owner:
    """Under which a loop's state keeps the tasks that were begun here."""


_owner: Final = _Owner()


def start(
    work: Callable[[], Awaitable[None]], over: Callable[[], None], name: str, context: Context
) -> None:
    """Let *work*, which raises no `Exception`, run in a task of the loop that runs here.

    At last *over* is called, also if the task was cancelled before its first step, or collected
    with its loop: so it must take no lock.
    """
    loop = loops.running_loop()
    if loop is not None and loops.current_task(loop) is not None:
        body = _run(work, over, primed=True)
        body.send(None)  # into its ``try``
        tasks = _tasks_of(loop)
        task = loop.create_task(body, name=name, context=context)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return
    import trio  # noqa: PLC0415  # loaded already: we are inside it

    async def begin() -> None:  # trio takes every task to its first wait
        await _run(work, over, primed=False)

    trio.lowlevel.spawn_system_task(begin, name=name, context=context)


def start_thread(work: Callable[[], None], name: str, context: Context) -> None:
    """Let *work*, which raises nothing, run in a thread that does not keep the program alive."""
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()


async def _run(
    work: Callable[[], Awaitable[None]], over: Callable[[], None], *, primed: bool
) -> None:
    try:
        if primed:
            await pause()
        await work()
    finally:
        over()


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Await it to let asyncio take its next turn."""
    yield


def _tasks_of(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    """The tasks begun here: *loop* itself holds them weakly. They die with it."""
    tasks: set[asyncio.Task[Any]] = loops.loop_state(loop).owned.setdefault(_owner, set())
    return tasks

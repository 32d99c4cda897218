"""A child's end of the drill: it hears orders on standard input and answers on standard output.

A child never outlives its parent: it ends when its input does, and on Linux the kernel
kills it if its parent is gone, also while it is stopped by a SIGSTOP.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import BinaryIO, Final

from resilient.drill.messages import encode, receive

_PR_SET_PDEATHSIG: Final = 1


class Parent:
    """The line to the process that started this one."""

    def __init__(self, answers: BinaryIO) -> None:
        self._orders: asyncio.Queue[object] = asyncio.Queue()
        self._answers = answers

    async def order(self) -> object:
        """The next order."""
        return await self._orders.get()

    def say(self, message: object) -> None:
        """Tell the parent."""
        self._answers.write(encode(message))
        self._answers.flush()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take orders until the parent hangs up."""
        with contextlib.suppress(EOFError):
            while True:
                self._orders.put_nowait(await receive(reader))


Life = Callable[[Parent], Coroutine[object, object, None]]


def run(live: Life) -> None:
    """Be a child: *live*, until the parent hangs up."""
    _die_with(int(sys.argv[1]))
    _allow_many_connections()
    try:
        asyncio.run(_run(live))
    except* BrokenPipeError:
        os.close(sys.stdout.fileno())  # nobody listens; a flush at exit would only complain


async def _run(live: Life) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    await live_until_eof(live, Parent(sys.stdout.buffer), reader)


async def live_until_eof(live: Life, parent: Parent, reader: asyncio.StreamReader) -> None:
    """*live*, and no longer than the orders come."""
    async with asyncio.TaskGroup() as group:
        living = group.create_task(live(parent))
        await parent.listen(reader)
        living.cancel()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

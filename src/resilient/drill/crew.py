"""The conductor's end of the drill: starting children, giving orders, leaving none behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import IO, Final

from resilient.drill.messages import Counts, Failed, Finished, Report, encode, receive

GOODBYE: Final = 1.0
"""Seconds that a child gets to end by itself."""
LAST_WORDS: Final = 2000
"""How many bytes of a dead child's complaints are shown."""
NEWS: Final = (Counts, Report, Finished)
"""What children say unasked."""


class DrillError(Exception):
    """The drill can't go on; the message says why, and what to do."""


class Child:
    """A process of the drill."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.name = name
        self.process = process
        self._errors = errors
        self._answers: asyncio.Queue[object] = asyncio.Queue()
        self._leaving = False

    async def listen(self, heard: Callable[[object], None]) -> None:
        """Hear it until it ends; `DrillError` if it ends unasked."""
        reader = self.process.stdout
        while reader is not None:
            try:
                message = await receive(reader)
            except EOFError:
                break
            if isinstance(message, NEWS):
                heard(message)
            else:
                self._answers.put_nowait(message)
        if not self._leaving:
            raise DrillError(await self._epitaph())

    async def ask(self, message: object | None = None) -> object:
        """Give an order and wait for the answer; without an order, for what it says first."""
        if message is not None:
            self.tell(message)
        answer = await self._answers.get()
        if isinstance(answer, Failed):
            raise DrillError(answer.why)
        return answer

    def tell(self, message: object) -> None:
        """Give an order that has no answer."""
        if self.process.stdin is not None:
            self.process.stdin.write(encode(message))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone gets none."""
        self._leaving = self._leaving or number is signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def hang_up(self) -> None:
        """Let it end by itself, also if it was stopped."""
        self._leaving = True
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.signal(signal.SIGCONT)

    async def bury(self) -> None:
        """Wait for its end."""
        await self.process.wait()
        self._errors.close()

    async def _epitaph(self) -> str:
        code = await self.process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-LAST_WORDS:].decode(errors="replace").strip()
        return f"the drill's {self.name} process ended with {code}:\n{said or 'it said nothing'}"


class Crew:
    """The children of one run."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._children: list[Child] = []

    async def hire(
        self, name: str, module: str, heard: Callable[[object], None] | None = None
    ) -> Child:
        """Start ``resilient.drill.<module>``; what it says unasked goes to *heard*."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the child is buried
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", f"resilient.drill.{module}", str(os.getpid()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            start_new_session=True,  # a Ctrl-C at the terminal is for the conductor alone
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        child = Child(name, process, errors)
        self._children.append(child)
        self._group.create_task(child.listen(heard or _ignore))
        return child

    async def dismiss(self) -> None:
        """End every child: by a word, or after a while by force."""
        ends = [asyncio.create_task(child.bury()) for child in self._children]
        for child in self._children:
            child.hang_up()
        if ends:
            await asyncio.wait(ends, timeout=GOODBYE)
        for child in self._children:
            child.signal(signal.SIGKILL)
        await asyncio.gather(*ends)


@contextlib.asynccontextmanager
async def crew() -> AsyncIterator[Crew]:
    """Children that do not outlive the block. One that dies unasked ends the block."""
    try:
        async with asyncio.TaskGroup() as group:
            hired = Crew(group)
            try:
                yield hired
            finally:
                await hired.dismiss()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _ignore(message: object) -> None:
    """Hear nothing."""

"""How far a call walks through the package: ``python -m benchmarks.walks [-v]``.

Counts, for three calls that meet trouble, the Python calls inside the package, the files that they
are in, and how often the file changes from one call to the next (a coroutine that goes on counts
as called). With ``-v`` it prints the way.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Self

import resilient
from resilient import breaker, cache, deadline, retry

PACKAGE = str(Path(resilient.__file__).parent)
Step = tuple[str, str]


class Walk:
    """The calls inside the package while the block lasts."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE):
            self.steps.append((path[len(PACKAGE) + 1 :], frame.f_code.co_name))

    def __str__(self) -> str:
        files = [file for file, _ in self.steps]
        changes = sum(one != other for one, other in pairwise(files))
        return f"{len(files)} calls, {len(set(files))} files, {changes} changes of file"


def a_retry_under_a_deadline() -> Walk:
    """The second attempt of an async function succeeds, after a wait."""
    fates: list[bool] = []

    @retry("client", on=ConnectionError, wait=0.001)
    async def ask() -> None:
        fates.append(True)
        if len(fates) % 2:
            raise ConnectionError

    async def main(during: Callable[[], Awaitable[None]]) -> Walk:
        await during()  # what the first call of a loop makes is made
        with Walk() as walk:
            await during()
        return walk

    async def limited() -> None:
        async with deadline(5.0):
            await ask()

    return asyncio.run(main(limited))


def a_stale_cache_hit() -> Walk:
    """The value is past its end, the run fails, and the old value is served."""
    answers = iter([1])

    @cache(0.001, stale=60.0, jitter=0)
    def ask(_: int) -> int:
        try:
            return next(answers)
        except StopIteration:
            raise ConnectionError from None

    ask(1)
    time.sleep(0.002)
    ask(1)
    with Walk() as walk:
        ask(1)
    return walk


def the_failure_that_opens_a_breaker() -> Walk:
    """The third failure in a row."""

    @breaker(consecutive_failures=3)
    def ask() -> None:
        raise ConnectionError

    for _ in range(2):
        _fails(ask)
    with Walk() as walk:
        _fails(ask)
    return walk


def _fails(ask: Callable[[], None]) -> None:
    try:
        ask()
    except ConnectionError:
        pass


def main() -> None:
    """Print the three walks."""
    for play in (a_retry_under_a_deadline, a_stale_cache_hit, the_failure_that_opens_a_breaker):
        walk = play()
        print(f"{play.__name__.replace('_', ' '):34}{walk}")
        if "-v" in sys.argv:
            print(*(f"    {file}: {name}" for file, name in walk.steps), sep="\n")


if __name__ == "__main__":
    main()

"""How a case is timed: every library in one process, in turns, for several rounds.

Absolute times move with the machine; ratios in one run are the result. So the entries of a case
take turns within each round, in an order that is shuffled anew for each, and the smallest
time of an entry counts: what disturbs a run only ever adds to it. The collector is off while a
batch runs, as in `timeit`, and runs before it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import statistics
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter
from typing import Any, Literal

Call = Callable[[], Any]
"""What is timed: a function without arguments, in an async case a coroutine function."""

World = Literal["sync", "async"]
FLOOR = "floor"
OURS = "resilient"


@dataclass(frozen=True, slots=True)
class Entry:
    """One library in a case.

    *make* imports the library and returns what is to be timed; an async case may give an async
    one, which is awaited on the loop. *lacks* says what the library leaves out that ours does.
    *by_hand*: no library, but what one would write without any: it counts as no peer.
    """

    library: str
    make: Callable[[], Call | Awaitable[Call]]
    lacks: str = ""
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """The same task for every library. One call of an entry is worth *units* calls."""

    idea: str
    name: str
    world: World
    entries: tuple[Entry, ...]
    units: int = 1
    loops: tuple[str, ...] = ("asyncio", "uvloop")


@dataclass(frozen=True, slots=True)
class Figure:
    """What one library took: nanoseconds a call, one for each round."""

    library: str
    lacks: str
    by_hand: bool
    times: list[float]

    @property
    def least(self) -> float:
        """The smallest: the one that was disturbed least."""
        return min(self.times)

    @property
    def median(self) -> float:
        """What to expect on a machine that does other things as well."""
        return statistics.median(self.times)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case on one loop (``""`` for a sync case): its figures, and who could not take part."""

    idea: str
    case: str
    world: World
    loop: str
    figures: list[Figure]
    skipped: dict[str, str] = field(default_factory=dict)

    def figure(self, library: str) -> Figure | None:
        """That of *library*."""
        return next((one for one in self.figures if one.library == library), None)

    def fastest_peer(self) -> Figure | None:
        """The fastest library that is not ours."""
        peers = [one for one in self.figures if one.library != OURS and not one.by_hand]
        return min(peers, key=lambda one: one.least, default=None)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look: *rounds*, and *batch* seconds for each entry in each of them."""

    rounds: int = 9
    batch: float = 0.02


def run(case: Case, effort: Effort) -> Iterator[Outcome]:
    """Time *case*, once for each loop that is installed."""
    if case.world == "sync":
        made, skipped = {}, dict[str, str]()
        for entry in case.entries:
            with _Skipping(entry, skipped):
                call = entry.make()
                call()
                made[entry] = call
        yield _outcome(case, "", _play(made, effort, _time), skipped)
        return
    for name in case.loops:
        factory = _loop_factory(name)
        if factory is not None:
            with asyncio.Runner(loop_factory=factory) as runner:
                yield runner.run(_run_async(case, name, effort))


async def _run_async(case: Case, loop: str, effort: Effort) -> Outcome:
    made, skipped = {}, dict[str, str]()
    for entry in case.entries:
        with _Skipping(entry, skipped):
            call = entry.make()
            call = await call if inspect.isawaitable(call) else call
            await call()
            made[entry] = call
    return _outcome(case, loop, await _play_async(made, effort), skipped)


def _outcome(
    case: Case, loop: str, times: dict[Entry, list[float]], skipped: dict[str, str]
) -> Outcome:
    figures = [
        Figure(
            entry.library, entry.lacks, entry.by_hand, [one * 1e9 / case.units for one in measured]
        )
        for entry, measured in times.items()
    ]
    return Outcome(case.idea, case.name, case.world, loop, figures, skipped)


class _Skipping:
    """A library that is not there, or fails at once, is named and left out; ours may not fail.

    Nor may what is done by hand, but that a library is missing which it fills up.
    """

    def __init__(self, entry: Entry, skipped: dict[str, str]) -> None:
        self._entry, self._skipped = entry, skipped

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception) or self._entry.library == OURS:
            return False
        missing = isinstance(error, ModuleNotFoundError) and not _is_ours(error.name or "")
        if self._entry.by_hand and not missing:
            return False
        self._skipped[self._entry.library] = "not installed" if missing else repr(error)
        return True


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in {"resilient", "benchmarks"}


def _play(
    made: dict[Entry, Call], effort: Effort, time: Callable[[Call, int], float]
) -> dict[Entry, list[float]]:
    counts = {entry: _enough(time(call, 1), effort) for entry, call in made.items()}
    counts = {
        entry: _enough(time(made[entry], count) / count, effort) for entry, count in counts.items()
    }
    times: dict[Entry, list[float]] = {entry: [] for entry in made}
    for entry in _turns(made, effort.rounds):
        times[entry].append(time(made[entry], counts[entry]) / counts[entry])
    return times


async def _play_async(made: dict[Entry, Call], effort: Effort) -> dict[Entry, list[float]]:
    counts: dict[Entry, int] = {}
    for entry, call in made.items():
        count = _enough(await _time_async(call, 1), effort)
        counts[entry] = _enough(await _time_async(call, count) / count, effort)
    times: dict[Entry, list[float]] = {entry: [] for entry in made}
    for entry in _turns(made, effort.rounds):
        times[entry].append(await _time_async(made[entry], counts[entry]) / counts[entry])
    return times


def _enough(seconds: float, effort: Effort) -> int:
    """How many calls fill a batch when one takes *seconds*."""
    return max(1, min(200_000, int(effort.batch / max(seconds, 1e-9))))


def _turns(made: dict[Entry, Call], rounds: int) -> Iterator[Entry]:
    """Every entry once in each round, in an order of its own."""
    dice, order = random.Random(0), list(made)
    for _ in range(rounds):
        dice.shuffle(order)
        yield from order


def _time(call: Call, times: int) -> float:
    gc.collect()
    gc.disable()
    try:
        began = perf_counter()
        for _ in repeat(None, times):
            call()
        return perf_counter() - began
    finally:
        gc.enable()


async def _time_async(call: Call, times: int) -> float:
    gc.collect()
    gc.disable()
    try:
        began = perf_counter()
        for _ in repeat(None, times):
            await call()
        return perf_counter() - began
    finally:
        gc.enable()


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop  # where it is installed
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop

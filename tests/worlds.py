"""The four worlds in which every behaviour holds, behind one vocabulary.

A behaviour test is an ``async def`` that takes a `World`. In the async worlds it runs on a
loop; in plain threads its coroutine is driven by hand and never waits: there ``call`` is
a plain call, ``sleep`` lets time pass, and ``together`` starts threads.

Time is virtual on asyncio, trio and in threads. uvloop has only real time, so there a
unit is short: tests count in units (``world.unit``), and assert no upper bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, cast

import anyio
import pytest
import trio

from resilient._runtime import clock
from resilient.testing import VirtualTime, virtual_time

Scenario = Callable[["World"], Coroutine[Any, Any, None]]


class World(Protocol):
    """Where a scenario runs."""

    name: str
    is_async: bool
    unit: float

    def run(self, scenario: Scenario) -> None:
        """Run *scenario* to its end."""

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """*body* as a function of this world: an ``async def`` in the async ones.

        If *body* returns an awaitable (such as ``world.sleep(1)``), it is awaited.
        """

    async def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of this world."""

    async def sleep(self, units: float) -> None:
        """Let *units* of time pass."""

    async def together(self, *functions: Callable[[], Awaitable[Any]]) -> list[Any]:
        """Run coroutine functions at the same time; their results, or what they raised."""

    def now(self) -> float:
        """Units since the scenario began."""


class AsyncWorld:
    """What the worlds with a loop have in common."""

    name: str
    is_async = True
    unit = 1.0

    def __init__(self) -> None:
        self._began = 0.0

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        async def fn(*args: Any, **kwargs: Any) -> Any:
            result = body(*args, **kwargs)
            return await result if isinstance(result, Awaitable) else result

        return fn

    async def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    async def sleep(self, units: float) -> None:
        await anyio.sleep(units * self.unit)

    async def together(self, *functions: Callable[[], Awaitable[Any]]) -> list[Any]:
        outcomes: list[Any] = [None] * len(functions)

        async def one(index: int) -> None:
            try:
                outcomes[index] = await functions[index]()
            except Exception as error:
                outcomes[index] = error

        async with anyio.create_task_group() as group:
            for index in range(len(functions)):
                group.start_soon(one, index)
        return outcomes

    def now(self) -> float:
        return (clock.now() - self._began) / self.unit

    async def _main(self, scenario: Scenario) -> None:
        self._began = clock.now()
        await scenario(self)  # type: ignore[arg-type]  # a World, but for run() in its subclasses


class AsyncioWorld(AsyncWorld):
    name = "asyncio"

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self.time = time

    def run(self, scenario: Scenario) -> None:
        self.time.run(self._main, scenario)


class TrioWorld(AsyncWorld):
    name = "trio"

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self.time = time

    def run(self, scenario: Scenario) -> None:
        trio.run(self._main, scenario, clock=self.time.trio_clock())


class UvloopWorld(AsyncWorld):
    name = "uvloop"
    unit = 0.05

    async def sleep(self, units: float) -> None:
        """Let *units* of time pass, all of them: uvloop's timers may be a millisecond early."""
        until = clock.now() + units * self.unit
        await anyio.sleep(units * self.unit)
        while (left := until - clock.now()) > 0:  # noqa: ASYNC110  # there is no event but time
            await anyio.sleep(left)

    def run(self, scenario: Scenario) -> None:
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main(scenario))


class ThreadsWorld:
    name = "threads"
    is_async = False
    unit = 1.0

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self._began = 0.0

    def run(self, scenario: Scenario) -> None:
        self._began = clock.now()
        drive(scenario(self))

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def fn(*args: Any, **kwargs: Any) -> Any:
            result = body(*args, **kwargs)
            return drive(result) if isinstance(result, Coroutine) else result

        return fn

    async def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    async def sleep(self, units: float) -> None:
        self.time.advance(units)

    async def together(self, *functions: Callable[[], Awaitable[Any]]) -> list[Any]:
        return in_threads(*((lambda fn=fn: drive(fn())) for fn in functions))

    def now(self) -> float:
        return clock.now() - self._began


def drive(coroutine: Awaitable[Any]) -> Any:
    """Run a coroutine that never waits for a loop."""
    assert isinstance(coroutine, Coroutine)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("this scenario waits for a loop, and plain threads have none")


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Run *functions* in threads that start together at a barrier; results, or what they raised."""
    barrier = threading.Barrier(len(functions))
    outcomes: list[Any] = [None] * len(functions)

    def one(index: int) -> None:
        barrier.wait()
        try:
            outcomes[index] = functions[index]()
        except BaseException as error:
            outcomes[index] = error

    threads = [
        threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(functions))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    return outcomes


@contextlib.contextmanager
def world_named(name: str) -> Iterator[World]:
    """The world *name*, with time set up for it."""
    if name == "uvloop":
        yield UvloopWorld()
        return
    with virtual_time() as time:
        kinds = {"asyncio": AsyncioWorld, "trio": TrioWorld, "threads": ThreadsWorld}
        yield cast("type[World]", kinds[name])(time)  # type: ignore[call-arg]  # see their __init__


WORLDS = ("asyncio", "uvloop", "trio", "threads")

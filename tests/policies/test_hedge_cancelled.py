"""Hedge and cancellation: nothing is left running, nothing is lost, nothing is swallowed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from resilient import DeadlineExceeded, Hedge, breaker, deadline, hedge
from resilient.events import HedgeLaunched, subscribe
from resilient.testing import virtual_time
from tests.worlds import World, world_named

pytestmark = pytest.mark.loop


@pytest.fixture(params=["asyncio", "trio"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The loops whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


def after(w: World, units: float, **kwargs: Any) -> Hedge:
    return hedge(units * w.unit, **{"budget": None, **kwargs})


async def clean_up() -> None:
    """Take a while, which is counted in steps of the loop.

    Old versions of anyio keep the loop busy while a shielded task of a cancelled group sleeps, and
    virtual time waits for it.
    """
    with anyio.CancelScope(shield=True):
        for _ in range(20):
            await anyio.lowlevel.checkpoint()


class Sleepers:
    """Attempts that last for ever, and take a while to clean up."""

    def __init__(self) -> None:
        self.running = self.begun = 0

    async def __call__(self) -> None:
        self.running += 1
        self.begun += 1
        try:
            await anyio.sleep_forever()
        finally:
            await clean_up()
            self.running -= 1


async def by_a_scope(w: World, fn: Callable[[], Awaitable[object]]) -> str:
    with anyio.move_on_after(3 * w.unit):
        await fn()
    return "cancelled"


async def by_its_group(w: World, fn: Callable[[], Coroutine[Any, Any, object]]) -> str:
    async with anyio.create_task_group() as group:
        group.start_soon(fn)
        await w.sleep(3)
        group.cancel_scope.cancel()
    return "cancelled"


async def by_a_deadline(w: World, fn: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(DeadlineExceeded):
        async with deadline(3 * w.unit):
            await fn()
    return "cancelled"


WAYS = [by_a_scope, by_its_group, by_a_deadline]


@pytest.mark.rule("H1", "F9")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_caller_that_is_cancelled_takes_all_attempts_with_it_and_awaits_them(
    async_world: World, way: Callable[..., Coroutine[Any, Any, str]]
) -> None:
    async def scenario(w: World) -> None:
        attempts = Sleepers()
        policy = after(w, 1)
        assert await way(w, policy(attempts)) == "cancelled"
        assert (attempts.begun, attempts.running) == (2, 0)

    async_world.run(scenario)


@pytest.mark.rule("B9", "H1")
def test_clean_up_that_takes_long_does_not_hide_whose_limit_it_was(async_world: World) -> None:
    """A connection is closed before the breaker inside is told: the deadline's, all the same."""

    async def scenario(w: World) -> None:
        fuse = breaker()
        with pytest.raises(DeadlineExceeded):
            async with deadline(3 * w.unit):
                await after(w, 1)(fuse(Sleepers()))()
        assert (fuse.stats().calls, fuse.stats().failures) == (2, 2)

    async_world.run(scenario)


@pytest.mark.rule("F9")
def test_another_cancellation_counts_nowhere_in_a_breaker_inside(async_world: World) -> None:
    async def scenario(w: World) -> None:
        fuse = breaker()
        await by_a_scope(w, after(w, 1)(fuse(Sleepers())))
        assert (fuse.stats().calls, fuse.stats().ignored) == (2, 2)

    async_world.run(scenario)


@pytest.mark.rule("H1", "D7")
def test_on_asyncio_a_loser_may_await_while_it_cleans_up_as_ever_there() -> None:
    async def main() -> None:
        cleaned: list[str] = []
        forever = Forever()
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            try:
                await asyncio.sleep(300)
            finally:
                await asyncio.sleep(1)
                await asyncio.sleep(1)
                cleaned.append("all")
            return "late"

        task = asyncio.current_task()
        assert task is not None
        assert await hedge(1, budget=None)(fn)() == "won"
        assert cleaned == ["all"]
        assert task.cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await hedge(1, budget=None)(forever)()
        assert forever.cleaned == 2
        assert task.cancelling() == 0

    with virtual_time() as time:
        time.run(main)


class Forever:
    def __init__(self) -> None:
        self.cleaned = 0

    async def __call__(self) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)
            self.cleaned += 1


@pytest.mark.rule("F9", "H1")
def test_a_foreign_timeout_at_the_instant_of_a_hedge_is_no_longer_one_too_late(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        for limit in (1.0, 2.0):
            attempts = Sleepers()
            began = w.now()
            with anyio.move_on_after(limit) as scope:
                await after(w, 1)(attempts)()
            assert scope.cancelled_caught
            assert w.now() - began == pytest.approx(limit)
            assert attempts.running == 0

    exact.run(scenario)


@pytest.mark.rule("F9", "H1")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("lasts", "hedge_after"),
    [((5, 5), 1.0), ((0, 0), 1.0), ((40, 2), 1e-9), ((9, 9), 1e-9), ((6, 4), 1e-9)],
    ids=str,
)
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
def test_cancelled_at_any_step_of_the_loop_a_call_leaves_nothing_and_loses_no_result(
    name: str, lasts: tuple[int, int], hedge_after: float, fails: bool
) -> None:
    """Whatever an attempt returned was either handed over or discarded, once; and a cancellation
    that came before the end was never swallowed.
    """

    async def pause() -> None:
        if name == "asyncio":
            await asyncio.sleep(0)
        else:
            await trio.lowlevel.checkpoint()

    async def main(step: int, native: bool) -> bool:
        running: list[int] = []
        made: list[int] = []
        dropped: list[int] = []
        outcome: list[object] = []
        count = 0

        async def fn() -> int:
            nonlocal count
            count += 1
            number = count
            running.append(number)
            try:
                for _ in range(lasts[min(number, 2) - 1]):
                    await pause()
                if fails and number == 1:
                    raise KeyError
                made.append(number)
                return number
            finally:
                running.remove(number)

        policy = hedge(hedge_after, budget=None, discard=dropped.append)

        async def call() -> None:
            try:
                outcome.append(await policy(fn)())
            finally:
                assert running == [], "all were awaited"
            await pause()
            outcome.append("went on")

        if native:
            task = asyncio.create_task(call())
            for _ in range(step):
                await pause()
            over = task.cancel() is False or bool(outcome)
            await asyncio.wait([task])
            assert task.cancelled() or over
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                for _ in range(step):
                    await pause()
                over = bool(outcome)
                group.cancel_scope.cancel()
        results = [one for one in outcome if one != "went on"]
        assert sorted([*results, *dropped]) == sorted(made)  # type: ignore[type-var]  # numbers
        assert over or "went on" not in outcome
        return over

    for native in (False, True) if name == "asyncio" else (False,):
        for step in range(100):
            with virtual_time() as time:
                if name == "asyncio":
                    over = time.run(main, step, native)
                else:
                    over = trio.run(main, step, native, clock=time.trio_clock())
            if over:
                break
        else:
            raise AssertionError("it never ended by itself")
        assert step > 1


@pytest.mark.rule("H1", "F9")
def test_a_caller_cancelled_while_losers_end_gets_the_result_or_it_is_discarded(
    exact: World,
) -> None:
    """On trio the call is over then: it is the next checkpoint that raises."""

    async def scenario(w: World) -> None:
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            try:
                await anyio.sleep_forever()
            finally:
                scope.cancel()
                await clean_up()
            return "never"

        dropped: list[str] = []
        got: list[str] = []
        with anyio.CancelScope() as scope:
            got.append(await after(w, 1, discard=dropped.append)(fn)())
            await w.sleep(1)
        assert scope.cancelled_caught
        assert (got, dropped) == ((["won"], []) if w.name == "trio" else ([], ["won"]))

    exact.run(scenario)


# Exits, and attempts that cancel themselves.


class Exit(BaseException):
    """One of the caller's own."""


EXITS = [KeyboardInterrupt, SystemExit, GeneratorExit, Exit]


@pytest.mark.rule("F9")
@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("culprit", [1, 2])
def test_an_exit_of_an_attempt_leaves_the_call_as_it_is(
    async_world: World, culprit: int, kind: type[BaseException]
) -> None:
    async def scenario(w: World) -> None:
        error = kind("of an attempt")
        others = Sleepers()
        count = 0

        async def fn() -> None:
            nonlocal count
            count += 1
            if count == culprit:
                await w.sleep(2)
                raise error
            await others()

        policy = after(w, 1, max=3)
        with pytest.raises(kind) as caught:
            await policy(fn)()
        assert caught.value is error
        assert error.__context__ is None
        assert others.running == 0

    async_world.run(scenario)


@pytest.mark.rule("F9")
def test_an_exit_of_a_loser_is_not_swallowed_and_the_winners_result_discarded(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            try:
                await anyio.sleep_forever()
            finally:
                raise Exit
            return "never"

        dropped: list[str] = []
        with pytest.raises(Exit):
            await after(w, 1, discard=dropped.append)(fn)()
        assert dropped == ["won"]

    async_world.run(scenario)


@pytest.mark.rule("F9")
@pytest.mark.parametrize("where", ["while it waits", "while losers end"])
def test_an_exit_of_an_attempt_goes_before_the_callers_cancellation(
    exact: World, where: str
) -> None:
    async def scenario(w: World) -> None:
        count = 0

        async def fn() -> str:
            nonlocal count
            count += 1
            if count == 2 and where == "while losers end":
                return "won"
            try:
                await anyio.sleep_forever()
            finally:
                scope.cancel()
                await clean_up()
                if count == 2:
                    count = 0
                    raise Exit
            return "never"

        dropped: list[str] = []
        with pytest.raises(Exit):
            with anyio.move_on_after(3) as scope:
                await after(w, 1, discard=dropped.append)(fn)()
        assert dropped == (["won"] if where == "while losers end" else [])

    exact.run(scenario)


@pytest.mark.rule("F9", "F12", "M2")
def test_an_exit_of_a_predicate_a_hook_or_a_listener_leaves_bare(async_world: World) -> None:
    def leave(*_: object) -> bool:
        raise Exit

    async def scenario(w: World) -> None:
        async def fails() -> None:
            raise KeyError

        with pytest.raises(Exit):
            await after(w, 1, on=leave)(fails)()

        count = 0

        async def late() -> str:
            nonlocal count
            count += 1
            if count == 2:
                return "won"
            with contextlib.suppress(BaseException):
                await anyio.sleep_forever()
            return "late"

        with pytest.raises(Exit):
            await after(w, 1, discard=leave)(late)()

        count = 1
        with pytest.raises(Exit):
            await after(w, 1, on_result=leave)(late)()

        attempts = Sleepers()
        with subscribe(leave, HedgeLaunched), pytest.raises(Exit):
            await after(w, 1)(attempts)()
        assert attempts.running == 0

    async_world.run(scenario)


@pytest.mark.rule("F9", "H2")
@pytest.mark.parametrize("culprit", [1, 2])
def test_an_attempt_that_cancels_itself_cancels_the_call_and_the_task_goes_on(culprit: int) -> None:
    async def scenario(w: World) -> None:
        others = Sleepers()
        count = 0

        async def fn() -> None:
            nonlocal count
            count += 1
            if count != culprit:
                await others()
            await w.sleep(3)
            here = asyncio.current_task()
            assert here is not None
            here.cancel()
            await w.sleep(1)

        with pytest.raises(asyncio.CancelledError):
            await after(w, 1, max=3)(fn)()
        assert others.running == 0
        here = asyncio.current_task()
        assert here is not None
        assert here.cancelling() == 0
        await w.sleep(1)

    with world_named("asyncio") as world:
        world.run(scenario)


@pytest.mark.rule("F9")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_an_attempts_task_that_somebody_cancels_before_it_begins_cancels_the_call() -> None:
    async def scenario(w: World) -> None:
        attempts = Sleepers()
        policy = after(w, 1)
        me = asyncio.current_task()
        call = asyncio.create_task(policy(attempts)())
        await asyncio.sleep(0)
        (inner,) = asyncio.all_tasks() - {me, call}
        inner.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert attempts.begun == 0

    with world_named("asyncio") as world:
        world.run(scenario)
    gc.collect()  # anyio never awaits the attempt, and Python says so


@pytest.mark.rule("F9", "F4")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_when_all_tasks_are_cancelled_as_a_hedge_is_launched_it_does_not_stay_out() -> None:
    async def scenario(w: World) -> None:
        policy = after(w, 1)
        me = asyncio.current_task()
        call = asyncio.create_task(policy(Sleepers())())

        def cancel_all(_: HedgeLaunched) -> None:
            for task in asyncio.all_tasks() - {me}:
                task.cancel()

        with subscribe(cancel_all, HedgeLaunched):
            await asyncio.wait([call])
        assert call.cancelled()
        assert policy.stats().hedges == 1

    with world_named("asyncio") as world:
        world.run(scenario)
    gc.collect()  # anyio never awaits the attempt, and Python says so


CLOSED_DURING_A_CALL = """
import asyncio
from resilient import hedge

policy = hedge(1e-4, budget=None)
count = 0

@policy
async def fn():
    global count
    count += 1
    if count in (1, 2, 3):
        await asyncio.get_running_loop().create_future()
    return "won"

async def look():
    while count < 2:
        await asyncio.sleep(0)

loop = asyncio.new_event_loop()
task = loop.create_task(fn())
loop.run_until_complete(look())
loop.close()
del task, loop
print(asyncio.run(fn()), policy.stats().won)
"""


@pytest.mark.rule("F4")
@pytest.mark.real_clock  # subprocess polls
def test_a_loop_that_is_closed_during_a_call_leaves_no_hedge_out() -> None:
    done = subprocess.run(  # apart: asyncio complains of the tasks that die with their loop
        [sys.executable, "-c", CLOSED_DURING_A_CALL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "won 1\n", done.stderr

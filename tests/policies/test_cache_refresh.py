"""C8: ahead of its end a value is brought in again, and nobody waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import trio

from resilient import Cache, cache, current_deadline, deadline, remaining
from resilient.events import StaleServed
from resilient.testing import VirtualTime, record
from tests.policies.caches import PATIENCE, Source, broken_after, settled
from tests.worlds import ThreadsWorld, World, drive, in_threads, world_named

pytestmark = pytest.mark.loop


@pytest.fixture(params=["asyncio", "trio", "threads"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The worlds whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


def made(w: World, **settings: Any) -> Cache[Any]:
    """A cache whose values live long, and are refreshed once they are 0.9 units old."""
    return cache(1000 * w.unit, refresh_ahead=999.1 * w.unit, jitter=0, name="prices", **settings)


def refreshes(policy: Cache[Any]) -> tuple[int, int]:
    stats = policy.stats()
    return stats.refreshes, stats.refresh_failed


# One refresh, ahead of the end.


@pytest.mark.rule("C8")
def test_a_hit_ahead_of_the_end_returns_the_old_value_and_begins_one_refresh(
    world: World,
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(1)
        assert await w.call(fn) == "value 0"
        await settled(w)
        assert source.runs == 2
        assert refreshes(policy) == (1, 0)
        assert await w.call(fn) == "value 1"
        stats = policy.stats()
        assert (stats.calls, stats.hits, stats.misses) == (3, 2, 1)

    world.run(scenario)


@pytest.mark.rule("C8")
def test_before_that_a_hit_begins_none(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = cache(10.0, refresh_ahead=4.0, jitter=0)
        fn = policy(Source(w).fn)
        await w.call(fn)
        await w.sleep(5.75)
        await w.call(fn)
        await settled(w)
        assert refreshes(policy) == (0, 0)
        await w.sleep(0.25)
        await w.call(fn)
        assert refreshes(policy) == (1, 0)
        await settled(w)

    exact.run(scenario)


@pytest.mark.rule("C8")
def test_there_are_never_two_refreshes_of_one_key(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w)
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(1)
        source.lasts = 2
        assert await w.together(*[fn] * 100) == ["value 0"] * 100
        await w.sleep(1)
        assert await w.together(*[fn] * 100) == ["value 0"] * 100
        assert (source.runs, refreshes(policy)) == (2, (1, 0))
        await w.sleep(1.5)
        assert await fn() == "value 1"

    async_world.run(scenario)


@pytest.mark.rule("C8", "F4")
def test_in_plain_threads_a_refresh_is_a_short_lived_daemon_thread(
    virtual_time: VirtualTime,
) -> None:
    ran_in: list[threading.Thread] = []
    policy = cache(10.0, refresh_ahead=5.0, jitter=0, name="prices")
    fn = policy(lambda: ran_in.append(threading.current_thread()))
    fn()
    virtual_time.advance(6)
    fn()
    drive(settled(ThreadsWorld(virtual_time)))
    first, own = ran_in
    own.join(PATIENCE)
    assert first is threading.current_thread()
    assert not first.daemon, "else it would be inherited"
    assert (own.daemon, own.name, own.is_alive()) == (True, "resilient.cache prices", False)


@pytest.mark.rule("C8", "F4")
def test_threads_at_a_barrier_begin_one_refresh(virtual_time: VirtualTime) -> None:
    ran_in: list[threading.Thread] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        ran_in.append(threading.current_thread())
        if len(ran_in) > 1:
            begun.set()
            assert go_on.wait(PATIENCE)
        return len(ran_in)

    policy = cache(10.0, refresh_ahead=5.0, jitter=0, name="prices")
    fn = policy(slow)
    fn()
    virtual_time.advance(6)
    assert in_threads(*[fn] * 30) == [1] * 30
    assert begun.wait(PATIENCE)
    assert in_threads(*[fn] * 30) == [1] * 30
    assert refreshes(policy) == (1, 0)
    go_on.set()
    _, own = ran_in
    own.join(PATIENCE)
    assert not own.is_alive()
    assert fn() == 2


@pytest.mark.rule("C8")
def test_callers_who_come_after_the_end_join_the_refresh(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = cache(4 * w.unit, refresh_ahead=3.5 * w.unit, jitter=0)
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(1)
        source.lasts = 6
        assert await fn() == "value 0"
        await w.sleep(4)
        assert await w.together(fn, fn) == ["value 1"] * 2
        assert (source.runs, refreshes(policy), policy.stats().misses) == (2, (1, 0), 3)

    async_world.run(scenario)


@pytest.mark.rule("C8")
def test_sync_code_on_a_loops_thread_is_refreshed_in_a_thread_as_well(async_world: World) -> None:
    async def scenario(w: World) -> None:
        ran_in: list[str] = []
        policy = made(w)
        fn = policy(lambda: ran_in.append(threading.current_thread().name))
        fn()
        await w.sleep(1)
        fn()
        for thread in threading.enumerate():
            if thread.name.startswith("resilient.cache"):
                thread.join(PATIENCE)
        assert ran_in == [threading.current_thread().name, "resilient.cache prices"]

    async_world.run(scenario)


@pytest.mark.rule("C3", "C8")
def test_there_is_none_is_not_refreshed(world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lambda _: None)
        policy = made(w, negative_ttl=1000 * w.unit)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(1)
        await w.call(fn)
        await settled(w)
        assert (source.runs, refreshes(policy)) == (1, (0, 0))

    world.run(scenario)


# It is on its own.


@pytest.mark.rule("C8", "F9")
def test_a_refresh_is_not_cancelled_with_its_caller(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w)
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(1)
        source.lasts = 2
        async with anyio.create_task_group() as group:

            async def caller() -> None:
                await fn()
                await w.sleep(1000)

            group.start_soon(caller)
            await w.sleep(1)
            group.cancel_scope.cancel()
        await w.sleep(2)
        assert (source.runs, source.cancelled, refreshes(policy)) == (2, 0, (1, 0))
        assert await fn() == "value 1"

    async_world.run(scenario)


@pytest.mark.rule("C8", "D6")
def test_a_refresh_inherits_no_deadline_and_sees_the_callers_context(world: World) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    async def scenario(w: World) -> None:
        seen: list[object] = []

        def look() -> object:
            seen.append((current_deadline(), remaining(), tenant.get("nobody")))
            return w.sleep(2)

        policy = made(w)
        fn = policy(w.function(look))
        await w.call(fn)
        await w.sleep(1)
        tenant.set("ours")
        with deadline(1000 * w.unit) as limit:
            await w.call(fn)
            assert current_deadline() is limit
        await w.sleep(2)
        await settled(w)
        assert seen == [(None, float("inf"), "nobody"), (None, float("inf"), "ours")]
        assert refreshes(policy) == (1, 0)

    world.run(scenario)


@pytest.mark.rule("C8", "D6")
def test_a_refresh_outlives_the_deadline_of_its_caller(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w)
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(1)
        source.lasts = 3
        async with deadline(w.unit):
            assert await fn() == "value 0"
        await w.sleep(3.5)
        assert await fn() == "value 1"
        assert source.cancelled == 0

    async_world.run(scenario)


# Its failure.


@pytest.mark.rule("C8")
def test_a_refresh_that_fails_is_silent_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, broken_after(1, OSError("down")))
        policy = made(w)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(1)
        assert await w.call(fn) == "value 0"
        await settled(w)
        assert (source.runs, refreshes(policy)) == (2, (1, 1))
        assert await w.call(fn) == "value 0"
        stats = policy.stats()
        assert (stats.hits, stats.misses, stats.stale_served) == (2, 1, 0)

    with caplog.at_level(logging.WARNING), record(StaleServed) as events:
        world.run(scenario)
    assert not caplog.records
    assert not events


@pytest.mark.rule("C8")
def test_a_refresh_that_failed_is_tried_again_after_a_tenth_of_what_is_ahead(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        source = Source(w, lambda number: error if number == 1 else number)
        policy = cache(100.0, refresh_ahead=40.0, jitter=0)
        fn = policy(source.fn)
        await w.call(fn)
        await w.sleep(60)
        await w.call(fn)
        await settled(w)  # half a second on a loop
        await w.sleep(3.25)
        await w.call(fn)
        await settled(w)
        assert refreshes(policy) == (1, 1)
        await w.sleep(0.75)
        await w.call(fn)
        await settled(w)
        assert (refreshes(policy), await w.call(fn)) == ((2, 1), 2)

    exact.run(scenario)


@pytest.mark.rule("C4", "C8")
@pytest.mark.parametrize("stale", [0, 1000])
def test_who_joined_a_refresh_that_fails_gets_what_a_run_would_give(
    async_world: World, stale: float
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, broken_after(1, OSError("down")))
        policy = cache(
            4 * w.unit, refresh_ahead=3.5 * w.unit, jitter=0, stale=stale * w.unit, name="prices"
        )
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(1)
        source.lasts = 6
        await fn()
        await w.sleep(4)
        (outcome,) = await w.together(fn)
        await w.sleep(0.2)
        if stale:
            assert outcome == "value 0"
        else:
            assert isinstance(outcome, OSError)
        assert (source.runs, refreshes(policy)) == (2, (1, 1))
        assert policy.stats().stale_served == bool(stale)

    async_world.run(scenario)


# What is no Exception.


class Quit(BaseException):
    """No Exception, and no cancellation."""


@pytest.mark.rule("C8", "F9")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Quit])
def test_what_is_no_exception_ends_a_thread_of_ones_own_and_is_no_failure(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    ended: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: ended.append(args.exc_type))
    error = kind()
    runs: list[int] = []

    def fetch() -> int:
        runs.append(1)
        if len(runs) == 2:
            raise error
        return len(runs)

    policy = cache(10.0, refresh_ahead=5.0, jitter=0)
    fn = policy(fetch)
    fn()
    virtual_time.advance(6)
    for expected in (2, 3):
        assert fn() == 1
        for thread in threading.enumerate():
            if thread.name.startswith("resilient.cache"):
                thread.join(PATIENCE)
        assert len(runs) == expected
    assert ended == [kind]
    assert (refreshes(policy), fn()) == ((2, 0), 3)


@pytest.mark.rule("C8", "F9")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_refresh_ends_an_asyncio_program_and_is_no_failure(
    virtual_time: VirtualTime, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []
    error = kind()

    async def fetch() -> int:
        runs.append(1)
        if len(runs) == 2:
            raise error
        return len(runs)

    policy = cache(10.0, refresh_ahead=5.0, jitter=0)
    fn = policy(fetch)

    async def main() -> None:
        await fn()
        await asyncio.sleep(6)
        await fn()
        await asyncio.sleep(0.1)

    with pytest.raises(kind) as caught:
        virtual_time.run(main)
    assert caught.value is error
    assert refreshes(policy) == (1, 0)
    with caplog.at_level(logging.ERROR, "asyncio"):
        gc.collect()  # asyncio says that nobody asked for the task's error

    async def again() -> None:
        assert await fn() == 1
        await asyncio.sleep(0.1)
        assert await fn() == 3

    virtual_time.run(again)
    assert refreshes(policy) == (2, 0)


@pytest.mark.rule("C8", "F9")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_refresh_ends_a_trio_program_and_is_no_failure(
    virtual_time: VirtualTime, kind: type[BaseException]
) -> None:
    error = kind()
    runs: list[int] = []

    async def fetch() -> int:
        runs.append(1)
        if len(runs) == 2:
            raise error
        return len(runs)

    policy = cache(10.0, refresh_ahead=5.0, jitter=0)
    fn = policy(fetch)

    async def main() -> None:
        await fn()
        await trio.sleep(6)
        await fn()
        await trio.sleep(0.1)

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main, clock=virtual_time.trio_clock())
    causes: list[BaseException | None] = [caught.value]
    while causes[-1] is not None and causes[-1] is not error:
        one = causes[-1]
        causes.append(one.exceptions[0] if isinstance(one, BaseExceptionGroup) else one.__cause__)
    assert causes[-1] is error
    assert refreshes(policy) == (1, 0)


# The entry goes meanwhile.


@pytest.mark.rule("C6", "C8")
@pytest.mark.parametrize("everything", [False, True])
def test_what_a_refresh_brings_is_not_kept_if_the_key_was_dropped(
    async_world: World, everything: bool
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, key=lambda: "k")
        fn: Callable[..., Any] = policy(source.fn)
        await fn()
        await w.sleep(1)
        source.lasts = 2
        await fn()
        await w.sleep(1)
        policy.clear() if everything else policy.invalidate("k")
        source.lasts = 0
        assert await fn() == "value 2"
        await w.sleep(1.5)
        assert await fn() == "value 2"
        await settled(w)
        assert (refreshes(policy), await fn()) == ((2, 0), "value 3"), "it is refreshed in turn"

    async_world.run(scenario)


@pytest.mark.rule("C8")
@pytest.mark.parametrize("async_world", ["asyncio", "trio"], indirect=True)  # exact ones
def test_an_entry_that_was_evicted_during_its_refresh_comes_back(async_world: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, key=lambda key: key, max_size=1)
        fn: Callable[..., Any] = policy(source.fn)
        await fn("a")
        await w.sleep(1)
        source.lasts = 2
        await fn("a")
        await w.sleep(0.2)
        source.lasts = 0
        await fn("b")
        await w.sleep(3)
        assert await fn("a") == "value 1"
        await settled(w)
        assert (refreshes(policy), await fn("a")) == ((2, 0), "value 3")

    async_world.run(scenario)


# Loops that differ.


@pytest.mark.rule("C8")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_an_eager_task_may_refresh_at_once(virtual_time: VirtualTime) -> None:
    async def main() -> None:
        factory = getattr(asyncio, "eager_task_factory")  # noqa: B009  # unknown to 3.11
        asyncio.get_running_loop().set_task_factory(factory)
        runs: list[int] = []

        async def fetch() -> int:
            runs.append(1)
            return len(runs)

        policy = cache(10.0, refresh_ahead=5.0, jitter=0)
        fn = policy(fetch)
        await fn()
        await asyncio.sleep(6)
        assert await fn() in {1, 2}
        await asyncio.sleep(0.1)
        assert (await fn(), refreshes(policy)) == (2, (1, 0))

    virtual_time.run(main)


@pytest.mark.rule("C8", "F4")
def test_two_loops_do_not_refresh_one_key_at_once(virtual_time: VirtualTime) -> None:
    runs: list[int] = []
    inside, go_on = threading.Event(), threading.Event()

    async def fetch() -> int:
        runs.append(1)
        if len(runs) == 2:
            inside.set()
            await asyncio.to_thread(go_on.wait, PATIENCE)
        return len(runs)

    policy = cache(10.0, refresh_ahead=5.0, jitter=0)
    fn = policy(fetch)

    async def stay() -> None:
        assert await fn() == 1
        assert await asyncio.to_thread(go_on.wait, PATIENCE)

    def first() -> None:
        asyncio.run(stay())

    def second() -> None:
        assert inside.wait(PATIENCE)
        assert asyncio.run(fn()) == 1
        go_on.set()

    asyncio.run(fn())
    virtual_time.advance(6)
    assert in_threads(first, second) == [None, None]
    assert policy.stats().refreshes == 1


FORKED = """
import os, threading
from resilient import cache
from resilient.testing import virtual_time

inside, go_on, runs = threading.Event(), threading.Event(), []
policy = cache(10.0, refresh_ahead=5.0, jitter=0)

@policy
def price():
    runs.append(1)
    if len(runs) == 2:
        inside.set()
        assert go_on.wait(30)
    return len(runs)

def threads():
    return [one for one in threading.enumerate() if one.name.startswith("resilient.cache")]

with virtual_time() as time:
    price()
    time.advance(6)
    assert price() == 1
    assert inside.wait(30)
    pid = os.fork()
    if pid == 0:
        import faulthandler
        faulthandler.dump_traceback_later(20, exit=True)
        assert price() == 1  # the parent's refresh is not here: this begins another
        for one in threads(): one.join(10)
        assert price() == 3, runs
        assert policy.stats().refreshes == 2
        policy.clear()
        assert price() == 4
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"
    assert price() == 1 and policy.stats().refreshes == 1
    go_on.set()
    for one in threads(): one.join(10)
    assert price() == 2
print("ended well")
"""


@pytest.mark.rule("C8", "F4")
@pytest.mark.real_clock  # subprocess polls
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform")
def test_a_refresh_of_the_parents_is_not_the_childs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ended well\n", done.stderr

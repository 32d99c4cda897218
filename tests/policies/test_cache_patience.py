"""C4: a caller that has an old value does not wait long for a new one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient import Cache, DeadlineExceeded, cache, current_deadline, deadline, singleflight
from resilient._runtime import background
from resilient.events import StaleServed
from resilient.testing import VirtualTime, record
from tests.policies.caches import PATIENCE, Source
from tests.worlds import ThreadsWorld, World, in_threads, world_named

pytestmark = pytest.mark.rule("C4")
LONG = 1000.0
"""Units: nothing that lasts so long ends during the test."""


@pytest.fixture(params=["asyncio", "trio"])
def exact(request: pytest.FixtureRequest) -> Iterator[World]:
    """The loops whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


def made(w: World, **settings: Any) -> Cache[Any]:
    """A cache whose values end after two units, and are good for a long time after that."""
    given: dict[str, Any] = {"stale": LONG * w.unit, "jitter": 0, "name": "prices", **settings}
    return cache(2 * w.unit, **given)


async def ended(w: World, policy: Cache[Any], source: Source) -> Callable[..., Any]:
    """A function whose value has ended, and that now lasts long."""
    fn: Callable[..., Any] = policy(source.fn)
    await w.call(fn)
    await w.sleep(3)
    source.lasts = 50
    return fn


# On loops.


@pytest.mark.rule("M1")
def test_a_caller_whose_refresh_is_late_gets_the_old_value_before_its_deadline(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w)
        fn = await ended(w, policy, source)
        with record(StaleServed) as events:
            async with deadline(10 * w.unit):
                assert await fn() == "value 0"
        assert source.cancelled == 0, "it goes on"
        stats = policy.stats()
        assert (stats.misses, stats.stale_served, stats.refreshes) == (2, 1, 0)
        (event,) = events
        assert (event.policy, event.kind, event.error) == ("prices", "cache", None)
        assert event.age >= 3 * w.unit

    async_world.run(scenario)


@pytest.mark.parametrize(
    ("patience", "limit", "waits"),
    [(None, 10, 9), (4, None, 4), (4, 10, 4), (9.5, 10, 9), (0, None, 0), (0, 10, 0)],
)
def test_it_waits_no_longer_than_its_patience_and_nine_tenths_of_what_is_left(
    exact: World, patience: float | None, limit: float | None, waits: float
) -> None:
    async def scenario(w: World) -> None:
        fn = await ended(w, made(w, patience=patience), Source(w))
        began = w.now()
        async with deadline(limit):
            assert await fn() == "value 0"
            assert w.now() - began == pytest.approx(waits)

    exact.run(scenario)


def test_a_refresh_that_is_late_goes_on_for_whoever_comes_next_and_is_one(exact: World) -> None:
    async def scenario(w: World) -> None:
        limits: list[object] = []
        source = Source(w)
        policy = made(w, patience=1)
        guarded: Callable[..., Any] = policy(w.function(lambda: note()))

        async def note() -> object:
            limits.append(current_deadline())
            return await source.fn()

        await guarded()
        await w.sleep(3)
        source.lasts = 50
        for _ in range(5):
            async with deadline(20):
                assert await guarded() == "value 0"
        assert await w.together(*[guarded] * 20) == ["value 0"] * 20
        assert (source.runs, source.cancelled) == (1 + 1, 0)
        assert limits[1] is None
        await w.sleep(45)
        assert await guarded() == "value 1"
        assert policy.stats().hits == 1

    exact.run(scenario)


def test_a_refresh_in_time_is_what_the_caller_gets(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, patience=4)
        fn = await ended(w, policy, source)
        source.lasts = 3
        assert await fn() == "value 1"
        assert policy.stats().stale_served == 0

    exact.run(scenario)


def test_a_caller_that_joins_a_refresh_waits_as_long_as_it_may_itself(exact: World) -> None:
    async def scenario(w: World) -> None:
        fn = await ended(w, made(w), Source(w))
        began = w.now()
        left_at: list[float] = []

        async def ask(limit: float) -> None:
            async with deadline(limit):
                assert await fn() == "value 0"
            left_at.append(w.now() - began)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, 20)
            await w.sleep(2)
            group.start_soon(ask, 10)
        assert left_at == pytest.approx([11, 18])

    exact.run(scenario)


def test_a_refresh_that_fails_in_time_is_told_with_its_error(exact: World) -> None:
    async def scenario(w: World) -> None:
        error = OSError("down")
        source = Source(w, lambda number: error if number else "old")
        fn = await ended(w, made(w, patience=9), source)
        source.lasts = 1
        with record(StaleServed) as events:
            assert await fn() == "old"
        assert [event.error for event in events] == [error]

    exact.run(scenario)


def test_without_an_old_value_a_caller_waits_until_its_deadline(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=50)
        policy = made(w, patience=1)
        with pytest.raises(DeadlineExceeded):
            async with deadline(10):
                await w.call(policy(source.fn))
        assert w.now() == pytest.approx(10)
        await w.sleep(1)
        assert source.cancelled == 1

    exact.run(scenario)


def test_with_all_the_time_a_caller_waits_for_the_new_value(exact: World) -> None:
    async def scenario(w: World) -> None:
        fn = await ended(w, made(w), Source(w))
        assert await fn() == "value 1"

    exact.run(scenario)


def test_an_old_value_that_ends_while_a_caller_waits_is_not_served(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, stale=5, patience=8)
        fn = await ended(w, policy, source)
        source.lasts = 12
        assert await fn() == "value 1"
        assert (source.runs, policy.stats().stale_served) == (2, 0)

    exact.run(scenario)


@pytest.mark.rule("S3")
def test_a_refresh_that_hangs_ends_with_the_last_caller_once_the_old_value_is_gone(
    exact: World,
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, stale=5, patience=0)
        fn = await ended(w, policy, source)
        source.lasts = LONG
        assert await fn() == "value 0"
        await w.sleep(5)
        with pytest.raises(DeadlineExceeded):
            async with deadline(1):
                await fn()
        await w.sleep(1)
        assert (source.runs, source.cancelled) == (2, 1)
        source.lasts = 0
        assert await fn() == "value 2"

    exact.run(scenario)


@pytest.mark.rule("C6")
@pytest.mark.parametrize("everything", [False, True])
def test_a_value_that_is_invalidated_while_a_caller_waits_is_not_served(
    exact: World, everything: bool
) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, patience=4, key=lambda: "k")
        fn = await ended(w, policy, source)

        async def drop() -> None:
            await w.sleep(2)
            policy.clear() if everything else policy.invalidate("k")
            source.lasts = 3

        found, _ = await w.together(fn, drop)
        assert found == "value 2"
        assert policy.stats().stale_served == 0
        assert await fn() == "value 2"
        await w.sleep(60)
        assert policy.stats().size == 1
        assert source.runs == 3

    exact.run(scenario)


@pytest.mark.rule("F9")
def test_a_caller_that_is_cancelled_while_it_waits_gets_its_cancellation(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, patience=9)
        fn = await ended(w, policy, source)
        with anyio.move_on_after(3) as scope:
            await fn()
        assert scope.cancelled_caught
        await w.sleep(48)
        assert await fn() == "value 1"
        assert (source.cancelled, policy.stats().stale_served) == (0, 0)

    exact.run(scenario)


@pytest.mark.rule("C9")
def test_an_old_value_that_is_served_instead_is_a_copy(exact: World) -> None:
    async def scenario(w: World) -> None:
        fn = await ended(w, made(w, patience=0, copy=list), Source(w, lambda number: [number]))
        for _ in range(2):
            found = await fn()
            assert found == [0]
            found.append("mine")

    exact.run(scenario)


# In plain threads.


class Slow:
    """A function of plain threads that from its second run on waits to be let go."""

    def __init__(self) -> None:
        self.ran_in: list[threading.Thread] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def __call__(self) -> str:
        self.ran_in.append(threading.current_thread())
        number = len(self.ran_in)
        if number > 1:
            self.begun.set()
            assert self.go_on.wait(PATIENCE)
            if self.error is not None:
                raise self.error
        return f"value {number}"

    def end(self) -> None:
        self.go_on.set()
        for thread in self.ran_in[1:]:
            if thread is not threading.current_thread():
                thread.join(PATIENCE)
                assert not thread.is_alive()


@pytest.fixture
def slow(virtual_time: VirtualTime) -> Iterator[Slow]:
    function = Slow()
    yield function
    function.end()


def cached(time: VirtualTime, slow: Slow, **settings: Any) -> Any:
    """A function whose value has ended."""
    fn = made(ThreadsWorld(time), **settings)(slow)
    assert fn() == "value 1"
    time.advance(3)
    return fn


def pass_by(time: VirtualTime, seconds: float, waiting: int = 1) -> Callable[[], None]:
    """Let *seconds* pass, once so many threads wait for time."""

    def advance() -> None:
        for _ in range(10_000):
            if len(time._waiting) >= waiting:
                break
            threading.Event().wait(0.0005)
        time.advance(seconds)

    return advance


def test_in_threads_the_refresh_is_a_thread_of_its_own_and_the_caller_leaves_in_time(
    virtual_time: VirtualTime, slow: Slow
) -> None:
    fn = cached(virtual_time, slow)

    def ask() -> object:
        with deadline(10):
            return fn()

    with record(StaleServed) as events:
        found, _ = in_threads(ask, pass_by(virtual_time, 9))
    assert found == "value 1"
    assert [event.error for event in events] == [None]
    _, own = slow.ran_in
    assert (own.daemon, own.name) == (True, "resilient.cache prices")
    slow.end()
    assert fn() == "value 2"
    assert (fn.policy.stats().stale_served, fn.policy.stats().hits) == (1, 1)


def test_in_threads_without_patience_at_all_the_old_value_is_served_at_once(
    virtual_time: VirtualTime, slow: Slow
) -> None:
    fn = cached(virtual_time, slow, patience=0)
    assert [fn() for _ in range(5)] == ["value 1"] * 5
    assert slow.begun.wait(PATIENCE)
    assert len(slow.ran_in) == 2, "one refresh"
    slow.end()
    assert fn() == "value 2"


def test_threads_at_a_barrier_begin_one_refresh(virtual_time: VirtualTime, slow: Slow) -> None:
    fn = cached(virtual_time, slow, patience=4)
    *found, _ = in_threads(*[fn] * 10, pass_by(virtual_time, 4, waiting=10))
    assert found == ["value 1"] * 10
    assert len(slow.ran_in) == 2
    assert fn.policy.stats().stale_served == 10


def test_in_threads_a_refresh_in_time_is_what_the_caller_gets(
    virtual_time: VirtualTime, slow: Slow
) -> None:
    fn = cached(virtual_time, slow, patience=4)

    def let_go() -> None:
        assert slow.begun.wait(PATIENCE)
        slow.go_on.set()

    *found, _ = in_threads(fn, fn, let_go)
    assert found == ["value 2"] * 2
    assert fn.policy.stats().stale_served == 0


def test_in_threads_a_refresh_that_fails_serves_the_old_value(
    virtual_time: VirtualTime, slow: Slow
) -> None:
    fn, error = cached(virtual_time, slow, patience=4), OSError("down")
    slow.error = error
    slow.go_on.set()
    with record(StaleServed) as events:
        assert fn() == "value 1"
    assert [event.error for event in events] == [error]


def test_in_threads_a_caller_with_all_the_time_joins_a_refresh_that_is_late(
    virtual_time: VirtualTime, slow: Slow
) -> None:
    fn = cached(virtual_time, slow)

    def patient() -> object:
        assert slow.begun.wait(PATIENCE)
        threading.Timer(0.01, slow.go_on.set).start()
        return fn()

    def hasty() -> object:
        with deadline(1e-9):
            return fn()

    _, _, found = in_threads(hasty, pass_by(virtual_time, 1), patient)
    assert found == "value 2"
    assert len(slow.ran_in) == 2


@pytest.mark.rule("C6")
def test_in_threads_an_invalidated_value_is_not_served(
    virtual_time: VirtualTime, slow: Slow
) -> None:
    fn = cached(virtual_time, slow, patience=4)

    def drop() -> None:
        assert slow.begun.wait(PATIENCE)
        fn.policy.clear()
        slow.begun.clear()
        pass_by(virtual_time, 4)()
        assert slow.begun.wait(PATIENCE), "the caller begins a new run"
        slow.go_on.set()

    found, _ = in_threads(fn, drop)
    assert found == "value 3"
    assert fn.policy.stats().stale_served == 0


@pytest.mark.rule("F11")
def test_sync_code_on_a_loops_thread_never_waits(async_world: World) -> None:
    async def scenario(w: World) -> None:
        slow = Slow()
        fn = made(w, patience=4 * w.unit)(slow)
        assert fn() == "value 1"
        await w.sleep(3)
        assert [fn(), fn()] == ["value 1"] * 2
        assert slow.begun.wait(PATIENCE)
        slow.end()
        assert len(slow.ran_in) == 2
        assert slow.ran_in[1] is not threading.current_thread()
        assert fn() == "value 2"

    async_world.run(scenario)


def test_without_another_thread_to_be_had_the_caller_runs_it_itself(
    virtual_time: VirtualTime, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    fn = cached(virtual_time, slow, patience=0)
    monkeypatch.setattr(background, "start_thread", refuse)
    slow.go_on.set()
    assert fn() == "value 2"
    assert slow.ran_in[1] is threading.current_thread()


@pytest.mark.rule("F9")
def test_an_interrupt_while_the_thread_is_started_hangs_nobody(
    virtual_time: VirtualTime, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fn = cached(virtual_time, slow, patience=0)
    with monkeypatch.context() as patch:
        patch.setattr(background, "start_thread", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fn()
    assert fn() == "value 1"
    assert slow.begun.wait(PATIENCE)
    slow.end()
    assert fn() == "value 2"


@pytest.mark.rule("S7")
def test_a_refresh_that_asks_for_its_own_key_is_told_so(virtual_time: VirtualTime) -> None:
    runs: list[int] = []

    @cache(2, stale=LONG, jitter=0, patience=9, name="prices")
    def fn() -> int:
        runs.append(1)
        return fn() if len(runs) > 1 else 1

    assert fn() == 1
    virtual_time.advance(3)
    with record(StaleServed) as events:
        assert fn() == 1
    (event,) = events
    assert isinstance(event.error, RuntimeError)
    assert "its own key" in str(event.error)


@pytest.mark.rule("S3")
def test_a_single_flight_is_cancelled_with_its_last_waiter_as_ever(exact: World) -> None:
    async def scenario(w: World) -> None:
        source = Source(w, lasts=9)
        with anyio.move_on_after(1):
            await singleflight()(source.fn)()
        await w.sleep(1)
        assert source.cancelled == 1

    exact.run(scenario)

"""Blocks and calls in one's own hands (F3), and one object for everybody at once (F4)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Generator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from resilient import (
    Breaker,
    BreakerState,
    Call,
    CircuitOpen,
    Pipeline,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from tests.worlds import World, drive, in_threads


def counts(policy: Any) -> tuple[int, int, int, int, int]:
    """Calls, successes, failures, ignored, in flight."""
    stats = policy.stats()
    return stats.calls, stats.successes, stats.failures, stats.ignored, stats.in_flight


@pytest.fixture(params=["plain", "keyed"])
def bracket(request: pytest.FixtureRequest) -> Any:
    """What brackets a call: a breaker, and one key of a keyed breaker."""
    return (
        breaker("payments")
        if request.param == "plain"
        else breaker("payments", key="tenant").of("a")
    )


# F3: blocks.


@pytest.mark.rule("F3")
def test_a_block_is_a_call_in_both_colours(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket as call:
            assert isinstance(call, Call)
            assert counts(bracket) == (1, 0, 0, 0, 1)
        async with bracket as call:
            assert isinstance(call, Call)
        with pytest.raises(ValueError):
            with bracket:
                raise ValueError
        with pytest.raises(ValueError):
            async with bracket:
                raise ValueError
        assert counts(bracket) == (4, 2, 2, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F3", "B2")
def test_fail_and_ignore_win_over_what_the_block_raises(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket as call:
            call.fail()
        assert counts(bracket) == (1, 0, 1, 0, 0)
        with pytest.raises(ValueError):
            with bracket as call:
                call.ignore()
                raise ValueError
        assert counts(bracket) == (2, 0, 1, 1, 0)

    world.run(scenario)


@pytest.mark.rule("F3", "B2")
def test_a_call_that_was_said_to_fail_is_a_failure_even_when_interrupted(
    world: World, bracket: Any
) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(KeyboardInterrupt):
            with bracket as call:
                call.fail()
                raise KeyboardInterrupt
        assert counts(bracket) == (1, 0, 1, 0, 0)
        with bracket as call:
            call.fail()
            call.ignore()
        assert counts(bracket) == (2, 0, 1, 1, 0), "what was said last"

    world.run(scenario)


@pytest.mark.rule("F3")
def test_blocks_nest_also_in_themselves(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket:
            with bracket as inner:
                inner.fail()
                assert counts(bracket) == (2, 0, 0, 0, 2)
            assert counts(bracket) == (2, 0, 1, 0, 1)
            with bracket as second:
                second.ignore()
        assert counts(bracket) == (3, 1, 1, 1, 0)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_blocks_of_several_policies_end_in_any_order(world: World) -> None:
    async def scenario(w: World) -> None:
        one, other = breaker("one"), breaker("other")
        first, second = one.__enter__(), other.__enter__()
        first.fail()
        one.__exit__(None, None, None)
        assert counts(one) == (1, 0, 1, 0, 0)
        assert counts(other) == (1, 0, 0, 0, 1)
        second.ignore()
        other.__exit__(None, None, None)
        assert counts(other) == (1, 0, 0, 1, 0)
        with one:
            pass
        assert counts(one) == (2, 1, 1, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_whose_call_was_closed_inside_counts_once(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket as call:
            call.close(ValueError())
        assert counts(bracket) == (1, 0, 1, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_that_is_refused_is_not_open(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket:
            bracket.force_open()
            with pytest.raises(CircuitOpen):
                with bracket:
                    pytest.fail("not reached")
        assert counts(bracket) == (1, 1, 0, 0, 0)
        with pytest.raises(RuntimeError, match=r"admit\(\)"):
            bracket.__exit__(None, None, None)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_can_not_end_in_a_child_task_and_still_ends_in_its_own(
    async_world: World, bracket: Any
) -> None:
    async def scenario(w: World) -> None:
        said: list[str] = []

        async def child() -> None:
            with pytest.raises(RuntimeError) as refused:
                bracket.__exit__(None, None, None)
            said.append(str(refused.value))

        with bracket:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
            assert counts(bracket) == (1, 0, 0, 0, 1), "the place is still taken"
        assert counts(bracket) == (1, 1, 0, 0, 0)
        assert "admit()" in said[0]
        assert "another context" in said[0]

    async_world.run(scenario)


@pytest.mark.rule("F3")
def test_a_child_task_has_blocks_of_its_own_inside_its_parents(
    async_world: World, bracket: Any
) -> None:
    async def scenario(w: World) -> None:
        async def child(seconds: float) -> None:
            with bracket:
                await w.sleep(seconds)

        async with anyio.create_task_group() as group:
            with bracket:
                group.start_soon(child, 2)
                group.start_soon(child, 1)
                await w.sleep(0.5)
                assert counts(bracket)[-1] == 3
            assert counts(bracket)[-1] == 2
        assert counts(bracket) == (3, 3, 0, 0, 0)

    async_world.run(scenario)


@pytest.mark.rule("F3")
def test_a_block_can_not_end_in_another_thread(bracket: Any) -> None:
    with bracket:
        (refused,) = in_threads(lambda: bracket.__exit__(None, None, None))
        assert isinstance(refused, RuntimeError)
        assert "admit()" in str(refused)
        copied = contextvars.copy_context()
        with pytest.raises(RuntimeError, match=r"admit\(\)"):
            copied.run(bracket.__exit__, None, None, None)
        assert counts(bracket) == (1, 0, 0, 0, 1)
    assert counts(bracket) == (1, 1, 0, 0, 0)


@pytest.mark.rule("F3")
def test_a_block_that_never_began_can_not_end(bracket: Any) -> None:
    with pytest.raises(RuntimeError, match=r"admit\(\)"):
        bracket.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match=r"admit\(\)"):
        drive(bracket.__aexit__(None, None, None))


@pytest.mark.rule("F3")
def test_policies_that_may_call_many_times_bracket_nothing() -> None:
    for policy in (retry(on=ValueError), singleflight(), pipeline(breaker())):
        for method in ("__enter__", "__aenter__", "admit"):
            assert not hasattr(policy, method)


# F3: calls.


@pytest.mark.rule("F3")
def test_close_judges_an_error_as_if_a_block_had_raised_it(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        bracket.admit().close()
        bracket.admit().close(ValueError())
        bracket.admit().close(CircuitOpen("inner"))
        bracket.admit().close(KeyboardInterrupt())
        bracket.admit().close(error=ExceptionGroup("two", [CircuitOpen("inner"), ValueError()]))
        assert counts(bracket) == (5, 1, 2, 2, 0)
        call = bracket.admit()
        call.fail()
        call.close()
        assert counts(bracket) == (6, 1, 3, 2, 0)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_closing_twice_does_nothing(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        call = bracket.admit()
        call.close()
        call.close()
        call.close(ValueError())
        assert counts(bracket) == (1, 1, 0, 0, 0)
        for late in (call.fail, call.ignore):
            with pytest.raises(RuntimeError, match="over"):
                late()

    world.run(scenario)


@pytest.mark.rule("F3")
def test_a_call_is_a_context_manager_and_is_used_once(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        with bracket.admit() as call:
            with pytest.raises(RuntimeError, match="once"):
                with call:
                    pytest.fail("not reached")
            assert counts(bracket) == (1, 0, 0, 0, 1)
        with pytest.raises(RuntimeError, match="once"):
            with call:
                pytest.fail("not reached")
        with pytest.raises(ValueError):
            async with bracket.admit():
                raise ValueError
        closed = bracket.admit()
        closed.close()
        with pytest.raises(RuntimeError, match="once"):
            async with closed:
                pytest.fail("not reached")
        assert counts(bracket) == (3, 2, 1, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F3")
def test_close_refuses_what_is_no_error_and_leaves_the_call_open(bracket: Any) -> None:
    call = bracket.admit()
    for nonsense in ("failed", True, ValueError):
        with pytest.raises(TypeError, match="error must be an exception"):
            call.close(nonsense)
    assert counts(bracket)[-1] == 1
    call.close()


@pytest.mark.rule("F3")
def test_calls_end_in_any_order_in_any_task(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        calls = [bracket.admit() for _ in range(4)]

        async def end(index: int, error: Exception | None) -> None:
            calls[index].close(error)

        await w.together(lambda: end(2, None), lambda: end(0, ValueError()), lambda: end(3, None))
        assert counts(bracket) == (4, 2, 1, 0, 1)
        with calls[1]:
            pass
        assert counts(bracket) == (4, 3, 1, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F3", "B11")
def test_of_many_threads_that_close_one_call_one_does(bracket: Any) -> None:
    for _ in range(50):
        call = bracket.admit()
        assert in_threads(*[call.close] * 4) == [None] * 4
    assert counts(bracket) == (50, 50, 0, 0, 0)


# F3: lost calls.


@pytest.mark.rule("F3")
def test_a_lost_call_gives_its_place_back_and_counts_nowhere(world: World, bracket: Any) -> None:
    async def scenario(w: World) -> None:
        bracket.admit()
        gc.collect()
        assert counts(bracket) == (1, 0, 0, 1, 0)
        call = bracket.admit()
        call.fail()
        del call
        gc.collect()
        assert counts(bracket) == (2, 0, 0, 2, 0), "one that was told to fail, but never ended"
        entered = bracket.admit().__enter__()
        del entered
        gc.collect()
        assert counts(bracket)[-1] == 0

    world.run(scenario)


@pytest.mark.rule("F3", "B7")
def test_a_lost_probe_gives_its_place_to_the_next(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = opened(w)
        await w.sleep(1.1)
        probe: Any = policy.admit()
        with pytest.raises(CircuitOpen):
            policy.admit()
        circle = [probe]
        circle.append(circle)
        del probe, circle
        gc.collect()
        policy.admit().close()
        assert policy.state is BreakerState.CLOSED

    world.run(scenario)


def opened(w: World, **settings: Any) -> Breaker:
    """A breaker that has just opened, for one unit."""
    policy = breaker("db", **{"consecutive_failures": 1, "cooldown": 1.0 * w.unit, **settings})
    policy.admit().close(ValueError())
    assert policy.state is BreakerState.OPEN
    return policy


class Dropping:
    """A key: looking it up, which happens under the policy's lock, drops a call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __hash__(self) -> int:
        self.calls.clear()
        return 1

    def __eq__(self, other: object) -> bool:
        self.calls.clear()
        return self is other


@pytest.mark.rule("F3")
def test_a_block_that_ended_in_the_wrong_context_gives_its_place_back_later(bracket: Any) -> None:
    def stream() -> Iterator[int]:
        with bracket:
            yield 1

    began, rows = contextvars.copy_context(), stream()
    assert began.run(next, rows) == 1
    with pytest.raises(RuntimeError, match=r"admit\(\)"):
        rows.close()  # type: ignore[attr-defined]  # a generator
    assert counts(bracket)[-1] == 1
    del began, rows
    gc.collect()
    assert counts(bracket) == (1, 0, 0, 1, 0)


@pytest.mark.rule("F3")
def test_a_call_collected_in_the_middle_of_the_policys_own_lock_is_no_deadlock() -> None:
    policy = breaker(key="tenant")
    key = Dropping()
    handle = policy.of(key)
    handle.admit().close()
    other = policy.of("other").admit()

    def under_the_lock() -> str:
        key.calls.append(policy.of("third").admit())
        handle.admit().close()  # collects it while the lock is held
        with policy._lock:
            circle: list[Any] = [policy.of]
            circle.append(circle)
        return "ended"

    assert in_threads(under_the_lock) == ["ended"]
    other.close()
    assert counts(policy) == (4, 3, 0, 1, 0)


@pytest.mark.rule("F3")
def test_a_collection_at_any_moment_of_the_policys_work_is_no_deadlock() -> None:
    policy = breaker()

    def collected_while_locked() -> str:
        call = policy.admit()
        with policy._lock:
            del call
            gc.collect()
        return "ended"

    assert in_threads(collected_while_locked) == ["ended"]
    assert counts(policy) == (1, 0, 0, 1, 0)


@pytest.mark.rule("F3", "F9")
def test_an_async_call_whose_coroutine_is_dropped_gives_its_place_back_even_under_the_lock() -> (
    None
):
    policy = breaker()

    class Suspend:
        def __await__(self) -> Generator[None, None, None]:
            yield

    @policy
    async def wait() -> None:
        await Suspend()

    def dropped() -> str:
        running = wait()
        running.send(None)
        assert counts(policy)[-1] == 1
        with policy._lock:
            running.close()
        return "ended"

    assert in_threads(dropped) == ["ended"]
    assert counts(policy) == (1, 0, 0, 1, 0)


# F4


@pytest.mark.rule("F4")
def test_building_a_policy_needs_no_loop_and_it_serves_every_world_in_turn_and_at_once() -> None:
    policy = pipeline(singleflight(), retry(on=LookupError), breaker(), timeout(60), name="all")
    results: list[str] = []

    async def on_asyncio() -> str:
        return await policy.call(answer_async)

    async def answer_async() -> str:
        await anyio.lowlevel.checkpoint()
        return "async"

    def in_a_thread() -> str:
        return policy.call(lambda: "sync")

    for _ in range(2):
        results += in_threads(
            lambda: asyncio.run(on_asyncio()),
            lambda: trio.run(on_asyncio),
            in_a_thread,
            in_a_thread,
        )
    assert results == ["async", "async", "sync", "sync"] * 2
    assert all(one.calls == 8 for one in policy.stats())  # type: ignore[attr-defined]  # stats of each


@pytest.mark.rule("F4")
def test_load_control_and_protection_serve_every_world_in_turn_and_at_once() -> None:
    parts: list[Any] = [
        fallback(default="instead", on=OSError), protect(on=OSError, timeout=60),
        bulkhead(100), rate_limit(1000), adaptive_limit(initial=100), throttle(), cache(1000),
    ]  # fmt: skip
    policy: Pipeline = pipeline(*parts)
    hedged = hedge(1000)

    async def answer_async() -> str:
        await anyio.lowlevel.checkpoint()
        return "async"

    async def on_a_loop() -> str:
        return await hedged.call(policy(answer_async))

    def in_a_thread() -> str:
        return policy.call(lambda: "sync")

    results: list[str] = []
    for _ in range(2):
        results += in_threads(
            lambda: asyncio.run(on_a_loop()),
            lambda: trio.run(on_a_loop),
            in_a_thread,
            in_a_thread,
        )
    assert results == ["async", "async", "sync", "sync"] * 2
    assert hedged.stats().calls == 4
    for part in parts:
        stats = part.stats()
        for one in stats if isinstance(stats, tuple) else (stats,):
            counted = one.requests if hasattr(one, "requests") else one.calls
            assert counted == 8, one
            assert getattr(one, "in_flight", 0) == 0


@pytest.mark.rule("F4")
def test_one_object_serves_many_at_once_and_shares_nothing_but_its_state(world: World) -> None:
    async def scenario(w: World) -> None:
        tries: dict[int, int] = {}

        def body(number: int) -> int:
            tries[number] = tries.get(number, 0) + 1
            if tries[number] <= number % 3:
                raise LookupError(number)
            return number

        policy = retry(on=LookupError, attempts=3, wait=0, budget=None)
        watch = breaker(consecutive_failures=None, failure_rate=1.0)
        fn = policy(watch(w.function(body)))

        async def one(number: int) -> Any:
            return await w.call(fn, number)

        numbers = range(1, 10)
        assert await w.together(*((lambda n=n: one(n)) for n in numbers)) == list(numbers)
        assert tries == {number: number % 3 + 1 for number in numbers}
        stats = policy.stats()
        assert (stats.calls, stats.retries, stats.recovered) == (9, 9, 6)
        assert watch.stats().calls == 18

    world.run(scenario)


def python(code: str) -> str:
    """Run *code* in a fresh interpreter; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.real_clock  # subprocess
@pytest.mark.rule("F4")
def test_nothing_is_created_at_import_time() -> None:
    python(
        """
        import os, sys, threading
        import asyncio, anyio, tenacity, logging, inspect  # what others create is not ours
        folder = "/proc/self/fd"
        def files(): return set(os.listdir(folder)) if os.path.isdir(folder) else set()
        before, hooks = files(), len(sys.meta_path)
        made = []
        asyncio.new_event_loop = lambda: made.append("loop")
        import resilient, resilient.testing
        from resilient import (
            adaptive_limit, breaker, bulkhead, cache, fallback, hedge, pipeline, protect,
            rate_limit, retry, singleflight, throttle, timeout,
        )
        policy = pipeline(
            fallback(default=1), singleflight(), retry(on=OSError), breaker(), bulkhead(1),
            rate_limit(1), adaptive_limit(), throttle(), hedge("p95"), cache(1, refresh_ahead=0.5),
            timeout(1), protect(on=OSError, timeout=1),
        )
        assert files() == before, files() - before
        assert threading.active_count() == 1, threading.enumerate()
        assert not made
        assert asyncio._get_running_loop() is None
        """
    )


FORK = """
import asyncio, os, sys, threading, time, warnings
warnings.simplefilter("ignore")
from resilient import *
from resilient import events, testing

catalogue = breaker("catalogue", consecutive_failures=2)
again = retry("again", on=LookupError, wait=0, budget=RetryBudget())
flight = singleflight("flight")
keyed = breaker("keyed", key=lambda n: n)
pool, rate = bulkhead(1, queue=9), rate_limit(1, per=0.3, max_wait=60)
limited, throttled = adaptive_limit(initial=1, queue=9), throttle()
helped, kept, hedged = fallback(default="instead"), cache(1000, refresh_ahead=1), hedge(0.01)
load = [pool, rate, limited, throttled]
jitter = backoff(1.0)
seen, inside, go_on = [], threading.Event(), threading.Event()
told = events.subscribe(seen.append)
"""


def forked(parent: str, child: str) -> str:
    """Run *parent* to its fork, and *child* in the child; its exit code tells."""
    return python(
        FORK
        + textwrap.dedent(parent)
        + textwrap.dedent(
            """
            pid = os.fork()
            if pid == 0:
                import faulthandler, traceback
                faulthandler.dump_traceback_later(20, exit=True)
                try:
                    child()
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(1)
                sys.stdout.flush()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"
            finish()
            """
        ).replace(
            "pid = os.fork()",
            f"def child():\n{textwrap.indent(textwrap.dedent(child), '    ')}\npid = os.fork()",
        )
    )


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform")


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4")
def test_after_a_fork_every_policy_works_in_the_child_and_listeners_hear_it() -> None:
    forked(
        """
        catalogue.call(int); again.call(int); flight.call(int); keyed.call(abs, 1)
        def finish(): assert catalogue.call(int) == 0
        """,
        """
        tries = []
        def flaky():
            tries.append(1)
            if len(tries) < 3: raise LookupError
            return "ok"
        assert again.call(flaky) == "ok"
        async def sleepy():
            await asyncio.sleep(0)
            return 5
        assert asyncio.run(flight.call(sleepy)) == 5
        assert flight.call(int) == 0 and flight.stats().in_flight == 0
        assert keyed.call(abs, -2) == 2 and keyed.keys() == [1, -2]
        for _ in range(2):
            catalogue.admit().close(OSError())
        assert catalogue.state is BreakerState.OPEN
        kinds = [type(event).__name__ for event in seen]
        assert kinds == ["RetryScheduled"] * 2 + ["StateChanged"], kinds
        async def slow():
            async with deadline(0.01):
                await asyncio.sleep(5)
        try: asyncio.run(slow())
        except DeadlineExceeded: pass
        else: raise AssertionError
        """,
    )


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4")
def test_after_a_fork_load_control_and_protection_work_in_the_child() -> None:
    forked(
        """
        for one in (*load, helped, kept): one.call(int)
        before = [one.stats().calls for one in load[:3]]
        def finish(): assert [one.call(int) for one in load] == [0] * 4
        """,
        """
        assert [one.call(lambda: "mine") for one in load] == ["mine"] * 4
        after = [one.stats().calls for one in load[:3]]
        assert after == [count + 1 for count in before], "totals go on"
        assert helped.call(lambda: 1 / 0) == "instead"
        assert kept.call(int) == 0 and kept.stats().hits == 1
        starts = []
        async def slow_once():
            starts.append(1)
            await asyncio.sleep(30 if len(starts) == 1 else 0)
            return "hedge"
        assert asyncio.run(hedged.call(slow_once)) == "hedge"
        """,
    )


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4")
@pytest.mark.parametrize("policy", ["pool", "limited", "rate"])
def test_places_and_turns_of_the_parents_threads_are_not_the_childs(policy: str) -> None:
    forked(
        f"""
        one = {policy}
        """
        """
        def hold():
            inside.set()
            assert go_on.wait(30)
        holder = threading.Thread(target=one.call, args=(hold,)); holder.start()
        assert inside.wait(30)
        waiter = threading.Thread(target=one.call, args=(int,)); waiter.start()
        while one.stats().queued == 0: time.sleep(0.001)
        before = one.stats().calls
        def finish():
            go_on.set(); holder.join(); waiter.join()
            assert one.stats().queued == 0 and one.stats().calls == before + 1
        """,
        """
        assert one.stats().queued == 0
        assert one.call(lambda: "mine") == "mine"
        assert one.stats().calls == before + 1
        assert getattr(one.stats(), "in_flight", 0) == 0
        """,
    )


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4")
def test_a_fork_in_the_middle_of_a_hedged_call_leaves_hedges_to_the_child() -> None:
    forked(
        """
        out = threading.Event()
        async def hang():
            if hedged.stats().hedges: out.set()
            await asyncio.to_thread(go_on.wait, 30)
        runner = threading.Thread(target=lambda: asyncio.run(hedged.call(hang)))
        runner.start()
        assert out.wait(30)
        def finish(): go_on.set(); runner.join()
        """,
        """
        starts = []
        async def slow_once():
            starts.append(1)
            await asyncio.sleep(30 if len(starts) == 1 else 0)
            return "hedge"
        assert asyncio.run(hedged.call(slow_once)) == "hedge"
        """,
    )


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4")
def test_a_fork_inherits_no_lock_that_is_held() -> None:
    """Threads hammer every policy while the main thread forks again and again."""
    forked(
        """
        stop = threading.Event()
        def hammer():
            while not stop.is_set():
                for n in range(50):
                    catalogue.call(int); again.call(int); flight.call(int); keyed.call(abs, n)
                    catalogue.stats(); again.stats(); flight.stats(); keyed.stats()
                    catalogue.reset(); policies(); breaker(); RetryBudget().withdraw()
                    for one in (pool, limited, throttled, helped, kept):
                        one.call(int); one.stats()
                    kept.invalidate("k"); rate.stats(); hedged.stats(); pool.resize(20)
        threads = [threading.Thread(target=hammer, daemon=True) for _ in range(3)]
        for thread in threads: thread.start()
        def use():
            catalogue.call(int); again.call(int); flight.call(int); keyed.call(abs, 7)
            catalogue.stats(); again.stats(); flight.stats(); keyed.stats()
            catalogue.force_open(); catalogue.reset()
            for one in (*load, helped, kept):
                one.call(int); one.stats()
            kept.clear(); hedged.stats(); pool.resize(30)
            with testing.fresh(): pass
            events.subscribe(print).close()
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                import faulthandler
                faulthandler.dump_traceback_later(10, exit=True)
                use()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "a child hung or failed"
        def finish():
            stop.set()
            for thread in threads: thread.join()
        """,
        "use()",
    )


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4", "S7", "M2")
def test_a_run_and_a_delivery_of_the_parents_threads_are_not_the_childs() -> None:
    forked(
        """
        def block():
            inside.set()
            assert go_on.wait(30)
        running = threading.Thread(target=flight.do, args=("k", block)); running.start()
        assert inside.wait(30)
        delivering, told_slow = threading.Event(), []
        def slow(event):
            told_slow.append(event)
            if threading.current_thread() is not threading.main_thread():
                delivering.set()
                assert go_on.wait(30)
        events.subscribe(slow, events.StateChanged)
        teller = threading.Thread(target=catalogue.force_open); teller.start()
        assert delivering.wait(30)
        def finish():
            go_on.set(); running.join(); teller.join()
        """,
        """
        assert flight.stats().in_flight == 0
        assert flight.do("k", lambda: "mine") == "mine"
        told_slow.clear()
        catalogue.reset()
        assert [event.new for event in told_slow] == [BreakerState.CLOSED], told_slow
        """,
    )


@needs_fork
@pytest.mark.real_clock
@pytest.mark.rule("F4")
def test_children_of_one_parent_throw_different_dice() -> None:
    out = forked(
        """
        print(jitter.delay(1) >= 0, flush=True)
        for _ in range(3):
            if os.fork() == 0:
                print([jitter.delay(5) for _ in range(3)], flush=True)
                os._exit(0)
            os.wait()
        def finish(): print([jitter.delay(5) for _ in range(3)], flush=True)
        """,
        "print([jitter.delay(5) for _ in range(3)], flush=True)",
    )
    drawn = out.splitlines()[1:]
    assert len(drawn) == 5
    assert len(set(drawn)) == 5


@pytest.mark.rule("F3", "F4")
def test_a_policy_in_use_by_a_loop_that_was_closed_serves_the_next_loop() -> None:
    policy, threads = pipeline(singleflight(), breaker(), timeout(60)), set(threading.enumerate())

    async def hang() -> None:
        await asyncio.sleep(3600)

    async def leave() -> None:
        task = asyncio.ensure_future(policy.call(hang))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def fine() -> int:
        return 1

    asyncio.run(leave())
    assert asyncio.run(policy.call(fine)) == 1
    flight, watch, limit = policy.stats()
    assert flight.in_flight == watch.in_flight == 0  # type: ignore[attr-defined]  # their own
    assert set(threading.enumerate()) <= threads
    assert limit.calls == 2  # type: ignore[attr-defined]  # its own

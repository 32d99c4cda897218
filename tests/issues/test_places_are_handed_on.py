"""A place that is given back while nobody may look is handed on all the same."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from resilient import bulkhead, rate_limit
from resilient._policies.common.keyed import KeyedState
from resilient.testing import virtual_time
from tests.worlds import in_threads


def in_a_process(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-600:]


@pytest.mark.rule("L1", "F4")
@pytest.mark.real_clock
def test_a_call_that_ends_while_another_thread_forks_hands_its_place_on() -> None:
    """A fork holds every lock, so that `_end` only notes; nobody looked once more."""
    in_a_process(
        """
        import os, threading
        calls = []
        # before-handlers run in the opposite order: this one while all locks are held
        os.register_at_fork(before=lambda: [call.close() for call in calls])
        from resilient import bulkhead
        policy = bulkhead(1, queue=1)
        calls.append(policy.admit())
        ran = threading.Event()
        threading.Thread(target=policy(ran.set), daemon=True).start()
        while not policy._states.only.queue:
            pass
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        assert ran.wait(10), "the waiter waits for ever"
        """
    )


@pytest.mark.rule("L1", "T3")
def test_a_call_that_ends_while_its_policy_is_renewed_wakes_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`_reset` gave its lock up without a look at what had ended meanwhile."""
    pool: Any = bulkhead(1, queue=1)
    held, served = pool.admit(), threading.Event()

    def wait() -> None:
        with pool:
            served.set()

    threading.Thread(target=wait, daemon=True).start()
    while not pool.stats().queued:
        threading.Event().wait(0.001)
    restart = KeyedState.restart

    def restart_while_the_call_ends(states: Any, new: Any) -> None:
        restart(states, new)
        in_threads(held.close)

    monkeypatch.setattr(KeyedState, "restart", restart_while_the_call_ends)
    pool._reset()
    assert served.wait(10)


@pytest.mark.rule("L1", "F3")
@pytest.mark.real_clock
def test_a_call_that_is_collected_while_its_thread_begins_to_wait_is_no_deadlock() -> None:
    """`threading.Event.set`, called by the collector inside that event's `wait`, hung."""
    in_a_process(
        """
        import sys, threading
        from resilient import bulkhead
        policy = bulkhead(1, queue=1)
        call = policy.admit()
        ran = threading.Event()

        def trace(frame, event, arg):
            global call
            waits = frame.f_code.co_qualname in {"Signal.wait", "Condition.wait"}
            if waits and policy._states.only.queue:
                call = None  # the last reference: it is collected here
            return trace

        def work():
            sys.settrace(trace)
            policy(ran.set)()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        assert ran.wait(10), "it waits for its own lock"
        worker.join(10)  # a traced thread that outlives the interpreter may bring it down
        """
    )


@pytest.mark.rule("L6", "F4")
def test_a_loop_that_is_closed_while_a_caller_waits_leaves_nobody_behind_it() -> None:
    """Its waiter was the first for ever: the queue kept the task from being collected."""
    with virtual_time() as time:
        policy = rate_limit(1, max_wait=100.0)

        async def main() -> None:
            policy.take()
            task = asyncio.create_task(policy(asyncio.sleep)(0))
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        gc.collect()
        time.advance(1000)
        policy.take()
        assert policy.stats().queued == 0

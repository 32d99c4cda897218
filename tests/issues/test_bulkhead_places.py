"""Defects of the bulkhead, each as it was shown.

A place that a thread gave back while another joined the queue lay free for a moment, and a
newcomer could take it first, or take it though the limit had just shrunk. In the child of a fork
the places that threads of the parent held were never given back. And a keyed bulkhead with one
key said that key's limit for its own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from resilient import Bulkhead, BulkheadFull, bulkhead


def before_it_appends(policy: Bulkhead, act: Callable[[], object]) -> Callable[..., Any]:
    """A trace function that lets *act* happen just before a place is put back without the lock,
    and counts the places that a newcomer can have just after.
    """
    free = policy._states.only.free
    seen: list[str] = []

    def lines(frame: FrameType, event: str, arg: object) -> Any:
        if event == "line" and "state" in frame.f_locals and not seen:
            source = line_of(frame)
            if source == "state.free.append(None)":
                seen.append("before")
                sys.settrace(None)
                act()
                sys.settrace(trace)
        elif event == "line" and seen == ["before"] and free:
            seen.append("after")
            sys.settrace(None)
            newcomer(policy)
        return lines

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        return lines if frame.f_code.co_name == "limited" else None

    return trace


def line_of(frame: FrameType) -> str:
    import linecache  # noqa: PLC0415  # only the traced ones

    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def newcomer(policy: Bulkhead) -> None:
    came.append("newcomer")
    try:
        policy(lambda: came.append("newcomer ran"))()
    except BulkheadFull:
        came.append("newcomer was turned away")


came: list[str] = []


def run_traced(policy: Bulkhead, act: Callable[[], object]) -> None:
    before = sys.gettrace()
    came.clear()
    fn = policy(lambda: None)
    sys.settrace(before_it_appends(policy, act))
    try:
        fn()
    finally:
        sys.settrace(before)
    assert came[:1] == ["newcomer"], "the moment did not come"


@pytest.mark.rule("L1")
def test_a_newcomer_does_not_take_what_lies_free_for_a_moment_for_one_who_waits() -> None:
    policy = bulkhead(1, queue=1)
    waiting = threading.Event()
    threads: list[threading.Thread] = []

    def waiter() -> None:
        policy(lambda: came.append("waiter ran"))()

    def join_the_queue() -> None:
        threads.append(threading.Thread(target=waiter, daemon=True))
        threads[0].start()
        while not policy._states.only.queue:
            waiting.wait(0.0005)

    run_traced(policy, join_the_queue)
    threads[0].join(30)
    assert came == ["newcomer", "newcomer was turned away", "waiter ran"]


@pytest.mark.rule("L2")
def test_a_newcomer_does_not_take_what_the_limit_no_longer_has() -> None:
    policy = bulkhead(2)
    held = policy.admit()
    run_traced(policy, lambda: policy.resize(1))
    assert came == ["newcomer", "newcomer was turned away"]
    assert policy.stats().in_flight == 1
    held.close()
    policy.admit().close()


@pytest.mark.rule("L1", "F4")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork on this platform")
def test_a_place_that_a_thread_of_the_parent_holds_is_free_in_the_child_of_a_fork() -> None:
    policy = bulkhead(1)
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        assert go_on.wait(30)

    thread = threading.Thread(target=policy(work), daemon=True)
    thread.start()
    assert inside.wait(30)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = policy(lambda: 0)()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go_on.set()
    thread.join(30)
    assert policy.stats().in_flight == 0


@pytest.mark.rule("F6", "F10", "L2")
def test_the_limit_of_a_keyed_bulkhead_is_not_that_of_its_only_key() -> None:
    policy = bulkhead(2, key=lambda tenant: tenant)
    policy.of("a").resize(7)
    assert policy.stats().limit == 2
    assert policy.of("a").stats().limit == 7

"""Two threads that failed at once both logged what is to be logged once.

Where one of them may be stopped, the other one comes in between: at each bytecode of ours, in turn.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

import resilient
from resilient import retry
from resilient._core.matching import Verdict
from resilient._policies.common.verdicts import judge_of
from resilient._runtime.notify import FaultLog, Outbox, Subscription
from resilient.testing import virtual_time

PACKAGE = Path(resilient.__file__).parent
TRACED = tuple(str(PACKAGE / room) for room in ("_core", "_runtime/notify.py", "_policies"))


def interrupted(step: Callable[[], object], at: int, other: Callable[[], object]) -> bool:
    """Take *step*, and *other* before its bytecode number *at*; whether it has so many."""
    passed = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == at:
                other()  # not traced: we are inside of it
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)
    return passed >= at


def everywhere(said: Callable[[], int], made: Callable[[], Callable[[], object]]) -> None:
    """Let two of the step that *made* makes meet at each bytecode: *said* is then one more."""
    for at in count(1):
        step, before = made(), said()
        reached = interrupted(step, at, step)
        assert said() - before == 1, f"two steps met at bytecode {at}"
        if not reached:
            break
    assert at > 5, "something was traced"


@pytest.mark.rule("F12")
def test_a_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def made() -> Callable[[], object]:
        complain, fault = FaultLog(), ValueError("fault")
        return lambda: complain(made, fault, "function")

    everywhere(lambda: len(caplog.records), made)


@pytest.mark.rule("F12")
def test_a_predicate_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> bool:
        raise ValueError("broken")

    def made() -> Callable[[], object]:
        judge = judge_of(OSError)
        return lambda: judge.result(broken, 1)

    everywhere(lambda: len(caplog.records), made)


@pytest.mark.rule("F12")
def test_each_predicate_that_raises_is_logged_for_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: object) -> bool:
        raise ValueError("broken")

    def too(_: object) -> bool:
        raise ValueError("broken, too")

    judge = judge_of(broken)
    for _ in range(2):
        assert judge.error(OSError()) is judge.result(too, 1) is Verdict.FAILURE
    assert [row.args[1] for row in caplog.records if row.args] == [broken, too]  # type: ignore[index]


@pytest.mark.rule("M2")
def test_a_listener_that_raises_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ValueError("broken")

    def made() -> Callable[[], object]:
        monkeypatch.setattr("resilient._runtime.notify._subscriptions", (Subscription(broken, ()),))
        outboxes = [Outbox(), Outbox()]  # of two policies
        for outbox in outboxes:
            outbox.put(SimpleNamespace(policy="p"))
        return lambda: outboxes.pop().deliver()

    everywhere(lambda: len(caplog.records), made)


@pytest.mark.rule("R13")
def test_a_retry_that_stops_a_loop_warns_once() -> None:
    with warnings.catch_warnings(record=True) as warned, virtual_time() as time:
        warnings.simplefilter("always")

        def made() -> Callable[[], object]:
            policy = retry(on=OSError, wait=1)
            return lambda: policy._sleep(0.0, None)

        async def main() -> None:
            await asyncio.sleep(0)
            everywhere(lambda: len(warned), made)

        time.run(main)


def test_logging_goes_on_under_no_lock() -> None:
    """A handler that fails into the same policy does not wait for itself."""
    complain, fault = FaultLog(), ValueError("fault")

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complain(fault, fault)

    handler, logger = Asks(), logging.getLogger("resilient")
    logger.addHandler(handler)
    try:
        complain(logger, fault)
    finally:
        logger.removeHandler(handler)

"""Two steps of two threads on one policy, the first one stopped at some bytecode: B11, F4."""

from __future__ import annotations

import asyncio
import queue
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import resilient
from resilient import (
    Rejected,
    RetryBudget,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient.testing import virtual_time

PACKAGE = str(Path(resilient.__file__).parent)
TRIALS = 40
"""Of one seed."""
PATIENCE = 0.05
"""Real seconds: the other thread waits for the one that was stopped, so that one goes on."""
HANGS = 10.0
"""Real seconds after which a thread hangs."""

Step = Callable[[Any], object]


def succeed(policy: Any) -> None:
    policy.call(str, 1)


def succeed_elsewhere(policy: Any) -> None:
    policy.call(str, 2)


def fail(policy: Any) -> None:
    with suppress(ZeroDivisionError):
        policy.call(divmod, 1, 0)


def leave(policy: Any) -> None:
    """A call that is cancelled."""
    policy.admit().close(asyncio.CancelledError())


def lose(policy: Any) -> None:
    """A call that its caller forgets."""
    policy.admit()


def look(policy: Any) -> None:
    policy.stats()


CALLS: tuple[Step, ...] = (succeed, succeed_elsewhere, fail, look)
BRACKETS: tuple[Step, ...] = (*CALLS, leave, lose)
Kind = tuple[Callable[[], Any], tuple[Step, ...]]


def first(*args: object) -> object:
    return args[0]


KINDS: dict[str, Kind] = {
    "breaker": (
        lambda: breaker(consecutive_failures=2, cooldown=1.0),
        (*BRACKETS, lambda p: p.force_open(), lambda p: p.disable(), lambda p: p.reset()),
    ),
    "breaker, by key": (
        lambda: breaker(consecutive_failures=1, cooldown=1.0, slow=1.0, key=first, max_keys=1),
        (*CALLS, lambda p: p.force_open(), lambda p: p.reset(), lambda p: p.keys()),
    ),
    "bulkhead": (
        lambda: bulkhead(1),
        (*BRACKETS, lambda p: p.resize(0) or p.resize(1), lambda p: p.resize(2)),
    ),
    "bulkhead, by key": (lambda: bulkhead(1, key=first, max_keys=1), (*CALLS, lambda p: p.keys())),
    "rate_limit": (lambda: rate_limit(5, burst=5), (*BRACKETS, lambda p: p.take(2))),
    "rate_limit, by key": (lambda: rate_limit(5, key=first, max_keys=1), CALLS),
    "adaptive_limit": (lambda: adaptive_limit(initial=1), BRACKETS),
    "throttle": (lambda: throttle(minimum=1), BRACKETS),
    "retry": (
        lambda: retry(on=ArithmeticError, wait=0, budget=RetryBudget(ratio=1.0)),
        CALLS,
    ),
    "timeout": (lambda: timeout(1.0), CALLS),
    "fallback": (lambda: fallback(default=1), CALLS),
    "singleflight": (singleflight, (*CALLS, lambda p: p.forget((str, (1,))))),
    "cache": (
        lambda: cache(1.0, max_size=1),
        (*CALLS, lambda p: p.clear(), lambda p: p.invalidate((str, (1,)))),
    ),
    "protect": (lambda: protect(on=ArithmeticError, timeout=1.0, key=first), CALLS),
}


class Other:
    """The second thread: it does a step when it is told to."""

    def __init__(self) -> None:
        self._steps: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self.raised: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            try:
                with suppress(Rejected):
                    step()
            except BaseException as error:
                self.raised = error
            self._done.set()

    def begin(self, step: Callable[[], object], patience: float) -> None:
        """Let it do *step*, and wait for its end, if that comes soon."""
        self._done.clear()
        self._steps.put(step)
        self._done.wait(patience)

    def end(self) -> None:
        """The step that was begun must end now."""
        assert self._done.wait(HANGS), "the second thread hangs"
        if self.raised is not None:
            raise self.raised

    def close(self) -> None:
        self._steps.put(None)


@contextmanager
def other_thread() -> Iterator[Other]:
    other = Other()
    try:
        yield other
    finally:
        other.close()


def traced(step: Callable[[], object], at: int, preempt: Callable[[], object]) -> int:
    """Do *step*, and call *preempt* before its bytecode number *at*; how many it has."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == at:
                sys.settrace(None)
                preempt()
                return None
        return trace

    sys.settrace(trace)
    try:
        with suppress(Rejected):
            step()
    finally:
        sys.settrace(None)
    return count


def play(kind: str, steps: tuple[int, int], at: int, other: Other) -> int:
    """One attack, and what must be true after it; how many bytecodes the first step has."""
    make, possible = KINDS[kind]
    one, two = possible[steps[0]], possible[steps[1]]
    with virtual_time() as time:
        policy = make()
        begun = False

        def preempt() -> None:
            nonlocal begun
            begun = True
            other.begin(lambda: two(policy), 0.0 if is_locked(policy) else PATIENCE)

        count = traced(lambda: one(policy), at, preempt)
        if begun:
            other.end()
        for part in getattr(policy, "policies", (policy,)):
            assert not is_locked(part)
            assert getattr(part.stats(), "in_flight", 0) == 0
            assert getattr(part.stats(), "queued", 0) == 0
            check_totals(part)
        time.advance(60.0)
        if policy.kind == "breaker":
            policy.reset()  # it may have been forced open
        assert policy.call(str, 3) == "3"
    return count


def is_locked(policy: Any) -> bool:
    return bool(policy._lock.locked())


def check_totals(policy: Any) -> None:
    stats = policy.stats()
    if policy.kind == "breaker":
        assert stats.calls == stats.successes + stats.failures + stats.ignored
    if policy.kind == "cache":
        assert stats.calls >= stats.hits + stats.misses
    if policy.kind == "retry":
        assert stats.attempts == stats.calls + stats.retries


@pytest.mark.rule("F4", "B11", "B12", "L1", "S1", "S5", "C6")
def test_a_thread_may_be_stopped_at_any_bytecode(seed: int) -> None:
    chance = random.Random(seed)
    with other_thread() as other:
        for _ in range(TRIALS):
            kind = chance.choice([*KINDS])
            number = len(KINDS[kind][1])
            steps = chance.randrange(number), chance.randrange(number)
            count = play(kind, steps, 0, other)
            if count:
                play(kind, steps, chance.randint(1, count), other)

"""Admission with a queue: callers that find no place wait for one."""

from __future__ import annotations

import abc
import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sized
from typing import Any, ClassVar, Protocol, TypeVar

from resilient._core.counter import Counter
from resilient._policies.common.admission import AdmissionPolicy, State
from resilient._policies.common.calls import Call
from resilient._policies.common.waiting import Sleeper, ThreadSleeper, async_sleeper, on_loop
from resilient._policies.deadline.block import Deadline, deadline_here
from resilient._policies.deadline.here import check_deadline, wait_here
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction
from resilient._runtime.keying import Key
from resilient.errors import Rejected


class QueueState(State, Protocol):
    """A state at which callers may wait, ``max_queue`` of them."""

    rejected: Counter

    @property
    def max_queue(self) -> float: ...
    @property
    def queue(self) -> Sized: ...


Q = TypeVar("Q", bound=QueueState)


class QueueingPolicy(AdmissionPolicy[Q]):
    """An admission policy in whose queue callers wait, at most ``max_wait`` seconds."""

    _reason: ClassVar[str]
    """Why a call is rejected that finds neither a place nor one in the queue."""
    _max_wait: float = math.inf

    def __init__(self, name: str | None, key: Key | None, max_keys: int) -> None:
        self._woken = deque()  # the states, of which one is made at once, put waiters into it
        super().__init__(name, key, max_keys)

    # What a subclass says. All of it runs under the lock.

    @abc.abstractmethod
    def _try_acquire(self, state: Q, priority: float, cost: int, now: float) -> Any:
        """Take a place for one call: return its ticket, ``None`` if there is no place."""

    def _arrive(self, waiter: Sleeper, now: float, *, patient: bool) -> float | Rejected:
        """Take a place, or one in the queue, and return how long to wait at most. A waiter that is
        not *patient* does not queue.
        """
        state = waiter.state
        if state.arrive(waiter, now, patient=patient):
            return self._patience(state, now)
        would_block = not patient and len(state.queue) < state.max_queue
        return self._reject(state, "would_block" if would_block else self._reason, now)

    def _patience(self, state: Q, now: float) -> float:  # noqa: ARG002  # for those who know better
        """How many seconds a caller may wait at *state*."""
        return self._max_wait

    def _ask_again(self, waiter: Sleeper, now: float, *, over: bool) -> float | Rejected:  # noqa: ARG002  # for those who know better
        """Look for *waiter*, which goes on without a place, or whose wait is *over*."""
        return self._reject(waiter.state, "shed" if waiter.shed else "max_wait", now)

    @abc.abstractmethod
    def _explain(self, state: Q) -> str:
        """Say for people why *state* rejects."""

    @abc.abstractmethod
    def _ticket(self, waiter: Sleeper) -> Any:
        """Count the call that *waiter* has waited for, and return its ticket. Outside the lock."""

    def _wait(self, waiter: ThreadSleeper, seconds: float, limit: Deadline | None) -> bool:
        """Let a thread wait; whether *seconds* are over."""
        return waiter.wait(seconds, limit, self.name)

    # Twins.

    def _acquire_sync(self, key: Hashable, priority: float, cost: int = 1) -> Any:
        """Take a place for a sync call, if need be after a wait; returns its ticket."""
        limit = None
        if deadline_here() is not None:
            limit = check_deadline(self.name, clock.now())
        if (ticket := self._acquire_at_once(key, priority, cost)) is not None:
            return ticket
        waiter = ThreadSleeper(priority, cost)
        seconds = self._join(key, waiter, patient=not on_loop())
        try:
            while True:
                if waiter.given:
                    break
                over = self._wait(waiter, seconds, limit)
                seconds = self._look_again(waiter, over=over)
        except BaseException:
            self._ended.append(waiter)  # one step: it is out, whatever is interrupted after it
            try:
                self._wake_and_deliver()
            finally:  # nobody may be left waiting for it
                self._wake_and_deliver()
            raise
        return self._ticket(waiter)

    async def _acquire(self, key: Hashable, priority: float, cost: int = 1) -> Any:
        """`_acquire_sync` for an async call."""
        if deadline_here() is not None:
            check_deadline(self.name, clock.now())
        if (ticket := self._acquire_at_once(key, priority, cost)) is not None:
            return ticket
        waiter = async_sleeper(priority, cost)
        seconds = self._join(key, waiter, patient=True)
        try:
            while True:
                if waiter.given:
                    break
                over = await wait_here(self.name, None, waiter.wait, seconds)
                seconds = self._look_again(waiter, over=over)
        except BaseException as error:
            self._ended.append(waiter)  # one step: it is out, whatever is interrupted after it
            try:
                self._settle_ended(error)
            finally:  # nobody may be left waiting for it
                self._settle_ended(error)
            raise
        return self._ticket(waiter)

    def _acquire_at_once(self, key: Hashable, priority: float, cost: int) -> Any:
        """Take a place without a wait; ``None`` if there is none, but a queue."""

        def step(now: float) -> Any:
            state = self._states.find(key)
            ticket = self._try_acquire(state, priority, cost, now)
            if ticket is not None:
                next(state.calls.increment)  # under the lock: afterwards its key may be evicted
            elif not state.max_queue:
                return self._reject(state, self._reason, now)
            return ticket

        return self._locked(step, takes=True)

    def _join(self, key: Hashable, waiter: Sleeper, *, patient: bool) -> float:
        def step(now: float) -> float | Rejected:
            waiter.state = self._states.find(key)
            return self._arrive(waiter, now, patient=patient)

        try:
            return self._locked(step)
        except Rejected:
            raise
        except BaseException:  # it may be in the queue, or have a place
            self._ended.append(waiter)
            try:
                self._wake_and_deliver()
            finally:
                self._wake_and_deliver()
            raise

    def _look_again(self, waiter: Sleeper, *, over: bool) -> float:
        def step(now: float) -> float | Rejected:
            return 0.0 if waiter.given else self._ask_again(waiter, now, over=over)

        return self._locked(step)

    # Admission.

    def _admit_to(self, state: Q, now: float, draw: float) -> Any:  # noqa: ARG002  # no chance in it
        ticket = self._try_acquire(state, self._usual_priority, self._usual_cost, now)
        if ticket is None:
            return self._reject(state, self._reason, now)
        next(state.calls.increment)
        return ticket

    def _reject(self, state: Q, reason: str, now: float) -> Rejected:
        next(state.rejected.increment)
        return self._rejection(state, reason, now, None, self._explain(state))

    def _rank(self) -> Callable[..., float]:
        """How to read the priority off a call's arguments."""
        return lambda *_args, **_kwargs: self._usual_priority

    def _weight(self) -> Callable[..., int]:
        """How to read the cost off a call's arguments."""
        return lambda *_args, **_kwargs: self._usual_cost

    def _opener(self, fn: AnyFunction) -> Callable[..., Call]:
        find, rank, weight = self._states.finder(fn), self._rank(), self._weight()

        def open_call(*args: Any) -> Call:
            key = None if find is None else find(*args)
            ticket = self._acquire_sync(key, rank(*args), weight(*args))
            return Call(self, ticket, clock.now())

        return open_call

    def _opener_async(self, fn: AnyFunction) -> Callable[..., Awaitable[Call]]:
        find, rank, weight = self._states.finder(fn), self._rank(), self._weight()

        async def open_call(*args: Any) -> Call:
            key = None if find is None else find(*args)
            ticket = await self._acquire(key, rank(*args), weight(*args))
            return Call(self, ticket, clock.now())

        return open_call

    def _block_of(self, key: Hashable) -> Call:
        ticket = self._acquire_sync(key, self._usual_priority, self._usual_cost)
        return Call(self, ticket, clock.now())

    async def _block_of_async(self, key: Hashable) -> Call:
        ticket = await self._acquire(key, self._usual_priority, self._usual_cost)
        return Call(self, ticket, clock.now())

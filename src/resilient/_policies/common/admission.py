"""The admission shell: policies whose calls have a beginning and an end.

Nobody else writes lock, settle, wake, deliver by hand: `AdmissionPolicy._locked` runs a step under
the lock, and does the rest around it.

A call ends by `AdmissionPolicy._end`, which notes what is over, and leaves the rest to the holder
of the lock, if there is one: whoever gives the lock up looks once more. Nothing is left over, and
nobody waits. Whatever touches the lock is in this file, for that reason.

A call that is lost, or whose coroutine is closed, may be ended by the garbage collector, and that
comes anywhere: while this very thread holds the lock, or that of another policy. There `_end`
settles what it can without a wait, also for a lock that was free just now, since a thread that
forks takes every lock and waits for the others. It tells no events, and lets no keys go, both of
which may be code of the user's: the next step does.

An interrupt (Ctrl-C, a signal handler that raises) comes where a function begins, where a loop goes
round, or after a call. What it may cost is the place of that one call. So a lock is taken by
``with``, which nothing can interrupt; nothing leaves a list before it is dealt with; and after a
step that was cut short `State.mend` puts right what it left half done. Inside a ``try`` or ``with``
a loop is a ``while True``: one with a condition is compiled so that it goes round outside of it.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import suppress
from itertools import islice
from operator import methodcaller
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from resilient._core.chaining import comes_of_close
from resilient._core.counter import Counter
from resilient._core.keys import Slot
from resilient._core.waiters import Waiter
from resilient._policies.common.calls import Blocks, Call
from resilient._policies.common.keyed import KeyedState, OfKey, Totals, add_totals
from resilient._policies.common.policy import PolicyBase
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import check_deadline
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction
from resilient._runtime.keying import Key, KeyOf
from resilient.errors import Rejected, new_error

T = TypeVar("T")
IDLE, TOTALS, FORKED = methodcaller("idle"), methodcaller("totals"), methodcaller("forked")
BLOCK = "admit(), or `with policy.of(key):`"
FEW: Final = 100
"""How many states are looked at in one taking of the lock, where all of them are to be."""
NOT_BLOCKING: Final = (False,)
NOBODY: Final[deque[Any]] = deque()
"""Who is woken where nobody waits. Stays empty."""
ASYNC_BLOCK = "admit(), or `async with policy.of(key):`"


class State(Protocol):
    """The state of a policy, or of one key of it."""

    key: Hashable
    calls: Counter

    def idle(self) -> bool: ...
    def totals(self) -> Totals: ...
    def forked(self) -> State:
        """The state for the child of a fork, where the calls in flight and the queue are not."""
        ...

    def mend(self, now: float) -> None:
        """Go on after a step that was cut short at any of its calls."""


S = TypeVar("S", bound=State)


class AdmissionPolicy(PolicyBase, Blocks, Generic[S]):
    """A policy whose calls have a beginning and an end; its shell is in its subclass. A subclass
    sets its own attributes first: `__init__` makes the states and lists the policy.
    """

    _error: ClassVar[type[Rejected]]
    """What a rejected call raises."""
    _checks_deadline: ClassVar[bool] = True
    """Whether a call that has no time left is refused: `DeadlineExceeded`, not started (D5)."""
    _woken: deque[Any] = NOBODY
    """Waiters that are to go on."""
    _usual_priority: float = 0.0
    """That of a call without arguments."""
    _usual_cost: int = 1
    """The same."""

    def __init__(
        self,
        name: str | None,
        key: Key | None,
        max_keys: int,
        *,
        retire: Callable[[S], bool] | None = None,
    ) -> None:
        super().__init__(name)
        self._ended: deque[Any] = deque()
        self._cut_short = False  # a step was, and nothing has been mended since
        self._states: KeyedState[S] = KeyedState(
            self._new_state,
            key,
            max_keys,
            idle=IDLE,
            healthy=self._is_healthy,
            retire=retire,
            totals=TOTALS,
        )
        self._register()

    # What a subclass says. All but the wrappers run under the lock.

    @abc.abstractmethod
    def _new_state(self, key: Hashable) -> S:
        """Return a state for *key*, ``None`` for the only one."""

    @abc.abstractmethod
    def _admit_to(self, state: S, now: float, draw: float) -> Any:
        """Take a place for one call without a wait: return its ticket, or a `Rejected`."""

    def _draw(self) -> float:
        """Draw from [0, 1) for one call, outside the lock: an ``rng`` may be code of the user's."""
        return 0.0

    @abc.abstractmethod
    def _release(self, ticket: Any, now: float) -> None:
        """Settle a call that is over."""

    def _is_healthy(self, state: S) -> bool:  # noqa: ARG002  # for those who know better
        """Whether a new state would not differ from *state*, which is idle."""
        return True

    @abc.abstractmethod
    def _read(self, state: S, now: float) -> Any:
        """Return what a snapshot says of *state* besides its totals."""

    @abc.abstractmethod
    def _stats_of(self, readings: list[Any], totals: Totals) -> Any:
        """Return a snapshot: what `_read` says of the states, their totals and those of evicted
        keys. Outside the lock.
        """

    @abc.abstractmethod
    def _wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """Return a bare wrapper for a sync function whose key is what *find* says."""

    @abc.abstractmethod
    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """Return a bare wrapper for an async function whose key is what *find* says."""

    # The lock.

    def _locked(
        self,
        step: Callable[[float], T | Rejected],
        *,
        emit: Callable[[Any], object] | None = None,
        takes: bool = False,
    ) -> T:
        """Run *step* under the lock. Settle ended calls before it; wake and deliver after it.

        *emit* makes events of what *step* returns, if anything listens. A `Rejected` is raised,
        outside the lock. If the step *takes* a ticket and the call, or a listener, is interrupted
        after it, the call will not be made, and the ticket is given back.
        """
        result: Any = None
        try:
            with self._lock:
                result = step(self._settled_now())
                if emit is not None and notify.listening:
                    emit(result)
            self._wake_and_deliver()
        except BaseException:
            self._cut_short = True
            if takes and result is not None and not isinstance(result, Rejected):
                self._ended.append(result)
            self._wake_and_deliver()
            raise
        if isinstance(result, Rejected):
            try:
                raise result
            finally:
                del result  # or it would keep itself alive by its traceback
        return result  # type: ignore[no-any-return]  # of the step, but for a Rejected

    def _visit(
        self, act: Callable[[S, float], T], begin: Callable[[], object] = lambda: None
    ) -> list[T]:
        """Let *act* visit every state there is, under the lock: a few for each taking of it, so
        that no call waits long (M3).

        *begin* is one step with the taking of the list: what it sets holds for states that are
        new after that. States of keys that are evicted meanwhile are visited all the same.
        """
        slots: tuple[Slot[S], ...] = ()  # until the end: with it keys may end
        rest: Iterator[Slot[S]] | None = None

        def step(now: float) -> list[T]:
            nonlocal slots, rest
            if rest is None:
                slots = self._states.slots()
                rest = iter(slots)
                begin()
            return [act(slot.state, now) for slot in islice(rest, FEW)]

        found = self._locked(step)
        while len(found) < len(slots):
            found += self._locked(step)
        return found

    def _settled_now(self) -> float:
        """Settle the calls that ended, and read the clock. Under the lock. A reading under the lock
        is never out of order.
        """
        now = clock.now()
        if self._cut_short:
            for slot in self._states.slots():
                slot.state.mend(now)
            self._cut_short = False
        while ended := self._ended:
            ticket = ended[0]
            del ended[0]  # no call, so that an interrupt finds it here, or on its way
            try:
                self._release(ticket, now)
            except BaseException:
                if isinstance(ticket, Waiter):  # which may go twice
                    ended.append(ticket)
                raise
        return now

    def _wake_and_deliver(self) -> None:
        """Outside the lock: settle what ended meanwhile, wake whoever was served, tell events. And
        release evicted keys: their end may be code of the user's.
        """
        while True:
            while (self._ended or self._cut_short) and not self._lock.locked():
                with self._lock:  # somebody may have been quicker: then it is free in a moment
                    self._settled_now()
            if not self._woken:
                break
            self._wake_one()
        if self._states.evicted:
            self._states.release_evicted()
        if self._outbox.pending:
            self._outbox.deliver()

    def _wake_one(self) -> None:
        try:
            waiter = self._woken[0]
        except IndexError:  # another thread was quicker
            return
        if waiter.given and waiter.lost():
            self._ended.append(waiter)  # what it was given is for whoever is behind it
        else:
            waiter.wake()
        with suppress(ValueError):  # another thread has woken it, too
            self._woken.remove(waiter)

    def _end(self, ticket: Any, error: BaseException | None = None) -> None:
        """End a call, or give up a place, by *error* if by any. See the head of this file."""
        try:
            self._ended.append(ticket)
            self._settle_ended(error)
        except BaseException:  # nobody may be left waiting for it
            self._cut_short = True
            self._settle_ended(error)
            raise

    def _settle_ended(self, error: BaseException | None = None) -> None:
        """Settle what ended, unless the lock is held: then its holder does it."""
        if error is not None and comes_of_close(error):  # perhaps the collector's doing
            self._settle_anywhere()
        elif not self._lock.locked():
            self._wake_and_deliver()

    def _settle_anywhere(self) -> None:
        """Settle what ended, and wake whoever was served, without a wait, and tell nothing.

        No interrupt comes between the taking of the lock and the ``try``: it comes after a call,
        and ``in`` is none.
        """
        while True:
            while self._woken and not self._ended:
                self._wake_one()
            if not self._ended and not self._cut_short:
                break
            if True not in map(self._lock.acquire, NOT_BLOCKING):
                break  # its holder looks once more
            try:
                self._settled_now()
            finally:
                self._lock.release()

    # Single calls and blocks.

    def admit(self) -> Call:
        """Take a place for one call, in your own hands. Never waits.

        Raises:
            Rejected: of the policy's own type; there is no place now.
            TypeError: the policy is keyed; write ``.of(key).admit()``.
        """
        self._states.refuse_keyed(self, BLOCK)
        return self._admit_of(None)

    def _admit_of(self, key: Hashable) -> Call:
        return Call(self, self._acquire_nowait(key), clock.now())

    def _acquire_nowait(self, key: Hashable) -> Any:
        """Take a place for one call without a wait; returns its ticket."""
        if self._checks_deadline and deadline_here() is not None:
            check_deadline(self.name, clock.now())
        draw = self._draw()
        return self._locked(
            lambda now: self._admit_to(self._states.find(key), now, draw),
            takes=True,
        )

    def _block_of(self, key: Hashable) -> Call:
        """Open a ``with`` block of *key*, as a decorated sync call begins."""
        return self._admit_of(key)

    async def _block_of_async(self, key: Hashable) -> Call:
        """Open an ``async with`` block of *key*, as a decorated async call begins."""
        return self._admit_of(key)

    def _opener(self, fn: AnyFunction) -> Callable[..., Call]:
        """How to open a call as the wrapper of *fn*, which is sync, does: by its arguments."""
        find = self._states.finder(fn)
        return lambda *args: self._block_of(None if find is None else find(*args))

    def _opener_async(self, fn: AnyFunction) -> Callable[..., Awaitable[Call]]:
        """`_opener` for an async function."""
        find = self._states.finder(fn)
        return lambda *args: self._block_of_async(None if find is None else find(*args))

    def _is_unwanted(self, result: object) -> bool:  # noqa: ARG002  # for those with an ``on_result``
        """Whether *result* is as bad as an error that ``on`` names."""
        return False

    def _open_block(self) -> Call:
        self._states.refuse_keyed(self, BLOCK)
        return self._block_of(None)

    async def _open_block_async(self) -> Call:
        self._states.refuse_keyed(self, ASYNC_BLOCK)
        return await self._block_of_async(None)

    def _finish_call(
        self,
        ticket: Any,
        began: float,  # noqa: ARG002  # a place that is given back tells nothing
        error: BaseException | None,
        outcome_override: str | None,  # noqa: ARG002  # the same
    ) -> None:
        self._end(ticket, error)

    def _call_collected(self, ticket: Any) -> None:
        self._end(ticket, GeneratorExit())

    def _rejection(
        self, state: S, reason: str, now: float, retry_after: float | None, why: object
    ) -> Rejected:
        """Make the error of a rejected call, and emit the event. Under the lock."""
        if notify.listening:
            self._emit(
                "CallRejected", at=now, key=state.key, reason=reason, retry_after=retry_after
            )
        return new_error(self._error, self.name, retry_after, reason, why)

    # Keys.

    def of(self, key: Hashable) -> OfKey[Any, Any]:
        """The handle of one *key*, with the policy's own interface.

        It looks the state up at each use, and makes none before the first call.

        Raises:
            TypeError: the policy has no ``key=``, or *key* can't be hashed.
        """
        return OfKey(self, self._states.checked(self, key))

    def keys(self) -> list[Hashable]:
        """The keys that are kept; none if the policy is not keyed."""
        return self._states.keys()

    # The policy.

    def stats(self) -> Any:
        """A snapshot: the sums over all keys, also of those that were evicted."""
        readings, totals = self._sums()
        return self._stats_of(readings, totals)

    def _sums(self) -> tuple[list[Any], Totals]:
        """What `_read` says of each state, and the totals of all, evicted ones included."""
        totals: Totals = {}
        found = self._visit(
            lambda state, now: (self._read(state, now), state.totals()),
            begin=lambda: totals.update(self._states.evicted_totals()),
        )
        for _, counted in found:
            add_totals(totals, counted)
        return [reading for reading, _ in found], totals

    def _stats_of_key(self, key: Hashable) -> Any:
        """Return a snapshot of one key; of a key without a call one that counts nothing."""

        def step(now: float) -> tuple[Any, Totals]:
            state = self._states.peek(key) or self._new_state(key)
            return self._read(state, now), state.totals()

        reading, totals = self._locked(step)
        return self._stats_of([reading], totals)

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        return self._wrapper(fn, self._states.finder(fn))

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        return self._wrapper_async(fn, self._states.finder(fn))

    def _reset(self) -> None:
        """See `PolicyBase._reset`: calls under way end where they began."""
        self._locked(lambda _now: self._states.restart(self._new_state))

    def _forked(self) -> None:
        """See `PolicyBase._forked`: their calls are gone, and so is who waited."""
        self._ended.clear()
        self._woken.clear()
        self._locked(lambda _now: self._states.replace(FORKED))

    def _fork_done(self) -> None:
        """See `PolicyBase._fork_done`: calls may have ended meanwhile."""
        self._wake_and_deliver()

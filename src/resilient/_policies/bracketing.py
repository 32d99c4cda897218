"""What the policies of load control share: they bracket a call, with a state for each key.

A call ends by `Bracketing.end`, from wherever it may be, the garbage collector included,
which may come while this very thread holds the lock. So `end` only notes what is over; whoever
has the lock settles it, and whoever gives the lock up looks once more. Nothing is left over,
and nobody waits.
"""

from __future__ import annotations

import abc
import math
from collections import deque
from collections.abc import Callable, Hashable, Sized
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, cast

from resilient._core.keys import Keys
from resilient._core.tally import Tally
from resilient._policies.base import Blocks, Call, PolicyBase
from resilient._policies.deadline.ambient import not_expired
from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.waits import wait_here
from resilient._policies.waiting import Sleeper, ThreadSleeper, async_sleeper, on_loop
from resilient._runtime import clock, notify
from resilient._runtime.decorate import AnyFunction, guarded, wrap
from resilient._runtime.keying import Key, KeyOf, hashable, key_of
from resilient.errors import Rejected, quick

P = ParamSpec("P")
R = TypeVar("R")


class Core(Protocol):
    """The state of a policy, or of one key of it."""

    key: Hashable
    calls: Tally
    rejected: Tally

    def idle(self) -> bool:
        """Whether no call is in flight, so that the key may go."""
        ...


C = TypeVar("C", bound=Core)


class Bracketing(PolicyBase, Blocks, Generic[C]):
    """A policy whose calls have a beginning and an end; its shell is in its subclass."""

    error: ClassVar[type[Rejected]]
    """What a call raises that is turned away."""
    reason: ClassVar[str]
    """Its usual reason."""
    totals: ClassVar[tuple[str, ...]] = ("calls", "rejected")
    """The tallies of a core."""
    heeds_deadline: ClassVar[bool] = True
    """Whether it refuses a call that has no time left (D5)."""
    usual_priority: float = 0.0
    """That of a call without arguments."""
    only: C
    """The state of a policy without keys."""

    def __init__(self, name: str | None, key: Key | None, max_keys: int) -> None:
        super().__init__(name)
        self._key, self._max_keys = key, max_keys
        self._ended: deque[Any] = deque()
        self.woken: deque[Any] = deque()
        self._gone: dict[str, int] = {}  # what the keys that made room had counted
        self._keys: Keys[C] | None = None

    def begin(self) -> None:
        """The last step of building."""
        self._start()
        self.list_me()

    # What a subclass says.

    @abc.abstractmethod
    def new_core(self, key: Hashable) -> C:
        """A state for *key*, ``None`` for the only one."""

    @abc.abstractmethod
    def settle(self, ticket: Any, now: float) -> None:
        """A call is over. Under the lock."""

    @abc.abstractmethod
    def take_place(self, core: C, priority: float, now: float) -> Any:
        """Take a place for one call, and return its ticket; ``None`` if there is none.

        Under the lock.
        """

    @abc.abstractmethod
    def describe(self, core: C) -> str:
        """Why a call of *core* is turned away, for people."""

    @abc.abstractmethod
    def wrapper(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """A bare wrapper for a sync function whose key is what *find* says."""

    @abc.abstractmethod
    def wrapper_async(self, fn: AnyFunction, find: KeyOf | None) -> AnyFunction:
        """A bare wrapper for an async function whose key is what *find* says."""

    @abc.abstractmethod
    def stats_of(self, cores: list[C], totals: dict[str, int]) -> object:
        """A snapshot of *cores*; *totals* are theirs and those of the keys that went."""

    # Single calls and blocks.

    def admit(self) -> Call:
        """Take a place for one call, in your own hands. Never waits.

        Raises:
            Rejected: of the policy's own type; there is no place now.
            TypeError: the policy is keyed; write ``.of(key).admit()``.
        """
        self.unkeyed("admit(), or `with policy.of(key):`")
        return self.admit_of(None)

    def admit_of(self, key: Hashable) -> Call:
        """`admit` for one key."""
        return Call(self, self.enter_now(key), clock.now())

    def enter_now(self, key: Hashable) -> Any:
        """Take a place for one call without a wait; returns its ticket."""
        now = clock.now()
        if self.heeds_deadline and deadline_here() is not None:
            not_expired(self.name, now)
        with self._lock:
            self.drain(now)
            core = self.core_of(key)
            ticket = self.take_place(core, self.usual_priority, now)
            error = None if ticket is not None else self.refuse(core, self.reason, now)
        self.after()
        if error is not None:
            self.outbox.deliver()
            raise error
        next(core.calls.ticks)
        return ticket

    def block_of(self, key: Hashable) -> Call:
        """What ``with`` does for one key: as a decorated sync call does."""
        return self.admit_of(key)

    async def block_of_async(self, key: Hashable) -> Call:
        """What ``async with`` does for one key: as a decorated async call does."""
        return self.admit_of(key)

    def open_block(self) -> Call:
        """See `Blocks.open_block`."""
        self.unkeyed("admit(), or `with policy.of(key):`")
        return self.block_of(None)

    async def open_block_async(self) -> Call:
        """See `Blocks.open_block_async`."""
        self.unkeyed("admit(), or `async with policy.of(key):`")
        return await self.block_of_async(None)

    def close_call(
        self,
        ticket: Any,
        began: float,  # noqa: ARG002  # a place that is given back tells nothing
        error: BaseException | None,  # noqa: ARG002  # the same
        said: str | None,  # noqa: ARG002  # the same
    ) -> None:
        """See `Call.close`."""
        self.end(ticket)

    def lose_call(self, ticket: Any) -> None:
        """See `Bracket.lose_call`."""
        self.end(ticket)

    def end(self, ticket: Any) -> None:
        """A call is over, or will not be made. From anywhere: see the head of this file."""
        self._ended.append(ticket)
        self.after()

    # Keys.

    def of(self, key: Hashable) -> OfKey[C]:
        """The handle of one *key*, with the policy's own interface.

        It looks the state up at each use, and makes none before the first call.

        Raises:
            TypeError: the policy has no ``key=``, or *key* can't be hashed.
        """
        return OfKey(self, self.checked(key))

    def keys(self) -> list[Hashable]:
        """The keys that are kept; none if the policy is not keyed."""
        return [] if self._keys is None else list(self._keys)

    def checked(self, key: Hashable) -> Hashable:
        """*key*, if there may be one."""
        if self._keys is None:
            raise TypeError(f"{self!r} has no key=, so there is no of()")
        return hashable(key)

    def unkeyed(self, what: str) -> None:
        """Refuse what needs a key."""
        if self._keys is not None:
            raise TypeError(f"{self!r} has a state for each key: write .of(key).{what}")

    def finder(self, fn: AnyFunction) -> KeyOf | None:
        """How to read the key off a call of *fn*; ``None`` without keys."""
        if self._key is None:
            return None
        find = key_of(self._key, fn)
        return lambda *args, **kwargs: hashable(find(*args, **kwargs))

    # The policy.

    def stats(self) -> Any:
        """A snapshot: the sums over all keys, also of those that had to make room."""
        now = clock.now()
        with self._lock:
            self.drain(now)
            cores = self.cores()
            found = self.stats_of(cores, self._sums(cores, self._gone))
        self.after()
        return found

    def stats_of_key(self, key: Hashable) -> Any:
        """A snapshot of one key; of a key without a call one that counts nothing."""
        now = clock.now()
        with self._lock:
            self.drain(now)
            assert self._keys is not None
            core = self._keys.peek(key) or self.new_core(key)
            found = self.stats_of([core], self._sums([core], {}))
        self.after()
        return found

    def renew(self) -> None:
        """See `PolicyBase.renew`: calls under way end where they began."""
        before = self._keys
        with self._lock:
            self._start()
        self.after()
        del before  # here, where the end of a key may use this policy

    def forking_over(self) -> None:
        """See `PolicyBase.forking_over`: calls may have ended meanwhile."""
        self.after()

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`."""
        return self.wrapper(fn, self.finder(fn))

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""
        return self.wrapper_async(fn, self.finder(fn))

    # For the subclasses.

    def core_of(self, key: Hashable) -> C:
        """The state of *key*, made if there is none. Under the lock."""
        if self._keys is None:
            return self.only
        core = self._keys.get(key)
        if core is None:
            core = self.new_core(key)
            self._gone = self._sums(self._keys.add(key, core), self._gone)
        return core

    def cores(self) -> list[C]:
        """Those that are kept: one, or one for each key."""
        return [self.only] if self._keys is None else self._keys.states()

    def healthy(self, core: C) -> bool:  # noqa: ARG002  # for those who know better
        """Whether a new state would not differ from *core*, which is idle."""
        return True

    def refuse(
        self, core: C, reason: str, now: float, retry_after: float | None = None, why: str = ""
    ) -> Rejected:
        """Count, and tell, that a call is turned away; returns what it raises. Under the lock."""
        next(core.rejected.ticks)
        if notify.listening:
            from resilient.events import CallRejected  # noqa: PLC0415  # whoever listens has loaded it

            self.outbox.put(
                CallRejected(
                    policy=self.name,
                    kind=self.kind,
                    at=now,
                    key=core.key,
                    reason=reason,
                    retry_after=retry_after,
                )
            )
        return quick(self.error, self.name, retry_after, reason, why or self.describe(core))

    def drain(self, now: float) -> None:
        """Settle what ended. Under the lock."""
        ended = self._ended
        while ended:
            self.settle(ended.popleft(), now)

    def after(self) -> None:
        """Outside the lock: settle what ended meanwhile, and let those go on who were served.

        And let go of the keys that made room: their end may be code of the user's.
        """
        while self._ended and self._lock.acquire(blocking=False):
            try:
                self.drain(clock.now())
            finally:
                self._lock.release()
            self.outbox.deliver()  # of calls that ended elsewhere
        while self.woken:
            try:
                waiter = self.woken.popleft()
            except IndexError:  # another thread was quicker
                return
            if waiter.given and waiter.lost():
                self.end(waiter)  # what it was given is for whoever is behind it
            else:
                waiter.wake()
        if self._keys is not None and self._keys.departed:
            self._keys.departed.clear()

    def _sums(self, cores: list[C], more: dict[str, int]) -> dict[str, int]:
        return {
            total: more.get(total, 0) + sum(getattr(core, total).read() for core in cores)
            for total in self.totals
        }

    def _start(self) -> None:
        self._gone = {}
        if self._key is None:
            self.only = self.new_core(None)
        else:
            self._keys = Keys(self._max_keys, idle=lambda core: core.idle(), healthy=self.healthy)


class QueueCore(Core, Protocol):
    """A state at which callers may wait."""

    room: int

    @property
    def queue(self) -> Sized:
        """Those who wait."""
        ...

    def arrive(self, waiter: Any, now: float, *, patient: bool) -> bool:
        """Take a place, or one in the queue; False if there is neither."""
        ...


Q = TypeVar("Q", bound=QueueCore)


class Queueing(Bracketing[Q]):
    """A bracketing policy in whose queue callers wait, at most ``max_wait`` seconds."""

    max_wait: float = math.inf

    def enter(self, key: Hashable, priority: float) -> Any:
        """Take a place for a sync call, if need be after a wait; returns its ticket."""
        now = clock.now()
        limit = not_expired(self.name, now) if deadline_here() is not None else None
        if (ticket := self._try(key, priority, now)) is not None:
            return ticket
        waiter = ThreadSleeper(priority)
        self._arrive(key, waiter, patient=not on_loop())
        try:
            if not waiter.given:
                waiter.wait(self.max_wait, limit, self.name)
                self._check(waiter)
        except BaseException:
            self.end(waiter)
            raise
        next(waiter.core.calls.ticks)
        return self.ticket(waiter)

    async def enter_async(self, key: Hashable, priority: float) -> Any:
        """`enter` for an async call."""
        now = clock.now()
        if deadline_here() is not None:
            not_expired(self.name, now)
        if (ticket := self._try(key, priority, now)) is not None:
            return ticket
        waiter = async_sleeper(priority)
        self._arrive(key, waiter, patient=True)
        try:
            if not waiter.given:
                await wait_here(self.name, None, waiter.wait, self.max_wait)
                self._check(waiter)
        except BaseException:
            self.end(waiter)
            raise
        next(waiter.core.calls.ticks)
        return self.ticket(waiter)

    def forked(self) -> None:
        """See `PolicyBase.forked`: the threads that held the places, and waited, are not here."""
        totals = self._sums(self.cores(), self._gone)
        self._start()
        self._gone = totals

    def why_lost(self, waiter: Sleeper) -> str:  # noqa: ARG002  # for those who know better
        """The reason of a rejection after a wait."""
        return "max_wait"

    @abc.abstractmethod
    def ticket(self, waiter: Sleeper) -> Any:
        """What a call holds that *waiter* has waited for."""

    def block_of(self, key: Hashable) -> Call:
        """See `Bracketing.block_of`."""
        return Call(self, self.enter(key, self.usual_priority), clock.now())

    async def block_of_async(self, key: Hashable) -> Call:
        """See `Bracketing.block_of_async`."""
        return Call(self, await self.enter_async(key, self.usual_priority), clock.now())

    def _try(self, key: Hashable, priority: float, now: float) -> Any:
        """A ticket at once; ``None`` if there is none, but a queue."""
        error = None
        with self._lock:
            self.drain(now)
            core = self.core_of(key)
            ticket = self.take_place(core, priority, now)
            if ticket is None and not core.room:
                error = self.refuse(core, self.reason, now)
        self.after()
        if error is not None:
            self.outbox.deliver()
            raise error
        if ticket is not None:
            next(core.calls.ticks)
        return ticket

    def _arrive(self, key: Hashable, waiter: Sleeper, *, patient: bool) -> None:
        """Take a place, or one in the queue, or raise; who is not *patient* does not queue."""
        now, error = clock.now(), None
        with self._lock:
            self.drain(now)
            core = waiter.core = self.core_of(key)
            if not core.arrive(waiter, now, patient=patient):
                would_wait = not patient and len(core.queue) < core.room
                error = self.refuse(core, "would_block" if would_wait else self.reason, now)
        self.after()
        if error is not None:
            self.outbox.deliver()
            raise error

    def _check(self, waiter: Sleeper) -> None:
        """Raise if *waiter* was woken without having been given a place."""
        if waiter.given:
            return
        now = clock.now()
        with self._lock:
            self.drain(now)
            error = None if waiter.given else self.refuse(waiter.core, self.why_lost(waiter), now)
        self.after()
        if error is not None:
            self.outbox.deliver()
            raise error


class OfKey(Blocks, Generic[C]):
    """One key of a keyed policy: the same interface, and no state before the first call."""

    def __init__(self, policy: Bracketing[C], key: Hashable) -> None:
        self._policy, self._key = policy, key

    @property
    def of_policy(self) -> Bracketing[C]:
        """The policy that it is of."""
        return self._policy

    @property
    def name(self) -> str:
        """The policy's."""
        return self._policy.name

    @property
    def kind(self) -> str:
        """The policy's."""
        return self._policy.kind

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Guard every call of *fn* under this key."""
        return wrap(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call of *fn* under this key; for an ``async def`` returns the awaitable."""
        return cast("R", guarded(self, fn)(*args, **kwargs))

    def admit(self) -> Call:
        """Take a place for one call of this key. Never waits."""
        return self._policy.admit_of(self._key)

    def stats(self) -> Any:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        return self._policy.stats_of_key(self._key)

    def open_block(self) -> Call:
        """See `Blocks.open_block`."""
        return self._policy.block_of(self._key)

    async def open_block_async(self) -> Call:
        """See `Blocks.open_block_async`."""
        return await self._policy.block_of_async(self._key)

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`."""
        return self._policy.wrapper(fn, lambda *_args, **_kwargs: self._key)

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""
        return self._policy.wrapper_async(fn, lambda *_args, **_kwargs: self._key)

    def adopt(self, name: str) -> None:
        """See `PolicyBase.adopt`."""
        self._policy.adopt(name)

    def __repr__(self) -> str:
        return f"<{self._policy!r} of {self._key!r}>"

"""One time limit around one block, enforced where there is somebody to cancel.

On asyncio the block cancels its task and takes that back at the end, by the same
counting as `asyncio.timeout`; all limits of a loop share one timer. On trio a
`trio.CancelScope` does it. In plain threads nothing is interrupted.

This is one file, though a long one: how a block begins, fires and ends is one life, and each
step of it must be read beside the others. The chain ``_outer`` leads from a block to those around
it, also across tasks: it is the context that is inherited. What counts is the earliest limit of
the chain.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from resilient._core.checks import Seconds
from resilient._core.checks import seconds as check_seconds
from resilient._core.deadline import Entry
from resilient._core.tally import Tally
from resilient._runtime import clock, loops, notify
from resilient._runtime.notify import Outbox
from resilient.errors import DeadlineExceeded

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import trio

KIND: Final = "deadline"
ambient: ContextVar[Deadline | None] = ContextVar("resilient.deadline", default=None)
deadline_here, set_deadline_here, reset_deadline_here = ambient.get, ambient.set, ambient.reset
"""Bound once: a method of an imported name is looked up the slow way."""
_outbox = Outbox()
expired_blocks: Final = Tally()
"""How many blocks of `deadline` were cut short, in the whole program."""


class Owner(Protocol):
    """The policy on whose behalf a block limits one call: a timeout."""

    @property
    def kind(self) -> str: ...

    outbox: Outbox
    expired: Tally
    not_started: Tally


class Heir(Protocol):
    """Who must know when a limit is moved."""

    def follow(self) -> None:
        """It was moved."""


class Life(enum.Enum):
    """Where a block is in its life.

    Three are ways not to have begun: BARE is to be read only, and cancels nobody; of PARTLY a part
    of the limit is spent. FIRED is open, with its body cancelled by it. COVER is no block: it
    hides those above it, see `detached`.
    """

    NEW = "has not begun"
    BARE = "has not begun, and cancels nobody"
    PARTLY = "has not begun, but was spent in part"
    OPEN = "is open"
    FIRED = "has expired"
    ENDED = "is over"
    COVER = "hides the others"


NEW, BARE, PARTLY, OPEN, FIRED, ENDED, COVER = Life  # on 3.11 a descriptor looks each member up
UNBEGUN: Final = (NEW, BARE, PARTLY)
ALIVE: Final = (OPEN, FIRED)


@final
class Deadline:
    """A time limit for one block; `deadline` makes it.

    Everything that runs below, child tasks and threads included, sees what is left of it.
    In async code the body is cancelled at the instant, at its next wait; in plain threads
    nothing is interrupted: policies look at their own borders, and `check` raises on request.

    Attributes:
        seconds: the limit that was set, ``inf`` for none.
        name: what errors call it.
    """

    __slots__ = (
        "__weakref__", "_at", "_began", "_cancels", "_ended_at", "_entry", "_heirs", "_outer",
        "_owner", "_read", "_scope", "_soon", "_spent", "_task", "_timers", "_token", "life",
        "name", "seconds",
    )  # fmt: skip

    _token: Token[Deadline | None]
    _timers: loops.Timers
    _spent: float  # seconds of the limit that were used before the block, if it is PARTLY

    def __init__(self, limit: float, name: str, owner: Owner | None) -> None:
        self.seconds, self.name, self._owner = limit, name, owner
        self.life = NEW
        self._at = math.inf
        self._outer: Deadline | None = None
        self._task: Any = None  # who is cancelled: an asyncio or a trio task; in plain code nobody
        self._entry: Entry | None = None
        self._scope: trio.CancelScope | None = None
        self._soon: Callable[[Callable[[], object]], object] | None = None  # set while an heir
        self._heirs: dict[Heir, None] | None = None  # who in other tasks goes by this limit

    @classmethod
    def spent(cls, limit: float, name: str, spent: float) -> Deadline:
        """A limit of which *spent* seconds were used before the block."""
        one = cls(limit, name, None)
        one.life, one._spent = PARTLY, spent
        return one

    @classmethod
    def bare(cls, limit: float, name: str) -> Deadline:
        """A limit to be read only: it cancels nobody."""
        one = cls(limit, name, None)
        one.life = BARE
        return one

    # The block.

    def __enter__(self) -> Self:
        life = self.life
        if life is not NEW and life not in UNBEGUN:
            raise RuntimeError(
                f"{self.name}: a deadline is used once; timeout() is the policy to reuse"
            )
        loop = loops.running_loop()
        task: Any = None if loop is None else loops.current_task(loop)
        if task is None and (trio_task := loops.trio_task()) is not None:
            self._enter_trio(trio_task)
        else:
            self._read = read = clock.now
            self._began = now = read()
            self._at = at = now + self.seconds
            if at <= now or life is not NEW or deadline_here() is not None:
                self._begin(now)
                at = self._at
            if loop is not None and task is not None and life is not BARE:
                self._task, self._cancels = task, task.cancelling()
                self._timers = loops.loop_state(loop).timers
                if self._outer is not None:
                    self._enter_nested(loop)
                elif at != math.inf:
                    self._entry = self._timers.push(at, self)
        self.life = OPEN
        self._token = set_deadline_here(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        fired = self.life is FIRED
        self.life = ENDED
        self._ended_at = self._read()
        try:
            reset_deadline_here(self._token)
        except ValueError:  # left in another context: what is still there of it must limit nobody
            self._at = math.inf
        if self._entry is not None:
            self._timers.remove(self._entry)
        if self._soon is not None:
            self._disinherit()
        if self._scope is not None:
            return self._exit_trio(self._scope, kind, error, trace)
        if fired and loops.running_loop() is not None and loops.current_task() is self._task:
            self._convert(error)
        return None

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self.__exit__(kind, error, trace)

    # What one may ask.

    @property
    def at(self) -> float:
        """The instant of the earliest limit here, its own or one around it; ``inf`` for none.

        A reading of the monotonic clock, on trio of that run's clock.
        """
        return self._begun().binding()._at

    def remaining(self) -> float:
        """Seconds until `at`: never negative, ``inf`` without a limit."""
        return max(0.0, self._begun().left())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self._begun().left() <= 0

    def check(self) -> None:
        """Raise `DeadlineExceeded` if it has expired.

        For long computations, and for plain threads.
        """
        if self.expired:
            raise self.exceeded(self.name, started=True)

    def reschedule(self, seconds: Seconds | None) -> None:
        """Let the limit of this block be *seconds* from now; ``None`` removes it.

        Raises:
            RuntimeError: the block has not begun or is over, or its limit has passed.
        """
        limit = limit_of(seconds)
        expired = self.life is OPEN and self._at <= self._read()
        if self.life is not OPEN or expired:
            state = FIRED if expired else self.life
            raise RuntimeError(f"{self.name}: a deadline that {state.value} can't be rescheduled")
        self.seconds = limit
        self.move(self._read() + limit)

    def __repr__(self) -> str:
        return f"<Deadline {self.name!r} of {self.seconds:g} s: {self.life.value}>"

    # For the policies.

    def move(self, at: float) -> None:
        """Let the limit of this block be the instant *at*."""
        self._at = at
        self._rearm()
        for heir in tuple(self._heirs or ()):
            heir.follow()

    def cover(self, outer: Deadline | None) -> None:
        """Be no limit, but one that hides those above: see `detached`.

        Those that are still open are kept, because they may be the cause of a cancellation.
        """
        while outer is not None and outer.life in {ENDED, COVER}:
            outer = outer._outer
        self._outer, self.life = outer, COVER

    def binding(self, now: float | None = None) -> Deadline:
        """Whose limit is the earliest: this one's, or one's around it."""
        best, least = self, self._own_left(now)
        for one in self._above():
            left = one._own_left(now)
            if left < least:
                best, least = one, left
        return best

    def left(self, now: float | None = None) -> float:
        """Seconds until the earliest limit, negative when it has passed.

        A reading *now* of our clock saves another look at it.
        """
        least, one = self._own_left(now), self._outer
        while one is not None and one.life is not COVER:
            left = one._own_left(now)
            least = min(least, left)
            one = one._outer
        return least

    def _own_left(self, now: float | None) -> float:
        return self._at - (now if now is not None and self._read == clock.now else self._read())

    def at_by(self, read: Callable[[], float]) -> float:
        """The instant of the earliest limit, as a reading of the clock *read*."""
        binding = self.binding()
        return binding._at if binding._read == read else read() + binding._at - binding._read()

    def enforced_here(self) -> bool:
        """Whether this block, still open, cancels the very task that asks."""
        loop = loops.running_loop()
        task = loops.trio_task() if loop is None else loops.current_task(loop)
        return task is not None and self._task is task and self.life in ALIVE

    def exceeded(self, policy: str, *, started: bool) -> DeadlineExceeded:
        """The error of *policy*, whose call the limit kept from starting, or cut short."""
        binding = self.binding()
        now = binding._read()
        ended_ago = None if started or binding.life is not ENDED else now - binding._ended_at
        return DeadlineExceeded(policy, binding.seconds, now - binding._began, started, ended_ago)

    def fired_scopes(self) -> Iterator[Deadline]:
        """Those of the chain that have cancelled their bodies, innermost first, hidden ones too."""
        one: Deadline | None = self
        while one is not None:
            if one.life is FIRED or (
                one.life is OPEN and one._scope is not None and one._scope.cancel_called
            ):
                yield one
            one = one._outer

    def scopes(self) -> Iterator[object]:
        """The trio scopes of the chain."""
        one: Deadline | None = self
        while one is not None:
            if one._scope is not None:
                yield one._scope
            one = one._outer

    def bequeath(self, heir: Heir) -> None:
        """Tell *heir* when a limit that counts here is moved, until `disown`."""
        for one in (self, *self._above()):
            one._tell_moves(heir)

    def disown(self, heir: Heir) -> None:
        """Tell *heir* no more."""
        for one in (self, *self._above()):
            if one._heirs:
                one._heirs.pop(heir, None)

    def follow(self) -> None:
        """A limit above was moved, perhaps in another thread."""
        if self._soon is not None:
            with suppress(RuntimeError):  # the loop of that task is gone
                self._soon(self._rearm)

    # Called by the loop.

    def due(self, now: float) -> None:
        """Its time has come: cancel the body, unless a block around it does."""
        self._entry = None
        if self._enforced_at() > now:  # an outer one was moved
            self._rearm()
            return
        first, outer = self, self._outer
        while outer is not None and outer._task is self._task and outer.life in ALIVE:
            if outer.life is FIRED:
                return
            if outer._enforced_at() <= now:
                first = outer
            outer = outer._outer
        if first.life is OPEN:
            first.life = FIRED
            first._task.cancel()

    # The limit.

    def _begin(self, now: float) -> None:
        """Start inside another limit, or with less than the whole; refuse if nothing is left."""
        self._began = now - (self._spent if self.life is PARTLY else 0.0)
        self._at = self._began + self.seconds
        outer = deadline_here()
        while outer is not None and outer.life is ENDED and outer._at == math.inf:
            outer = outer._outer  # says nothing any more
        self._outer = outer
        spent = self._at <= now
        if outer is not None and outer.life is not COVER and not spent:
            spent = outer.left(now if self._read == clock.now else None) <= 0
        if spent:
            error = self.exceeded(self.name, started=False)
            self.life, self._ended_at = ENDED, now
            if self._owner is not None:
                self._owner.not_started.up()
            raise error

    def _begun(self) -> Self:
        if self.life in UNBEGUN:
            raise RuntimeError(
                f"{self.name}: a deadline begins at entry: write `with deadline(...) as limit:`"
            )
        return self

    def _above(self) -> Iterator[Deadline]:
        one = self._outer
        while one is not None and one.life is not COVER:
            yield one
            one = one._outer

    def _enforced_at(self) -> float:
        """When this block itself must cancel.

        At its own limit, or at one inherited from another task.

        What a block of the same task sets, that block sees to.
        """
        at = self._at
        for one in self._above():
            if one._task is self._task and one.life in ALIVE:
                break
            if one._at != math.inf:
                at = min(
                    at, one._at if one._read == self._read else self._read() + one._at - one._read()
                )
        return at

    def _rearm(self) -> None:
        """The limit has moved: tell the one who watches the time."""
        if self.life is not OPEN or self._task is None:
            return
        at = self._enforced_at()
        if self._scope is not None:
            self._scope.deadline = at
            return
        if self._entry is not None:
            self._timers.remove(self._entry)
        self._entry = self._timers.push(at, self) if at != math.inf else None

    def _inherit(self, soon: Callable[[Callable[[], object]], object]) -> None:
        """Be told when a limit of another task, which counts here too, is moved."""
        for one in self._above():
            if one._task is self._task and one.life in ALIVE:
                return
            self._soon = soon
            one._tell_moves(self)

    def _disinherit(self) -> None:
        for one in self._above():
            if one._heirs:
                one._heirs.pop(self, None)

    def _tell_moves(self, heir: Heir) -> None:
        if self.life in ALIVE:
            self._heirs = self._heirs or {}
            self._heirs[heir] = None

    # On asyncio.

    def _enter_nested(self, loop: Any) -> None:
        outer, at = self._outer, self._at
        if outer is None or outer._task is not self._task or outer.life is not OPEN:
            self._inherit(loop.call_soon_threadsafe)
            at = self._enforced_at()
        if at != math.inf:
            self._entry = self._timers.push(at, self)

    def _convert(self, error: BaseException | None) -> None:
        """Turn our own cancellation into `DeadlineExceeded`, and nobody else's."""
        if self._task.uncancel() > self._cancels or error is None:
            return
        from asyncio import CancelledError  # noqa: PLC0415  # loaded already: we are inside it

        if isinstance(error, CancelledError):
            raise self._expired() from error
        if not isinstance(error, BaseExceptionGroup):
            return
        cancelled, rest = error.split(CancelledError)
        if rest is None:
            raise self._expired() from error
        if cancelled is None:
            error.add_note(self._note())
            return
        rest.add_note(self._note())
        raise rest

    # On trio.

    def _enter_trio(self, task: Any) -> None:
        import trio  # noqa: PLC0415  # loaded already: we are inside it

        self._read = loops.trio_reading()
        self._begin(self._read())
        if self.life is BARE:
            return
        self._task = task
        if self._outer is not None:
            self._inherit(trio.lowlevel.current_trio_token().run_sync_soon)
        self._scope = trio.CancelScope(deadline=self._enforced_at())
        self._scope.__enter__()

    def _exit_trio(
        self,
        scope: trio.CancelScope,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if loops.trio_task() is not self._task:
            scope.deadline = math.inf
            return None
        fired = scope.cancel_called
        try:
            scope.__exit__(kind, error, trace)
        except BaseExceptionGroup as rest:
            rest.add_note(self._note())
            raise
        if scope.cancelled_caught:
            raise self._expired()
        if fired and isinstance(error, BaseExceptionGroup):
            error.add_note(self._note())
        return None

    # What is said.

    def _expired(self) -> DeadlineExceeded:
        error = self.exceeded(self.name, started=True)
        owner = self._owner
        outbox, kind = (_outbox, KIND) if owner is None else (owner.outbox, owner.kind)
        (expired_blocks if owner is None else owner.expired).up()
        if notify.listening:
            from resilient.events import DeadlineExpired  # noqa: PLC0415  # whoever listens has loaded it

            outbox.put(
                DeadlineExpired(
                    policy=self.name, kind=kind, at=self._ended_at, seconds=error.seconds
                )
            )
            outbox.deliver()
        return error

    def _note(self) -> str:
        return f"{self.name}: the limit of {self.binding().seconds:g} s had passed as well"


def limit_of(seconds: Seconds | None) -> float:
    """*seconds* as a number: at least 0, ``inf`` for no limit."""
    return math.inf if seconds is None else check_seconds("seconds", seconds, finite=False)

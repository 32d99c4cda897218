"""One time limit around one block, enforced where there is somebody to cancel.

On asyncio the block cancels its task and takes that back at the end, by the same
counting as `asyncio.timeout`; all limits of a loop share one timer. On trio a
`trio.CancelScope` does it. In plain threads nothing is interrupted.

This is one file, though a long one: how a block begins, fires and ends is one life, and each
step of it must be read beside the others. Which limit of the chain counts is decided in
`Limit`, the pure part of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from resilient._core.chaining import add_note
from resilient._core.checks import Seconds, check_seconds
from resilient._core.counter import Counter
from resilient._core.deadline import ALIVE, UNBEGUN, Entry, Life, Limit
from resilient._core.deadline.chain import first_that_lives, tidied
from resilient._policies.common.policy import emit
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
expired_blocks: Final = Counter()
"""How many blocks of `deadline` were cut short, in the whole program."""


class Owner(Protocol):
    """The policy on whose behalf a block limits one call: a timeout."""

    @property
    def kind(self) -> str: ...

    _outbox: Outbox
    _expired: Counter
    _not_started: Counter


class LimitListener(Protocol):
    """Who must know when a limit is moved."""

    def _limit_moved(self) -> None: ...


NEW, READ_ONLY, PARTLY_SPENT = Life.NEW, Life.READ_ONLY, Life.PARTLY_SPENT
OPEN, FIRED, ENDED, SHIELD = Life.OPEN, Life.FIRED, Life.ENDED, Life.SHIELD
"""Bound once: on 3.11 a descriptor looks each member up."""


@final
class Deadline(Limit):
    """A time limit for one block; `deadline` makes it.

    Everything that runs below, child tasks and threads included, sees what is left of it.
    In async code the body is cancelled at the instant, at its next wait; in plain threads
    nothing is interrupted: policies look at their own borders, and `check` raises on request.

    Attributes:
        seconds: the limit that was set, ``inf`` for none.
        name: what errors call it.
    """

    __slots__ = (
        "__weakref__", "_began", "_cancels", "_ended_at", "_entry", "_listeners", "_owner",
        "_scope", "_soon", "_spent", "_timers", "_token", "name", "seconds",
    )  # fmt: skip

    _token: Token[Deadline | None]
    _timers: loops.Timers
    _spent: float  # seconds of the limit that were used before the block, if it is PARTLY_SPENT

    def __init__(self, limit: float, name: str, owner: Owner | None) -> None:
        self.seconds, self.name, self._owner = limit, name, owner
        self._life, self._at = NEW, math.inf
        self._outer = self._task = None
        self._entry: Entry | None = None
        self._scope: trio.CancelScope | None = None
        # How to reach the task, while it follows the limit of another one.
        self._soon: Callable[[Callable[[], object]], object] | None = None
        self._listeners: dict[LimitListener, None] | None = None

    @classmethod
    def _of_life(cls, life: Life, limit: float, name: str, spent: float = 0.0) -> Deadline:
        """A limit that is NEW, READ_ONLY, or PARTLY_SPENT: *spent* seconds before the block."""
        one = cls(limit, name, None)
        one._life, one._spent = life, spent
        return one

    # The block.

    def __enter__(self) -> Self:
        life = self._life
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
            if loop is not None and task is not None and life is not READ_ONLY:
                self._task, self._cancels = task, task.cancelling()
                self._timers = loops.loop_state(loop).timers
                if self._outer is not None:
                    self._enter_nested(loop)
                elif at != math.inf:
                    self._entry = self._timers.push(at, self)
        self._life = OPEN
        self._token = set_deadline_here(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        fired = self._life is FIRED
        self._ended_at = self._read()  # first: other threads may ask when it ended
        self._life, self._listeners = ENDED, None  # nobody moves it any more
        # Whoever inherited this one keeps neither the task nor, by the token, its context.
        task, self._task = self._task, None
        here, token = deadline_here(), self._token
        del self._token
        try:
            reset_deadline_here(token)
        except ValueError:  # left in another context: what is still there of it must limit nobody
            self._at, self._token = math.inf, token  # which is the way out there
        else:
            outer = deadline_here()
            if here is not self or (outer is not None and outer._life is not OPEN):
                self._leave(here)
        if self._entry is not None:
            self._timers.remove(self._entry)
        if self._soon is not None:
            self._unsubscribe(self)
        if self._scope is not None:
            return self._exit_trio(self._scope, task, kind, error, trace)
        if fired and loops.running_loop() is not None and loops.current_task() is task:
            self._convert(task, error)
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
        return self._begun()._binding()._at

    def remaining(self) -> float:
        """Seconds until `at`: never negative, ``inf`` without a limit."""
        return max(0.0, self._begun()._left())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self._begun()._left() <= 0

    def check(self) -> None:
        """Raise `DeadlineExceeded` if it has expired.

        For long computations, and for plain threads.
        """
        if self.expired:
            raise self._exceeded(self.name, started=True)

    def reschedule(self, seconds: Seconds | None) -> None:
        """Let the limit of this block be *seconds* from now; ``None`` removes it.

        Raises:
            RuntimeError: the block has not begun or is over, or its limit has passed.
        """
        limit = limit_of(seconds)
        expired = self._life is OPEN and self._at <= self._read()
        if self._life is not OPEN or expired:
            state = FIRED if expired else self._life
            raise RuntimeError(f"{self.name}: a deadline that {state.value} can't be rescheduled")
        self.seconds = limit
        self._move(self._read() + limit)

    def __repr__(self) -> str:
        return f"<Deadline {self.name!r} of {self.seconds:g} s: {self._life.value}>"

    # For the policies.

    def _move(self, at: float) -> None:
        """Let the limit of this block be the instant *at*."""
        self._at = at
        self._rearm()
        for listener in tuple(self._listeners or ()):
            listener._limit_moved()

    def _shield(self) -> None:
        """Be no limit here, but one that hides those above: see `detached`.

        Those that are still open are kept, because they may be the cause of a cancellation.
        """
        self._outer, self._life = first_that_lives(deadline_here()), SHIELD
        self._token = set_deadline_here(self)

    def _unshield(self) -> None:
        """Hide them no longer here; what was started below stays free of them."""
        here, token = deadline_here(), self._token
        self._ended_at = math.inf
        del self._token  # which would keep alive what it hides, for as long as those below live
        with suppress(ValueError):  # left in another context: nothing to undo in this one
            reset_deadline_here(token)
            self._leave(here)

    def _exceeded(self, policy: str, *, started: bool) -> DeadlineExceeded:
        """The error of *policy*, whose call the limit kept from starting, or cut short."""
        binding = self._binding()
        now = binding._read()
        ended_ago = None if started or binding._life is not ENDED else now - binding._ended_at
        return DeadlineExceeded(policy, binding.seconds, now - binding._began, started, ended_ago)

    def _fired_scopes(self) -> Iterator[Deadline]:
        """Those of the chain that have cancelled their bodies, innermost first, hidden ones too."""
        one: Deadline | None = self
        while one is not None:
            if one._life is FIRED or (
                one._life is OPEN and one._scope is not None and one._scope.cancel_called
            ):
                yield one
            one = one._outer

    def _scopes(self) -> Iterator[object]:
        """The trio scopes of the chain."""
        one: Deadline | None = self
        while one is not None:
            if one._scope is not None:
                yield one._scope
            one = one._outer

    def _subscribe(self, listener: LimitListener) -> None:
        """Notify *listener* when a limit that counts here is moved, until `_unsubscribe`."""
        for one in self._chain():
            one._add_listener(listener)

    def _unsubscribe(self, listener: LimitListener) -> None:
        """Notify *listener* no more."""
        for one in self._chain():
            if listeners := one._listeners:
                listeners.pop(listener, None)

    def _limit_moved(self) -> None:
        """A limit above was moved, perhaps in another thread."""
        if self._soon is not None:
            with suppress(RuntimeError):  # the loop of that task is gone
                self._soon(self._rearm)

    # Called by the loop.

    def _due(self, now: float) -> None:
        """Its time has come: cancel the body, unless a block around it does."""
        self._entry = None
        if self._enforced_at() > now:  # an outer one was moved
            self._rearm()
            return
        first = self._due_at(now)
        if first is not None:
            first._life = FIRED
            first._task.cancel()

    # The limit.

    def _begin(self, now: float) -> None:
        """Start inside another limit, or with less than the whole; refuse if nothing is left."""
        self._began = now - (self._spent if self._life is PARTLY_SPENT else 0.0)
        self._at = self._began + self.seconds
        outer = deadline_here()
        if outer is not None and (outer._outer is not None or outer._life is not OPEN):
            outer = tidied(outer)
        self._outer = outer
        spent = self._at <= now
        if outer is not None and outer._life is not SHIELD and not spent:
            spent = outer._left(now, self._read) <= 0
        if spent:
            error = self._exceeded(self.name, started=False)
            self._life, self._ended_at = ENDED, now
            if self._owner is not None:
                next(self._owner._not_started.increment)
            raise error

    def _begun(self) -> Self:
        if self._life in UNBEGUN:
            raise RuntimeError(
                f"{self.name}: a deadline begins at entry: write `with deadline(...) as limit:`"
            )
        return self

    def _rearm(self) -> None:
        """The limit has moved: tell the one who watches the time."""
        if self._life is not OPEN or self._task is None:
            return
        at = self._enforced_at()
        if self._scope is not None:
            self._scope.deadline = at
            return
        if self._entry is not None:
            self._timers.remove(self._entry)
        self._entry = self._timers.push(at, self) if at != math.inf else None

    def _inherit(self, soon: Callable[[Callable[[], object]], object]) -> None:
        """Follow a limit of another task that counts here too, if it is moved."""
        for one in self._above():
            if one._cancels_for(self):
                return
            self._soon = soon
            one._add_listener(self)

    def _add_listener(self, listener: LimitListener) -> None:
        if self._life in ALIVE:
            listeners = self._listeners
            if listeners is None:
                listeners = self._listeners = {}
            listeners[listener] = None

    # Where blocks end in another order than that in which they began.

    def _leave(self, here: Deadline | None) -> None:
        """The context variable was set back to what this block had found; *here* stood in it.

        If that is another one, it goes on without this block. The token that sets back what was
        before this block is kept: whoever comes upon a block that is over takes the way out by it.
        """
        if here is self:
            leave_ended()
            return
        self._token = set_deadline_here(here)
        if self._life is not SHIELD and here is not None:
            for one in here._chain():
                if one._outer is self:
                    one._outer = self._outer
                    one._watch_anew()

    def _watch_anew(self) -> None:
        """The block around it is over: what that one had watched for this task is its own now."""
        if self._task is not None and self._scope is None and self._life is OPEN:
            self._inherit(self._timers.loop.call_soon_threadsafe)
            self._rearm()

    # On asyncio.

    def _enter_nested(self, loop: Any) -> None:
        outer, at = self._outer, self._at
        if outer is None or outer._task is not self._task or outer._life is not OPEN:
            self._inherit(loop.call_soon_threadsafe)
            at = self._enforced_at()
        if at != math.inf:
            self._entry = self._timers.push(at, self)

    def _convert(self, task: Any, error: BaseException | None) -> None:
        """Turn our own cancellation of *task* into `DeadlineExceeded`, and nobody else's."""
        if task.uncancel() > self._cancels or error is None:
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
            add_note(error, self._note())
            return
        add_note(rest, self._note())
        raise rest

    # On trio.

    def _enter_trio(self, task: Any) -> None:
        import trio  # noqa: PLC0415  # loaded already: we are inside it

        self._read = loops.trio_reading()
        self._begin(self._read())
        if self._life is READ_ONLY:
            return
        self._task = task
        if self._outer is not None:
            self._inherit(trio.lowlevel.current_trio_token().run_sync_soon)
        self._scope = trio.CancelScope(deadline=self._enforced_at())
        self._scope.__enter__()

    def _exit_trio(
        self,
        scope: trio.CancelScope,
        task: Any,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if loops.trio_task() is not task:
            scope.deadline = math.inf
            return None
        fired = scope.cancel_called
        try:
            scope.__exit__(kind, error, trace)
        except BaseExceptionGroup as rest:
            add_note(rest, self._note())
            raise
        if scope.cancelled_caught:
            raise self._expired()
        if fired and isinstance(error, BaseExceptionGroup):
            add_note(error, self._note())
        return None

    # What is said.

    def _expired(self) -> DeadlineExceeded:
        error = self._exceeded(self.name, started=True)
        owner = self._owner
        outbox, kind = (_outbox, KIND) if owner is None else (owner._outbox, owner.kind)
        next((expired_blocks if owner is None else owner._expired).increment)
        if notify.listening:
            at, seconds = self._ended_at, error.seconds
            emit(outbox, "DeadlineExpired", policy=self.name, kind=kind, at=at, seconds=seconds)
            outbox.deliver()
        return error

    def _note(self) -> str:
        return f"{self.name}: the limit of {self._binding().seconds:g} s had passed as well"


def leave_ended() -> None:
    """Leave those behind that ended before the ones inside them, and so could not go then.

    One that was inherited stays, also when it is over (D1): its token is of another context. And
    so does one that a function carries here: its token was used, or dropped, when it ended.
    """
    with suppress(ValueError, RuntimeError, AttributeError):
        while (one := deadline_here()) is not None and (
            one._life is ENDED or (one._life is SHIELD and hasattr(one, "_ended_at"))
        ):
            reset_deadline_here(one._token)


def limit_of(seconds: Seconds | None) -> float:
    """*seconds* as a number: at least 0, ``inf`` for no limit."""
    return math.inf if seconds is None else check_seconds("seconds", seconds, finite=False)

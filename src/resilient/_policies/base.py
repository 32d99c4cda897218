"""What every policy has: a name, a lock, an outbox, a place among the living; and `Call`."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, final, runtime_checkable

from resilient._core.checks import refuse_type
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, guarded, wrap
from resilient._runtime.locks import new_lock
from resilient._runtime.notify import Outbox
from resilient._runtime.registry import Registry

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class Policy(Protocol):
    """What all policies have in common.

    ``name`` is what errors, events and metrics call it, ``kind`` the word for its sort
    (``"breaker"``, …), `stats` a frozen snapshot whose totals never go down, and `call` runs one
    function under it: for an ``async def`` it returns the awaitable.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def stats(self) -> object: ...
    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...


class PolicyBase(abc.ABC):
    """The common part; one subclass for each policy."""

    kind: str

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._lock = new_lock()
        self.outbox = Outbox()

    def list_me(self) -> None:
        """Be one of `policies`: the last step of building, since others may look at once."""
        living.add(self)

    @abc.abstractmethod
    def stats(self) -> object:
        """A frozen snapshot."""

    @property
    def name(self) -> str:
        """The name that was given, else that of the first function it decorated, else its kind."""
        return self._name or self.kind

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Guard every call of *fn*.

        The wrapper looks like *fn*, is sync or async as it is, and has the policy as
        ``.policy``.

        Raises:
            TypeError: *fn* is a generator function or made by ``contextmanager``: its body
                runs after the call.
        """
        return wrap(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call of *fn* without decorating it.

        For an ``async def`` returns the awaitable.
        """
        return guarded(self, fn)(*args, **kwargs)  # type: ignore[no-any-return]  # as fn's own

    def adopt(self, name: str) -> None:
        """Take *name* if none was given."""
        if self._name is None:
            self._name = name

    @abc.abstractmethod
    def guard(self, fn: AnyFunction) -> AnyFunction:
        """A bare wrapper for a sync function."""

    @abc.abstractmethod
    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """A bare wrapper for an async function."""

    @abc.abstractmethod
    def renew(self) -> None:
        """Start as new: state, keys and totals."""

    def clock_changed(self) -> None:  # noqa: B027  # most look at every reading themselves
        """Another clock was installed: what comes next may be long before what was read."""

    def forked(self) -> None:  # noqa: B027  # most have nothing to do
        """In a child process: let go of what other threads of the parent were doing."""

    def forking_over(self) -> None:  # noqa: B027  # the same
        """In a parent process: the locks, held while a child was made, are free again."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


living: Registry[PolicyBase] = Registry()


def _after_in_child() -> None:
    for policy in living.living():
        policy.forked()


def _after_in_parent() -> None:
    for policy in living.living():
        policy.forking_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child, after_in_parent=_after_in_parent)


def _clock_changed() -> None:
    for policy in living.living():
        policy.clock_changed()


clock.changed.append(_clock_changed)


def policies() -> list[Policy]:
    """The living policies, oldest first.

    They are held weakly: one that nobody uses any more is gone.
    """
    return list[Policy](living.living())


def policy_of(fn: Callable[..., object]) -> Policy | None:
    """The outermost policy of a decorated function, ``None`` of any other."""
    found = getattr(fn, "policy", None)
    return found if isinstance(found, Policy) else None


class Bracket(Protocol):
    """A policy, or one key of it, whose calls have a beginning and an end."""

    def close_call(
        self, ticket: Any, began: float, error: BaseException | None, said: str | None
    ) -> None:
        """A call is over; *said* is ``"fail"`` or ``"ignore"`` if it was told so."""

    def lose_call(self, ticket: Any) -> None:
        """A call was collected before it was over. Takes no lock: the collector may be anywhere."""


@final
class Call:
    """One guarded call, in your own hands: what `admit` returns, and a block's ``as``.

    Used once: as a context manager, or ended by `close`. Calls may end in any order, in
    any task or thread. One that is lost gives its place back when it is collected.
    """

    __slots__ = ("_began", "_entered", "_owner", "_said", "_tickets")

    def __init__(self, owner: Bracket, ticket: object, began: float) -> None:
        self._owner, self._began = owner, began
        self._tickets = [ticket]  # popping it is atomic: of two who close at once, one does
        self._said: str | None = None
        self._entered = False

    def fail(self) -> None:
        """Count this call as a failure, whatever the block raises or returns."""
        self._say("fail")

    def ignore(self) -> None:
        """Let this call count nowhere, whatever the block raises."""
        self._say("ignore")

    def close(self, error: BaseException | None = None) -> None:
        """End the call; *error* is judged as if a block had raised it.

        Closing twice does nothing.
        """
        if error is not None and not isinstance(error, BaseException):
            refuse_type("error", error, "an exception or None")
        try:
            ticket = self._tickets.pop()
        except IndexError:
            return
        self._owner.close_call(ticket, self._began, error, self._said)

    def __enter__(self) -> Self:
        if self._entered or not self._tickets:
            raise RuntimeError("a Call is used once; ask admit() for another")
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(error)

    def __del__(self) -> None:
        if getattr(self, "_tickets", None):
            self._owner.lose_call(self._tickets.pop())

    def _say(self, what: str) -> None:
        if not self._tickets:
            raise RuntimeError(f"{what}() comes too late: the call is over")
        self._said = what


class _Block:
    """One open ``with`` of a policy; what has ended lets go of its call and of those around it."""

    __slots__ = ("_token", "call", "outer", "owner")

    def __init__(self, owner: object, call: Call, outer: _Block | None) -> None:
        self.owner, self.outer = owner, outer
        self.call: Call | None = call
        self._token: Token[_Block | None] | None = _blocks.set(self)

    def end(self, top: _Block) -> Call | None:
        """End the block; ``None`` if it began in another context, where it must end.

        A child task sees its parent's blocks, too. *top* is the innermost one here.
        """
        call = self.call
        try:
            assert self._token is not None
            _blocks.reset(self._token)
        except ValueError:
            return None
        self._token = self.call = None
        if top is self:
            left = self.outer
        else:  # those inside it are still open
            left = top
            while top.outer is not self:
                assert top.outer is not None
                top = top.outer
            top.outer = self.outer
        if _blocks.get() is not left:  # what this block had found there has ended meanwhile
            _blocks.set(left)
        return call


_blocks: ContextVar[_Block | None] = ContextVar("resilient.blocks", default=None)


class Blocks(abc.ABC):
    """``with policy as call:``, by `admit` unless the policy lets blocks wait.

    The open blocks are kept in the context that began them.
    """

    @abc.abstractmethod
    def admit(self) -> Call:
        """Take a place for one call, or raise. Never waits."""

    def open_block(self) -> Call:
        """The call of a ``with``."""
        return self.admit()

    async def open_block_async(self) -> Call:
        """The call of an ``async with``."""
        return self.open_block()

    def __enter__(self) -> Call:
        call = self.open_block()
        _Block(self, call, _blocks.get())
        return call

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_block(error)

    async def __aenter__(self) -> Call:
        call = await self.open_block_async()
        _Block(self, call, _blocks.get())
        return call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_block(error)

    def _end_block(self, error: BaseException | None) -> None:
        top = block = _blocks.get()
        while block is not None and (block.owner is not self or block.call is None):
            block = block.outer
        call = None if top is None or block is None else block.end(top)
        if call is None:
            raise RuntimeError(
                f"{self!r}: this block began in another context; where a call begins and ends in "
                "different tasks or contexts, write `call = policy.admit()` and `call.close(error)`"
            )
        call.close(error)

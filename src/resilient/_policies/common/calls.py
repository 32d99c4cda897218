"""Single calls and blocks: what `admit` hands out, and ``with policy as call:``."""

from __future__ import annotations

import abc
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Protocol, final

from resilient._core.checks import refuse_type
from resilient._policies.common.shared import Shared

if TYPE_CHECKING:
    from typing import Self


class CallOwner(Protocol):
    """A policy, or one key of it, whose calls have a beginning and an end."""

    def _finish_call(
        self, ticket: Any, began: float, error: BaseException | None, outcome_override: str | None
    ) -> None:
        """End a call. *outcome_override* is ``"fail"`` or ``"ignore"`` if its user said so."""

    def _call_collected(self, ticket: Any) -> None:
        """End a call that was collected before it was over.

        Waits for no lock: the collector may run anywhere, also where the policy's lock is held.
        """


@final
class Call(Shared):
    """One guarded call, in your own hands: what `admit` returns, and a block's ``as``.

    Used once: as a context manager, or ended by `close`. Calls may end in any order, in
    any task or thread. One that is lost gives its place back when it is collected.
    """

    __slots__ = ("_began", "_entered", "_outcome_override", "_owner", "_tickets")

    def __init__(self, owner: CallOwner, ticket: object, began: float) -> None:
        self._owner, self._began = owner, began
        self._tickets = [ticket]  # popping it is atomic: of two who close at once, one does
        self._outcome_override: str | None = None
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
        self._owner._finish_call(ticket, self._began, error, self._outcome_override)

    def __enter__(self) -> Self:
        if self._entered or not self._tickets:
            raise RuntimeError("a Call is used once; ask admit() for another")
        self._entered = True
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close(error)

    def __del__(self) -> None:
        if getattr(self, "_tickets", None):
            self._owner._call_collected(self._tickets.pop())

    def _say(self, what: str) -> None:
        if not self._tickets:
            raise RuntimeError(f"{what}() comes too late: the call is over")
        self._outcome_override = what


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

    def _open_block(self) -> Call:
        """The call of a ``with``."""
        return self.admit()

    async def _open_block_async(self) -> Call:
        """The call of an ``async with``."""
        return self._open_block()

    def __enter__(self) -> Call:
        call = self._open_block()
        _Block(self, call, _blocks.get())
        return call

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._end_block(error)

    async def __aenter__(self) -> Call:
        call = await self._open_block_async()
        _Block(self, call, _blocks.get())
        return call

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
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

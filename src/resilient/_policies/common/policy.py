"""The common base of all policies: name, lock, event outbox, registration."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from resilient._policies.common.shared import Fixed
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, bare_wrapper, decorate
from resilient._runtime.locks import new_lock
from resilient._runtime.notify import Outbox
from resilient._runtime.registry import Registry

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


class PolicyBase(Fixed, abc.ABC):
    """The common part; one subclass for each policy."""

    kind: str

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._lock = new_lock()
        self._outbox = Outbox()

    def _register(self) -> None:
        """List it in `policies`. The last step of building, since others may look at once."""
        registry.add(self)

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
        return decorate(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call of *fn* without decorating it.

        For an ``async def`` returns the awaitable.
        """
        return bare_wrapper(self, fn)(*args, **kwargs)  # type: ignore[no-any-return]  # as fn's own

    def _default_name(self, name: str) -> None:
        """Take *name* if none was given."""
        if self._name is None:
            self._name = name

    @abc.abstractmethod
    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        """Return a bare wrapper for a sync function."""

    @abc.abstractmethod
    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        """Return a bare wrapper for an async function."""

    @abc.abstractmethod
    def _reset(self) -> None:
        """Start as new: state, keys and totals."""

    def _forked(self) -> None:  # most have nothing to do
        """In a child process: drop what other threads of the parent were doing."""

    def _fork_done(self) -> None:  # the same
        """In a parent process: the locks, held while a child was made, are free again."""

    def _emit(self, event: str, *, at: float | None = None, **fields: object) -> None:
        """Put an event of that name into the outbox, for the next `Outbox.deliver`.

        Ask ``notify.listening`` before: without a listener an event costs that look (M3). Call it
        where the decision is made, under its lock: the order of events is that of decisions (M2).
        """
        at = clock.now() if at is None else at
        emit(self._outbox, event, policy=self.name, kind=self.kind, at=at, **fields)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def emit(outbox: Outbox, event: str, **fields: object) -> None:
    """Put an event of that name into *outbox*; see `PolicyBase._emit`."""
    from resilient import events  # noqa: PLC0415  # loaded already by the listener

    outbox.put(getattr(events, event)(**fields))


registry: Registry[PolicyBase] = Registry()


def _after_in_child() -> None:
    for policy in registry.living():
        policy._forked()


def _after_in_parent() -> None:
    for policy in registry.living():
        policy._fork_done()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child, after_in_parent=_after_in_parent)


def policies() -> list[Policy]:
    """The living policies, oldest first.

    They are held weakly: one that nobody uses any more is gone.
    """
    return list[Policy](registry.living())


def policy_of(fn: Callable[..., object]) -> Policy | None:
    """The outermost policy of a decorated function, ``None`` of any other."""
    found = getattr(fn, "policy", None)
    return found if isinstance(found, Policy) else None

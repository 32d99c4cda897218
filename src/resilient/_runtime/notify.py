"""The only caller of listeners.

A decision puts its event into the policy's `Outbox` while the policy's lock is held,
which keeps the order; the outbox is emptied after the lock is gone, by one thread at a
time. Whoever finds it being emptied leaves the event to the one who does it: no call
waits for a slow listener of another call, and what a listener causes comes after it.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

from resilient._core.functions import is_policy
from resilient._core.once import Once
from resilient._runtime.registry import Registry

if TYPE_CHECKING:
    import logging
    from typing import Self

E = TypeVar("E", bound="EventLike")


def _log() -> logging.Logger:
    import logging  # noqa: PLC0415  # most programs never hear of it

    return logging.getLogger("resilient")


class EventLike(Protocol):
    """Anything that is told: an event."""

    @property
    def policy(self) -> str: ...


_subscriptions: tuple[Subscription, ...] = ()
_changing = threading.Lock()
listening: bool = False
"""Whether anybody listens: the one check that a decision makes before it builds an event."""


@final
class Subscription:
    """One listener's wish to be told; a context manager."""

    __slots__ = ("_listener", "_to_log", "_types")

    def __init__(self, listener: Callable[..., object], types: tuple[type, ...]) -> None:
        self._listener, self._types = listener, types
        self._to_log = Once()

    def close(self) -> None:
        """Tell the listener nothing more; closing twice does nothing."""
        _change(lambda all_: tuple(one for one in all_ if one is not self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, event: EventLike, context: Context) -> None:
        if self._types and not isinstance(event, self._types):
            return
        try:
            context.copy().run(self._listener, event)
        except Exception:  # noqa: BLE001  # logged, and no matter of the call
            if self._to_log():
                _log().exception(
                    "listener %r failed; its further errors are not logged", self._listener
                )


def subscribe(listener: Callable[[E], object], *types: type[E]) -> Subscription:
    """Have *listener* called with every event, or with those of *types*, until it is closed.

    Listeners run where the decision was made, in a copy of that call's context, one at a
    time for each policy and in the order of the decisions, outside every lock. So a
    listener must be quick: under load, one thread may deliver for others. What it raises is
    logged once and goes no further.

    Raises:
        TypeError: *listener* is a coroutine function, or no function; nobody would await it.
    """
    asks = listener if inspect.isroutine(listener) else _call_of(listener)
    if (
        not callable(listener)
        or is_policy(listener)
        or inspect.iscoroutinefunction(listener)
        or inspect.iscoroutinefunction(asks)
    ):
        raise TypeError(f"listener must be a plain function of one event, not {listener!r}")
    for kind in types:
        if not isinstance(kind, type):
            raise TypeError(f"types must be event classes, not {kind!r}")
    subscription = Subscription(listener, types)
    _change(lambda all_: (*all_, subscription))
    return subscription


def _change(how: Callable[[tuple[Subscription, ...]], tuple[Subscription, ...]]) -> None:
    global _subscriptions, listening  # noqa: PLW0603  # read by every decision, so a plain attribute
    with _changing:
        _subscriptions = how(_subscriptions)
        listening = bool(_subscriptions)


def _call_of(listener: object) -> object:
    return getattr(type(listener), "__call__", None)  # noqa: B004  # the method itself is wanted


class Outbox:
    """The events of one policy that nobody was told yet."""

    __slots__ = ("__weakref__", "_once", "pending")

    def __init__(self) -> None:
        self.pending: deque[tuple[EventLike, Context]] | None = None  # most have nothing to tell
        self._once: dict[str, Any] = {}  # the queue, and whoever tells it now, if somebody does
        _outboxes.add(self)

    def put(self, event: EventLike) -> None:
        """Keep *event* for `deliver`; call it where the decision is made, under its lock.

        Takes none of its own: the collector may come here, and be anywhere.
        """
        queue = self.pending
        if queue is None:  # for two threads, too, in a policy that decides without a lock
            queue = self.pending = self._once.setdefault("queue", deque())
        queue.append((event, copy_context()))

    def deliver(self) -> None:
        """Tell what is kept, under no lock. If another thread is at it, it tells this, too.

        An interrupt may come after any call, so that no lock would do: it could be taken, and that
        not yet be known. Who tells is noted in the same step in which it is found out that nobody
        else does, and struck out without a call.
        """
        queue, once, me = self.pending, self._once, object()
        while queue:
            try:
                if once.setdefault("teller", me) is not me:
                    return
                while True:
                    if not queue:
                        break
                    event, context = queue.popleft()
                    for subscription in _subscriptions:
                        subscription._tell(event, context)  # one module, two classes
            finally:
                if "teller" in once and once["teller"] is me:
                    del once["teller"]

    def _forked(self) -> None:
        """In a child: what the parent's threads were telling is theirs."""
        self.pending, self._once = None, {}


_outboxes: Registry[Outbox] = Registry()


def _after_in_child() -> None:
    global _changing  # noqa: PLW0603  # may have been held by a thread that is not in the child
    _changing = threading.Lock()
    for outbox in _outboxes.living():
        outbox._forked()  # one module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


class FaultLog:
    """Says in the log that a function of the user's raised: once for each function."""

    __slots__ = ("_to_log",)

    def __init__(self) -> None:
        self._to_log = Once()

    def __call__(self, function: object, fault: Exception, what: str = "predicate") -> None:
        if self._to_log(function):
            log_predicate_error(function, fault, what)


def log_predicate_error(predicate: object, fault: Exception, what: str = "predicate") -> None:
    """Say in the log that a predicate of a policy, or a strategy, raised."""
    _log().error(
        "the %s %r failed; its further errors are not logged", what, predicate, exc_info=fault
    )

"""What differs between asyncio, trio and plain threads.

Nothing here imports asyncio or trio: only a program that runs one has it loaded.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol

from resilient._core.deadline import TimerQueue
from resilient._core.matching import leaves
from resilient._runtime import clock

if TYPE_CHECKING:
    import asyncio

    import trio


def _is_asyncio_here() -> bool:
    """Take asyncio's own functions, once it is loaded."""
    global running_loop, current_task  # asked for at every block, so no look-up
    module = sys.modules.get("asyncio")
    if module is None or not hasattr(module, "current_task"):  # or it is being imported
        return False
    running_loop, current_task = module._get_running_loop, module.current_task
    return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return running_loop() if _is_asyncio_here() else None


def _current_task(
    loop: asyncio.AbstractEventLoop | None = None,
) -> asyncio.Task[Any] | None:
    return current_task(loop) if _is_asyncio_here() else None


running_loop: Callable[[], asyncio.AbstractEventLoop | None] = _running_loop
"""The loop that runs in this thread. Ask it as ``loops.running_loop()``: it changes."""
current_task: Callable[..., asyncio.Task[Any] | None] = _current_task
"""The asyncio task that runs here; of a loop, if one is given."""


class Due(Protocol):
    """What waits in the timers of a loop."""

    def _due(self, now: float) -> None:
        """Its time has come. Called by the loop, outside every task, twice if it is interrupted;
        must not raise.
        """


class Timers(TimerQueue[Due]):
    """The limits of one asyncio loop, behind one timer of that loop.

    The timer is left armed when the limit that it was for is taken out: going off for
    nothing once is cheaper than being set anew with every call.
    """

    __slots__ = ("_handle", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, at: float, least: float = 0.0) -> None:
        """Let the loop's timer go off at *at*, and not before *least* seconds."""
        before = self._handle
        handle = self.loop.call_later(max(least, at - clock.now()), self._go)
        self._handle, self.armed_at = handle, at  # together, if an interrupt comes
        if before is not None:
            before.cancel()

    def _go(self) -> None:
        self._handle = None
        self.armed_at = math.inf
        now, item = -math.inf, None
        try:
            now = clock.now()
            while True:
                item = self.first_due(now)
                if item is None:
                    break
                item._due(now)
        except BaseException:  # an interrupt: whose time has come must know
            if item is not None:
                item._due(now)
            raise
        finally:  # the others are watched, whatever came
            try:
                self._go_on()
            except BaseException:
                self._go_on()
                raise

    def _go_on(self) -> None:
        at = self.next_at()
        if at < self.armed_at:  # the loop may be early, by its resolution: let time pass
            self.arm(at, least=max(2e-9, 4 * math.ulp(clock.now())))


class LoopState:
    """What the policies keep of one asyncio loop. It lives and dies with the loop."""

    __slots__ = ("owned", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timers = Timers(loop)
        self.owned: weakref.WeakKeyDictionary[object, Any] = weakref.WeakKeyDictionary()


def loop_state(loop: asyncio.AbstractEventLoop) -> LoopState:
    """The state of *loop*, kept in an attribute of it. A table of ours would keep closed loops
    alive.
    """
    try:
        return loop._resilient  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        state = loop._resilient = LoopState(loop)  # type: ignore[attr-defined]
        return state


def trio_task() -> trio.lowlevel.Task | None:
    """The trio task that is running here, if there is one."""
    if (module := sys.modules.get("trio")) is None:
        return None
    try:
        return module.lowlevel.current_task()  # type: ignore[no-any-return]  # sys.modules does not know types
    except (RuntimeError, AttributeError):  # no run here; or trio is being imported
        return None


def sleep(seconds: float) -> Awaitable[None]:
    """Await it to let *seconds* pass in this task, and others run."""
    import anyio  # noqa: PLC0415  # most programs never wait for a retry while they start

    return anyio.sleep(seconds)


def is_cancellation(error: BaseException) -> bool:
    """Whether *error* is the cancellation of asyncio or trio, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_cancellation(one) for one in leaves(error))
    return any(
        isinstance(error, getattr(sys.modules.get(module), name, ()))
        for module, name in (("asyncio", "CancelledError"), ("trio", "Cancelled"))
    )


def trio_reading() -> Callable[[], float]:
    """How to read the clock of this run of trio, also from other threads."""
    import trio  # noqa: PLC0415  # loaded already: we are inside it

    return trio.lowlevel.current_clock().current_time


def reading() -> Callable[[], float]:
    """How to read the clock that limits follow here: trio's own under trio, else ours."""
    return clock.now if trio_task() is None else trio_reading()


def trio_others_cancelled(
    task: trio.lowlevel.Task, fired: Collection[trio.CancelScope], ours: Collection[object]
) -> bool:
    """Whether anybody besides *ours*, of which some have *fired*, cancels *task*.

    trio has no public way to ask this. A scope may be cancelled as a consequence of one around
    it, as that of a nursery is whose body was: then it has inherited the reason.
    """
    scopes: list[trio.CancelScope] = []
    status: Any = task._cancel_status  # see above
    while status is not None:
        scopes.append(status._scope)
        status = None if status._scope.shield else status._parent
    causes: list[object] = []  # the reasons of the fired ones, from the outside to where we are
    for scope in reversed(scopes):
        reason = getattr(scope, "_cancel_reason", None)
        if scope in fired:
            causes.append(reason)
        elif scope not in ours and scope.cancel_called:
            inherited = any(reason is cause for cause in causes) and math.isinf(scope.deadline)
            if not inherited:
                return True
    return False

"""The handle of one key of a keyed breaker."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast, final

from resilient._core.breaker import BreakerCore, BreakerState, BreakerStats
from resilient._policies.base import Call
from resilient._policies.breaker.controls import Controls
from resilient._runtime import clock
from resilient._runtime.decorate import AnyFunction, guarded, wrap

if TYPE_CHECKING:
    from resilient._policies.breaker.shell import Breaker

P = ParamSpec("P")
R = TypeVar("R")


@final
class BreakerOfKey(Controls):
    """One key of a keyed breaker: the same interface, and no state before the first call."""

    kind = "breaker"

    def __init__(self, breaker: Breaker, key: Hashable) -> None:
        self._breaker, self._key = breaker, key

    @property
    def of_policy(self) -> Breaker:
        """The breaker that it is of."""
        return self._breaker

    @property
    def name(self) -> str:
        """The breaker's."""
        return self._breaker.name

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Guard every call of *fn* under this key."""
        return wrap(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call of *fn* under this key; for an ``async def`` returns the awaitable."""
        return cast("R", guarded(self, fn)(*args, **kwargs))

    def admit(self) -> Call:
        """Take leave for one call of this key; see `Breaker.admit`."""
        return Call(self._breaker, self._breaker.enter_of(self._key), clock.now())

    @property
    def state(self) -> BreakerState:
        core = self._core()
        return self._breaker._future if core is None else core.state

    def stats(self) -> BreakerStats:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        breaker = self._breaker
        with breaker._lock:
            now = clock.now()
            breaker._drain(now)
            core = self._core() or breaker._new_core(self._key)
            return core.stats(self.name, now)

    def guard(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard`."""
        return self._breaker.wrapper(fn, lambda *_args, **_kwargs: self._key)

    def guard_async(self, fn: AnyFunction) -> AnyFunction:
        """See `PolicyBase.guard_async`."""
        return self._breaker.wrapper_async(fn, lambda *_args, **_kwargs: self._key)

    def adopt(self, name: str) -> None:
        """See `PolicyBase.adopt`."""
        self._breaker.adopt(name)

    def _core(self) -> BreakerCore | None:
        assert self._breaker._keys is not None
        return self._breaker._keys.peek(self._key)

    def _turn(self, state: BreakerState, how: str) -> None:
        breaker = self._breaker
        u, now = breaker.cooldown.draw(), clock.now()
        with breaker._lock:
            breaker._drain(now)
            breaker._turn_core(breaker._core_of(self._key), state, how, now, u)
        breaker.let_go()
        breaker.outbox.deliver()

    def __repr__(self) -> str:
        return f"<{self._breaker!r} of {self._key!r}>"

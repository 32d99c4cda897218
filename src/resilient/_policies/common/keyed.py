"""The state of a policy: one, or one for each key of its calls (F10)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableSequence
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast

from resilient._core.keys import Keys, Slot
from resilient._policies.common.calls import Blocks, Call
from resilient._policies.common.shared import Fixed
from resilient._runtime.decorate import AnyFunction, bare_wrapper, decorate
from resilient._runtime.keying import Key, KeyOf, hashable, key_of

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Totals = dict[Hashable, int]

NOTHING_EVICTED: Final[MutableSequence[Any]] = []


class KeyedState(Generic[S]):
    """One state, `only`; or with ``key=`` one for each key, of which the least used are evicted.

    Call it under the policy's lock, but for `release_evicted`, which must be outside, and `peek`
    and `keys`, which may.

    Args:
        new: makes the state of a key, of ``None`` for the only one.
        key: what the policy was given as ``key=``.
        max_keys: how many keys are kept.
        idle: whether no call of a state is in flight, so that its key may go.
        healthy: whether a new state would not differ from an idle one.
        retire: asked last before a key goes; it may still say no.
        totals: what a state has counted. It is kept when the key goes.
    """

    __slots__ = (
        "_evicted_totals", "_key", "_keys", "_new", "_totals", "evicted", "is_keyed", "only",
        "slot", "uses",
    )  # fmt: skip

    only: S

    def __init__(
        self,
        new: Callable[[Hashable], S],
        key: Key | None,
        max_keys: int,
        *,
        idle: Callable[[S], bool],
        healthy: Callable[[S], bool],
        retire: Callable[[S], bool] | None = None,
        totals: Callable[[S], Totals],
    ) -> None:
        self._key, self._totals = key, totals
        self._evicted_totals: Totals = {}
        self.is_keyed = key is not None
        self._keys: Keys[S] | None = None
        self.evicted = NOTHING_EVICTED
        if key is None:
            self.only = new(
                None
            )  # and no more: *new* may be the policy's own, which would be a cycle
        else:
            self._new = new
            self._keys = Keys(max_keys, idle=idle, healthy=healthy, retire=retire)
            self.evicted, self.uses = self._keys.evicted, self._keys.uses
            self.slot = self._keys.slots.get

    def find(self, key: Hashable) -> S:
        """The state of *key*, made if there is none."""
        if self._keys is None:
            return self.only
        try:
            state = self._keys.get(key)
        except TypeError:
            hashable(key)  # says it better
            raise
        if state is None:
            state = self._new(hashable(key))
            if gone := self._keys.add(key, state):
                totals = self.evicted_totals()
                for one in gone:
                    add_totals(totals, self._totals(one))
                self._evicted_totals = totals  # all or nothing, if an interrupt comes
        return state

    def peek(self, key: Hashable) -> S | None:
        """The state of *key*, if there is one; it does not count as used."""
        assert self._keys is not None
        return self._keys.peek(key)

    def keys(self) -> list[Hashable]:
        """The keys that are kept."""
        return [] if self._keys is None else list(self._keys)

    def slots(self) -> tuple[Slot[S], ...]:
        """The states that are kept, in their slots. One step, however many they are.

        Let go of it outside the lock: a key that is evicted meanwhile ends with it.
        """
        if self._keys is None:
            return (Slot(None, self.only, 0),)
        return tuple(self._keys.slots.values())

    def evicted_totals(self) -> Totals:
        """What evicted states have counted."""
        return dict(self._evicted_totals)

    def restart(self, new: Callable[[Hashable], S]) -> None:
        """Begin with states that *new* makes."""
        self._evicted_totals = {}
        if self._keys is None:
            self.only = new(None)
        else:
            self._keys.clear()
            self.slot = self._keys.slots.get

    def replace(self, new: Callable[[S], S]) -> None:
        """Put what *new* makes of each state in its place."""
        if self._keys is None:
            self.only = new(self.only)
        else:
            for slot in self._keys.slots.values():
                slot.state = new(slot.state)

    def release_evicted(self) -> None:
        """Let go of evicted keys. Outside the lock: the end of a key may be code of the user's."""
        self.evicted.clear()

    # What ``key=`` says.

    def finder(self, fn: AnyFunction) -> KeyOf | None:
        """How to read the key off a call of *fn*; ``None`` without keys."""
        if self._key is None:
            return None
        return key_of(self._key, fn)

    def refuse_keyed(self, policy: object, what: str) -> None:
        """Refuse *what* where it needs a key."""
        if self._keys is not None:
            raise TypeError(f"{policy!r} has a state for each key: write .of(key).{what}")

    def checked(self, policy: object, key: Hashable) -> Hashable:
        """*key*, if there may be one."""
        if self._keys is None:
            raise TypeError(f"{policy!r} has no key=, so there is no of()")
        return hashable(key)


def add_totals(sums: Totals, more: Totals) -> None:
    """Add *more* to *sums*."""
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count


class Keyed(Protocol):
    """A policy as the handle of one of its keys sees it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def _admit_of(self, key: Hashable, /) -> Call: ...
    def _block_of(self, key: Hashable, /) -> Call: ...
    async def _block_of_async(self, key: Hashable, /) -> Call: ...
    def _stats_of_key(self, key: Hashable, /) -> Any: ...
    def _wrapper(self, fn: AnyFunction, find: KeyOf | None, /) -> AnyFunction: ...
    def _wrapper_async(self, fn: AnyFunction, find: KeyOf | None, /) -> AnyFunction: ...
    def _default_name(self, name: str, /) -> None: ...


K = TypeVar("K", bound=Keyed)
T = TypeVar("T")


class OfKey(Fixed, Blocks, Generic[K, T]):
    """One key of a keyed policy: the same interface, and no state before the first call."""

    _policy: K
    _key: Hashable

    def __init__(self, policy: K, key: Hashable) -> None:
        own = vars(self)  # made for each call, perhaps, and `__setattr__` costs more
        own["_policy"], own["_key"] = policy, key

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
        return decorate(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call of *fn* under this key; for an ``async def`` returns the awaitable."""
        return cast("R", bare_wrapper(self, fn)(*args, **kwargs))

    def admit(self) -> Call:
        """Take a place for one call of this key. Never waits."""
        return self._policy._admit_of(self._key)

    def stats(self) -> T:
        """A snapshot of this key; of a key without a call one that counts nothing."""
        return cast("T", self._policy._stats_of_key(self._key))

    def _open_block(self) -> Call:
        return self._policy._block_of(self._key)

    async def _open_block_async(self) -> Call:
        return await self._policy._block_of_async(self._key)

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        return self._policy._wrapper(fn, lambda *_args, **_kwargs: self._key)

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        return self._policy._wrapper_async(fn, lambda *_args, **_kwargs: self._key)

    def _default_name(self, name: str) -> None:
        self._policy._default_name(name)

    def __repr__(self) -> str:
        return f"<{self._policy!r} of {self._key!r}>"

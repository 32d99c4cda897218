"""Single-flight: who runs, who waits, and when a run is over.

1. One run per key at a time; whoever comes while it lasts joins it (S1).
2. A run leaves the table when it ends, before any waiter resumes (S2), when it is
   forgotten (S5), or when its last waiter leaves: then it must be cancelled, and
   nobody can join it any more (S3), unless this waiter wants it to go on. Only its own entry is
   ever removed.
   Whoever ends a run sets ``done`` first, which is one step: then its key is free, whatever
   becomes of the rest. Other threads may `forget` meanwhile.
3. Code that is part of a run must not wait for that run, nor for one that waits for it (S7).
4. A run's time limit is the latest of its waiters'; it never shrinks (S4).

After ``golang.org/x/sync/singleflight``, with the waiters' cancellation of
``janos/singleflight``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar


class Execution:
    """One execution that several callers may share."""

    __slots__ = ("awaits", "done", "key", "until", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.done = False  # it is over: nobody may join
        self.awaits: list[Execution] = []  # those that its own code waits for, once for each wait
        self.waiting = 0
        self.until = -math.inf  # the latest limit of its waiters

    def depends_on(self, others: Collection[Execution]) -> bool:
        """Whether it is one of *others*, or waits for one, however far down."""
        seen, found = set[Execution](), list[Execution]([self])
        while found:
            run = found.pop()
            if run in others:
                return True
            if run not in seen:
                seen.add(run)
                found.extend(tuple(run.awaits))
        return False


R = TypeVar("R", bound=Execution)


class FlightTable(Generic[R]):
    """The runs of one world: an event loop's, or those of all plain threads."""

    __slots__ = ("__weakref__", "_runs", "flying")

    def __init__(self) -> None:
        self._runs: dict[Hashable, R] = {}
        self.flying: set[R] = set()  # begun and not ended: forgotten and abandoned ones too

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, key: Hashable) -> R | None:
        """The run that a caller with *key* would join."""
        run = self._runs.get(key)
        return None if run is None or run.done else run

    def begin(self, run: R) -> None:
        """Let *run* be the one for its key; there must be none."""
        assert self.find(run.key) is None
        self._runs[run.key] = run
        self.flying.add(run)

    def join(self, run: R, until: float) -> None:
        """One more waits for *run*, at most until the instant *until*."""
        run.waiting += 1
        if until > run.until:  # noqa: PLR1730  # max() costs two ticks
            run.until = until

    def leave(self, run: R, *, goes_on: bool = False) -> bool:
        """A waiter goes before the end; True if it was the last one: cancel the run. Unless the run
        *goes on* for whoever comes next.
        """
        run.waiting -= 1
        if run.waiting or goes_on:
            return False
        self._drop(run)
        return True

    def end(self, run: R) -> None:
        """The run is over: its key is free. Call it before any waiter is woken."""
        run.done = True
        self.flying.discard(run)
        self._drop(run)

    def forget(self, key: Hashable) -> None:
        """Let later callers start anew; those who wait are served all the same."""
        self._runs.pop(key, None)

    def forget_all(self) -> None:
        """Forget every key."""
        self._runs.clear()

    def _drop(self, run: R) -> None:
        try:
            if self._runs.get(run.key) is run:
                self._runs.pop(run.key, None)  # it may have been forgotten just now
        except Exception:  # noqa: BLE001, S110  # a key that refuses to be compared, which is free
            pass

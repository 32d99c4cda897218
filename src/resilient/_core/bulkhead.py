"""Bulkhead: how many at once, and who is next.

1. At most ``limit`` calls hold a place; at most ``max_queue`` wait for one.
2. Whoever waits is served in the order of arrival. A place that becomes free is handed
   over to the first in the queue at once, so that nobody can come between (L1).
3. A waiter that goes takes no place with it; if one was handed to it meanwhile, that goes to
   the next (L1).
4. A new limit applies at once to newcomers and to those who wait. Running calls are left to
   end: until then there may be more of them than the limit says, a *debt* that is paid by the
   next places that are given back (L2).
5. A free place is one entry of the list ``free``: to pop one, and to append it when the
   call is over, is one step each and needs no lock. Everything else does (the shell's).
   Who gives one back looks at ``wanted``, before and after; who joins the queue sets it, and
   then looks at ``free`` once more: so that one of the two sees the other. What lies in
   ``free`` meanwhile is for those who want it: newcomers look at ``offered``, which is the same
   list while nobody does, and an empty one else.
   Of a large limit only a few places lie in the list, the others are a number, ``_spare``.

After resilience4j's semaphore bulkhead; the queue is that of ``asyncio.Semaphore``, without its
lost wake-ups. The name is M. T. Nygard's.
"""

from __future__ import annotations

from collections.abc import Hashable, MutableSequence
from typing import Final

from resilient._core.counter import Counter
from resilient._core.waiters import Waiter, WaitQueue

FEW: Final = 16
NOTHING: Final[list[None]] = []
"""What is offered while places are wanted. Stays empty."""


class BulkheadCore:
    """The places of one bulkhead, or of one key of it. Who is given a place is put into *woken*,
    for the shell to wake outside its lock.
    """

    __slots__ = (
        "_debt", "_spare", "calls", "free", "key", "limit", "max_queue", "offered", "queue",
        "rejected", "wanted",
    )  # fmt: skip

    def __init__(
        self, limit: int, max_queue: int, woken: MutableSequence[Waiter], key: Hashable = None
    ) -> None:
        self.limit, self.max_queue, self.key = limit, max_queue, key
        self._debt, self._spare = 0, limit
        self.free: list[None] = []
        self._unpack()
        self.queue = WaitQueue(woken)
        self._want(wanted=False)
        self.calls, self.rejected = Counter(), Counter()

    def in_flight(self) -> int:
        """How many places are held."""
        return self.limit + self._debt - self._spare - len(self.free)

    def idle(self) -> bool:
        """Whether nobody is in, and nobody waits."""
        return not self.in_flight() and not self.queue

    def totals(self) -> dict[Hashable, int]:
        """What it has counted."""
        return {"calls": self.calls.read(), "rejected": self.rejected.read()}

    def try_acquire(self) -> bool:
        """Take a place, if one is free and wanted by nobody else."""
        return not self.wanted and self._take()

    def arrive(self, waiter: Waiter, now: float = 0.0, *, patient: bool = True) -> bool:  # noqa: ARG002  # places know no time
        """Take a place, or one in the queue; False if there is neither. Who is not *patient* does
        not queue.
        """
        if self.try_acquire():
            waiter.given = True
        elif patient and len(self.queue) < self.max_queue:
            self.queue.join(waiter)
            self._want(wanted=True)
            self.even_out()
        else:
            return False
        return True

    def release(self) -> None:
        """Give a place back."""
        if self._debt:
            self._debt -= 1
        elif self.queue:
            self.queue.hand_over(self.queue.first())
        else:
            self.free.append(None)
        self.even_out()

    def give_up(self, waiter: Waiter) -> None:
        """*waiter* goes, whether it was given a place or not."""
        if waiter.given:
            waiter.given = False  # it may go twice: given up for lost, and collected
            self.release()
        else:
            self.queue.leave(waiter)
            self.even_out()

    def resize(self, limit: int) -> None:
        """Let at most *limit* be at once, from now on."""
        more = limit - self.limit
        paid = min(max(more, 0), self._debt)
        spare = self._spare + more - paid
        owed = min(spare, 0)
        self.limit, self._debt, self._spare = limit, self._debt - paid - owed, spare - owed
        self._want(wanted=True)
        self.even_out()

    def even_out(self) -> None:
        """Use what is free: for the debt, then for those who wait."""
        while self._debt and self._pop():
            self._debt -= 1
        while self.queue and not self._debt and self._take():
            first: Waiter | None = None
            try:
                first = self.queue.first()
                self.queue.hand_over(first)
            except BaseException:  # an interrupt: the place is nobody's, unless it was given
                if first is None or not first.given:
                    self.free.append(None)
                raise
        self._want(wanted=bool(self.queue or self._debt))

    def forked(self) -> BulkheadCore:
        """In the child of a fork: it without its calls in flight, which end here if they do."""
        new = BulkheadCore(self.limit, self.max_queue, self.queue.woken, self.key)
        new.calls, new.rejected = self.calls, self.rejected
        return new

    def mend(self, now: float) -> None:  # noqa: ARG002  # places know no time
        """Go on after a step that was cut short: nobody waits beside a free place."""
        self.queue.mend()
        self.even_out()

    def _want(self, *, wanted: bool) -> None:
        self.offered = NOTHING if wanted else self.free
        self.wanted = wanted

    def _take(self) -> bool:
        if not self.free:
            self._unpack()
        return self._pop()

    def _pop(self) -> bool:
        try:
            del self.free[-1]  # no call, after which an interrupt could come
        except IndexError:
            return False
        return True

    def _unpack(self) -> None:
        """Lay a few of the spare places out."""
        few = min(FEW, self._spare)
        self._spare -= few
        self.free.extend([None] * few)

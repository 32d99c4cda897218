"""Retry budget: how many retries all calls together may cost.

1. A call deposits ``ratio``, a retry withdraws 1, from the oldest deposit first.
2. Deposits expire between ``ttl`` and 1.1 times ``ttl`` after they were made.
3. A reserve allows ``per_second * ttl`` withdrawals more in any ``ttl``. Each of them
   comes back one ``ttl`` after it was made: so no idle time, however long, adds to it.
4. Callers of `withdraw` and `left` hold the shell's lock. `deposit` needs
   none: it raises the counter of the present bucket, and a new bucket is one
   `append`.
5. Which deposit a withdrawal is taken from matters when the next bucket begins or
   expires. Until then, ``since <= now < quiet_until``, what is there is handed out as
   tokens: ``next(tokens, LATE)`` takes one without the lock, and is `LATE` when none is left.

The idea of deposits that expire is Finagle's ``RetryBudget``; tokens for retries
are also in gRPC proposal A6 and in M. Brooker, "Fixing retries with token buckets
and circuit breakers" (2022).
"""

from __future__ import annotations

import math
import sys
from collections import deque
from itertools import repeat
from typing import Final, NamedTuple

from resilient._core.counter import Counter
from resilient._core.window import SHARE

WHOLE: Final = 1 - 1e-9
"""One withdrawal: three deposits of a third are enough, whatever their float sum."""

MOST_BUCKETS: Final = 64
"""Thirteen are enough; the bound is for budgets from which nobody withdraws."""

LATE: Final = object()
"""What an iterator of tokens gives when none is left."""

MOST_TOKENS: Final = 64


class BudgetConfig(NamedTuple):
    """``ratio`` a call, ``per_second * ttl`` in reserve, and how long deposits live."""

    ratio: float
    per_second: float
    ttl: float


class Bucket:
    """The deposits of one stretch of time, ``next(increment)`` each."""

    __slots__ = ("deposits", "increment", "since", "spent", "until")

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until = since, until
        self.spent = 0.0
        self.deposits = Counter()
        self.increment = self.deposits.increment


class BudgetCore:
    """Deposits in buckets, and a log of what the reserve gave."""

    __slots__ = (
        "_buckets", "_config", "_debt", "_given", "_issued", "_most", "_old", "_per", "_seen",
        "_width", "present", "quiet_until", "since", "tokens",
    )  # fmt: skip

    def __init__(self, config: BudgetConfig, now: float) -> None:
        self._config = config
        reserve = config.per_second * config.ttl
        most = min(max(1.0, reserve), sys.float_info.max)
        self._most = math.floor(most + 1e-9) if reserve else 0
        self._width = config.ttl * SHARE
        self._per = max(config.ttl, 1 / config.per_second) if reserve else config.ttl
        self.reset(now)

    def reset(self, now: float) -> None:
        """Start as new."""
        self._given: deque[float] = deque()
        self._seen = now
        self._old = self._debt = 0.0  # what the old buckets hold; what is yet to be paid from any
        self._issued = 0
        self.tokens = repeat(None, 0)
        self.since, self.quiet_until = now, -math.inf
        self.present = Bucket(now, now + self._width)
        self._buckets = deque([self.present], maxlen=MOST_BUCKETS)

    def deposit(self, now: float) -> None:
        """One more call was made."""
        bucket = self.present
        if not bucket.since <= now < bucket.until:
            bucket = self._new_bucket(now)
        next(bucket.increment)

    def withdraw(self, now: float) -> bool:
        """Take one retry, from the deposits first; False when nothing is left."""
        balance = self._balance(now)
        if balance >= WHOLE:
            self._issued = math.floor(min(MOST_TOKENS, balance + 1 - WHOLE))
            tokens = repeat(None, self._issued)
            next(tokens)  # this one's, before anybody finds the others
            self.tokens = tokens
            return True
        if len(self._given) < self._most:
            self._given.append(self._seen)
            return True
        return False

    def left(self, now: float) -> float:
        """How many retries could be taken now."""
        return max(0.0, self._balance(now)) + self._most - len(self._given)

    def untouched(self, now: float) -> bool:
        """Whether a new one would not differ: no deposit, and nothing of the reserve is out."""
        self._balance(now)
        return not self._given and not any(bucket.deposits.read() for bucket in self._buckets)

    def _balance(self, now: float) -> float:
        """What the deposits are worth; no token is out any more."""
        self._debt += self._issued - len(list(self.tokens))  # late takers find none
        self._issued = 0
        now = self._seen = max(self._seen, now)
        if not self.since <= now < self.quiet_until:
            self._expire(now)
        while self._given and now - self._given[0] >= self._per:
            self._given.popleft()
        return self._old + self._in(self.present) - self._debt

    def _expire(self, now: float) -> None:
        """Pay the debt from the oldest first, then drop what is too old."""
        due, self._debt = self._debt, 0.0
        for bucket in list(self._buckets):  # a copy: a deposit may append
            bucket.spent += (part := min(due, self._in(bucket)))
            due -= part
        if now >= self.present.until:
            self._new_bucket(now)
        present = self.present  # stays, even if its time is shorter than a float can tell
        while (
            oldest := self._buckets[0]
        ) is not present and oldest.until <= now - self._config.ttl:
            self._buckets.popleft()
        self.since = now
        self.quiet_until = min(present.until, self._buckets[0].until + self._config.ttl)
        self._old = sum(self._in(one) for one in list(self._buckets) if one is not present)

    def _in(self, bucket: Bucket) -> float:
        return self._config.ratio * bucket.deposits.read() - bucket.spent

    def _new_bucket(self, now: float) -> Bucket:
        """Begin a bucket at *now*. Two threads may both do it: no harm."""
        if now < self.present.since:  # readings of several threads, out of order
            return self.present
        bucket = Bucket(now, now + self._width)
        self._buckets.append(bucket)  # before anybody finds it: so the deque is never empty
        self.present = bucket
        self.quiet_until = -math.inf
        return bucket

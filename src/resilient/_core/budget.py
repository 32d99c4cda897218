"""Retry budget: how many retries all calls together may cost.

1. A call deposits ``ratio``, a retry withdraws 1, from the oldest deposit first.
2. Deposits expire between ``ttl`` and 1.1 times ``ttl`` after they were made.
3. A reserve allows ``per_second * ttl`` withdrawals more in any ``ttl``. Each of them
   comes back one ``ttl`` after it was made: so no idle time, however long, adds to it.
4. Callers of `withdraw` and `left` take turns (the shell's lock). `deposit` needs
   none: it raises the tally of the present bucket, and a new bucket is one
   `append`.

The idea of deposits that expire is Finagle's ``RetryBudget``; tokens for retries
are also in gRPC proposal A6 and in M. Brooker, "Fixing retries with token buckets
and circuit breakers" (2022).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from resilient._core.tally import Tally
from resilient._core.window import SHARE

WHOLE: Final = 1 - 1e-9
"""One withdrawal: three deposits of a third are enough, whatever their float sum."""

MOST_BUCKETS: Final = 64
"""Thirteen are enough; the bound is for budgets from which nobody withdraws."""

OUT_OF_ORDER: Final = 1.0
"""Seconds by which the readings of several threads may arrive out of order."""


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """``ratio`` a call, ``per_second * ttl`` in reserve, and how long deposits live."""

    ratio: float
    per_second: float
    ttl: float


class Bucket:
    """The deposits of one stretch of time."""

    __slots__ = ("add", "deposits", "since", "spent", "until")

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until = since, until
        self.spent = 0.0
        self.deposits = Tally()
        self.add = self.deposits.up


class BudgetCore:
    """Deposits in buckets, and a log of what the reserve gave."""

    __slots__ = ("_buckets", "_given", "_most", "_per", "_rule", "_seen", "_width", "present")

    def __init__(self, rule: BudgetRule, now: float) -> None:
        self._rule = rule
        reserve = rule.per_second * rule.ttl
        self._most = math.floor(max(1.0, reserve) + 1e-9) if reserve else 0
        self._width = rule.ttl * SHARE
        self._per = max(rule.ttl, 1 / rule.per_second) if reserve else rule.ttl
        self._given: deque[float] = deque()
        self._seen = now
        self.present = Bucket(now, now + self._width)
        self._buckets = deque([self.present], maxlen=MOST_BUCKETS)

    def deposit(self, now: float) -> None:
        """One more call was made."""
        bucket = self.present
        if not bucket.since <= now < bucket.until:
            bucket = self._turn(now)
        bucket.add()

    def withdraw(self, now: float) -> bool:
        """Take one retry, from the deposits first; False when nothing is left."""
        have = self._expire(now)
        if sum(amount for _, amount in have) >= WHOLE:
            due = 1.0
            for bucket, amount in have:
                bucket.spent += (part := min(due, amount))
                due -= part
            return True
        if len(self._given) < self._most:
            self._given.append(self._seen)
            return True
        return False

    def left(self, now: float) -> float:
        """How many retries could be taken now."""
        deposits = sum(amount for _, amount in self._expire(now))
        return max(0.0, deposits) + self._most - len(self._given)

    def untouched(self, now: float) -> bool:
        """Whether a new one would not differ: no deposit, and nothing of the reserve is out."""
        deposits = self._expire(now)
        return not self._given and not any(bucket.deposits.read() for bucket, _ in deposits)

    def _expire(self, now: float) -> list[tuple[Bucket, float]]:
        """Drop what is too old; the buckets that are left, with what is in them."""
        if now >= self._seen or self._seen - now > OUT_OF_ORDER:
            self._seen = now
        now = self._seen
        self._date_back(now)
        while self._given and now - self._given[0] >= self._per:
            self._given.popleft()
        if now >= self.present.until:
            self._turn(now)
        while self._buckets[0].until <= now - self._rule.ttl:
            self._buckets.popleft()
        return [
            (bucket, self._rule.ratio * bucket.deposits.read() - bucket.spent)
            for bucket in list(self._buckets)  # a copy: a deposit may append
        ]

    def _turn(self, now: float) -> Bucket:
        """Begin a bucket at *now*. Two threads may both do it: no harm."""
        ahead = self.present.since - now
        if 0 < ahead <= OUT_OF_ORDER:
            return self.present
        if ahead > 0:
            self._date_back(now)
        bucket = Bucket(now, now + self._width)
        self._buckets.append(bucket)  # before anybody finds it: so the deque is never empty
        self.present = bucket
        return bucket

    def _date_back(self, now: float) -> None:
        """What is dated after *now* (the clock has stepped back) is dated now."""
        for bucket in list(self._buckets):
            if bucket.since - now > OUT_OF_ORDER:
                bucket.since, bucket.until = now, now + self._width
        if self._given and self._given[-1] > now:
            self._given = deque(min(at, now) for at in self._given)

"""HTTP, as far as clients and servers of ours must agree: which answers are failures, what may be
repeated, and what the headers say.

* What stands in a header twice, is longer than `LONGEST`, or is not well-formed, is as if absent:
  nothing that a peer sends is an error here.
* ``retry-after-ms`` counts before ``Retry-After``, which is seconds or a date; a date is read
  against the answer's own ``Date``, since the clocks of two machines need not agree (RFC 9110,
  10.2.3).
* A request that was not sent may be sent, whatever it is; one that perhaps was, if it is idempotent
  (RFC 9110, 9.2.2). A body that is no longer there is not sent again.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final, Literal

Unit = Literal["s", "ms"]

FAILURES: Final = frozenset({408, 429, *range(500, 600)} - {501, 505})
"""Statuses that say "not now": another attempt may get another answer."""
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
"""Methods of which several requests do what one does."""
LONGEST: Final = 64
"""Characters of a hint that is read."""
LEAST: Final = 0.001
"""Seconds of a deadline with less of which nothing is sent: what goes on the wire is whole ms."""
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", re.ASCII)
_PER: Final[dict[Unit, int]] = {"s": 1, "ms": 1000}


class Fault(enum.Enum):
    """What the error of an attempt says of what was sent."""

    NOT_SENT = "not sent"
    """No connection came to be."""
    BROKEN = "broken"
    """It broke on the way, there or back, or the answer is a failure: perhaps all was done."""
    OWN = "own"
    """It says nothing of the service: no connection was free, or the request can't be sent."""


def repeatable(fault: Fault, *, idempotent: bool, replayable: bool) -> bool:
    """Whether an attempt may follow one that ended by *fault*; *replayable* is its body."""
    if fault is Fault.OWN or not replayable:
        return False
    return idempotent or fault is Fault.NOT_SENT


# What a server asks of its callers.


def retry_after_of(
    seconds: Sequence[str], milliseconds: Sequence[str], dates: Sequence[str], wall: float
) -> float | None:
    """Seconds after which the server wants to be asked again; ``None`` if it does not say.

    Args:
        seconds: each value of ``Retry-After``.
        milliseconds: each value of ``retry-after-ms``.
        dates: each value of the answer's ``Date``.
        wall: seconds since the epoch, used where there is no such date.
    """
    if (asked := _decimal(milliseconds)) is not None:
        return asked / 1000
    if (asked := _decimal(seconds)) is not None:
        return asked
    until = _date(seconds)
    if until is None:
        return None
    since = _date(dates)
    return max(0.0, until - (wall if since is None else since))


def forbids_retry(values: Sequence[str]) -> bool:
    """Whether ``X-Should-Retry`` says no; nothing but the word "false" does."""
    return (_only(values) or "").lower() == "false"


# What a client tells.


def limit_text(seconds: float, unit: Unit) -> str:
    """A time limit as it goes on the wire: rounded down to milliseconds, so that it is never more
    than what is left. *seconds* are at least `LEAST`.
    """
    whole = math.floor(seconds * 1000)
    return str(whole) if unit == "ms" else f"{whole // 1000}.{whole % 1000:03}"


def _only(values: Sequence[str]) -> str | None:
    """The one value there is, without blanks around."""
    if len(values) != 1:
        return None
    found = values[0].strip(" \t")
    return found if len(found) <= LONGEST else None


def _decimal(values: Sequence[str]) -> float | None:
    found = _only(values)
    return float(found) if found is not None and _DECIMAL.fullmatch(found) else None


def _date(values: Sequence[str]) -> float | None:
    """An HTTP-date in seconds since the epoch."""
    found = _only(values)
    if not found:
        return None
    try:
        date = parsedate_to_datetime(found)
        if date.tzinfo is None:
            date = date.replace(tzinfo=dt.UTC)
        return date.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

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
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

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
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_WHOLE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
TITLES: Final = {
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_PER: Final[dict[Unit, int]] = {"s": 1, "ms": 1000}


class Limit(NamedTuple):
    """What a caller says of its patience."""

    seconds: float
    ignored: int
    """Headers that are malformed or repeated."""


class Hint(NamedTuple):
    """What an answer that is a failure says of another attempt."""

    retry_after: float | None
    """Seconds before which it is of no use; ``None`` where the server does not say."""
    should_retry: bool
    """Whether it is of any."""


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


# What a caller tells a server.


def limit_of(values: Mapping[str, Sequence[str]], unit: Unit, own: str | None) -> Limit:
    """The smallest limit that the caller names, in seconds, and how many headers say nothing.

    Args:
        values: each value of a header, by its name in lower case.
        unit: of the header *own*.
        own: the name of our header, if any is read.
    """
    units: dict[str, Unit] = {"request-timeout": "s", "x-envoy-expected-rq-timeout-ms": "ms"}
    if own is not None:
        units[own.lower()] = unit
    smallest, ignored = math.inf, 0
    for name, kind in units.items():
        if not (found := values.get(name)):
            continue
        told = found[0].strip(" \t") if len(found) == 1 else ""
        if (_SECONDS if kind == "s" else _WHOLE).fullmatch(told):
            smallest = min(smallest, float(told) / _PER[kind])
        else:
            ignored += 1
    return Limit(smallest, ignored)


def attempt_of(values: Sequence[str]) -> int:
    """The number of the attempt, 1 where the caller does not say."""
    found = _only(values) or ""
    return max(1, int(found)) if _NUMBER.fullmatch(found) else 1


def margin_of(limit: float, margin: float) -> float:
    """Seconds before the caller's *limit* at which the answer must be on its way."""
    return min(margin, limit / 10)


# What a server answers.


def whole_seconds(retry_after: float | None) -> int:
    """``Retry-After`` for the caller: at least 1, also where nobody knows."""
    if retry_after is None or not retry_after > 1:
        return 1
    return math.ceil(min(retry_after, 1e9))


def problem(status: int) -> bytes:
    """The body of an answer of ours: nothing of the inside (RFC 9457)."""
    return f'{{"title":"{TITLES[status]}","status":{status}}}'.encode()


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

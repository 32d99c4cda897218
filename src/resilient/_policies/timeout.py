"""Timeout: a deadline as a policy, a fresh one for each call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from resilient._core.checks import Seconds, check_name
from resilient._core.counter import Counter
from resilient._policies.common.factory import factory
from resilient._policies.common.policy import PolicyBase
from resilient._policies.deadline.block import Deadline, limit_of
from resilient._runtime.decorate import AnyFunction, plain_type


@dataclass(frozen=True, slots=True)
class TimeoutStats:
    """Totals of a timeout.

    ``expired`` calls were cut short, ``not_started`` ones had no time left to begin.
    """

    name: str
    calls: int
    expired: int
    not_started: int


@final
class Timeout(PolicyBase):
    """Limits every call of a function; `timeout` makes it."""

    kind = "timeout"

    def __init__(self, name: str | None, limit: float) -> None:
        super().__init__(name)
        self._seconds = limit
        self._calls, self._expired, self._not_started = Counter(), Counter(), Counter()
        self._register()

    def stats(self) -> TimeoutStats:
        """A snapshot; see `TimeoutStats`."""
        with self._lock:
            expired, not_started = self._expired.read(), self._not_started.read()
            return TimeoutStats(self.name, self._calls.read(), expired, not_started)

    def _reset(self) -> None:
        with self._lock:
            for total in (self._calls, self._expired, self._not_started):
                total.reset()

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        started = self._calls.increment
        plain: type | None = None  # the type that it returned last

        def limited(*args: Any, **kwargs: Any) -> Any:
            nonlocal plain
            next(started)
            with Deadline(self._seconds, self._name or "timeout", self):
                result = fn(*args, **kwargs)
                if type(result) is not plain:
                    plain = plain_type(fn, result)
                return result

        return limited

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        started = self._calls.increment

        async def limited(*args: Any, **kwargs: Any) -> Any:
            next(started)
            limit = Deadline(self._seconds, self._name or "timeout", self)
            limit.__enter__()  # by hand, at less than what `with` costs
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                limit.__exit__(type(error), error, error.__traceback__)
                raise
            limit.__exit__(None, None, None)
            return result

        return limited


@factory("timeout(0.3)")
def timeout(seconds: Seconds | None, *, name: str | None = None) -> Timeout:
    """Limit every call, in async code: in a plain thread nothing is interrupted.

    A policy that opens a fresh `deadline` for each call. In async code the call is cancelled at
    its next wait. A sync call in a plain thread runs to its end, and its result counts; only what
    looks at the deadline inside it (policies, `remaining`, ``Deadline.check``) takes notice.

    Args:
        seconds: at least 0; ``None`` and ``inf`` set no limit of their own.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        DeadlineExceeded: from a call: with ``started`` true if it was cut short, false if there
            was no time left to begin it, by this limit or one around it.
    """
    if callable(seconds):
        raise TypeError(
            f"seconds must be a number, not {seconds!r}: write @timeout(0.3), with parentheses"
        )
    return Timeout(check_name("name", name, instead="timeout(0.3)"), limit_of(seconds))

"""A script: when calls are made, and what the dependency does with each. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from resilient._core.checks import check_seconds, refuse_type

HOUR = 3600.0


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The dependency answers, *after* so many seconds. A late answer is a slow call.

    Args:
        after: seconds, at least 0.
        result: what it answers; if it is ``None``, a text that no other attempt gets.
    """

    after: float = 0.0
    result: object = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", check_seconds("after", self.after))

    def __repr__(self) -> str:
        result = () if self.result is None else (repr(self.result),)
        return _written("Answer", *_said(self.after), *result)


@dataclass(frozen=True, slots=True, repr=False)
class Fail:
    """The dependency fails, *after* so many seconds.

    Args:
        after: seconds, at least 0.
        error: the type of what is raised.
    """

    after: float = 0.0
    error: type[Exception] = ConnectionError

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", check_seconds("after", self.after))
        if not (isinstance(self.error, type) and issubclass(self.error, Exception)):
            refuse_type("error", self.error, "a type of exception, such as ConnectionError")
        try:
            self.error("a text")
        except Exception:  # noqa: BLE001  # whatever it needs, it is not that
            refuse_type("error", self.error, "a type of exception that is made of one text")

    def __repr__(self) -> str:
        if self.error is ConnectionError:
            return _written("Fail", *_said(self.after))
        return _written("Fail", repr(self.after), self.error.__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Hang:
    """The dependency does not answer within the hour. Then, if the caller is still there, it fails
    with a `TimeoutError`.
    """

    def __repr__(self) -> str:
        return "Hang()"


Outcome = Answer | Fail | Hang
"""What one attempt meets."""
HEALTHY = Answer()


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Step:
    """One call of the script. Calls overlap where one begins before another has ended.

    Args:
        at: seconds since the script began.
        outcomes: what the first attempt meets, what the second one does, and so on. What lies
            beyond them is up to the outages of the script, and where there is none the dependency
            answers at once.
        cancel: seconds after which the caller cancels the call, if it has not ended. In a plain
            thread, which nothing cancels, an interrupt is raised in what the call waits for.
        key: what the function is called with: the key of a keyed policy, of a cache, of a
            single-flight.
    """

    at: float
    outcomes: tuple[Outcome, ...]
    cancel: float | None
    key: object

    def __init__(
        self, at: float, *outcomes: Outcome, cancel: float | None = None, key: object = None
    ) -> None:
        for outcome in outcomes:
            if not isinstance(outcome, Outcome):
                refuse_type("outcomes", outcome, "Answer(...), Fail(...) or Hang()")
        object.__setattr__(self, "at", check_seconds("at", at))
        object.__setattr__(self, "outcomes", outcomes)
        cancel = None if cancel is None else check_seconds("cancel", cancel)
        object.__setattr__(self, "cancel", cancel)
        object.__setattr__(self, "key", key)

    def __repr__(self) -> str:
        named = [] if self.cancel is None else [f"cancel={self.cancel!r}"]
        named += [] if self.key is None else [f"key={self.key!r}"]
        return _written("Step", repr(self.at), *map(repr, self.outcomes), *named)


@dataclass(frozen=True, slots=True, repr=False)
class Outage:
    """What every attempt meets that begins in a stretch of time, unless its step says otherwise.

    Args:
        at: seconds since the script began.
        lasts: seconds, above 0.
        outcome: what attempts meet.
    """

    at: float
    lasts: float
    outcome: Outcome = Fail()

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", check_seconds("at", self.at))
        object.__setattr__(self, "lasts", check_seconds("lasts", self.lasts, above=0))
        if not isinstance(self.outcome, Outcome):
            refuse_type("outcome", self.outcome, "Answer(...), Fail(...) or Hang()")

    def __repr__(self) -> str:
        outcome = () if self.outcome == Fail() else (repr(self.outcome),)
        return _written("Outage", repr(self.at), repr(self.lasts), *outcome)


Script = Sequence[Step | Outage]
"""What is played: steps and outages, in any order."""
A_SCRIPT: Final = "a list of Step(...) and Outage(...)"


class Dependency:
    """What a script says of each attempt."""

    def __init__(self, script: Script) -> None:
        if not isinstance(script, Iterable):
            refuse_type("script", script, A_SCRIPT)
        items = list(script)
        for item in items:
            if not isinstance(item, Step | Outage):
                refuse_type("script", item, A_SCRIPT)
        self.steps = sorted((one for one in items if isinstance(one, Step)), key=lambda s: s.at)
        self._outages = [one for one in items if isinstance(one, Outage)]
        self.length = max(
            (one.at + sum(map(lasting, one.outcomes)) for one in self.steps), default=0.0
        ) + sum(lasting(one.outcome) for one in self._outages)  # seconds, for one attempt at each

    def outcome(self, step: Step | None, attempt: int, at: float) -> Outcome:
        """What attempt number *attempt* (from 0) of a step meets, if it begins *at* that time."""
        if step is not None and attempt < len(step.outcomes):
            return step.outcomes[attempt]
        return next(
            (one.outcome for one in self._outages if one.at <= at < one.at + one.lasts), HEALTHY
        )


def lasting(outcome: Outcome) -> float:
    """Seconds after which an attempt ends by itself."""
    return HOUR if isinstance(outcome, Hang) else outcome.after


def _written(name: str, *arguments: str) -> str:
    return f"{name}({', '.join(arguments)})"


def _said(after: float) -> Iterable[str]:
    """How the seconds are written; nothing for the default."""
    return (repr(after),) if after else ()

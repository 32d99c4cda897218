"""What happened when a script was played."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from resilient.events import Event, StateChanged
from resilient.testing.scripts.script import Step

How = Literal["answered", "failed", "rejected", "expired", "cancelled", "hung"]


class LawBroken(AssertionError):  # noqa: N818  # it says what happened
    """A policy broke a law; ``args`` are the code of its rule, and what was seen."""

    @property
    def law(self) -> str:
        """The code of the rule, as `docs/reference/rules.md` lists it."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(slots=True, eq=False)
class Attempt:
    """One call of the dependency, or of the policy inside. Times are seconds of the script."""

    began: float
    ended: float | None = None
    result: object = None
    error: BaseException | None = None

    @property
    def answered(self) -> bool:
        """Whether it returned."""
        return self.ended is not None and self.error is None

    @property
    def cut(self) -> bool:
        """Whether it was cancelled or interrupted."""
        return self.error is not None and not isinstance(self.error, Exception)

    def __repr__(self) -> str:
        ended = "..." if self.ended is None else f"{self.ended:g}"
        return f"{self.began:g}-{ended} {_told(self.error, self.result)}"


@dataclass(slots=True, eq=False)
class Called:
    """How one step of the script fared. Times are seconds since the script began."""

    step: Step
    began: float
    ended: float | None = None
    how: How = "hung"
    result: object = None
    error: BaseException | None = None
    attempts: list[Attempt] = field(default_factory=list)

    def __repr__(self) -> str:
        ended = "..." if self.ended is None else f"{self.ended:g}"
        attempts = "".join(f"\n        {one!r}" for one in self.attempts)
        said = "" if self.how == "cancelled" else f" {_told(self.error, self.result)}"
        return f"{self.began:g}-{ended} {self.how}{said} by {self.step!r}{attempts}"


NO_KEY: Final = object()
"""The key of a call for which ``key=`` raised: the policy was not asked."""


@dataclass(slots=True, eq=False)
class Visit(Attempt):
    """One call of one policy, and what it called in turn. Its ``key`` is that of the policy."""

    key: object = None
    cancel_at: float = math.inf
    runs: list[Attempt] = field(default_factory=list)
    stats: Any = None

    @property
    def left(self) -> float:
        """When it ended; infinity if it never did."""
        return math.inf if self.ended is None else self.ended


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened at one policy; they are in order, also those of one instant."""

    what: Literal["arrived", "began", "ended", "left", "moved"]
    at: float
    visit: Visit | None = None
    run: Attempt | None = None
    move: StateChanged | None = None
    stats: Any = None


@dataclass(slots=True, eq=False)
class Passage:
    """All that happened at one policy of the stack."""

    policy: Any
    outer: tuple[str, ...]  # the kinds of the policies around it
    inner: tuple[str, ...]
    on: str
    entries: list[Entry] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    strays: list[Attempt] = field(default_factory=list)  # runs of nobody's call: of a refresh

    def runs(self) -> Iterator[tuple[Visit | None, Attempt]]:
        """Every run, in the order in which they began."""
        pairs = [(visit, run) for visit in self.visits for run in visit.runs]
        yield from sorted([*pairs, *((None, run) for run in self.strays)], key=lambda p: p[1].began)


@dataclass(slots=True, eq=False)
class Trace:
    """What happened, by the clock of the script: seconds since it began.

    Attributes:
        calls: the steps, in the order of their instants, and how each ended.
        attempts: every call of the dependency, in the order in which they began.
        transitions: the changes of state of every breaker in the stack.
        events: everything that the policies told.
        stats: the ``stats()`` of the policy after the last call.
        seconds: how long it took.
    """

    calls: list[Called]
    attempts: list[Attempt]
    transitions: list[StateChanged]
    events: list[Event]
    stats: Any
    seconds: float
    passages: list[Passage] = field(repr=False)

    def check(self) -> None:
        """Hold every policy of the stack against the laws of its kind.

        They hold whatever the script is: no half-open breaker lets more calls through than its
        `probes`, no result of an older generation decides anything, no retry overdraws its budget,
        no call outlasts its timeout, no bulkhead lets more calls in than its limit, and so on.

        Raises:
            LawBroken: one does not hold. Its message begins with the rule's code, such as B6,
                and ends with what happened.
        """
        from resilient.testing.scripts.laws import check  # noqa: PLC0415  # it needs what is here

        try:
            check(self)
        except LawBroken as broken:
            raise LawBroken(broken.law, f"{broken.args[1]}\n{self}") from None

    def __str__(self) -> str:
        moves = "".join(
            f"\n    {move.at:g} {move.policy}: {move.old} -> {move.new} ({move.reason})"
            for move in self.transitions
        )
        return "\n".join([*(f"    {call!r}" for call in self.calls)]) + moves


def _told(error: BaseException | None, result: object) -> str:
    return repr(result) if error is None else f"{type(error).__name__}({error})"

"""The laws of the breaker: those of its model, and what each run must count as."""

from __future__ import annotations

from typing import Any

from resilient._core.breaker import BreakerState
from resilient._core.matching import Judge, Verdict
from resilient._policies.breaker.controls import Settings
from resilient._runtime.loops import is_cancellation
from resilient.errors import DeadlineExceeded, Rejected
from resilient.testing.scripts.laws.common import LIMITED, broken, by_key, is_keyed, key_of
from resilient.testing.scripts.model import CLOSE, BreakerModel, Held
from resilient.testing.scripts.trace import Attempt, Entry, Passage, Visit


def breaker(passage: Passage) -> None:
    """All that a breaker does is what its rules say: B1 to B9, B12."""
    for entries in by_key(passage, passage.entries, key_of):
        began = entries[0].at if is_keyed(passage.policy) and entries else 0.0
        _Breaker(passage, began).follow(entries)


def verdict_of(judge: Judge, error: BaseException) -> Verdict:
    """What a breaker must make of *error* (B2)."""
    if not isinstance(error, Exception):
        return Verdict.CANCELLED if is_cancellation(error) else Verdict.IGNORED
    if isinstance(error, Rejected):
        return Verdict.IGNORED
    if isinstance(error, DeadlineExceeded) and not error.started:
        return Verdict.IGNORED
    return judge.error(error)


def trip_of(settings: Settings, verdict: Verdict, error: BaseException | None) -> float | None:
    """For how many seconds *error* must open a breaker (B15); ``None`` if it need not."""
    if settings.trip is None or verdict is not Verdict.FAILURE or not isinstance(error, Exception):
        return None
    return settings.trip.rest(error, settings.judge)


class _Breaker:
    """The model of one breaker, or of one key of it, beside what was seen."""

    def __init__(self, passage: Passage, began: float) -> None:
        self._passage, self._settings = passage, passage.policy._settings
        self._model = BreakerModel.of(passage.policy, began, slack=CLOSE)
        self._limited = LIMITED & set(passage.outer)
        self._held: dict[Attempt, Held] = {}
        self._stats: Any = None  # the last that were seen

    def follow(self, entries: list[Entry]) -> None:
        """Tell the model each thing, with the moves that came of it."""
        moves: list[BreakerState] = []
        ended: Attempt | None = None
        for entry in entries:
            match entry.what:
                case "moved":
                    assert entry.move is not None
                    moves.append(entry.move.new)
                    continue
                case "began":
                    assert entry.run is not None
                    self._model.arrives(entry.at, moves)
                    self._held[entry.run] = self._model.admitted()
                case "ended":
                    ended = entry.run
                    continue
                case "left" if ended is not None:
                    self._end(entry, ended, moves)
                    ended = None
                case "left":
                    self._reject(entry, moves)
            if entry.stats is not None:
                self._model.looks(entry.stats)
                self._stats = entry.stats
            moves = []

    def _reject(self, left: Entry, moves: list[BreakerState]) -> None:
        self._model.arrives(left.at, moves)
        assert left.visit is not None
        if isinstance(left.visit.error, Rejected):
            self._model.rejected(left.visit.error.retry_after)

    def _end(self, left: Entry, run: Attempt, moves: list[BreakerState]) -> None:
        held, counted = self._held[run], self._counted(left.stats, run)
        verdict = self._verdict(left.visit, run, counted)
        if counted is not verdict and held.recorded and not held.lost:
            law = "B9" if run.cut else "B2"
            what = f"counted a run as {counted.value}, and it is {verdict.value}: {run!r}"
            raise broken(self._passage, law, what)
        trip = trip_of(self._settings, verdict, run.error)
        self._model.ended(held, verdict, left.at, moves, trip=trip)

    def _counted(self, stats: Any, run: Attempt) -> Verdict:
        """What a run that has just ended was counted as."""
        for total, verdict in (("failures", Verdict.FAILURE), ("successes", Verdict.SUCCESS)):
            if getattr(stats, total) > getattr(self._stats, total):
                return verdict
        cancelled = run.error is not None and is_cancellation(run.error)
        return Verdict.CANCELLED if cancelled else Verdict.IGNORED

    def _verdict(self, visit: Visit | None, run: Attempt, counted: Verdict) -> Verdict:
        """What the rules say of a run that ended (B2); what was counted, if they leave it open."""
        if run.cut:
            return self._of_cut(visit, run, counted)
        if run.error is None:
            verdict: Verdict = self._settings.verdict(run.result)
            return verdict
        return verdict_of(self._settings.judge, run.error)

    def _of_cut(self, visit: Visit | None, run: Attempt, counted: Verdict) -> Verdict:
        """A cancelled run is slow at most (B14), unless a time limit of ours has cut it (B9)."""
        assert visit is not None
        assert run.ended is not None
        assert run.error is not None
        if not self._limited:
            return verdict_of(self._settings.judge, run.error)
        if not self._limited <= {"timeout"} or run.ended >= visit.cancel_at - CLOSE:
            return counted  # it is not known who has cut it
        slow = self._model.config.slow
        if slow is not None and run.ended - run.began <= slow:
            return verdict_of(self._settings.judge, run.error)
        return Verdict.FAILURE

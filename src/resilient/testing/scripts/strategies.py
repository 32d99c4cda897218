"""Strategies: what a dependency does over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from resilient._core.checks import check_int, check_seconds
from resilient.testing.scripts.script import Answer, Fail, Hang, Outage, Outcome, Step

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

PAUSES: Final = (0.125, 0.5, 1.0, 5.0, 30.0)
"""Seconds; they are eighths, so that their sums are exact."""
AFTER: Final = (0.0, 0.125, 0.5, 1.0)
"""How long an attempt takes."""


def outcomes(
    *,
    calls: int = 16,
    pauses: Sequence[float] = PAUSES,
    slow: float = 5.0,
    errors: Sequence[type[Exception]] = (ConnectionError,),
    hangs: bool = True,
    cancels: bool = True,
    keys: Sequence[object] = (None,),
) -> SearchStrategy[list[Step | Outage]]:
    """Scripts in which each attempt has a fate of its own: it answers, fails, is slow or hangs.

    Between the calls are pauses, short ones mostly, so that calls overlap; some callers cancel. ::

        @given(outcomes(pauses=[0.5, 2.0]))  # 2.0: the cooldown
        def test_payments(script):
            play(breaker("payments", cooldown=2.0), script).check()

    Args:
        calls: the most calls of a script, at least 1.
        pauses: seconds between calls; name your cooldown, your window, your lease: what a policy
            does at such an instant is worth a look. No pause is always among them.
        slow: seconds that a slow answer takes.
        errors: the types of exceptions to fail with.
        hangs: whether some attempts never end by themselves.
        cancels: whether some callers leave.
        keys: what the function is called with.
    """
    pauses = [check_seconds("pauses", pause) for pause in pauses]
    instants = st.sampled_from([0.0, 0.0, *pauses])
    patience = st.none() | st.sampled_from([0.25, *pauses]) if cancels else st.none()
    fates = [*map(Answer, AFTER), *_troubles(slow, errors, hangs=hangs)]
    step = st.tuples(
        instants,
        st.lists(st.sampled_from(fates), max_size=3),
        patience,
        st.sampled_from(list(keys)),
    )

    def lay_out(
        steps: list[tuple[float, list[Outcome], float | None, object]],
    ) -> list[Step | Outage]:
        script, at = list[Step | Outage](), 0.0
        for pause, fates, cancel, key in steps:
            at += pause
            script.append(Step(at, *fates, cancel=cancel, key=key))
        return script

    return st.lists(step, min_size=1, max_size=check_int("calls", calls)).map(lay_out)


@st.composite
def outages(
    draw: DrawFn,
    *,
    lasts: float = 60.0,
    every: Sequence[float] = (0.5, 1.0, 4.0),
    slow: float = 5.0,
    errors: Sequence[type[Exception]] = (ConnectionError,),
    hangs: bool = True,
    keys: Sequence[object] = (None,),
) -> list[Step | Outage]:
    """Scripts of steady traffic, through up to three outages: all fails, is slow, or hangs.

    Args:
        lasts: seconds of traffic, above 0.
        every: seconds between two calls: one of these for a script.
        slow: seconds that a slow answer takes.
        errors: the types of exceptions to fail with.
        hangs: whether there are outages in which nothing answers.
        keys: what the function is called with, in turn.
    """
    check_seconds("lasts", lasts, above=0)
    gap = draw(st.sampled_from(list(every)))
    calls = draw(st.integers(1, max(1, int(lasts / gap))))
    end = int(calls * gap)
    outage = st.builds(
        Outage,
        st.integers(0, end).map(float),
        st.integers(1, max(1, end)).map(float),
        st.sampled_from(_troubles(slow, errors, hangs=hangs)),
    )
    steps = [Step(n * gap, key=keys[n % len(keys)]) for n in range(calls)]
    return [*draw(st.lists(outage, max_size=3)), *steps]


def _troubles(slow: float, errors: Sequence[type[Exception]], *, hangs: bool) -> list[Outcome]:
    """What may be wrong; the simplest first, since there a script shrinks to."""
    fails = [Fail(after, error) for error in errors for after in AFTER]
    late: list[Outcome] = [Answer(check_seconds("slow", slow)), *([Hang()] if hangs else [])]
    return [*fails, *late * len(AFTER)]

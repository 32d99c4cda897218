"""Strategies: what a dependency does over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from hypothesis import strategies as st

from resilient._core.checks import check_int, check_seconds, refuse, refuse_type
from resilient.testing.scripts.script import Answer, Fail, Hang, Outage, Outcome, Step

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

T = TypeVar("T")
AT_LEAST_ONE: Final = ", with at least one"
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
    pauses = [check_seconds("pauses", pause) for pause in _listed("pauses", pauses, "seconds")]
    instants = st.sampled_from([0.0, 0.0, *pauses])
    patience = st.none() | st.sampled_from([0.25, *pauses]) if cancels else st.none()
    fates = [*map(Answer, AFTER), *_troubles(slow, errors, hangs=hangs)]
    step = st.tuples(
        instants,
        st.lists(st.sampled_from(fates), max_size=3),
        patience,
        st.sampled_from(_some("keys", keys, "keys")),
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


def outages(
    *,
    lasts: float = 60.0,
    every: Sequence[float] = (0.5, 1.0, 4.0),
    slow: float = 5.0,
    errors: Sequence[type[Exception]] = (ConnectionError,),
    hangs: bool = True,
    keys: Sequence[object] = (None,),
) -> SearchStrategy[list[Step | Outage]]:
    """Scripts of steady traffic, through up to three outages: all fails, is slow, or hangs.

    Args:
        lasts: seconds of traffic, above 0.
        every: seconds between two calls: one of these for a script.
        slow: seconds that a slow answer takes.
        errors: the types of exceptions to fail with.
        hangs: whether there are outages in which nothing answers.
        keys: what the function is called with, in turn.
    """
    gaps = [check_seconds("every", gap, above=0) for gap in _some("every", every, "seconds")]
    return _traffic(
        check_seconds("lasts", lasts, above=0),
        gaps,
        _troubles(slow, errors, hangs=hangs),
        _some("keys", keys, "keys"),
    )


@st.composite
def _traffic(
    draw: DrawFn, lasts: float, gaps: list[float], troubles: list[Outcome], keys: list[object]
) -> list[Step | Outage]:
    gap = draw(st.sampled_from(gaps))
    calls = draw(st.integers(1, max(1, int(lasts / gap))))
    end = int(calls * gap)
    outage = st.builds(
        Outage,
        st.integers(0, end).map(float),
        st.integers(1, max(1, end)).map(float),
        st.sampled_from(troubles),
    )
    steps = [Step(n * gap, key=keys[n % len(keys)]) for n in range(calls)]
    return [*draw(st.lists(outage, max_size=3)), *steps]


def _troubles(slow: float, errors: Sequence[type[Exception]], *, hangs: bool) -> list[Outcome]:
    """What may be wrong; the simplest first, since there a script shrinks to."""
    listed = _listed("errors", errors, "types of exceptions")
    fails = [Fail(after, error) for error in listed for after in AFTER]
    late: list[Outcome] = [Answer(check_seconds("slow", slow)), *([Hang()] if hangs else [])]
    return [*fails, *late * len(AFTER)]


def _listed(name: str, values: Iterable[T], what: str) -> list[T]:
    """*values*, if there can be a list of them."""
    if not isinstance(values, Iterable):
        refuse_type(name, values, f"a list of {what}")
    return list(values)


def _some(name: str, values: Iterable[T], what: str) -> list[T]:
    """The same, of at least one."""
    listed = _listed(name, values, what + AT_LEAST_ONE)
    if not listed:
        refuse(name, values, f"a list of {what}{AT_LEAST_ONE}")
    return listed

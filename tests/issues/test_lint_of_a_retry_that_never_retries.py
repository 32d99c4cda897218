"""Lint found contradictions with ``retry(attempts=1)``, which repeats nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resilient import Policy, RetryBudget, breaker, hedge, lint, pipeline, protect, retry, timeout

once, twice = retry("once", on=OSError, attempts=1), retry("twice", on=OSError, attempts=2)


@pytest.mark.rule("F14")
@pytest.mark.parametrize(
    "make",
    [
        lambda: pipeline(once, hedge(0.1)),
        lambda: pipeline(once, twice),
        lambda: pipeline(twice, once),
        lambda: pipeline(once, once, hedge(0.1, budget=RetryBudget())),
        lambda: pipeline(once, breaker(cooldown=0)),
        lambda: pipeline(timeout(1), once, timeout(1)),
        lambda: protect(on=OSError, timeout=1, attempts=1, hedge=hedge(0.1)),
        lambda: pipeline(once, protect(on=OSError, timeout=1)),
    ],
    ids=["hedge", "inner retry", "outer retry", "both", "breaker", "timeout", "protect", "around"],
)
def test_a_retry_with_one_attempt_contradicts_nothing(make: Callable[[], Policy]) -> None:
    assert lint(make()) == []


@pytest.mark.rule("F14")
def test_what_does_repeat_is_found_as_ever_and_counts_those_that_do() -> None:
    assert [one.rule for one in lint(pipeline(twice, hedge(0.1)))] == ["retry-outside-hedge"]
    (found,) = lint(pipeline(twice, once, retry("thrice", on=OSError)))
    assert (found.rule, found.policies) == (
        "retry-around-retry",
        ("retry 'twice'", "retry 'thrice'"),
    )
    assert "up to 6 times" in found.why
    assert [one.rule for one in lint(pipeline(twice, once, hedge(0.1)))] == ["retry-outside-hedge"]

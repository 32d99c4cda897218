"""Tests as a user of the kit would write them, in ten lines each. They kill the mutants of
`tests/mutants/kit.toml`: seeded faults in transitions, generations, leases, budgets and limits.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings

from resilient import (
    Breaker,
    RetryBudget,
    breaker,
    bulkhead,
    pipeline,
    rate_limit,
    retry,
    singleflight,
    timeout,
)
from resilient.testing.scripts import BreakerMachine, outages, outcomes, play

pytestmark = pytest.mark.rule("T5")
quick = settings(phases=[Phase.generate])
"""Without shrinking: here nobody reads the example that kills a mutant."""


class Payments(BreakerMachine):
    def make(self) -> Breaker:
        return breaker("payments", consecutive_failures=3, cooldown=2, probes=2, probe_lease=4)


TestPayments = Payments.TestCase
TestPayments.settings = quick


class Catalogue(BreakerMachine):
    def make(self) -> Breaker:
        return breaker("catalogue", consecutive_failures=None, window=4, minimum=3, slow=1)


TestCatalogue = Catalogue.TestCase
TestCatalogue.settings = quick


@quick
@given(script=outcomes(pauses=[0.5, 2.0]))
def test_a_breaker_inside_a_timeout(script: Any) -> None:
    stack = pipeline(timeout(1), breaker("payments", consecutive_failures=2, cooldown=2))
    play(stack, script).check()


@quick
@given(script=outages())
def test_retries(script: Any) -> None:
    budget = RetryBudget(ratio=0.2, per_second=0.2)
    policy = retry(on=ConnectionError, wait=1, within=4, budget=budget)
    play(policy, script).check()


@quick
@given(script=outcomes(pauses=[0.125, 1.0]))
@pytest.mark.parametrize("on", ["asyncio", "trio", "threads"])
def test_places(on: Any, script: Any) -> None:
    play(bulkhead(1, queue=2, max_wait=2), script, on=on).check()
    play(rate_limit(2, burst=2, max_wait=1), script, on=on).check()


@quick
@given(script=outcomes(keys=["A-17", "B-2"]))
def test_one_flight_for_all(script: Any) -> None:
    play(pipeline(singleflight(), timeout(3)), script).check()

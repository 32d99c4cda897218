"""A policy was listed before it was built: others met half of one."""

from __future__ import annotations

import random

import pytest

from resilient import BreakerState, backoff, breaker, policies


class Looking(random.Random):
    """Dice that look around when they are thrown, as another thread may at any moment."""

    looks = 0

    def random(self) -> float:
        self.looks += 1
        for policy in policies():
            policy.stats()
        return 0.5


@pytest.mark.rule("F14", "F4")
def test_whoever_looks_while_a_policy_is_built_sees_whole_policies_only() -> None:
    rng = Looking()
    policy = breaker(cooldown=backoff(1.0, rng=rng), initial=BreakerState.OPEN)
    assert rng.looks > 0
    assert policy in policies()

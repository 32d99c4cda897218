"""An ``rng`` is code of the user's: asked under the lock, it hung if it asked the policy."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from resilient import Breaker, backoff, breaker, throttle
from resilient.errors import Rejected
from resilient.testing import fresh
from tests.worlds import in_threads


class Asking(random.Random):
    """Looks at its policy whenever a number is drawn."""

    policy: Any = None

    def random(self) -> float:
        if self.policy is not None:
            self.policy.stats()
        return 0.5


def fail() -> None:
    raise ConnectionError


@pytest.mark.rule("F4")
@pytest.mark.parametrize("kind", ["breaker", "throttle"])
def test_an_rng_may_ask_the_policy_that_draws_from_it(kind: str) -> None:
    rng = Asking()
    policy: Any = (
        breaker(consecutive_failures=2, cooldown=backoff(1.0, rng=rng))
        if kind == "breaker"
        else throttle(rng=rng, minimum=1)
    )
    rng.policy = policy

    def use() -> None:
        with fresh():
            for _ in range(3):
                with contextlib.suppress(ConnectionError, Rejected):
                    policy.call(fail)
            if isinstance(policy, Breaker):
                policy.force_open()
                policy.reset()
            with contextlib.suppress(Rejected):
                policy.admit().close()

    assert in_threads(use) == [None]

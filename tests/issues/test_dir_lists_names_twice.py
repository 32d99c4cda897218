"""``dir(resilient)`` listed names twice and the package's own, and pages a constant's name."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import resilient
from tests.public import on_a_page


@pytest.mark.rule("F15")
def test_dir_of_the_package_is_its_public_names_once() -> None:
    assert sorted(resilient.__dir__()) == dir(resilient) == sorted(resilient.__all__)
    code = "import resilient; before = dir(resilient); resilient.cache; resilient.lint; "
    code += "import resilient.drill; print(before == dir(resilient) == sorted(resilient.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.rule("F7")
def test_a_signature_on_a_page_shows_what_a_default_is() -> None:
    written = "(name=None, *, cooldown=COOLDOWN, on=Exception, initial=BreakerState.CLOSED)"
    assert on_a_page("breaker", resilient.breaker, written) == (
        "(name=None, *, cooldown=backoff(1, factor=1.5, max=3, jitter=0.2), on=Exception, "
        "initial=BreakerState.CLOSED)"
    )
    written = "(name=None, *, on, attempts=DEFAULT, wait=WAIT, budget=DEFAULT)"
    assert on_a_page("retry", resilient.retry, written) == (
        "(name=None, *, on, attempts=3, wait=backoff(0.1, factor=2, max=10, jitter='full'), "
        "budget=RetryBudget(ratio=0.2, per_second=1, ttl=10))"
    )
    written = "(handler=MISSING, *, default=MISSING)"
    assert on_a_page("fallback", resilient.fallback, written) == ("(handler=..., *, default=...)")


@pytest.mark.rule("F7")
def test_every_default_that_is_a_constant_can_be_shown() -> None:
    for name in resilient.__all__:
        thing = getattr(resilient, name)
        if inspect.isfunction(thing):
            constants = ", ".join(f"{one}=CONSTANT" for one in inspect.signature(thing).parameters)
            assert "DEFAULT" not in on_a_page(name, thing, f"({constants})")

"""An error that takes no attributes was replaced on its way out of a function made by `carry`."""

from __future__ import annotations

import dataclasses

import pytest

from resilient import carry


@dataclasses.dataclass(frozen=True)
class FrozenLookupError(LookupError):
    code: int


@pytest.mark.rule("F8", "D6")
def test_carry_adds_nothing_to_an_error() -> None:
    error = FrozenLookupError(3)

    def fail() -> None:
        raise error

    with pytest.raises(FrozenLookupError) as caught:
        carry(fail)()
    assert caught.value is error

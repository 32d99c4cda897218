"""On trio a caller whose limit ended between two looks left a coroutine that nobody awaited."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
import trio
import trio.lowlevel

from resilient import deadline, singleflight
from resilient._policies.singleflight import SingleFlight


def test_a_caller_that_goes_before_it_waits_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class EndedError(Exception):
        """Stands for the limit that ends just then."""

    async def ended(*_: Any) -> None:
        raise EndedError

    monkeypatch.setattr(SingleFlight, "_wait_within", ended)

    @singleflight()
    async def work() -> None:
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        with deadline(60.0), pytest.raises(EndedError):
            await work()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trio.run(main)
        gc.collect()
    assert [str(one.message) for one in warned] == []

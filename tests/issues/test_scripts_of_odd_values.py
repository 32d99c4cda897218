"""A script took a `timedelta` and then could not play it. An answer that compares in its own way,
as an array does, broke the message of a law. A key that is not equal to itself broke the law."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest

from resilient import cache, singleflight, timeout
from resilient.testing.scripts import Answer, Fail, Outage, Step, play

pytestmark = pytest.mark.rule("T5")
SECOND = dt.timedelta(seconds=1)
Some: Any = SECOND
ON = pytest.mark.parametrize("on", ["asyncio", "trio", "threads"])


class Array:
    """As numpy's: a comparison is no truth value."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Array()"


@ON
def test_seconds_may_be_a_timedelta(on: Any) -> None:
    steps = [Step(0.0, Answer(Some)), Step(0.0, Fail(Some)), Step(Some)]
    script: list[Step | Outage] = [*steps, Outage(Some, Some, Fail(Some))]
    assert repr(script[2:]) == "[Step(1.0), Outage(1.0, 1.0, Fail(1.0))]"
    trace = play(timeout(5), script, on=on)
    assert [(call.how, call.ended) for call in trace.calls] == [
        ("answered", 1.0),
        ("failed", 1.0),
        ("failed", 2.0),
    ]


@ON
def test_an_answer_may_compare_in_its_own_way(on: Any) -> None:
    script = [Step(0.0, Answer(1.0, Array())) for _ in range(3)]
    assert repr(script[0]) == "Step(0.0, Answer(1.0, Array()))"
    for policy in (singleflight(), cache(5), timeout(5)):
        trace = play(policy, script, on=on)
        trace.check()
        assert "Array()" in str(trace)


@ON
def test_a_key_may_be_unequal_to_itself(on: Any) -> None:
    script = [Step(n * 0.5, Answer(1.0), key=math.nan) for n in range(4)]
    play(singleflight(key="key"), script, on=on).check()
    play(cache(5, key="key"), script, on=on).check()

"""`outages(every=[0])` divided by zero, and `keys=3` was "not iterable"; a handle of one key was
played, and blamed; a script longer than eleven days was said to wait for ever."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import find

from resilient import breaker, bulkhead, pipeline, timeout
from resilient.testing.scripts import Answer, Fail, Step, outages, outcomes, play

pytestmark = pytest.mark.rule("T5", "F7")
SECOND: Any = dt.timedelta(seconds=1)
DAY = 86_400.0
ON = pytest.mark.parametrize("on", ["asyncio", "trio", "threads"])

STRATEGIES: dict[str, Callable[..., Any]] = {"outages": outages, "outcomes": outcomes}
WRONG: list[tuple[str, str, Any, str]] = [
    ("outages", "every", [0], "every must be a finite number above 0, not 0"),
    ("outages", "every", [-1.0], "every must be a finite number above 0, not -1.0"),
    ("outages", "every", [], "every must be a list of seconds, with at least one, not []"),
    ("outages", "every", 1.0, "every must be a list of seconds, with at least one, not 1.0"),
    ("outages", "every", ["x"], "every must be seconds or a timedelta, above 0, not 'x'"),
    ("outages", "lasts", -1.0, "lasts must be a finite number above 0, not -1.0"),
    ("outages", "lasts", math.inf, "lasts must be a finite number above 0, not inf"),
    ("outcomes", "pauses", 1.0, "pauses must be a list of seconds, not 1.0"),
    ("outcomes", "pauses", [-1.0], "pauses must be a finite number of at least 0, not -1.0"),
    *(
        (what, argument, value, said)
        for what in STRATEGIES
        for argument, value, said in (
            ("keys", [], "keys must be a list of keys, with at least one, not []"),
            ("keys", 3, "keys must be a list of keys, with at least one, not 3"),
            ("errors", 3, "errors must be a list of types of exceptions, not 3"),
            (
                "errors",
                ConnectionError,
                "errors must be a list of types of exceptions, not <class 'ConnectionError'>",
            ),
            ("slow", "x", "slow must be seconds or a timedelta, of at least 0, not 'x'"),
        )
    ),
]


@pytest.mark.parametrize(("strategy", "argument", "value", "said"), WRONG, ids=str)
def test_a_strategy_refuses_at_once_and_by_name(
    strategy: str, argument: str, value: Any, said: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        STRATEGIES[strategy](**{argument: value})
    assert str(caught.value).startswith(said)


def test_its_seconds_may_be_a_timedelta() -> None:
    found = find(outages(lasts=5 * SECOND, every=[SECOND], slow=SECOND), lambda s: len(s) > 2)
    assert [step.at for step in found if isinstance(step, Step)][:2] == [0.0, 1.0]
    assert find(outcomes(pauses=[SECOND], slow=SECOND), lambda s: True) == [Step(0.0)]
    assert find(outcomes(errors=[], keys="ab"), lambda s: True) == [Step(0.0, key="a")]


@ON
def test_a_handle_of_one_key_is_refused(on: Any) -> None:
    handle: Any = breaker(key="key").of("A-17")
    for policy in (handle, pipeline(timeout(1), handle)):
        with pytest.raises(TypeError, match="the policy itself, with steps of that key"):
            play(policy, [Step(0.0)], on=on)


@ON
def test_a_script_may_last_for_weeks(on: Any) -> None:
    script = [Step(0.0, Answer(20 * DAY)), Step(30 * DAY, Fail(20 * DAY)), Step(60 * DAY)]
    trace = play(bulkhead(5), script, on=on)
    assert [call.how for call in trace.calls] == ["answered", "failed", "answered"]
    trace.check()

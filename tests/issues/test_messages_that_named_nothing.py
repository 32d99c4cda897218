"""`change(rate=1)` blamed `cost`, which it does not take; `play(breaker(), 3)` named no argument;
`time.run` inside a loop said nothing of what to write instead."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import trio

from resilient import breaker, rate_limit
from resilient.testing import VirtualTime, virtual_time
from resilient.testing.scripts import Step, play


async def fetch() -> int:
    await asyncio.sleep(3600)
    return 1


# Rate limits.

TOO_LITTLE: list[tuple[dict[str, Any], str]] = [
    ({"burst": 1}, "burst must be at least what a call costs, 2, not 1"),
    ({"rate": 9, "burst": 1}, "burst must be at least what a call costs, 2, not 1"),
    ({"rate": 1}, "rate must be above 1, not 1.0"),
    ({"rate": 0.5, "per": 9}, "rate must be above 1, not 0.5"),
]


@pytest.mark.rule("F7", "L11")
@pytest.mark.parametrize(("arguments", "said"), TOO_LITTLE, ids=str)
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_a_change_names_its_own_arguments(
    arguments: dict[str, Any], said: str, keyed: bool
) -> None:
    policy = rate_limit(5, cost=2, key=(lambda: "k") if keyed else None)
    handles: list[Any] = [policy, policy.of("k")] if keyed else [policy]
    for handle in handles:
        with pytest.raises(ValueError, match="must be") as caught:
            handle.change(**arguments)
        assert str(caught.value).startswith(said)
        assert ("burst=2" in str(caught.value)) == ("burst" not in arguments)
        handle.change(rate=1.5)
        handle.change(rate=5)


# Scripts.


@pytest.mark.rule("T5", "F7")
@pytest.mark.parametrize("wrong", [3, None, Step(0.0), "x", [3], {"at": 0.0}])
def test_play_names_the_script(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^script must be a list of Step\(\.\.\.\) and Outage"):
        play(breaker(), wrong)


# Virtual time.


async def runs_inside(run: Callable[[VirtualTime], object]) -> None:
    with virtual_time() as time:
        with pytest.raises(RuntimeError, match=r"`await fetch\(\.\.\.\)`") as caught:
            run(time)
        assert "`def`" in str(caught.value)


@pytest.mark.rule("T2", "T4")
@pytest.mark.parametrize("loop", [asyncio.run, lambda main: trio.run(lambda: main)])
def test_run_inside_a_loop_says_to_await(loop: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no coroutine is left behind
        loop(runs_inside(lambda time: time.run(fetch)))


@pytest.mark.rule("T2", "F17")
def test_run_is_given_the_function_and_not_what_it_returns() -> None:
    with virtual_time() as time, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match=r"^fn must be .*write time\.run\(fetch, \.\.\.\)"):
            time.run(fetch())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^fn must be an async def function, not 3"):
            time.run(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^fn must be an async def function, not <function"):
            time.run(lambda: 3)  # type: ignore[arg-type, return-value]
        assert time.run(fetch) == 1
        assert time.run(lambda: fetch()) == 1

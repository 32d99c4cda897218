"""Scripts, what comes of playing them, and each law on a trace that breaks it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import find, given, settings

from resilient import (
    Breaker,
    BreakerState,
    CircuitOpen,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)
from resilient._core.bulkhead import BulkheadCore
from resilient.testing import scripts, virtual_time
from resilient.testing.scripts import (
    Answer,
    BreakerMachine,
    Fail,
    Hang,
    LawBroken,
    Outage,
    Step,
    Trace,
    outages,
    outcomes,
    play,
)

pytestmark = pytest.mark.rule("T5")
ON = pytest.mark.parametrize("on", ["asyncio", "trio", "threads"])

# Scripts.


@given(script=outcomes(keys=["A-17", None], errors=[ValueError, ConnectionError]) | outages())
def test_a_script_is_written_as_it_is_made(script: Any) -> None:
    assert eval(repr(script), {**vars(scripts), "ValueError": ValueError}) == script


def test_a_script_shrinks_to_what_matters() -> None:
    def fails(script: Any) -> bool:
        return any(isinstance(fate, Fail) for step in script for fate in step.outcomes)

    assert repr(find(outcomes(), fails)) == "[Step(0.0, Fail())]"
    outage = find(outages(), lambda script: isinstance(script[0], Outage))
    assert repr(outage) == "[Outage(0.0, 1.0), Step(0.0)]"


def test_what_is_no_script_is_refused() -> None:
    for make, message in (
        (lambda: Step(-1), "at"),
        (lambda: Step(0, 3), r"outcomes must be Answer\(...\)"),  # type: ignore[arg-type]
        (lambda: Step(0, cancel=-1), "cancel"),
        (lambda: Answer(-1), "after"),
        (lambda: Fail(0, "error"), "error must be a type of exception"),  # type: ignore[arg-type]
        (lambda: Outage(0, 0), "lasts"),
        (lambda: play(timeout(1), [3]), "script must be a list of Step"),  # type: ignore[list-item]
        (lambda: play(timeout, [Step(0)]), "takes a policy or a pipeline"),  # type: ignore[arg-type]
        (lambda: play(timeout(1), [], on="gevent"), "on must be"),  # type: ignore[arg-type]
        (lambda: play(hedge(1), [], on="threads"), "async def"),
        (lambda: play(cache(1, refresh_ahead=0.5), [], on="threads"), "threads of its own"),
        (lambda: outcomes(calls=0), "calls"),
        (lambda: outcomes(pauses=[-1]), "pauses"),
        (lambda: find(outages(lasts=0), bool), "lasts"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            make()


# Playing.


@ON
def test_calls_overlap_and_each_meets_what_the_script_says(on: Any) -> None:
    script: list[Step | Outage] = [
        Step(0.0, Answer(3.0)),
        Step(1.0, Fail(1.0, ValueError)),
        Step(1.0, Hang(), cancel=0.5),
        Step(2.5, Answer(result="late")),
        Step(6.0),
        Outage(5.0, 2.0, Fail(0.5)),
    ]
    trace = play(breaker(), script, on=on)
    assert [(call.began, call.ended, call.how) for call in trace.calls] == [
        (0.0, 3.0, "answered"),
        (1.0, 2.0, "failed"),
        (1.0, 1.5, "cancelled"),
        (2.5, 2.5, "answered"),
        (6.0, 6.5, "failed"),
    ]
    assert trace.calls[3].result == "late"
    assert [type(call.error) for call in trace.calls][1::3] == [ValueError, ConnectionError]
    assert len(trace.attempts) == trace.stats.calls == 5
    trace.check()


@ON
def test_attempts_beyond_what_a_step_says_are_up_to_the_outages(on: Any) -> None:
    policy = retry(on=ConnectionError, wait=1, attempts=5)
    trace = play(policy, [Step(0.0, Fail()), Outage(0.0, 2.5)], on=on)
    (call,) = trace.calls
    assert [attempt.began for attempt in call.attempts] == [0, 1, 2, 3]
    assert call.how == "answered"
    trace.check()


@ON
def test_the_same_script_gives_the_same_trace(on: Any) -> None:
    stack = pipeline(
        retry("retry", on=ConnectionError), breaker("breaker", consecutive_failures=2, cooldown=1)
    )
    script = [Step(n / 4, Fail(0.125)) for n in range(40)]
    first, second = (play(stack, script, on=on) for _ in range(2))
    assert str(first) == str(second)
    assert str(first) != str(play(stack, script, on=on, seed=1))
    assert [move.new for move in first.transitions][:2] == ["open", "half_open"]
    assert "breaker: closed -> open (failure_rate)" in str(first)


def test_a_call_that_waits_for_ever_is_hung() -> None:
    with virtual_time() as time:
        place = bulkhead(1, queue=5)
        held = place.admit()  # by nobody of the script; playing renews it
        trace = play(place, [Step(0.0, Answer(1.0)), Step(0.5)])
        held.close()
        assert time.now() >= 1
    trace.check()


@pytest.mark.parametrize("on", ["asyncio", "threads"])
def test_what_nobody_wakes_is_found(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BulkheadCore, "release", lambda _: None)
    trace = play(bulkhead(1, queue=5), [Step(0.0, Answer(1.0)), Step(0.5)], on=on)
    assert [call.how for call in trace.calls] == ["answered", "hung"]
    with pytest.raises(LawBroken, match=r"^F9: the call that began at 0.5 s waits for ever"):
        trace.check()


def test_a_loop_that_runs_already_is_refused() -> None:
    async def test() -> None:
        play(timeout(1), [Step(0.0)])

    with virtual_time() as time, pytest.raises(RuntimeError, match="write this test as `def`"):
        time.run(test)


# Laws.


def broken(trace: Trace) -> str:
    with pytest.raises(LawBroken) as caught:
        trace.check()
    assert str(caught.value).startswith(f"{caught.value.law}: ")
    return caught.value.law


SLOW = [Step(n / 4, Answer(1.0), key="A-17") for n in range(12)]
DOWN = [Step(n / 4, Fail(0.125), key="A-17") for n in range(40)]

RECOVERS = [*[Step(0.0, Fail())] * 3, Step(3.0, Answer(1.0)), Step(3.25, Answer(1.0))]


def settings_of(policy: Any, **changes: Any) -> None:
    """Make a policy say that it was told otherwise than it was."""
    settings = policy._settings
    if policy.kind == "breaker":
        changes = {"config": settings.config._replace(**changes)}
    policy._settings = settings._replace(**changes)


def rejection(trace: Trace, retry_after: float | None) -> None:
    """Let the first rejection have said something else."""
    visit = next(visit for visit in trace.passages[0].visits if not visit.runs)
    visit.error = CircuitOpen(trace.passages[0].policy.name, retry_after, "open")


def pretend(trace: Trace, nth: slice) -> None:
    """Let runs have returned, and their calls too."""
    for visit in trace.passages[0].visits[nth]:
        for one in (visit, *visit.runs):
            one.error = None if visit.runs else one.error


def later(trace: Trace) -> None:
    """Let the first rejection have asked for a longer wait."""
    run = next(
        run for visit in trace.passages[0].visits for run in visit.runs if len(visit.runs) > 1
    )
    run.error = CircuitOpen("dependency", 99.0, "open")


def limited(trace: Trace) -> None:
    """Let a timeout around it have cut the run."""
    trace.passages[0].outer = ("timeout",)
    trace.passages[0].visits[0].cancel_at = 9.0


def overlap(trace: Trace) -> None:
    runs = [run for visit in trace.passages[0].visits for run in visit.runs]
    runs[0].ended = 1e3


CASES: list[tuple[str, Callable[[], Any], list[Any], Callable[[Any, Trace], Any]]] = [
    ("B3", lambda: breaker(consecutive_failures=3), DOWN,
     lambda p, t: settings_of(p, consecutive_failures=4)),
    ("B5", lambda: breaker(consecutive_failures=3, cooldown=2), DOWN,
     lambda p, t: rejection(t, None)),
    ("B8", lambda: breaker(consecutive_failures=3, cooldown=2), DOWN,
     lambda p, t: rejection(t, 9.0)),
    ("B6", lambda: breaker(consecutive_failures=3, cooldown=2, probes=2), RECOVERS,
     lambda p, t: settings_of(p, probes=1)),
    ("B2", lambda: breaker(), DOWN, lambda p, t: pretend(t, slice(1))),
    ("B9", lambda: breaker(), [Step(0.0, Hang(), cancel=1.0)], lambda p, t: limited(t)),
    ("R1", lambda: retry(on=ConnectionError, wait=1), DOWN,
     lambda p, t: settings_of(p, attempts=1)),
    ("R5", lambda: retry(on=ConnectionError, wait=1), DOWN,
     lambda p, t: settings_of(p, within=0.5)),
    ("R6", lambda: pipeline(retry(on=CircuitOpen, wait=1), breaker(consecutive_failures=1)),
     [*[Step(0.0, Fail())] * 2], lambda p, t: later(t)),
    ("R4", lambda: retry(on=ConnectionError, wait=1), DOWN,
     lambda p, t: t.events.extend(t.events * 9)),
    ("D2", lambda: timeout(0.5), SLOW, lambda p, t: setattr(p, "_seconds", 0.25)),
    ("D3", lambda: timeout(0.5), SLOW, lambda p, t: setattr(
        t.passages[0].visits[0].runs[0], "error", None)),
    ("L1", lambda: bulkhead(2, queue=20), SLOW, lambda p, t: setattr(p, "_limit", 1)),
    ("L3", lambda: bulkhead(2), SLOW, lambda p, t: setattr(p, "_limit", 5)),
    ("L4", lambda: rate_limit(2, max_wait=60), DOWN, lambda p, t: setattr(
        p, "_config", dataclasses.replace(p._config, burst=1))),
    ("L5", lambda: rate_limit(1, max_wait=60), DOWN, lambda p, t: setattr(p, "_max_wait", 1.0)),
    ("L9", lambda: adaptive_limit(initial=1, max=1), SLOW, lambda p, t: setattr(
        p, "_config", p._config._replace(min=3))),
    ("L8", lambda: throttle(minimum=2, k=1.0), DOWN, lambda p, t: pretend(t, slice(None))),
    ("H1", lambda: hedge(0.25, budget=None), SLOW, lambda p, t: setattr(p, "_max", 0)),
    ("F8", lambda: fallback(default=0), SLOW, lambda p, t: setattr(
        t.passages[0].visits[3], "result", 0)),
    ("F8", lambda: timeout(5), SLOW, lambda p, t: setattr(
        t.passages[0].visits[3], "result", 0)),
    ("F8", lambda: bulkhead(9), DOWN, lambda p, t: setattr(
        t.passages[0].visits[3], "error", KeyError())),
    ("F3", lambda: bulkhead(9), DOWN, lambda p, t: setattr(
        t.passages[0].visits[3], "error", CircuitOpen(p.name, 1.0, "full"))),
    ("F9", lambda: bulkhead(9), [Step(0.0, Hang(), cancel=1.0)], lambda p, t: setattr(
        t.passages[0].visits[0], "error", None)),
    ("F9", lambda: bulkhead(9), [Step(0.0, Hang(), cancel=1.0)], lambda p, t: setattr(
        t.calls[0], "ended", 2.0)),
    ("F9", lambda: bulkhead(9), [Step(0.0, Hang(), cancel=1.0)], lambda p, t: setattr(
        t.calls[0], "ended", 0.5)),
    ("S1", lambda: singleflight(), SLOW, lambda p, t: overlap(t)),
    ("S2", lambda: singleflight(), SLOW, lambda p, t: setattr(
        t.passages[0].visits[-1], "result", 0)),
    ("C7", lambda: cache(60), SLOW, lambda p, t: setattr(t.passages[0].visits[-1], "result", 0)),
    ("C4", lambda: cache(60), SLOW, lambda p, t: setattr(
        p, "_settings", p._settings._replace(config=p._settings.config._replace(ttl=0.25)))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("law", "make", "script", "tamper"),
    CASES,
    ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)],
)
def test_a_broken_law_is_named(law: str, make: Any, script: Any, tamper: Any) -> None:
    policy = make()
    trace = play(policy, script)
    trace.check()
    tamper(policy, trace)
    assert broken(trace) == law


STACKS: dict[str, Callable[[], Any]] = {
    "breaker": lambda: breaker(consecutive_failures=2, cooldown=2, key="key"),
    "bulkhead": lambda: bulkhead(1, queue=1, key="key"),
    "rate_limit": lambda: rate_limit(1, max_wait=2, key="key"),
    "adaptive_limit": lambda: adaptive_limit(initial=2, queue=2, key="key"),
    "throttle": lambda: throttle(minimum=2, key="key"),
    "cache": lambda: cache(2, stale=4, refresh_ahead=1),
    "protect": lambda: protect("all", on=ConnectionError, timeout=1),
    "pipeline": lambda: pipeline(
        fallback(default=0),
        singleflight("flight"),
        hedge(0.5),
        retry("retry", on=(ConnectionError, CircuitOpen), wait=0.5),
        breaker("breaker", consecutive_failures=2, cooldown=2),
    ),
}


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
@settings(max_examples=20)
@given(script=outcomes(keys=["A-17", "B-2"]) | outages(lasts=20, keys=["A-17", "B-2"]))
def test_what_is_not_broken_breaks_no_law(make: Any, script: Any) -> None:
    play(make(), script).check()


# The machine.


def test_a_machine_needs_a_breaker_without_keys() -> None:
    with pytest.raises(NotImplementedError, match=r"from make\(\)"):
        BreakerMachine()

    class Keyed(BreakerMachine):
        def make(self) -> Breaker:
            return breaker(key="tenant")

    with pytest.raises(TypeError, match="a breaker without key="):
        Keyed()


def test_a_machine_names_the_rule_that_a_breaker_breaks() -> None:
    class Payments(BreakerMachine):
        def make(self) -> Breaker:
            return breaker(consecutive_failures=2, cooldown=5)

    machine = Payments()
    machine.whole_calls(["raises", "raises"])
    machine.breaker._states.only.reset(0.0, 0.0, BreakerState.CLOSED)
    with pytest.raises(LawBroken, match=r"^B12: stats\(\)"):
        machine.what_is_seen_is_what_was()
    with pytest.raises(LawBroken, match=r"^B5: a call was let through while open"):
        machine.begin()
    machine.teardown()


# What it needs.


def test_only_the_scripts_need_hypothesis() -> None:
    code = (
        "import sys\n"
        "import resilient.testing\n"
        "assert 'hypothesis' not in sys.modules\n"
        "sys.modules['hypothesis'] = None\n"
        "try: import resilient.testing.scripts\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "resilient.testing.scripts needs hypothesis: pip install hypothesis"
    )


STEADY = [Step(n * 0.5) for n in range(40)]
BAD = Answer(0, "bad")


def is_bad(result: object) -> bool:
    return result == "bad"


@pytest.mark.parametrize(
    ("policy", "script"),
    [
        (lambda: protect("p", on=ConnectionError, timeout=1), [Outage(0, 60), *STEADY]),
        (lambda: throttle(on_result=is_bad, minimum=3), [Step(0.25 * n, BAD) for n in range(40)]),
        (lambda: breaker(key="key", max_keys=1), [Step(n, key="aba"[n]) for n in range(3)]),
        (
            lambda: rate_limit(1, key="key", max_keys=1),
            [Step(n / 9, key="aba"[n]) for n in range(3)],
        ),
        (lambda: breaker(initial=BreakerState.DISABLED), [Step(0, Fail())]),
        (lambda: breaker(on_result=lambda result: 1 / 0), [Step(0)]),
        (lambda: rate_limit(1, cost=lambda key: 9), [Step(0)]),
    ],
)
def test_what_the_rules_allow_breaks_no_law(policy: Callable[[], Any], script: list[Any]) -> None:
    play(policy(), script).check()


@pytest.mark.parametrize("wrong", [Fail, "down", None])
def test_an_outage_of_nothing_is_refused(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"outcome must be Answer\(\.\.\.\), Fail\(\.\.\.\) or Hang\(\)"
    ):
        Outage(0, 9, wrong)


@pytest.mark.parametrize("wrong", [UnicodeDecodeError, ExceptionGroup])
def test_an_error_that_a_text_does_not_make_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="made of one text"):
        Fail(0, wrong)

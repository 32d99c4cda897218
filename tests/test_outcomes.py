"""The outcomes benchmark: its service obeys queueing theory, and it reads what it plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.outcomes.__main__ import main
from benchmarks.outcomes.contenders import NEEDS
from benchmarks.outcomes.faults import BEGINS, ENDS, FAULTS, Fault
from benchmarks.outcomes.scenario import SCENARIOS, Run, UserCall, run
from benchmarks.outcomes.service import Condition, DownError, Service, Shape
from benchmarks.outcomes.verdicts import judge, series

from resilient.testing import virtual_time

PAIR = ("protect", "oracle")
FIXED = Shape(workers=2, median=1.0, spread=0.0)


def play(scenario: Callable[[Service], Awaitable[None]], shape: Shape = FIXED) -> None:
    with virtual_time() as time:

        async def go() -> None:
            await scenario(Service(shape, "seed", asyncio.get_running_loop()))

        time.run(go)


def fault(name: str) -> Fault:
    (found,) = (one for one in FAULTS if name in one.name)
    return found


def test_a_service_works_on_as_many_as_it_has_workers_and_in_order() -> None:
    async def scenario(service: Service) -> None:
        loop = asyncio.get_running_loop()
        began, ended = loop.time(), list[tuple[int, float]]()

        async def call(number: int) -> None:
            await service.call(0)
            ended.append((number, loop.time() - began))

        await asyncio.gather(*map(call, range(4)))
        assert ended == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0)]

    play(scenario)


def test_its_queue_holds_one_second_of_work_and_refuses_what_is_more() -> None:
    async def scenario(service: Service) -> None:
        tasks = [asyncio.create_task(service.call(0)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(DownError, match="queue full"):
            await service.call(0)
        await asyncio.gather(*tasks)

    play(scenario)


def test_what_is_queued_is_executed_even_if_the_caller_has_left() -> None:
    async def scenario(service: Service) -> None:
        tasks = [asyncio.create_task(service.call(0)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(5)
        assert (service.executed, service.wasted) == (3, 3)

    play(scenario)


def test_a_service_that_goes_down_answers_none_of_those_it_had() -> None:
    async def scenario(service: Service) -> None:
        task = asyncio.create_task(service.call(0))
        await asyncio.sleep(0.5)
        service.set(Condition(down=True))
        with pytest.raises(DownError, match="reset"):
            await task
        with pytest.raises(DownError, match="refused"):
            await service.call(0)

    play(scenario)


def made(calls: list[UserCall], sent: list[float]) -> Run:
    return Run(SCENARIOS[0], fault("down"), "by hand", 1, calls, sent, wasted=1, executed=4)


def test_a_verdict_counts_what_began_in_the_fault() -> None:
    calls = [UserCall(at / 4, 0, ended=at / 4 + 0.1, good=True) for at in range(4 * 119)]
    for call in calls:
        if BEGINS <= call.began < ENDS + 2.0:
            call.good, call.ended = False, call.began + 0.5
    found = judge(made(calls, [call.began for call in calls if call.good]))
    assert (found.good, found.sent, found.wasted) == (0.0, 0.0, 0.25)
    assert found.back == 2.0
    assert found.doomed_p99 == 0.5
    assert found.late == pytest.approx(-0.5)
    good, sent = series(made(calls, []))
    assert (good[0], good[int(BEGINS / 0.5)], sum(sent)) == (4.0, 0.0, 0.0)


def test_an_outage_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    short = [run(SCENARIOS[0], fault("down"), "protect", seed, 35.0) for seed in (1, 1, 2)]
    shown = [[(call.began, call.ended, call.good) for call in one.calls] for one in short]
    assert shown[0] == shown[1] != shown[2]


def test_protect_reaches_in_an_outage_what_is_asked_of_it() -> None:
    """The quickest of them; `make outcomes` plays all."""
    found = judge(run(SCENARIOS[0], fault("down"), "protect", 1, 70.0))
    for reach in fault("down").reaches:
        assert reach.held(found), (reach, reach.value(found))


@pytest.mark.parametrize("name", ["60 % fail at once", "flapping, 3 s each"])
def test_protect_makes_use_of_a_service_that_serves_now_and_then(name: str) -> None:
    found, best = (judge(run(SCENARIOS[0], fault(name), one, 1, 62.0)) for one in PAIR)
    related = replace(found, of_oracle=found.good / best.good)
    for reach in fault(name).reaches:
        assert reach.held(related), (reach, reach.value(related))


def test_without_a_policy_a_spike_is_never_over_and_with_protect_it_is() -> None:
    """The metastable overload: those who were not served come back, and are the next overload."""
    spike = replace(fault("spike"), total=75.0)
    none, protect = (judge(run(SCENARIOS[0], spike, one, 1)) for one in ("none", "protect"))
    assert none.back >= 39 > protect.back
    assert none.goodput < 0.6 * protect.goodput


def test_the_command_prints_every_fault_and_keeps_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "outcomes.json"
    words = ["--short", "--contenders", "protect,timeout", "--only", "down", "--processes", "1"]
    assert main([*words, "--json", str(kept), "--plot", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "sent per user call" in printed
    assert {row["contender"] for row in json.loads(kept.read_text())} == {"protect", "timeout"}
    assert [path.suffix for path in tmp_path.glob("*.svg")] == [".svg"]


def test_a_peer_that_is_not_installed_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(NEEDS, "hyx", ("no_such_peer",))
    words = ["--short", "--contenders", "timeout,hyx", "--only", "down", "--processes", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "left out: hyx, since no_such_peer is not installed" in printed
    assert "  timeout " in printed
    assert "  hyx " not in printed


def test_a_fault_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "earthquake"])
    assert "there is no such fault" in capsys.readouterr().err

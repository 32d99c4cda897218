"""The table of flights: S1, S2, S3, S4, S5."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from resilient._core.singleflight import Execution, FlightTable

KEYS = st.sampled_from(["a", "b", 1])


class Plan:
    """What the model knows of a run."""

    def __init__(self, run: Execution) -> None:
        self.run, self.limits, self.waiting = run, list[float](), 0
        self.ended = self.cancelled = self.forgotten = False

    @property
    def open(self) -> bool:
        """Whether a newcomer may join."""
        return not (self.ended or self.cancelled or self.forgotten)


class TableMachine(RuleBasedStateMachine):
    waiters: Bundle[Plan] = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.table: FlightTable[Execution] = FlightTable()
        self.plans: list[Plan] = []

    def joinable(self, key: object) -> Plan | None:
        found = [plan for plan in self.plans if plan.run.key == key and plan.open]
        assert len(found) <= 1
        return found[0] if found else None

    @rule(target=waiters, key=KEYS, until=st.sampled_from([1.0, 2.0, 3.0, math.inf]))
    def call(self, key: object, until: float) -> Plan:
        plan, run = self.joinable(key), self.table.find(key)
        assert (run is None) == (plan is None), (
            "a second run of one key, or one that is over was joined"
        )
        if run is None:
            run = Execution(key)
            self.table.begin(run)
            self.plans.append(plan := Plan(run))
        assert plan is not None
        assert plan.run is run
        self.table.join(run, until)
        plan.limits.append(until)
        plan.waiting += 1
        return plan

    @rule(plan=consumes(waiters))
    def leave(self, plan: Plan) -> None:
        if plan.ended:
            return
        plan.waiting -= 1
        assert self.table.leave(plan.run) is (plan.waiting == 0)
        plan.cancelled = plan.waiting == 0

    @rule(plan=consumes(waiters))
    def leave_and_let_it_go_on(self, plan: Plan) -> None:
        if plan.ended:
            return
        plan.waiting -= 1
        assert self.table.leave(plan.run, goes_on=True) is False

    @rule(plan=waiters)
    def end(self, plan: Plan) -> None:
        self.table.end(plan.run)
        plan.ended = True

    @rule(key=KEYS)
    def forget(self, key: object) -> None:
        self.table.forget(key)
        plan = self.joinable(key)
        if plan is not None:
            plan.forgotten = True

    @rule()
    def forget_all(self) -> None:
        self.table.forget_all()
        for plan in self.plans:
            plan.forgotten = True

    @invariant()
    def they_agree(self) -> None:
        living = [plan for plan in self.plans if plan.open]
        assert len(self.table) == len(living)
        assert all(self.table.find(plan.run.key) is plan.run for plan in living)
        assert self.table.flying == {plan.run for plan in self.plans if not plan.ended}
        for plan in self.plans:
            assert plan.run.until == max(plan.limits)
            assert plan.run.waiting == plan.waiting


@pytest.mark.rule("S1", "S2", "S3", "S4", "S5")
def test_it_does_what_the_contract_says_of_every_run() -> None:
    run_state_machine_as_test(
        TableMachine, settings=settings(max_examples=200, stateful_step_count=40)
    )


def begun(key: str = "a", waiters: int = 1) -> tuple[FlightTable[Execution], Execution]:
    table: FlightTable[Execution] = FlightTable()
    run = Execution(key)
    table.begin(run)
    for _ in range(waiters):
        table.join(run, math.inf)
    return table, run


@pytest.mark.rule("S1")
def test_a_key_has_one_run_at_a_time() -> None:
    table, run = begun()
    assert table.find("a") is run
    assert table.find("b") is None
    with pytest.raises(AssertionError):
        table.begin(Execution("a"))


@pytest.mark.rule("S2")
def test_the_key_is_free_once_the_run_has_ended() -> None:
    table, run = begun(waiters=2)
    table.end(run)
    assert (table.find("a"), len(table), table.flying) == (None, 0, set())
    table.begin(Execution("a"))


@pytest.mark.rule("S3")
def test_one_who_leaves_frees_himself_alone() -> None:
    table, run = begun(waiters=2)
    assert table.leave(run) is False
    assert table.find("a") is run


@pytest.mark.rule("S3", "C4")
def test_a_run_that_goes_on_is_joined_by_whoever_comes_next() -> None:
    table, run = begun()
    assert table.leave(run, goes_on=True) is False
    assert table.find("a") is run
    table.join(run, 1.0)
    assert table.leave(run) is True
    assert table.find("a") is None


@pytest.mark.rule("S3")
def test_when_the_last_one_leaves_the_run_is_to_be_cancelled_and_nobody_joins_it() -> None:
    table, run = begun(waiters=2)
    table.leave(run)
    assert table.leave(run) is True
    assert table.find("a") is None
    assert table.flying == {run}  # until it has ended


@pytest.mark.rule("S3")
def test_the_end_of_a_cancelled_run_does_not_remove_the_next_one() -> None:
    table, run = begun()
    table.leave(run)
    other = Execution("a")
    table.begin(other)
    table.end(run)
    assert table.find("a") is other
    assert table.flying == {other}


@pytest.mark.rule("S4")
def test_a_run_may_last_as_long_as_the_latest_of_its_waiters_and_never_less() -> None:
    table, run = begun(waiters=0)
    limits = []
    for until in (2.0, 5.0, 3.0):
        table.join(run, until)
        limits.append(run.until)
    table.leave(run)
    assert limits == [2.0, 5.0, 5.0]
    assert run.until == 5.0


@pytest.mark.rule("S5")
def test_after_forget_a_new_run_begins_and_the_end_of_the_old_one_does_not_remove_it() -> None:
    table, old = begun(waiters=2)
    table.forget("a")
    assert table.find("a") is None
    table.begin(new := Execution("a"))
    assert table.leave(old) is False  # it still serves its waiters
    table.end(old)
    assert table.find("a") is new
    table.forget("a key that nobody has")


@pytest.mark.rule("S5")
def test_forget_all_forgets_every_key_and_ends_no_run() -> None:
    table, run = begun()
    table.begin(other := Execution("b"))
    table.forget_all()
    assert (len(table), table.find("a"), table.find("b")) == (0, None, None)
    assert table.flying == {run, other}


@pytest.mark.rule("S7")
def test_a_run_depends_on_itself_and_on_all_that_it_waits_for_however_far_down() -> None:
    first, second, third = Execution("a"), Execution("b"), Execution("c")
    first.awaits.append(second)
    second.awaits.append(third)
    assert [first.depends_on([run]) for run in (first, second, third)] == [True, True, True]
    assert [third.depends_on([run]) for run in (first, second, third)] == [False, False, True]
    assert first.depends_on([Execution("d"), third])
    assert not first.depends_on([])


@pytest.mark.rule("S7")
@settings(max_examples=200)
@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=10))
def test_a_run_depends_on_what_can_be_reached_also_in_a_circle(edges: set[tuple[int, int]]) -> None:
    runs = [Execution(number) for number in range(5)]
    reach = {(number, number) for number in range(5)} | edges
    for middle in range(5):
        reach |= {(a, d) for a, b in reach for c, d in reach if b == middle == c}
    for one, other in edges:
        runs[one].awaits.append(runs[other])
    for one in range(5):
        for other in range(5):
            assert runs[one].depends_on([runs[other]]) is ((one, other) in reach)

"""The loop form of a retry: `for attempt in policy:` and `async for`."""

from __future__ import annotations

from typing import Any, Self

import anyio
import pytest
import tenacity
import tenacity.asyncio

from resilient import (
    Deadline,
    DeadlineExceeded,
    RetryBudget,
    current_deadline,
    deadline,
    remaining,
    retry,
)
from resilient._core.deadline import Life
from resilient._policies.retry.attempts import Attempt
from resilient.events import RetryGaveUp, RetryScheduled
from resilient.testing import record, virtual_time
from tests.worlds import World, world_named

pytestmark = pytest.mark.loop

VIRTUAL = ("asyncio", "trio", "threads")


@pytest.fixture(params=VIRTUAL)
def exact(request: pytest.FixtureRequest) -> Any:
    """The worlds whose time is virtual: there instants are exact."""
    with world_named(request.param) as one:
        yield one


class attempts:  # noqa: N801  # reads as the loop it stands for
    """The attempts of *policy*, in the form of this world."""

    def __init__(self, w: World, policy: Any) -> None:
        self.is_async, self.loop = w.is_async, aiter(policy) if w.is_async else iter(policy)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        if self.is_async:
            return await anext(self.loop)
        for attempt in self.loop:
            return attempt  # type: ignore[no-any-return]
        raise StopAsyncIteration


def notes(error: object) -> list[str]:
    return getattr(error, "__notes__", [])


@pytest.mark.rule("R10")
def test_a_loop_repeats_the_block_until_it_succeeds(exact: World) -> None:
    async def scenario(w: World) -> None:
        seen: list[tuple[int, float, float, BaseException | None]] = []
        raised = [ValueError(1), ValueError(2)]
        policy = retry(on=ValueError, wait=lambda n, _: n, attempts=4)
        result = None
        async for attempt in attempts(w, policy):
            with attempt:
                seen.append((attempt.number, w.now(), attempt.waited, attempt.last_error))
                if attempt.number < 3:
                    raise raised[attempt.number - 1]
                result = "good"
        assert result == "good"
        assert seen == [(1, 0, 0, None), (2, 1, 1, raised[0]), (3, 3, 2, raised[1])]
        stats = policy.stats()
        assert (stats.calls, stats.attempts, stats.recovered) == (1, 3, 1)

    exact.run(scenario)


@pytest.mark.rule("R10", "R7")
def test_a_loop_gives_up_with_the_last_error_and_its_note(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry("db", on=ValueError, wait=2)
        raised: list[ValueError] = []
        with record(RetryScheduled, RetryGaveUp) as events, pytest.raises(ValueError) as caught:
            async for attempt in attempts(w, policy):
                with attempt:
                    raised.append(ValueError(attempt.number))
                    raise raised[-1]
        assert caught.value is raised[2]
        (note,) = notes(caught.value)
        assert note.startswith("db: gave up after 3 attempts in 4 s")
        assert [type(event).__name__ for event in events] == ["RetryScheduled"] * 2 + [
            "RetryGaveUp"
        ]
        assert policy.stats().gave_up["attempts"] == 1

    exact.run(scenario)


@pytest.mark.rule("R10", "R2")
def test_in_a_loop_an_error_that_is_not_retryable_passes(world: World) -> None:
    async def scenario(w: World) -> None:
        error, count = KeyError("mine"), 0
        policy = retry(on=ValueError, wait=0)
        with pytest.raises(KeyError) as caught:
            async for attempt in attempts(w, policy):
                with attempt:
                    count += 1
                    raise error
        assert (caught.value, count, notes(error)) == (error, 1, [])
        assert policy.stats().gave_up["not_retryable"] == 1

    world.run(scenario)


@pytest.mark.rule("R10", "R8")
def test_again_makes_a_block_an_unwanted_result(exact: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=1)
        times, errors = [], []
        async for attempt in attempts(w, policy):
            with attempt:
                times.append(w.now())
                errors.append(attempt.last_error)
                if attempt.number == 1:
                    raise ValueError
                attempt.again()
        assert times == [0, 1, 2], "and in the end the loop ends without an error"
        assert isinstance(errors[1], ValueError)
        assert errors[2] is None, "after an unwanted result there is none"
        assert policy.stats().gave_up["attempts"] == 1
        assert policy.stats().recovered == 0

    exact.run(scenario)


@pytest.mark.rule("R10")
def test_again_in_a_block_that_raises_changes_nothing(world: World) -> None:
    async def scenario(w: World) -> None:
        with pytest.raises(KeyError):
            async for attempt in attempts(w, retry(on=ValueError, wait=0)):
                with attempt:
                    attempt.again()
                    raise KeyError

    world.run(scenario)


@pytest.mark.rule("R10")
def test_a_loop_may_be_left_and_begun_again(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=0)
        for _ in range(2):
            numbers = []
            async for attempt in attempts(w, policy):
                with attempt:
                    numbers.append(attempt.number)
                    if attempt.number == 2:
                        break
                    raise ValueError
            assert numbers == [1, 2]
        assert policy.stats().calls == 2

    world.run(scenario)


@pytest.mark.rule("R10")
def test_a_return_from_the_block_ends_the_loop(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=0)

        async def find() -> object:
            async for attempt in attempts(w, policy):
                with attempt:
                    if attempt.number == 1:
                        raise ValueError
                    return "found"
            pytest.fail("beyond the loop")

        assert await find() == "found"
        assert policy.stats().recovered == 1

    world.run(scenario)


@pytest.mark.rule("R10")
def test_an_attempt_without_its_with_is_misuse() -> None:
    for attempt in retry(on=ValueError, wait=0):
        assert attempt.number == 1
        break
    with pytest.raises(RuntimeError, match="with attempt"):
        for _ in retry(on=ValueError, wait=0):
            pass


@pytest.mark.rule("R10")
def test_an_attempt_is_entered_once_and_in_its_turn() -> None:
    with virtual_time():
        kept: list[Attempt] = []
        for attempt in retry(on=ValueError, wait=0):
            kept.append(attempt)
            with attempt:
                with pytest.raises(RuntimeError, match="once"):
                    attempt.__enter__()
                if attempt.number == 1:
                    raise ValueError
                with pytest.raises(RuntimeError, match="once"):
                    kept[0].__enter__()
        with pytest.raises(RuntimeError, match="once"):
            kept[1].__enter__()


@pytest.mark.rule("R10", "F9")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_leave_the_loop_at_once(world: World, kind: type[BaseException]) -> None:
    async def scenario(w: World) -> None:
        policy, count = retry(on=lambda _: True, wait=0), 0
        try:
            async for attempt in attempts(w, policy):
                with attempt:
                    count += 1
                    raise kind
        except kind:
            pass
        else:
            pytest.fail("swallowed")
        assert count == 1
        assert policy.stats().gave_up == dict.fromkeys(policy.stats().gave_up, 0)

    world.run(scenario)


@pytest.mark.rule("R10", "R5")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_in_a_loop_within_is_over_all_attempts_and_interrupts_one(name: str) -> None:
    async def scenario(w: World) -> None:
        policy = retry("db", on=ValueError, wait=1, within=5, attempts=None, budget=None)
        first, lefts = ValueError("first"), []
        with pytest.raises(DeadlineExceeded) as caught:
            async for attempt in policy:
                with attempt:
                    lefts.append(remaining())
                    if attempt.number == 1:
                        raise first
                    await w.sleep(60)
        assert caught.value.__cause__ is first
        assert (caught.value.policy, caught.value.seconds, caught.value.started) == ("db", 5, True)
        assert caught.value.elapsed == pytest.approx(5)
        assert lefts == pytest.approx([5, 4])
        assert w.now() == pytest.approx(5)
        assert current_deadline() is None

    with world_named(name) as world:
        world.run(scenario)


@pytest.mark.rule("R10", "R5")
def test_in_a_loop_a_wait_beyond_within_or_the_deadline_gives_up(exact: World) -> None:
    async def scenario(w: World) -> None:
        for around, within in ((None, 4.5), (4.5, None), (4.5, 100)):
            policy = retry(on=ValueError, wait=2, within=within, attempts=9, budget=None)
            count, began = 0, w.now()
            with deadline(around), pytest.raises(ValueError) as caught:
                async for attempt in attempts(w, policy):
                    with attempt:
                        count += 1
                        raise ValueError
            assert (count, w.now() - began) == (3, pytest.approx(4))  # type: ignore[comparison-overlap]  # approx() is no float to mypy
            assert "deadline" in notes(caught.value)[0]

    exact.run(scenario)


@pytest.mark.rule("R10", "D5")
def test_with_nothing_left_a_loop_does_not_begin(world: World) -> None:
    async def scenario(w: World) -> None:
        limit = deadline(1)
        if w.name == "uvloop":
            limit = Deadline._of_life(Life.PARTLY_SPENT, 3600, "spent", 3599.9999)
        policy = retry(on=ValueError)
        with limit:
            if w.name == "uvloop":
                while not limit.expired:
                    pass
            else:
                w.time.advance(1)  # type: ignore[attr-defined]
            with pytest.raises(DeadlineExceeded) as caught:
                async for attempt in attempts(w, policy):
                    pytest.fail(f"attempt {attempt.number}")
            assert not caught.value.started
        assert policy.stats().calls == 0

    world.run(scenario)


@pytest.mark.rule("R10", "R4")
def test_a_loop_pays_from_the_same_budget(exact: World) -> None:
    async def scenario(w: World) -> None:
        budget = RetryBudget(ratio=0.5, per_second=0.1)
        policy = retry(on=ValueError, wait=0, attempts=9, budget=budget)
        count = 0
        with pytest.raises(ValueError) as caught:
            async for attempt in attempts(w, policy):
                with attempt:
                    count += 1
                    raise ValueError
        assert count == 2
        assert "budget" in notes(caught.value)[0]
        assert budget.left == pytest.approx(0.5)

    exact.run(scenario)


@pytest.mark.rule("R10")
def test_loops_of_one_policy_at_once_share_nothing(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = retry(on=ValueError, wait=lambda n, _: 0.1 * n * w.unit, attempts=6, budget=None)

        async def one(failures: int) -> int:
            async for attempt in policy:
                with attempt:
                    await w.sleep(0.05)
                    if attempt.number <= failures:
                        raise ValueError
                    return attempt.number
            return 0

        assert await w.together(*((lambda n=n: one(n)) for n in (3, 0, 5, 1))) == [4, 1, 6, 2]

    async_world.run(scenario)


@pytest.mark.rule("R10", "R3")
def test_in_a_loop_strategies_of_tenacity_work_but_for_the_async_ones() -> None:
    with virtual_time() as time:
        times = []
        policy = retry(
            on=tenacity.retry_if_exception_type(ValueError),
            wait=tenacity.wait_fixed(2),
            stop=tenacity.stop_after_attempt(3),
        )
        with pytest.raises(ValueError):
            for attempt in policy:
                with attempt:
                    times.append(time.now())
                    raise ValueError
        assert times == [0, 2, 4]
        asynchronous = retry(on=tenacity.asyncio.retry_if_exception(lambda _: True))  # type: ignore[arg-type, return-value]  # never asked
        for iterate in (iter, aiter):
            with pytest.raises(TypeError, match=r"tenacity\.asyncio"):
                iterate(asynchronous)


@pytest.mark.rule("R10", "R4")
def test_a_keyed_policy_has_no_loop_form() -> None:
    with pytest.raises(TypeError, match="key="):
        iter(retry(on=ValueError, key="tenant"))


@pytest.mark.rule("R10", "R9")
def test_cancelling_the_wait_of_a_loop_ends_it(async_world: World) -> None:
    async def scenario(w: World) -> None:
        count = 0
        with anyio.move_on_after(0.5 * w.unit) as scope:
            async for attempt in retry(on=ValueError, wait=900 * w.unit):
                with attempt:
                    count += 1
                    raise ValueError
        assert scope.cancelled_caught
        assert count == 1

    async_world.run(scenario)


@pytest.mark.rule("R10", "F11")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_deadline_that_cuts_the_wait_of_a_loop_is_not_started(name: str) -> None:
    async def scenario(w: World) -> None:
        first = ValueError("first")
        seen: list[DeadlineExceeded] = []
        async with anyio.create_task_group() as group:
            try:
                async with deadline(90, name="outer") as outer:

                    async def shorten() -> None:
                        await w.sleep(1)
                        outer.reschedule(1)

                    group.start_soon(shorten)
                    async for attempt in retry("db", on=ValueError, wait=50):
                        with attempt:
                            raise first
            except DeadlineExceeded as error:
                seen.append(error)
        (only,) = seen
        assert (only.policy, only.started, w.now()) == ("db", False, pytest.approx(2))  # type: ignore[comparison-overlap]  # approx() is no float to mypy
        assert only.__cause__ is first

    with world_named(name) as world:
        world.run(scenario)

"""A breaker that opened between two attempts hid the error that it opened for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import tenacity.asyncio

from resilient import CircuitOpen, DeadlineExceeded, Rejected, breaker, deadline, retry, timeout
from resilient.testing import virtual_time
from tests.worlds import World

FORMS = ("decorated", "call", "loop", "key", "within", "tenacity", "tenacity.asyncio")
BUSY = ConnectionError("busy")


EXTRA: dict[str, dict[str, Any]] = {"key": {"key": lambda: 1}, "within": {"within": 1e6}}


async def yes(_: BaseException) -> bool:
    return True


def policy_of(form: str) -> Any:
    if form.startswith("tenacity"):
        found: Any = tenacity.retry_if_exception_type(Exception)
        if form == "tenacity.asyncio":
            found = tenacity.asyncio.retry_if_exception(yes)
        return retry(on=found, attempts=4, wait=0, budget=None)
    extra = EXTRA.get(form, {})
    return retry(on=(ConnectionError,), attempts=4, wait=0, budget=None, **extra)


async def outcome(w: World, policy: Any, form: str, fn: Callable[[], Any]) -> BaseException:
    """What a caller of *fn* gets under *policy*."""
    guarded = w.function(fn)
    try:
        if form == "loop":
            if w.is_async:
                async for attempt in policy:
                    with attempt:
                        await guarded()
            else:
                for attempt in policy:
                    with attempt:
                        guarded()
        elif form == "call":
            await w.call(policy.call, guarded)
        else:
            await w.call(policy(guarded))
    except Exception as error:
        return error
    raise AssertionError("it succeeded")


def chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None:
        assert error not in links, "a circle"
        links.append(error)
        error = error.__context__
    return links


def skip_if_it_cannot_be(form: str, w: World) -> None:
    if form == "tenacity.asyncio" and not w.is_async:
        pytest.skip("a sync function can't await it")


def opened() -> Callable[[], None]:
    """Fails once, and opens the breaker around it: then the next attempt is rejected."""

    def busy() -> None:
        raise ConnectionError("busy")

    return breaker("db", consecutive_failures=1, cooldown=1e6)(busy)


def late(w: World) -> Callable[[], Any]:
    """Fails once, and leaves no time for a policy inside the next attempt."""
    inner = timeout(0.0)

    calls: list[int] = []

    def fn() -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("busy")
        return w.call(inner(w.function(lambda: None)))

    return fn


@pytest.mark.rule("R7")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("why", ["rejected", "late"])
def test_a_rejection_that_ends_the_attempts_has_the_real_error_behind_it(
    world: World, form: str, why: str
) -> None:
    async def scenario(w: World) -> None:
        skip_if_it_cannot_be(form, w)
        policy = policy_of(form)
        error = await outcome(w, policy, form, opened() if why == "rejected" else late(w))
        assert isinstance(error, CircuitOpen if why == "rejected" else DeadlineExceeded)
        assert [type(one) for one in chain(error)[1:]] == [ConnectionError]
        assert not hasattr(error, "__notes__")
        assert error.__cause__ is None
        stats = policy.stats()
        assert (stats.calls, stats.retries, stats.gave_up["not_retryable"]) == (1, 1, 1)

    world.run(scenario)


@pytest.mark.rule("R7", "F8")
@pytest.mark.parametrize("form", FORMS)
def test_what_the_caller_handles_changes_nothing(world: World, form: str) -> None:
    """``raise`` puts what the caller handles into the place of a context that is there."""

    async def scenario(w: World) -> None:
        skip_if_it_cannot_be(form, w)
        handled, root = LookupError("the caller's"), OSError("root")
        try:
            raise handled
        except LookupError:
            error = await outcome(w, policy_of(form), form, opened())
            assert [type(one) for one in chain(error)] == [
                CircuitOpen,
                ConnectionError,
                LookupError,
            ]

            def fails() -> None:
                try:
                    raise root
                except OSError:
                    raise KeyError from None

            error = await outcome(w, policy_of("call"), "call", fails)
            assert chain(error)[1:] == [root, handled]
        assert chain(handled) == [handled]

    world.run(scenario)


@pytest.mark.rule("R2", "R7")
@pytest.mark.parametrize("form", ["decorated", "call", "loop", "key", "within"])
def test_repeated_rejections_do_not_pile_up(world: World, form: str) -> None:
    async def scenario(w: World) -> None:
        answers: list[Exception] = [
            ConnectionError("busy"), *(CircuitOpen("db", 0.0, "open") for _ in range(5))
        ]  # fmt: skip
        last, first = answers[-1], answers[0]

        def fn() -> None:
            raise answers.pop(0)

        extra = EXTRA.get(form, {})
        policy = retry(on=(ConnectionError, Rejected), attempts=6, wait=0, budget=None, **extra)
        assert await outcome(w, policy, form, fn) is last
        assert chain(last) == [last, first]

    world.run(scenario)


@pytest.mark.rule("R7")
@pytest.mark.parametrize("form", FORMS)
def test_a_chain_that_is_there_stays(world: World, form: str) -> None:
    async def scenario(w: World) -> None:
        skip_if_it_cannot_be(form, w)
        real, own, rejected = ConnectionError("real"), OSError("own"), CircuitOpen("db")
        calls: list[int] = []

        def fn() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise real
            try:
                raise own
            except OSError:
                raise rejected  # noqa: B904  # its context is wanted

        assert await outcome(w, policy_of(form), form, fn) is rejected
        assert chain(rejected) == [rejected, own, real]

    world.run(scenario)


@pytest.mark.rule("R7")
@pytest.mark.parametrize("form", ["decorated", "loop", "key", "within"])
def test_an_outer_deadline_that_passed_has_the_real_error_behind_it(form: str) -> None:
    """In plain threads: a policy inside the second attempt finds that no time is left."""
    inner = retry(on=ConnectionError, budget=None).call
    with virtual_time() as time:
        attempts: list[int] = []

        def fn() -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise BUSY
            time.advance(2.0)
            inner(fn)

        policy = policy_of(form)
        with deadline(1.0), pytest.raises(DeadlineExceeded) as caught:
            if form == "loop":
                for attempt in policy:
                    with attempt:
                        fn()
            else:
                policy.call(fn)
        assert not caught.value.started
        assert chain(caught.value)[1:] == [BUSY]
    BUSY.__context__ = None


@pytest.mark.rule("R7", "R10")
def test_time_that_goes_by_before_a_block_leaves_the_error_behind_it() -> None:
    with virtual_time() as time:
        policy = retry(on=ConnectionError, wait=0, within=1e6, budget=None)
        with deadline(1.0), pytest.raises(DeadlineExceeded) as caught:
            for attempt in policy:
                if attempt.number > 1:
                    time.advance(2.0)
                with attempt:
                    raise BUSY
        assert not caught.value.started
        assert chain(caught.value)[1:] == [BUSY]
    BUSY.__context__ = None

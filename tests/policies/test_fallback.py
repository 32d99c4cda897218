"""Fallback in every world: when it is used, what it gives, and what it never touches."""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    FallbackStats,
    breaker,
    bulkhead,
    deadline,
    fallback,
    hedge,
    retry,
    timeout,
)
from resilient.events import FallbackUsed
from resilient.testing import fresh, record
from tests.worlds import World


def raising(w: World, error: BaseException) -> Callable[..., Any]:
    """A function of this world that raises *error*."""

    def body(*args: object, **kwargs: object) -> object:
        raise error

    return w.function(body)


# C1: for which errors.


@pytest.mark.rule("C1", "F8")
def test_without_an_error_it_gives_the_functions_own_result(world: World) -> None:
    async def scenario(w: World) -> None:
        value = object()
        policy = fallback(default="instead", name="f")
        assert await w.call(policy(w.function(lambda: value))) is value
        assert await w.call(policy(w.function(lambda: None))) is None
        assert policy.stats() == FallbackStats("f", 2, 0, 0)

    world.run(scenario)


@pytest.mark.rule("C1")
@pytest.mark.parametrize("default", [None, 0, "instead", ["a list"]], ids=repr)
def test_a_default_is_given_the_same_object_each_time(world: World, default: object) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default=default, name="f")
        fn = policy(raising(w, KeyError()))
        for _ in range(2):
            assert await w.call(fn) is default
        assert policy.stats() == FallbackStats("f", 2, 2, 0)

    world.run(scenario)


@pytest.mark.rule("C1")
def test_a_handler_gets_the_error_and_its_result_is_given(world: World) -> None:
    async def scenario(w: World) -> None:
        error = KeyError("mine")
        seen: list[Exception] = []

        def handler(error: Exception) -> str:
            seen.append(error)
            return "instead"

        policy = fallback(handler)
        assert await w.call(policy(raising(w, error))) == "instead"
        assert seen == [error]
        assert seen[0] is error

    world.run(scenario)


@pytest.mark.rule("C1")
def test_an_async_handler_is_awaited_and_so_is_what_a_plain_one_returns(
    async_world: World,
) -> None:
    async def scenario(w: World) -> None:
        async def handler(error: Exception) -> str:
            await w.sleep(1)
            return "slowly"

        class Handler:
            async def __call__(self, error: Exception) -> str:
                return "as an object"

        fn = raising(w, KeyError())
        assert await w.call(fallback(handler)(fn)) == "slowly"
        assert await w.call(fallback(lambda error: handler(error))(fn)) == "slowly"
        assert await w.call(fallback(functools.partial(handler))(fn)) == "slowly"
        assert await w.call(fallback(Handler())(fn)) == "as an object"

    async_world.run(scenario)


@pytest.mark.rule("C1", "F8")
def test_an_error_that_is_not_in_on_passes_untouched(world: World) -> None:
    async def scenario(w: World) -> None:
        error = KeyError()
        policy = fallback(default=5, on=(ConnectionError, lambda error: "transient" in str(error)))
        with pytest.raises(KeyError) as caught:
            await w.call(policy(raising(w, error)))
        assert caught.value is error
        assert error.__cause__ is error.__context__ is None
        assert not getattr(error, "__notes__", [])
        assert await w.call(policy(raising(w, ConnectionResetError()))) == 5
        assert await w.call(policy(raising(w, ValueError("transient")))) == 5
        assert (policy.stats().calls, policy.stats().used) == (3, 2)

    world.run(scenario)


@pytest.mark.rule("C1", "F12")
def test_on_looks_inside_groups(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default=5, on=ConnectionError)
        group = ExceptionGroup("some", [KeyError(), ExceptionGroup("more", [ConnectionError()])])
        assert await w.call(policy(raising(w, group))) == 5
        with pytest.raises(ExceptionGroup):
            await w.call(policy(raising(w, ExceptionGroup("others", [KeyError()]))))

    world.run(scenario)


@pytest.mark.rule("C1", "F12")
def test_a_predicate_that_raises_is_logged_once_and_the_error_passes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def on(error: Exception) -> bool:
            raise RuntimeError("broken")

        policy = fallback(default=5, on=on)
        for _ in range(2):
            with pytest.raises(KeyError):
                await w.call(policy(raising(w, KeyError())))

    world.run(scenario)
    assert len([row for row in caplog.records if row.levelno >= logging.ERROR]) == 1


class Exit(BaseException):
    """One of the caller's own."""


@pytest.mark.rule("C1", "F9")
@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(), SystemExit(), GeneratorExit(), Exit(), asyncio.CancelledError(),
        BaseExceptionGroup("of an exit", [KeyError(), Exit()]),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_it_is_never_for_exits_and_cancellations(world: World, error: BaseException) -> None:
    async def scenario(w: World) -> None:
        handled: list[object] = []
        for policy in (
            fallback(default=5),
            fallback(handled.append),
            fallback(handled.append, on=(Exception, lambda error: True)),
        ):
            with pytest.raises(type(error)) as caught:
                await w.call(policy(raising(w, error)))
            assert caught.value is error
            assert (policy.stats().calls, policy.stats().used) == (1, 0)
        assert handled == []

    world.run(scenario)


@pytest.mark.rule("C1", "F9")
def test_a_caller_that_is_cancelled_gets_no_fallback(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default=5)
        got: list[object] = []
        with anyio.move_on_after(1 * w.unit) as scope:
            got.append(await policy(anyio.sleep_forever)())
        assert scope.cancelled_caught
        with pytest.raises(DeadlineExceeded):
            async with deadline(1 * w.unit):
                got.append(await policy(anyio.sleep_forever)())
        assert got == []
        assert policy.stats().used == 0

    async_world.run(scenario)


@pytest.mark.rule("C1", "F9")
def test_a_handler_that_is_cancelled_is_cancelled(async_world: World) -> None:
    async def scenario(w: World) -> None:
        async def handler(error: Exception) -> None:
            await anyio.sleep_forever()

        policy = fallback(handler, name="f")
        with anyio.move_on_after(1 * w.unit) as scope:
            await w.call(policy(raising(w, KeyError())))
        assert scope.cancelled_caught
        assert policy.stats() == FallbackStats("f", 1, 1, 0)

    async_world.run(scenario)


@pytest.mark.rule("C1", "F1")
def test_a_function_decorated_the_wrong_way_is_seen_and_not_covered_up() -> None:
    async def get() -> int:
        return 5

    def wrong() -> object:
        return get()

    policy = fallback(default=5, on=TypeError)
    for outer in (policy, fallback(lambda error: 5)):
        with pytest.raises(TypeError, match="async def"):
            outer(wrong)()
        with pytest.raises(TypeError, match="async def"):
            outer(retry(on=KeyError)(wrong))()
    assert policy.stats().used == 0

    async def calls_it() -> object:
        return retry(on=KeyError)(wrong)()

    with pytest.raises(TypeError, match="async def"):
        asyncio.run(policy(calls_it)())


@pytest.mark.rule("C1")
def test_it_is_for_rejections_and_passed_limits_of_policies_inside(world: World) -> None:
    async def scenario(w: World) -> None:
        fuse = breaker()
        fuse.force_open()
        none = bulkhead(1)
        seen: list[type] = []
        policy = fallback(lambda error: seen.append(type(error)))
        with none:
            for inner in (fuse, none, timeout(0)):
                await w.call(policy(inner(w.function(lambda: 5))))
        assert seen == [CircuitOpen, BulkheadFull, DeadlineExceeded]

    world.run(scenario)


@pytest.mark.rule("C1")
def test_around_a_hedge_it_is_for_the_first_attempts_error(async_world: World) -> None:
    async def scenario(w: World) -> None:
        errors = iter([KeyError("first"), KeyError("second")])

        async def fn() -> None:
            raise next(errors)

        policy = fallback(str)
        assert await policy(hedge(9, budget=None)(fn))() == "'first'"

    async_world.run(scenario)


# C2: a handler that fails.


@pytest.mark.rule("C2")
def test_if_the_handler_fails_its_error_is_raised_from_the_first(world: World) -> None:
    async def scenario(w: World) -> None:
        first, second = KeyError("first"), ValueError("second")

        def handler(error: Exception) -> None:
            raise second

        policy = fallback(handler, name="f")
        with pytest.raises(ValueError, match="second") as caught:
            await w.call(policy(raising(w, first)))
        assert caught.value is second
        assert second.__cause__ is first
        assert policy.stats() == FallbackStats("f", 1, 1, 1)
        told = "".join(traceback.format_exception(second))
        assert "direct cause" in told
        assert told.count("KeyError: 'first'") == 1

    world.run(scenario)


@pytest.mark.rule("C2")
def test_an_async_handler_that_fails_as_well(async_world: World) -> None:
    async def scenario(w: World) -> None:
        first = KeyError("first")

        async def handler(error: Exception) -> None:
            await w.sleep(1)
            raise ValueError("second")

        policy = fallback(handler)
        with pytest.raises(ValueError, match="second") as caught:
            await w.call(policy(raising(w, first)))
        assert caught.value.__cause__ is first
        assert policy.stats().failed == 1

    async_world.run(scenario)


@pytest.mark.rule("C2", "F8")
def test_a_handler_may_raise_the_error_itself_and_it_is_no_cause_of_its_own(world: World) -> None:
    async def scenario(w: World) -> None:
        def handler(error: Exception) -> None:
            raise error

        first = KeyError("first")
        with pytest.raises(KeyError) as caught:
            await w.call(fallback(handler)(raising(w, first)))
        assert caught.value is first
        assert first.__cause__ is None

    world.run(scenario)


@pytest.mark.rule("C2")
def test_a_handler_may_unwrap_the_error_and_no_circle_comes_of_it(world: World) -> None:
    async def scenario(w: World) -> None:
        root = OSError("root")
        first = KeyError("first")
        first.__cause__ = middle = ValueError("middle")
        middle.__cause__ = root

        def handler(error: Exception) -> None:
            raise root

        with pytest.raises(OSError, match="root") as caught:
            await w.call(fallback(handler)(raising(w, first)))
        assert caught.value is root
        assert root.__cause__ is None

        first.__cause__ = first  # somebody else has made a circle: it must end all the same
        with pytest.raises(OSError, match="root"):
            await w.call(fallback(handler)(raising(w, first)))
        assert root.__cause__ is first

    world.run(scenario)


@pytest.mark.rule("C2", "F9")
def test_an_exit_of_the_handler_is_no_failure_of_it(world: World) -> None:
    async def scenario(w: World) -> None:
        def handler(error: Exception) -> None:
            raise Exit

        policy = fallback(handler, name="f")
        with pytest.raises(Exit) as caught:
            await w.call(policy(raising(w, KeyError())))
        assert caught.value.__cause__ is None
        assert policy.stats() == FallbackStats("f", 1, 1, 0)

    world.run(scenario)


@pytest.mark.rule("C1")
def test_an_async_handler_on_a_sync_function_is_refused_with_advice() -> None:
    async def handler(error: Exception) -> int:
        return 5

    class Handler:
        async def __call__(self, error: Exception) -> int:
            return 5

    for policy in (fallback(handler), fallback(functools.partial(handler)), fallback(Handler())):
        for attempt in (policy, policy.call):
            with pytest.raises(TypeError, match="plain function"):
                attempt(lambda: 5)
        assert policy.stats().calls == 0


@pytest.mark.rule("C2", "F1")
def test_a_plain_handler_that_returns_a_coroutine_fails_on_a_sync_function() -> None:
    async def handler(error: Exception) -> int:
        return 5

    def fn() -> int:
        raise KeyError

    policy = fallback(lambda error: handler(error), name="f")
    with pytest.raises(TypeError, match="async def") as caught:
        policy(fn)()
    assert type(caught.value.__cause__) is KeyError
    assert policy.stats() == FallbackStats("f", 1, 1, 1)


# An unwanted result.


def bad(result: object) -> bool:
    return result == "bad"


@pytest.mark.rule("C1", "F16")
def test_an_unwanted_result_is_as_bad_as_an_error(world: World) -> None:
    async def scenario(w: World) -> None:
        given: list[object] = []

        def handler(error: Exception | None) -> str:
            given.append(error)
            return "else"

        makers: list[Callable[[], Any]] = [
            lambda: fallback(default="else", on_result=bad, name="f"),
            lambda: fallback(handler, on_result=bad, name="f"),
            lambda: fallback(instead=w.function(lambda: "else"), on_result=bad, name="f"),
        ]
        for make in makers:
            policy = make()
            assert await w.call(policy.call, w.function(lambda: "bad")) == "else"
            assert await w.call(policy(w.function(lambda: "good"))) == "good"
            assert policy.stats() == FallbackStats("f", 2, 1, 0)
        assert given == [None], "there is no error"

    world.run(scenario)


@pytest.mark.rule("F16")
def test_an_unwanted_result_is_for_the_fallback_also_where_no_error_is(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default="else", on=(), on_result=bad)
        assert await w.call(policy(w.function(lambda: "bad"))) == "else"
        with pytest.raises(KeyError):
            await w.call(policy(raising(w, KeyError())))

    world.run(scenario)


@pytest.mark.rule("F16")
def test_what_a_fallback_gives_is_not_judged(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default="bad", on_result=bad)
        assert await w.call(policy(w.function(lambda: "bad"))) == "bad"
        assert policy.stats().used == 1

    world.run(scenario)


@pytest.mark.rule("F12", "F16")
def test_a_predicate_on_the_result_that_raises_is_logged_once_and_the_result_is_given(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(w: World) -> None:
        def broken(result: object) -> bool:
            raise RuntimeError("broken")

        policy = fallback(default=5, on_result=broken)
        for _ in range(2):
            assert await w.call(policy(w.function(lambda: "mine"))) == "mine"
        assert policy.stats().used == 0

    world.run(scenario)
    assert len([row for row in caplog.records if row.levelno >= logging.ERROR]) == 1


@pytest.mark.rule("F9", "F16")
def test_an_exit_of_the_predicate_passes(world: World) -> None:
    async def scenario(w: World) -> None:
        def leave(result: object) -> bool:
            raise Exit

        with pytest.raises(Exit):
            await w.call(fallback(default=5, on_result=leave)(w.function(lambda: "mine")))

    world.run(scenario)


@pytest.mark.rule("C2", "F16")
def test_a_handler_that_fails_after_an_unwanted_result_has_no_cause(world: World) -> None:
    async def scenario(w: World) -> None:
        second = ValueError("second")

        def handler(error: Exception | None) -> None:
            raise second

        policy = fallback(handler, on_result=bad, name="f")
        with pytest.raises(ValueError, match="second") as caught:
            await w.call(policy(w.function(lambda: "bad")))
        assert caught.value is second
        assert second.__cause__ is second.__context__ is None
        assert policy.stats() == FallbackStats("f", 1, 1, 1)

    world.run(scenario)


@pytest.mark.rule("M1", "F16")
def test_an_unwanted_result_is_told_without_an_error(world: World) -> None:
    async def scenario(w: World) -> None:
        with record(FallbackUsed) as events:
            policy = fallback(default=5, on_result=bad, name="f")
            await w.call(policy(w.function(lambda: "bad")))
        assert [(one.policy, one.kind, one.error) for one in events] == [("f", "fallback", None)]

    world.run(scenario)


# Another function instead.


@pytest.mark.rule("C1")
def test_another_function_is_called_with_the_calls_own_arguments(world: World) -> None:
    async def scenario(w: World) -> None:
        replica = w.function(lambda sku, *, shop=1: f"{sku} of {shop} from the replica")
        policy = fallback(instead=replica, on=OSError, name="f")
        fn = policy(raising(w, OSError()))
        assert await w.call(fn, "A-17", shop=2) == "A-17 of 2 from the replica"
        assert await w.call(policy.call, raising(w, OSError()), "A-18") == (
            "A-18 of 1 from the replica"
        )
        with pytest.raises(KeyError):
            await w.call(policy(raising(w, KeyError())), "A-17")
        assert policy.stats() == FallbackStats("f", 3, 2, 0)

    world.run(scenario)


@pytest.mark.rule("C1", "F1")
def test_of_a_method_it_gets_the_object_first(world: World) -> None:
    async def scenario(w: World) -> None:
        class Shop:
            name = "the shop"
            price = fallback(instead=w.function(lambda shop, sku: (shop.name, sku)))(
                raising(w, OSError())
            )

        assert await w.call(Shop().price, "A-17") == ("the shop", "A-17")

    world.run(scenario)


@pytest.mark.rule("C1")
def test_the_other_function_has_policies_of_its_own(world: World) -> None:
    async def scenario(w: World) -> None:
        fates = iter([OSError("first"), "served"])

        def replica(sku: str) -> object:
            fate = next(fates)
            if isinstance(fate, Exception):
                raise fate
            return fate, sku

        again = retry(on=OSError, wait=0)
        fn = fallback(instead=again(w.function(replica)))(raising(w, OSError("main")))
        assert await w.call(fn, "A-17") == ("served", "A-17")
        assert again.stats().recovered == 1

    world.run(scenario)


@pytest.mark.rule("C1")
def test_another_function_may_be_plain_for_an_async_one(async_world: World) -> None:
    async def scenario(w: World) -> None:
        assert await w.call(fallback(instead=abs)(raising(w, OSError())), -5) == 5

    async_world.run(scenario)


@pytest.mark.rule("C2")
def test_if_the_other_function_fails_its_error_is_raised_from_the_first(world: World) -> None:
    async def scenario(w: World) -> None:
        first, second = KeyError("first"), ValueError("second")
        policy = fallback(instead=raising(w, second), name="f")
        with pytest.raises(ValueError, match="second") as caught:
            await w.call(policy(raising(w, first)))
        assert caught.value is second
        assert second.__cause__ is first
        assert policy.stats() == FallbackStats("f", 1, 1, 1)

    world.run(scenario)


@pytest.mark.rule("C1")
def test_an_async_function_instead_of_a_sync_one_is_refused_with_advice() -> None:
    async def replica(number: int) -> int:
        return number

    guarded = retry(on=OSError)(replica)
    for policy in (fallback(instead=replica), fallback(instead=guarded)):
        for attempt in (policy, policy.call):
            with pytest.raises(TypeError, match=r"^instead .* plain function"):
                attempt(lambda: 5)


@pytest.mark.rule("C2", "F1")
def test_a_plain_function_instead_that_returns_a_coroutine_fails_on_a_sync_function() -> None:
    async def replica() -> int:
        return 5

    def fn() -> int:
        raise KeyError

    policy = fallback(instead=lambda: replica(), name="f")
    with pytest.raises(TypeError, match="async def") as caught:
        policy(fn)()
    assert type(caught.value.__cause__) is KeyError
    assert policy.stats() == FallbackStats("f", 1, 1, 1)


# Arguments, events, names.


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, ["handler", "default", "instead", "exactly one"]),
        ((len,), {"default": 5}, ["handler", "default", "instead", "exactly one"]),
        ((len,), {"instead": len}, ["handler", "default", "instead", "exactly one"]),
        ((), {"default": 5, "instead": len}, ["handler", "default", "instead", "exactly one"]),
        ((), {"instead": None}, ["instead", "default="]),
        ((), {"instead": 5}, ["instead", "5", "function"]),
        ((None,), {}, ["handler", "default="]),
        ((5,), {}, ["handler", "5", "function"]),
        (("instead",), {}, ["handler", "'instead'", "function"]),
        ((), {"default": 5, "on": 5}, ["on", "5", "exception type"]),
        ((), {"default": 5, "on": (KeyError, "x")}, ["on", "'x'", "exception type"]),
        ((), {"default": 5, "name": 5}, ["name", "5", "string"]),
        ((), {"default": 5, "name": len}, ["name", "len", "parentheses"]),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_with_name_value_and_range(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(TypeError) as caught:
        fallback(*args, **kwargs)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.rule("F7", "F9")
@pytest.mark.parametrize("kind", [BaseException, KeyboardInterrupt, asyncio.CancelledError])
def test_on_can_name_no_exit_and_no_cancellation(kind: Any) -> None:
    with pytest.raises(ValueError, match="never counted"):
        fallback(default=5, on=kind)


@pytest.mark.rule("M1")
def test_each_use_is_told_with_the_error_before_the_handler_runs(world: World) -> None:
    async def scenario(w: World) -> None:
        error = KeyError("mine")
        at_handler: list[int] = []
        with record(FallbackUsed) as events:
            policy = fallback(lambda error: at_handler.append(len(events)), name="f")
            await w.call(policy(raising(w, error)))
            await w.call(policy(w.function(lambda: 5)))
        assert [(one.policy, one.kind, one.error) for one in events] == [("f", "fallback", error)]
        assert at_handler == [1]

    world.run(scenario)


@pytest.mark.rule("F2", "F5")
def test_arguments_pass_and_the_name_is_that_of_the_first_function(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default=0)
        add = w.function(lambda a, b=0: a + b)
        assert policy.name == "fallback"
        assert await w.call(policy.call, add, 1, b=2) == 3
        assert await w.call(policy(add), 1, b=3) == 4
        assert policy.name.endswith("fn")

    world.run(scenario)


@pytest.mark.rule("F6", "T3")
def test_fresh_zeroes_the_totals(world: World) -> None:
    async def scenario(w: World) -> None:
        def handler(error: Exception) -> None:
            raise error

        policy = fallback(handler, name="f")
        with pytest.raises(KeyError):
            await w.call(policy(raising(w, KeyError())))
        assert policy.stats() == FallbackStats("f", 1, 1, 1)
        with fresh():
            assert policy.stats() == FallbackStats("f", 0, 0, 0)

    world.run(scenario)


@pytest.mark.rule("D5")
def test_it_does_not_look_at_the_deadline(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default="instead")
        with pytest.raises(DeadlineExceeded):
            async with deadline(0):
                raise AssertionError("it does not begin")
        fn = policy(timeout(1 * w.unit)(w.function(lambda: w.sleep(3))))
        result = await w.call(fn)
        assert result == ("instead" if w.is_async else None)

    world.run(scenario)


@pytest.mark.rule("F4")
def test_many_at_once_lose_no_count(world: World) -> None:
    async def scenario(w: World) -> None:
        policy = fallback(default=5, name="f")
        good, bad = policy(w.function(lambda: 1)), policy(raising(w, KeyError()))

        async def both() -> int:
            total = 0
            for _ in range(200):
                total += await w.call(good) + await w.call(bad)
            return total

        assert await w.together(*[both] * 4) == [1200] * 4
        assert policy.stats() == FallbackStats("f", 1600, 800, 0)

    world.run(scenario)

"""One caller of a flight saw, in the shared error's context, what another one was handling."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient import cache, deadline, fallback, hedge, retry, singleflight, timeout
from resilient.testing import VirtualTime, virtual_time
from tests.policies.test_singleflight_threads import Crew, waiting
from tests.worlds import World, world_named

POLICIES: dict[str, Callable[[], Any]] = {"singleflight": singleflight, "cache": lambda: cache(60)}


class Seen:
    """What each caller got, while it was handling an error of its own."""

    def __init__(self) -> None:
        self.errors: list[ValueError] = []
        self.contexts: list[BaseException | None] = []
        self.lengths: list[int] = []

    def look(self, error: ValueError) -> None:
        self.errors.append(error)
        self.contexts.append(error.__context__)
        trace, length = error.__traceback__, 0
        while trace is not None:
            trace, length = trace.tb_next, length + 1
        self.lengths.append(length)

    async def call(self, fn: Callable[[], Awaitable[Any]]) -> None:
        try:
            raise LookupError("private")
        except LookupError:
            try:
                await fn()
            except ValueError as error:
                self.look(error)

    def call_sync(self, fn: Callable[[], Any]) -> None:
        try:
            raise LookupError("private")
        except LookupError:
            try:
                fn()
            except ValueError as error:
                self.look(error)

    def check(self, callers: int, context: BaseException | None) -> None:
        assert len(self.errors) == callers
        assert {id(error) for error in self.errors} == {id(self.errors[0])}, "S1"
        assert self.contexts == [context] * callers
        assert self.errors[0].__context__ is context
        if context is not None:
            assert context.__context__ is None
        assert max(self.lengths) <= min(self.lengths) + 3, "S6"


def failing(root: Exception | None) -> None:
    if root is None:
        raise ValueError("shared")
    try:
        raise root
    except KeyError:
        raise ValueError("shared")  # noqa: B904  # its context is wanted


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with virtual_time() as one:
        yield one


@pytest.mark.rule("S6", "F8")
@pytest.mark.parametrize("root", [None, KeyError("root")], ids=["bare", "context"])
@pytest.mark.parametrize("kind", POLICIES)
def test_each_task_gets_it_as_the_run_made_it(
    async_world: World, kind: str, root: Exception | None
) -> None:
    async def scenario(w: World) -> None:
        async def fails() -> None:
            await anyio.sleep(1)
            failing(root)

        seen, guarded = Seen(), POLICIES[kind]()(fails)
        await w.together(*(lambda: seen.call(guarded) for _ in range(4)))
        seen.check(4, root)

    async_world.run(scenario)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
@pytest.mark.rule("S6")
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", POLICIES)
def test_an_eager_run_begins_inside_its_first_caller(
    time: VirtualTime, kind: str, waits: bool
) -> None:
    root = KeyError("root")

    async def fails() -> None:
        try:
            raise root
        except KeyError as error:
            if waits:
                await asyncio.sleep(1)
            raise ValueError("shared") from error

    async def main() -> None:
        factory = getattr(asyncio, "eager_task_factory")  # noqa: B009  # unknown to 3.11
        asyncio.get_running_loop().set_task_factory(factory)
        seen, guarded = Seen(), POLICIES[kind]()(fails)
        await asyncio.gather(*(seen.call(guarded) for _ in range(2)))
        assert seen.contexts == [root, root]
        assert root.__context__ is None

    time.run(main)


@pytest.mark.rule("S6", "S7")
@pytest.mark.parametrize("root", [None, KeyError("root")], ids=["bare", "context"])
@pytest.mark.parametrize("kind", POLICIES)
def test_each_thread_gets_it_as_the_run_made_it(
    time: VirtualTime, kind: str, root: Exception | None
) -> None:
    crew, seen = Crew(), Seen()

    def fails() -> None:
        crew.work()
        failing(root)

    guarded = POLICIES[kind]()(fails)
    crew.start("first", lambda: seen.call_sync(guarded))
    assert crew.begun.wait(30)
    for n in range(3):
        crew.start(f"waiter {n}", lambda: seen.call_sync(guarded))
    waiting(time, 3)
    crew.go_on.set()
    assert crew.join() == dict.fromkeys(crew.threads)
    seen.check(4, root)


@pytest.mark.rule("S6")
def test_what_is_in_a_group_or_a_cause_is_the_runs_own() -> None:
    private = LookupError("private")

    def fails() -> None:
        inner, cause = ValueError("inner"), ValueError("cause")
        for error in (inner, cause):
            try:
                raise error
            except ValueError:
                pass
        raise ExceptionGroup("all", [inner]) from cause

    try:
        raise private
    except LookupError:
        with pytest.raises(ExceptionGroup) as caught:
            singleflight().do("k", fails)
    group = caught.value
    assert group.__context__ is group.exceptions[0].__context__ is None
    assert group.__cause__ is not None
    assert group.__cause__.__context__ is None


@pytest.mark.rule("S7", "F9")
def test_an_interrupt_of_the_first_caller_keeps_what_it_was_handling() -> None:
    """It is nobody else's."""
    private = LookupError("private")

    def fails() -> None:
        raise KeyboardInterrupt

    try:
        raise private
    except LookupError:
        with pytest.raises(KeyboardInterrupt) as caught:
            singleflight().do("k", fails)
    assert caught.value.__context__ is private


@pytest.mark.rule("H3", "F8")
def test_a_hedge_raises_it_as_the_attempt_did(async_world: World) -> None:
    async def scenario(_: World) -> None:
        root = KeyError("root")

        async def fails() -> None:
            failing(root)

        seen = Seen()
        await seen.call(hedge(1.0)(fails))
        assert seen.contexts == [root]

    async_world.run(scenario)


# Errors that refuse.


class SulkingError(Exception):
    """Takes neither notes nor a cause."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(f"no {name}")

    def add_note(self, note: str) -> None:
        raise RuntimeError("no note")

    @property
    def __cause__(self) -> None:
        return None

    @__cause__.setter
    def __cause__(self, cause: object) -> None:
        raise RuntimeError("no cause")


class NotelessError(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise OSError("no notes to be had")


class SulkingGroup(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Any:
        return SulkingGroup(self.message, excs)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "__notes__":
            raise RuntimeError("no notes")
        super().__setattr__(name, value)

    def add_note(self, note: str) -> None:
        raise RuntimeError("no note")


@pytest.mark.rule("F8", "R7")
@pytest.mark.parametrize("kind", [SulkingError, NotelessError])
@pytest.mark.parametrize("form", ["plain", "keyed", "loop"])
def test_an_error_that_takes_no_note_goes_without(
    world: World, kind: type[Exception], form: str
) -> None:
    async def scenario(w: World) -> None:
        error = kind("its own")

        def fails() -> None:
            raise error

        key: Any = (lambda: 1) if form == "keyed" else None
        policy = retry(on=Exception, attempts=2, wait=0, budget=None, key=key)
        with pytest.raises(kind) as caught:
            if form == "loop":
                for attempt in policy:
                    with attempt:
                        fails()
            else:
                await w.call(policy(w.function(fails)))
        assert caught.value is error

    world.run(scenario)


@pytest.mark.rule("F8", "C2")
def test_a_handlers_error_that_takes_no_cause_goes_its_way(world: World) -> None:
    async def scenario(w: World) -> None:
        failure = SulkingError("the handler's")

        def fails() -> None:
            raise SulkingError("the call's")

        def handler(_: Exception) -> None:
            raise failure

        with pytest.raises(SulkingError) as caught:
            await w.call(fallback(handler)(w.function(fails)))
        assert caught.value is failure

    world.run(scenario)


@pytest.mark.rule("F8", "D2")
@pytest.mark.parametrize("make", [deadline, timeout])
@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_group_that_takes_no_note_leaves_its_block(name: str, make: Any) -> None:
    with world_named(name) as world:

        async def scenario(w: World) -> None:
            async def body() -> None:
                try:
                    await w.sleep(5)
                finally:
                    raise SulkingGroup("all", [ValueError("other")])

            with pytest.raises(SulkingGroup):
                if make is timeout:
                    await timeout(1.0)(body)()
                else:
                    async with deadline(1.0):
                        await body()

        world.run(scenario)

"""What holds for every policy: how functions are wrapped, named and counted (F1 to F14)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import inspect
import itertools
import pickle
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    DeadlineExceeded,
    Policy,
    Protection,
    Rejected,
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    policies,
    policy_of,
    rate_limit,
    retry,
    throttle,
)
from resilient.testing import virtual_time
from tests.kinds import ASYNC_ONLY, FACTORIES, MAKERS, Maker
from tests.worlds import WORLDS, World, in_threads

each_where_it_is = pytest.mark.parametrize(
    ("make", "world"),
    [
        (kind, world)
        for kind in MAKERS
        for world in WORLDS
        if world != "threads" or kind not in ASYNC_ONLY
    ],
    indirect=True,
)
"""Each kind of policy, in each world that has it."""


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Maker:
    """A way to make each kind of policy in turn."""
    return MAKERS[request.param]


@pytest.fixture(params=[kind for kind in MAKERS if kind not in ASYNC_ONLY])
def make_sync(request: pytest.FixtureRequest) -> Maker:
    """A way to make each kind of policy that guards sync functions, too."""
    return MAKERS[request.param]


def calls_of(stats: Any) -> int:
    """How many calls it let through. A throttle counts them when they have ended."""
    found = stats.requests if type(stats).__name__ == "ThrottleStats" else stats.calls
    assert isinstance(found, int)
    return found


async def nothing() -> None:
    """A function that every kind of policy guards."""


class Quit(BaseException):
    """No Exception, and no cancellation."""


# F1: what may be decorated, and how it looks afterwards.


@pytest.mark.rule("F1")
def test_a_wrapper_looks_like_its_async_function(make: Maker) -> None:
    async def price(sku: str, /, *, currency: str = "EUR") -> float:
        """What it costs."""
        return 1.0

    looks_like(price, make()(price))


@pytest.mark.rule("F1")
def test_a_wrapper_looks_like_its_sync_function(make_sync: Maker) -> None:
    def price(sku: str, /, *, currency: str = "EUR") -> float:
        """What it costs."""
        return 1.0

    looks_like(price, make_sync()(price))


def looks_like(fn: Callable[..., Any], wrapped: Any) -> None:
    assert wrapped.__name__ == fn.__name__
    assert wrapped.__qualname__ == fn.__qualname__
    assert wrapped.__module__ == fn.__module__
    assert wrapped.__doc__ == "What it costs."
    assert inspect.signature(wrapped) == inspect.signature(fn)
    assert wrapped.__wrapped__ is fn
    assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(fn)
    assert inspect.isfunction(wrapped)


@pytest.mark.rule("F1", "H5")
def test_a_hedge_refuses_a_sync_function_says_what_to_write_and_takes_no_name() -> None:
    policy = hedge(1)
    uses: list[Any] = [policy, policy.call, pipeline(retry(on=OSError), policy)]
    for refused in uses:
        with pytest.raises(TypeError, match="async def"):
            refused(len)
    assert policy.name == policy.kind


@pytest.mark.rule("F1")
@each_where_it_is
def test_functions_partials_methods_and_callable_objects_are_guarded(
    make: Maker, world: World
) -> None:
    async def scenario(w: World) -> None:
        body = w.function(lambda *args, **kwargs: (args, kwargs))
        assert await w.call(make()(body), 1, 2, x=3) == ((1, 2), {"x": 3})

        partial = make()(functools.partial(body, 0, y=9))
        assert await w.call(partial, 1, x=3) == ((0, 1), {"x": 3, "y": 9})
        assert partial.__name__.endswith("fn")
        assert inspect.iscoroutinefunction(partial) == w.is_async

        class Shop:
            """A shop."""

            price = make()(body)

        shop = Shop()
        assert await w.call(shop.price, 7) == ((shop, 7), {})
        bound = make()(shop.price)
        assert await w.call(bound, 8) == ((shop, 8), {})

    world.run(scenario)


@pytest.mark.rule("F1")
def test_an_object_with_an_async_call_is_an_async_function(make: Maker, async_world: World) -> None:
    class Client:
        """A client."""

        secret = 5

        async def __call__(self, url: str) -> tuple[object, str]:
            await anyio.lowlevel.checkpoint()
            return self, url

    client = Client()

    async def scenario(w: World) -> None:
        for fn in (client, functools.partial(client, "a")):
            wrapped = make()(fn)
            assert inspect.iscoroutinefunction(wrapped)
            assert wrapped.__name__.endswith("Client")
            assert inspect.signature(wrapped) == inspect.signature(fn)
        assert await make()(client)("a") == (client, "a")
        assert await make().call(client, "b") == (client, "b")

    async_world.run(scenario)


def module_level(x: int) -> int:
    return x


plain_module_level, module_level = module_level, breaker()(module_level)


@pytest.mark.rule("F1")
def test_a_decorated_function_of_a_module_pickles_as_ever() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level


@pytest.mark.rule("F1")
def test_static_and_class_methods_work_below_their_decorators_and_a_static_one_also_above() -> None:
    policy = breaker()

    class Shop:
        @staticmethod
        @policy
        def below(x: int) -> int:
            return x

        @policy
        @staticmethod
        def above(x: int) -> int:
            return x + 1

        @classmethod
        @policy
        def of_class(cls, x: int) -> tuple[type, int]:
            return cls, x

    assert (Shop.below(1), Shop().below(1), Shop.above(1), Shop().above(1)) == (1, 1, 2, 2)
    assert Shop.of_class(3) == (Shop, 3)
    assert Shop().of_class(3) == (Shop, 3)
    assert policy.stats().calls == 6


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Streaming:
    def __call__(self) -> Iterator[int]:
        yield 1


class StreamingAsync:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


BODIES_AFTER_THE_CALL: dict[str, Callable[..., object]] = {
    "generator": generator,
    "async generator": async_generator,
    "partial": functools.partial(generator),
    "partial of partial": functools.partial(functools.partial(async_generator)),
    "generator object": Streaming(),
    "async generator object": StreamingAsync(),
    "bound generator": Streaming().__call__,
    "context manager": contextlib.contextmanager(generator),
    "async context manager": contextlib.asynccontextmanager(async_generator),
    "partial of context manager": functools.partial(contextlib.contextmanager(generator)),
}


@pytest.mark.rule("F1", "F5")
@pytest.mark.parametrize("what", BODIES_AFTER_THE_CALL)
def test_what_runs_its_body_after_the_call_is_refused_with_advice_and_gives_no_name(
    make: Maker, what: str
) -> None:
    policy = make()
    for refused in (policy, policy.call):
        with pytest.raises(TypeError, match=r"admit\(\)"):
            refused(BODIES_AFTER_THE_CALL[what])
    assert policy.name == policy.kind


@pytest.mark.rule("F1")
def test_what_is_no_function_is_refused(make: Maker) -> None:
    for nonsense in (None, 3, "price", object()):
        with pytest.raises(TypeError, match="guards functions"):
            make()(nonsense)
    with pytest.raises(TypeError, match="@classmethod above"):
        make()(classmethod(lambda cls: cls))


@pytest.mark.rule("F1")
@pytest.mark.parametrize("kind", [kind for kind in FACTORIES if kind != "fallback"])
def test_a_factory_used_as_a_decorator_without_parentheses_says_what_to_write(kind: str) -> None:
    def price() -> None: ...

    with pytest.raises(TypeError) as refused:
        FACTORIES[kind](price)
    said = str(refused.value)
    if kind == "pipeline":
        assert "takes policies" in said
    else:
        assert "parentheses" in said
        assert "@" + kind in said


@pytest.mark.rule("F1")
def test_a_fallback_without_parentheses_is_one_with_that_handler_and_its_first_use_says_so() -> (
    None
):
    @fallback
    def price(sku: str) -> float:
        return 1.0

    use: Any = price
    with pytest.raises(TypeError, match="guards functions, not 'A-17'"):
        use("A-17")


@pytest.mark.rule("F1")
def test_a_cache_without_parentheses_may_be_one_with_that_ttl_and_its_first_use_says_so() -> None:
    @cache
    def price(sku: str) -> float:
        return 1.0

    use: Any = price
    with pytest.raises(TypeError, match=r"guards functions, not 'A-17': .*parentheses"):
        use("A-17")


@pytest.mark.rule("F1")
def test_retry_without_parentheses_says_what_to_write() -> None:
    def price() -> None: ...

    with pytest.raises(TypeError, match=r"@retry\(on=") as refused:
        retry(price, on=ValueError)  # type: ignore[arg-type]
    assert "price" in str(refused.value)


@pytest.mark.rule("F1", "B2")
def test_a_sync_function_that_returns_a_coroutine_is_refused_at_the_call_closed_and_ignored(
    make_sync: Maker, world: World
) -> None:
    async def scenario(w: World) -> None:
        made: list[Coroutine[Any, Any, None]] = []

        async def get() -> None: ...

        def call() -> Coroutine[Any, Any, None]:
            made.append(get())
            return made[-1]

        watching = breaker()
        for attempt in (
            watching(make_sync()(call)),
            make_sync()(watching(call)),
            functools.partial(make_sync().call, call),
        ):
            with pytest.raises(TypeError, match="async def"):
                attempt()
        assert len(made) == 3, "and it is not tried again"
        assert {inspect.getcoroutinestate(one) for one in made} == {inspect.CORO_CLOSED}
        stats = watching.stats()
        assert (stats.ignored, stats.failures, stats.successes) == (2, 0, 0)

    world.run(scenario)


@pytest.mark.rule("F1", "R2")
def test_a_coroutine_returned_by_a_sync_function_is_not_retried_whatever_on_says() -> None:
    calls = []

    async def get() -> None: ...

    def call() -> object:
        calls.append(1)
        return get()

    for on in (Exception, TypeError, lambda _: True):
        calls.clear()
        with pytest.raises(TypeError, match="async def"):
            retry(on=on, wait=0)(call)()
        assert len(calls) == 1


@pytest.mark.rule("F1")
def test_a_coroutine_returned_by_a_sync_function_is_no_failure_no_sample_and_not_kept() -> None:
    async def get() -> None: ...

    throttled, limited = throttle(minimum=1), adaptive_limit(initial=1, algorithm="aimd")
    helped, kept = fallback(default="instead"), cache(1000)
    policies: list[Any] = [throttled, limited, helped, kept]
    for policy in policies:
        for _ in range(3):
            with pytest.raises(TypeError, match="async def"):
                policy.call(lambda: get())
    assert (throttled.stats().requests, throttled.stats().probability) == (0, 0)
    assert (limited.stats().in_flight, limited.stats().latency) == (0, None)
    assert helped.stats().used == 0, "a function that was decorated the wrong way must be seen"
    assert (kept.stats().misses, kept.stats().size) == (3, 0)


# F2


@pytest.mark.rule("F2")
@each_where_it_is
def test_call_runs_one_call_with_all_its_arguments_and_names_nothing(
    make: Maker, world: World
) -> None:
    async def scenario(w: World) -> None:
        policy = make()
        fn = w.function(lambda *args, **kwargs: (args, kwargs))
        found = await w.call(functools.partial(policy.call, fn, 1, fn=2, self=3, args=4, key=5))
        assert found == ((1,), {"fn": 2, "self": 3, "args": 4, "key": 5})
        assert policy.name == policy.kind, "only a decorated function gives its name"
        assert policy_of(fn) is None

    world.run(scenario)


@pytest.mark.rule("F2")
def test_call_of_an_async_function_returns_an_awaitable_that_runs_only_when_awaited(
    make: Maker, async_world: World
) -> None:
    async def scenario(w: World) -> None:
        ran = []

        async def body() -> str:
            ran.append(1)
            return "done"

        awaitable = make().call(body)
        assert not ran
        assert inspect.isawaitable(awaitable)
        assert await awaitable == "done"

    async_world.run(scenario)


@pytest.mark.rule("F2")
def test_call_counts_as_a_decorated_function_does(world: World) -> None:
    async def scenario(w: World) -> None:
        for kind, make_one in MAKERS.items():
            if kind in ASYNC_ONLY and not w.is_async:
                continue
            policy, fn = make_one(), w.function(lambda: 1)
            assert await w.call(policy.call, fn) == 1
            assert await w.call(policy(fn)) == 1
            stats = policy.stats()
            for one in stats if isinstance(stats, tuple) else (stats,):
                assert calls_of(one) == 2

    world.run(scenario)


# F5


@pytest.mark.rule("F5")
def test_an_unnamed_policy_takes_the_qualified_name_of_the_first_function_only(make: Maker) -> None:
    policy = make()
    assert policy.name == policy.kind

    async def first() -> None: ...

    async def second() -> None: ...

    policy(first)
    policy(second)
    assert policy.name == first.__qualname__
    assert policy.name.endswith("<locals>.first")
    stats = policy.stats()
    assert {one.name for one in (stats if isinstance(stats, tuple) else (stats,))} == {
        first.__qualname__
    }


@pytest.mark.rule("F5")
def test_a_given_name_stays_and_need_not_be_unique(make: Maker) -> None:
    one, other = make("payments"), make("payments")
    for policy in (one, other):
        policy(nothing)
        assert policy.name == "payments"
    assert [policy for policy in policies() if policy in (one, other)] == [one, other]


@pytest.mark.rule("F5")
def test_a_partial_or_an_object_gives_the_name_of_what_it_wraps(make: Maker) -> None:
    class Client:
        async def __call__(self) -> None: ...

    policy = make()
    policy(functools.partial(functools.partial(Client())))
    assert policy.name == Client.__qualname__


# F6


@pytest.mark.rule("F6")
@each_where_it_is
def test_stats_are_frozen_slotted_snapshots(make: Maker, world: World) -> None:
    async def scenario(w: World) -> None:
        policy = make()
        fn = policy(w.function(lambda: 1))
        before = policy.stats()
        await w.call(fn)
        after = policy.stats()
        for old, new in zip(
            *((one if isinstance(one, tuple) else (one,)) for one in (before, after)), strict=True
        ):
            assert (calls_of(old), calls_of(new)) == (0, 1), "a snapshot does not move"
            assert dataclasses.is_dataclass(type(new))
            assert not hasattr(new, "__dict__")
            with pytest.raises(dataclasses.FrozenInstanceError):
                new.name = "other"
            with pytest.raises((AttributeError, TypeError)):
                new.other = 5
            assert new.name == fn.__qualname__

    world.run(scenario)


@pytest.mark.rule("F6", "B12")
def test_totals_never_go_down_while_states_change_and_keys_make_room() -> None:
    policy = breaker(consecutive_failures=1, cooldown=0, key="tenant", max_keys=2)

    @policy
    def call(tenant: int, *, bad: bool) -> None:
        if bad:
            raise ValueError

    totals = ("calls", "successes", "failures", "slow", "ignored", "rejected", "opened")
    before = policy.stats()
    for step in range(60):
        with contextlib.suppress(ValueError):
            call(step % 7, bad=step % 3 == 0)
        if step % 10 == 9:
            policy.reset()
        after = policy.stats()
        assert all(getattr(after, total) >= getattr(before, total) for total in totals)
        assert (
            after.calls
            == after.successes + after.failures + after.ignored + after.in_flight
            == step + 1
        )
        before = after
    assert len(policy.keys()) == 2
    assert before.opened > 0


class Counted(NamedTuple):
    """A policy with its totals, and a call of number n; every third fails, or is not made."""

    policy: Any
    totals: tuple[str, ...]
    call: Callable[[int], object]
    holds: Callable[[Any], bool]
    """What is true of every snapshot."""


def counted(kind: str) -> Counted:
    def body(tenant: int, *, bad: bool = False) -> int:
        if bad:
            raise LookupError
        return tenant

    policy: Any
    match kind:
        case "bulkhead":
            policy = bulkhead(1, key="tenant", max_keys=2)
            return Counted(
                policy, ("calls", "rejected"), by_tenant(policy(body)), lambda s: s.in_flight >= 0
            )
        case "rate_limit":
            policy = rate_limit(3, per=1000, key="tenant", max_keys=2)
            return Counted(
                policy, ("calls", "rejected"), by_tenant(policy(body)), lambda s: s.queued == 0
            )
        case "adaptive_limit":
            policy = adaptive_limit(initial=1, max=1, key="tenant", max_keys=2)
            return Counted(
                policy, ("calls", "rejected"), by_tenant(policy(body)), lambda s: s.in_flight >= 0
            )
        case "throttle":
            policy = throttle(minimum=1, key="tenant", max_keys=2)
            return Counted(
                policy,
                ("requests", "accepts", "rejected"),
                by_tenant(policy(body)),
                lambda s: 0 <= s.accepts <= s.requests and 0 <= s.probability <= 0.9,
            )
        case "fallback":
            policy = fallback(lambda error: 1 / 0 if error.args else None)

            def fails(number: int) -> None:
                if number % 3:
                    raise LookupError(*range(number % 2))

            return Counted(
                policy,
                ("calls", "used", "failed"),
                policy(fails),
                lambda s: s.failed <= s.used <= s.calls,
            )
        case "cache":
            policy = cache(1000, max_size=3, negative_ttl=1000, exists=lambda key: key != 4)

            def look(key: int) -> int | None:
                if key == 3:
                    raise LookupError
                return key or None

            kept = policy(look)
            return Counted(
                policy,
                ("calls", "hits", "misses", "negative_hits", "refused", "evictions"),
                lambda number: kept(number // 2 % 7),
                lambda s: (
                    s.hits + s.misses + s.negative_hits + s.refused <= s.calls and s.size <= 3
                ),
            )
    raise AssertionError(kind)


def by_tenant(fn: Callable[..., object]) -> Callable[[int], object]:
    return lambda number: fn(number % 7, bad=number % 3 == 0)


COUNTED = ("bulkhead", "rate_limit", "adaptive_limit", "throttle", "fallback", "cache")


@pytest.mark.rule("F6", "F10")
@pytest.mark.parametrize("kind", COUNTED)
def test_totals_never_go_down_while_keys_make_room_and_calls_fail(kind: str) -> None:
    policy, totals, call, holds = counted(kind)
    before = policy.stats()
    for step in range(80):
        with contextlib.suppress(LookupError, Rejected, ZeroDivisionError):
            call(step)
        after = policy.stats()
        assert all(getattr(after, total) >= getattr(before, total) for total in totals)
        assert holds(after)
        if kind in {"fallback", "cache"}:
            assert after.calls == step + 1
        elif kind != "throttle":
            assert after.calls + after.rejected == step + 1
        before = after
    assert all(getattr(before, total) > 0 for total in totals if total != "rejected")


@pytest.mark.rule("F4", "F6", "F10")
@pytest.mark.parametrize("kind", COUNTED)
def test_under_eight_threads_no_count_is_lost_and_every_snapshot_is_consistent(kind: str) -> None:
    policy, totals, call, holds = counted(kind)
    each = 300

    def work() -> tuple[int, int]:
        made = refused = 0
        for step in range(each):
            try:
                call(step)
                made += 1
            except Rejected:
                refused += 1
            except (LookupError, ZeroDivisionError):
                made += 1
        return made, refused

    def look() -> None:
        before = policy.stats()
        for _ in range(each):
            after = policy.stats()
            assert all(getattr(after, total) >= getattr(before, total) for total in totals)
            assert holds(after)
            before = after

    outcomes = in_threads(*[work] * 7, look)
    assert outcomes[-1] is None
    made, refused = map(sum, zip(*outcomes[:-1], strict=True))
    stats = policy.stats()
    assert calls_of(stats) == made
    assert getattr(stats, "rejected", 0) == refused
    assert (getattr(stats, "in_flight", 0), getattr(stats, "queued", 0)) == (0, 0)
    if kind == "cache":
        assert stats.calls == stats.hits + stats.misses + stats.negative_hits + stats.refused


@pytest.mark.rule("F6", "H1")
def test_a_hedges_totals_never_go_down_and_agree(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = hedge(0.2 * w.unit, budget=None)
        seen = [policy.stats()]
        starts: dict[int, int] = {}

        async def body(number: int) -> None:
            starts[number] = starts.get(number, 0) + 1
            slow = starts[number] <= number % 3
            await w.sleep(0.5 if slow else 0.1)
            seen.append(policy.stats())

        await w.together(*((lambda n=n: policy.call(body, n)) for n in range(9)))
        seen.append(policy.stats())
        for before, after in itertools.pairwise(seen):
            for total in ("calls", "hedges", "won", "no_budget"):
                assert getattr(after, total) >= getattr(before, total)
            assert after.won <= after.hedges <= after.calls
        assert seen[-1].calls == 9
        assert seen[-1].hedges >= 1

    async_world.run(scenario)


# F8


@pytest.mark.rule("F8")
@each_where_it_is
def test_result_and_error_are_the_functions_own_objects(make: Maker, world: World) -> None:
    async def scenario(w: World) -> None:
        result, error = object(), ValueError("no")

        def fail() -> None:
            raise error

        assert await w.call(make()(w.function(lambda: result))) is result
        assert await w.call(make()(w.function(lambda: None))) is None
        with pytest.raises(ValueError, match="no") as caught:
            await w.call(make()(w.function(fail)))
        assert caught.value is error
        assert error.__cause__ is None
        assert error.__context__ is None
        assert not hasattr(error, "__notes__"), "only giving up is noted"

    world.run(scenario)


@pytest.mark.rule("F8")
@each_where_it_is
def test_an_error_that_was_raised_from_another_keeps_its_cause_and_context(
    make: Maker, world: World
) -> None:
    async def scenario(w: World) -> None:
        cause = KeyError("first")
        error = LookupError("second")

        def fail() -> None:
            raise error from cause

        with pytest.raises(LookupError) as caught:
            await w.call(make()(w.function(fail)))
        assert caught.value is error
        assert error.__cause__ is cause
        assert error.__context__ is None

    world.run(scenario)


@pytest.mark.rule("F8")
def test_stop_iteration_of_a_sync_function_passes(make_sync: Maker) -> None:
    with pytest.raises(StopIteration):
        make_sync()(next)(iter(()))


@pytest.mark.rule("F8")
def test_an_error_that_takes_no_notes_passes_all_the_same(make_sync: Maker) -> None:
    @dataclasses.dataclass(frozen=True)
    class FrozenLookupError(LookupError):
        code: int

    error = FrozenLookupError(3)

    def fail() -> None:
        raise error

    policy = make_sync()
    if make_sync is MAKERS["retry"]:
        policy = retry(on=LookupError, wait=0, attempts=1)
    with virtual_time(), pytest.raises(FrozenLookupError) as caught:
        policy(fail)()
    assert caught.value is error


@pytest.mark.rule("F8", "R7")
def test_giving_up_adds_one_note_and_nothing_else(world: World) -> None:
    async def scenario(w: World) -> None:
        error = LookupError("gone")

        def fail() -> None:
            raise error

        fn = retry("r", on=LookupError, wait=0, attempts=2)(w.function(fail))
        for _ in range(3):
            with pytest.raises(LookupError) as caught:
                await w.call(fn)
            assert caught.value is error
            assert len(error.__notes__) == 1
            assert error.__cause__ is None
            assert error.__context__ is None
            assert not error.__suppress_context__
            assert "2 attempts" in error.__notes__[0]

    world.run(scenario)


# F9


@pytest.mark.rule("F9")
@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Quit, asyncio.CancelledError]
)
def test_what_is_no_exception_passes_uncounted_and_untried(
    make_sync: Maker, world: World, kind: type[BaseException]
) -> None:
    """In sync code, wherever it runs: asyncio would let the first two end its loop."""

    async def scenario(w: World) -> None:
        inner = breaker(on=(lambda _: True), failure_rate=None, consecutive_failures=1)
        tries, error = [], kind()

        def fail() -> None:
            tries.append(1)
            raise error

        with pytest.raises(kind) as caught:
            inner(make_sync()(inner(fail)))()
        assert caught.value is error
        assert len(tries) == 1
        stats = inner.stats()
        assert (stats.calls, stats.ignored, stats.in_flight) == (2, 2, 0)

    world.run(scenario)


@pytest.mark.rule("F9", "F8")
def test_what_is_no_exception_passes_through_async_functions_too(
    make: Maker, async_world: World
) -> None:
    async def scenario(w: World) -> None:
        inner = breaker()
        error = Quit()

        async def fail() -> None:
            await anyio.lowlevel.checkpoint()
            raise error

        with pytest.raises(Quit) as caught:
            await make()(inner(fail))()
        assert caught.value is error
        assert (inner.stats().ignored, inner.stats().in_flight) == (1, 0)

    async_world.run(scenario)


@pytest.mark.rule("F9")
def test_cancellation_passes_gives_the_places_back_and_counts_nowhere(
    make: Maker, async_world: World
) -> None:
    async def scenario(w: World) -> None:
        outer, inner = breaker(), breaker()
        ran: list[str] = []

        async def hang() -> None:
            ran.append("began")
            try:
                await anyio.sleep_forever()
            finally:
                ran.append("ended")

        fn = outer(make()(inner(hang)))
        async with anyio.create_task_group() as group:
            group.start_soon(fn)
            await w.sleep(1)
            assert (outer.stats().in_flight, inner.stats().in_flight) == (1, 1)
            group.cancel_scope.cancel()
        await w.sleep(0.1)
        assert ran == ["began", "ended"], "cancelled, and not tried again"
        for policy in (outer, inner):
            stats = policy.stats()
            assert (
                stats.calls,
                stats.ignored,
                stats.in_flight,
                stats.failures,
                stats.successes,
            ) == (1, 1, 0, 0, 0)

    async_world.run(scenario)


@pytest.mark.rule("F9")
def test_a_probe_that_is_cancelled_returns_its_place(async_world: World) -> None:
    async def scenario(w: World) -> None:
        policy = breaker(consecutive_failures=1, cooldown=1.0 * w.unit)
        with pytest.raises(ValueError):
            await policy.call(w.function(raise_value_error))
        await w.sleep(1.1)
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep_forever))
            await w.sleep(0.5)
            assert policy.stats().in_flight == 1
            group.cancel_scope.cancel()
        assert policy.state.value == "half_open"
        assert await policy.call(w.function(lambda: "probe")) == "probe"
        assert policy.state.value == "closed"

    async_world.run(scenario)


def raise_value_error() -> None:
    raise ValueError


@pytest.mark.rule("F9", "R9")
def test_a_backoff_ends_at_once_when_it_is_cancelled(async_world: World) -> None:
    async def scenario(w: World) -> None:
        tries = []

        @retry(on=ValueError, wait=1000.0)
        async def fail() -> None:
            tries.append(1)
            raise ValueError

        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await w.sleep(1)
            group.cancel_scope.cancel()
        assert len(tries) == 1
        assert w.now() < 900

    async_world.run(scenario)


@pytest.mark.rule("F9", "F12")
def test_a_group_that_is_no_exception_passes_untried_and_uncounted(
    make_sync: Maker, world: World
) -> None:
    async def scenario(w: World) -> None:
        inner = breaker(on=BaseExceptionGroup)
        group = BaseExceptionGroup("mixed", [LookupError(), Quit()])
        tries = []

        def fail() -> None:
            tries.append(1)
            raise group

        with pytest.raises(BaseExceptionGroup) as caught:
            make_sync()(inner(fail))()
        assert caught.value is group
        assert len(tries) == 1
        assert (inner.stats().ignored, inner.stats().failures) == (1, 0)

    world.run(scenario)


@pytest.mark.rule("F9", "F12")
def test_a_group_that_is_no_exception_passes_through_async_functions_too(
    make: Maker, async_world: World
) -> None:
    async def scenario(w: World) -> None:
        group = BaseExceptionGroup("mixed", [LookupError(), Quit()])
        tries = []

        async def fail() -> None:
            tries.append(1)
            raise group

        with pytest.raises(BaseExceptionGroup) as caught:
            await make()(fail)()
        assert caught.value is group
        assert len(tries) == 1

    async_world.run(scenario)


@pytest.mark.rule("F9", "C1", "L7")
@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Quit, asyncio.CancelledError]
)
def test_what_is_no_exception_is_nothing_to_the_new_counts(
    world: World, kind: type[BaseException]
) -> None:
    """Neither an accept nor a failure, no sample, nothing to fall back from, nothing to keep."""

    async def scenario(w: World) -> None:
        everything: Any = lambda _: True  # noqa: E731  # a predicate as short as its name
        throttled, limited = throttle(minimum=1, on=everything), adaptive_limit(algorithm="aimd")
        helped: Any = fallback(default=1, on=everything)
        kept: Any = cache(9, stale=9)
        places = bulkhead(1)
        stack = pipeline(helped, kept, throttled, limited, places)

        def fail() -> None:
            raise kind

        for _ in range(3):
            with pytest.raises(kind):
                stack.call(fail)
        assert (throttled.stats().requests, throttled.stats().probability) == (0, 0)
        assert (limited.stats().in_flight, limited.stats().latency) == (0, None)
        assert (helped.stats().used, kept.stats().size) == (0, 0)
        assert (places.stats().in_flight, places.stats().calls) == (0, 3)

    world.run(scenario)


@pytest.mark.rule("F9", "L1", "L7")
@pytest.mark.parametrize("where", ["running", "waiting"])
def test_cancellation_gives_every_place_back(async_world: World, where: str) -> None:
    async def scenario(w: World) -> None:
        pool, limited = bulkhead(1, queue=1), adaptive_limit(initial=1, queue=1)
        throttled, hedged, rate = throttle(), hedge(1000), rate_limit(1, per=1000, max_wait=5000)
        for policy in (pool, limited, throttled, hedged, rate):
            fn = policy(anyio.sleep_forever)
            async with anyio.create_task_group() as group:
                group.start_soon(fn)
                await w.sleep(0.1)
                if where == "waiting":  # of those who make nobody wait: another one that runs
                    with anyio.move_on_after(0.1 * w.unit):
                        await fn()
                group.cancel_scope.cancel()
        for again in (pool.call, limited.call, throttled.call, hedged.call):
            assert await again(returns, 5) == 5, "there is room again"
        assert (pool.stats().in_flight, pool.stats().queued) == (0, 0)
        assert (limited.stats().in_flight, limited.stats().queued) == (0, 0)
        assert (throttled.stats().requests, throttled.stats().accepts) == (1, 1)
        assert (rate.stats().calls, rate.stats().queued, rate.stats().rejected) == (1, 0, 0)

    async_world.run(scenario)


async def returns(number: int) -> int:
    return number


# F13


@pytest.mark.rule("F13")
def test_a_decorated_function_carries_its_outermost_policy(make: Maker) -> None:
    async def price() -> None: ...

    inner, outer = breaker(), make()
    stacked = outer(inner(price))
    assert stacked.policy is outer  # the attribute
    assert policy_of(stacked) is outer
    assert policy_of(stacked.__wrapped__) is inner
    assert policy_of(price) is None
    assert not hasattr(price, "policy")


@pytest.mark.rule("F13")
def test_policy_of_finds_it_on_methods_and_partials_of_nothing_else() -> None:
    policy = breaker()

    class Shop:
        policy = "returns within a fortnight"

        @policy_here
        def price(self) -> None: ...

        @staticmethod
        @policy_here
        def rate() -> None: ...

        @classmethod
        @policy_here
        def build(cls) -> None: ...

    assert (
        policy_of(Shop.price)
        is policy_of(Shop().price)
        is policy_of(Shop.rate)
        is policy_of(Shop.build)
        is policy_here
    )
    assert policy_of(Shop) is None
    assert policy_of(policy(len)) is policy


policy_here = breaker("here")


# F14


@pytest.mark.rule("F14")
def test_policies_lists_the_living_ones_oldest_first_and_holds_them_weakly(make: Maker) -> None:
    first, second, third = make("first"), make("second"), make("third")
    ours = [first, second, third]
    assert [policy for policy in policies() if policy in ours] == ours
    gone = weakref.ref(second)
    ours.remove(second)
    del second
    gc.collect()
    assert gone() is None
    assert [policy for policy in policies() if policy in ours] == [first, third]
    fn = third(nothing)
    alive = weakref.ref(third)
    ours.clear()
    del third
    gc.collect()
    assert alive() in policies(), "a decorated function keeps its policy"
    del fn
    gc.collect()
    assert alive() is None


@pytest.mark.rule("F14")
@each_where_it_is
def test_every_policy_has_what_the_protocol_says(make: Maker, world: World) -> None:
    async def scenario(w: World) -> None:
        policy: Policy = make("payments")
        assert isinstance(policy, Policy)
        assert policy.name == "payments"
        kind = "protect" if isinstance(policy, Protection) else policy.kind
        assert MAKERS[kind] is make
        assert await w.call(policy.call, w.function(lambda: 2)) == 2
        assert policy.stats() is not None
        assert repr(policy)

    world.run(scenario)


@pytest.mark.rule("F14")
def test_the_list_of_policies_may_be_read_while_policies_come_and_go() -> None:
    def churn() -> int:
        for _ in range(300):
            breaker()
        return 1

    def look() -> int:
        for _ in range(100):
            assert all(isinstance(policy, Policy) for policy in policies())
        return 2

    assert in_threads(churn, look, churn, look) == [1, 2, 1, 2]


@pytest.mark.rule("F9", "D4")
def test_a_trio_cancellation_is_never_converted_by_a_policy(make: Maker) -> None:
    caught: list[BaseException] = []

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        except BaseException as error:
            caught.append(error)
            raise

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(make()(hang))
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught

    import trio.testing  # noqa: PLC0415

    trio.run(main)
    assert isinstance(caught[0], trio.Cancelled)
    assert not isinstance(caught[0], DeadlineExceeded)

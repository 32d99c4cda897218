"""`play`: a script on virtual time, with a spy on each side of every policy.

It is long because whoever calls, spies or depends has a twin: one for tasks, one for threads.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal, cast

import anyio

from resilient._core.checks import refuse
from resilient._policies.common.keyed import OfKey
from resilient._policies.common.policy import Policy
from resilient._policies.common.waiting import on_loop
from resilient._policies.common.widening import Widening
from resilient._policies.pipeline import Pipeline
from resilient._runtime import clock
from resilient._runtime.keying import KeyOf, hashable, key_of
from resilient.errors import DeadlineExceeded, Rejected
from resilient.events import Event, StateChanged, subscribe
from resilient.testing import virtual
from resilient.testing.jumping import repeatable_trio
from resilient.testing.recorders import reset_all, seeded
from resilient.testing.scripts.script import Dependency, Fail, Hang, Script, lasting
from resilient.testing.scripts.threads import Interrupted, Turns
from resilient.testing.scripts.trace import NO_KEY, Attempt, Called, Entry, Passage, Trace, Visit
from resilient.testing.virtual import VirtualTime, virtual_time

On = Literal["asyncio", "trio", "threads"]
LONGEST: Final = 1e6
"""Seconds beyond those of a script after which what still waits will wait for ever."""
Function = Callable[[Any], Any]


def play(
    policy: Policy | Widening[Any], script: Script, *, on: On = "asyncio", seed: int = 0
) -> Trace:
    """Make the calls of *script* through *policy*, under virtual time, and say what happened.

    Calls overlap as the script says. Every living policy starts as new and is left as new, and
    draws from `random.Random(seed)`: the same script gives the same trace. ::

        trace = play(breaker("payments", cooldown=2), [Step(n, Fail(0.1)) for n in range(20)])
        assert len(trace.attempts) == 13
        trace.check()

    Args:
        policy: a policy, or a pipeline of several.
        script: `Step` and `Outage` in any order.
        on: ``"asyncio"``, ``"trio"``, or ``"threads"``, where calls are sync, each in a thread of
            its own, and the threads take turns.
        seed: of the dice.

    Raises:
        TypeError: *policy* is none, or has no place in plain threads, as a hedge.
        RuntimeError: a loop runs here already.
        ValueError: *on* is another word, or *policy* starts threads of its own, as a cache does
            that refreshes.
    """
    if on not in {"asyncio", "trio", "threads"}:
        refuse("on", on, '"asyncio", "trio" or "threads"')
    if on_loop():
        raise RuntimeError(
            "play() runs a loop of its own: write this test as `def`, not `async def`"
        )
    with contextlib.ExitStack() as stack:
        time = virtual.current()
        if time is None:
            time = stack.enter_context(virtual_time(seed=seed, fresh=True))
        else:
            stack.callback(reset_all)
            stack.enter_context(seeded(seed, fresh=True))
        playing = _Playing(policy, Dependency(script), on, time)
        stack.enter_context(subscribe(playing.note))
        if on == "asyncio":
            time.run(playing.all)
        elif on == "trio":
            import trio  # noqa: PLC0415  # only where trio is asked for

            stack.enter_context(repeatable_trio(seed))
            trio.run(playing.all, clock=time.trio_clock())
        else:
            playing.all_in_threads()
        return playing.trace()


class _Playing:
    """One run of a script."""

    def __init__(
        self, policy: Policy | Widening[Any], dependency: Dependency, on: On, time: VirtualTime
    ) -> None:
        self._policy, self._dependency, self._on, self._time = policy, dependency, on, time
        self._zero, self._longest = clock.now(), LONGEST + dependency.length
        self._calls = [Called(step, step.at) for step in dependency.steps]
        self._call: contextvars.ContextVar[Called | None] = contextvars.ContextVar(
            "call", default=None
        )
        self._attempts: list[Attempt] = []
        self._events: list[Event] = []
        layers = list(_layers(policy))
        kinds = tuple(layer.kind for layer in layers)
        self._passages = [
            Passage(layer, kinds[:n], kinds[n + 1 :], on) for n, layer in enumerate(layers)
        ]
        is_async = on != "threads"
        if not is_async and any(_refreshes(layer) for layer in layers):
            raise ValueError(
                "a cache that refreshes in the background starts threads of its own, which take no "
                'turns: play it on="asyncio" or on="trio"'
            )
        fn: Function = self._depend if is_async else self._depend_in_a_thread
        for passage in reversed(self._passages):
            fn = (self._spied if is_async else self._spied_in_a_thread)(passage, fn)
        self._fn = fn

    def now(self) -> float:
        """Seconds since the script began."""
        return clock.now() - self._zero

    # Calls.

    async def all(self) -> None:
        """Make every call, in tasks."""
        self._zero = clock.now()
        with anyio.move_on_after(self._longest):
            async with anyio.create_task_group() as group:
                for call in self._calls:
                    await anyio.sleep(max(0.0, call.step.at - self.now()))
                    group.start_soon(self._make, call)

    async def _make(self, call: Called) -> None:
        call.began = self.now()
        self._call.set(call)
        patience = math.inf if call.step.cancel is None else call.step.cancel
        with anyio.move_on_after(patience) as scope, self._ends(call):
            call.result = await cast("Awaitable[Any]", self._fn(call.step.key))
        if scope.cancelled_caught:
            call.how = "cancelled"

    def all_in_threads(self) -> None:
        """Make every call, in threads that take turns."""
        turns = Turns(self._time)
        with clock.install(turns):
            for call in self._calls:
                make = functools.partial(self._make_in_a_thread, call, turns)
                turns.add(make, call.step.at)
            turns.play(self._longest)

    def _make_in_a_thread(self, call: Called, turns: Turns) -> None:
        call.began = self.now()
        self._call.set(call)
        if call.step.cancel is not None:
            turns.leave(call.step.cancel)
        with contextlib.suppress(Interrupted), self._ends(call):
            call.result = self._fn(call.step.key)

    @contextlib.contextmanager
    def _ends(self, call: Called) -> Iterator[None]:
        """Note how a call ends; an error of its own is no error of the script."""
        try:
            yield
            call.how = "answered"
        except Exception as error:  # noqa: BLE001  # whatever the policy raises is what is looked at
            call.error = error
            if isinstance(error, Rejected):
                call.how = "rejected"
            else:
                call.how = "expired" if isinstance(error, DeadlineExceeded) else "failed"
        except BaseException:
            hung = self.now() >= self._longest - 1
            call.how = "hung" if hung else "cancelled"
            raise
        finally:
            call.ended = self.now()

    # What they call.

    def _begin_attempt(self) -> tuple[Attempt, float, Callable[[], object]]:
        """The attempt, how long it lasts, and what it comes to."""
        call, attempt = self._call.get(), Attempt(self.now())
        number = 0 if call is None else len(call.attempts)
        step = None if call is None else call.step
        self._attempts.append(attempt)
        if call is not None:
            call.attempts.append(attempt)
        outcome = self._dependency.outcome(step, number, attempt.began)
        total = len(self._attempts)

        def ends() -> object:
            if isinstance(outcome, Hang):
                raise TimeoutError("the dependency hung for an hour")
            if isinstance(outcome, Fail):
                raise outcome.error(f"attempt {total} of the script")
            return f"answer {total}" if outcome.result is None else outcome.result

        return attempt, lasting(outcome), ends

    async def _depend(self, key: object) -> object:  # noqa: ARG002  # for what reads it
        attempt, seconds, ends = self._begin_attempt()
        with self._notes(attempt):
            await anyio.sleep(seconds)
            attempt.result = ends()
            return attempt.result

    def _depend_in_a_thread(self, key: object) -> object:  # noqa: ARG002  # for what reads it
        attempt, seconds, ends = self._begin_attempt()
        with self._notes(attempt):
            if seconds:
                clock.sleep(seconds)
            attempt.result = ends()
            return attempt.result

    @contextlib.contextmanager
    def _notes(self, attempt: Attempt) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            attempt.error = error
            raise
        finally:
            attempt.ended = self.now()

    # Spies.

    def _spied(self, passage: Passage, inner: Function) -> Function:
        here: contextvars.ContextVar[Visit | None] = contextvars.ContextVar("visit", default=None)

        async def dependency(key: Any) -> Any:
            with self._runs(passage, here.get()) as run:
                run.result = await cast("Awaitable[Any]", inner(key))
                return run.result

        guarded, find = _guarded(passage.policy, dependency)

        async def visit(key: Any) -> Any:
            with self._visits(passage, find(key), here) as one:
                one.result = await guarded(key)
                return one.result

        return visit

    def _spied_in_a_thread(self, passage: Passage, inner: Function) -> Function:
        here: contextvars.ContextVar[Visit | None] = contextvars.ContextVar("visit", default=None)

        def dependency(key: Any) -> Any:
            with self._runs(passage, here.get()) as run:
                run.result = inner(key)
                return run.result

        guarded, find = _guarded(passage.policy, dependency)

        def visit(key: Any) -> Any:
            with self._visits(passage, find(key), here) as one:
                one.result = guarded(key)
                return one.result

        return visit

    @contextlib.contextmanager
    def _visits(
        self, passage: Passage, key: object, here: contextvars.ContextVar[Visit | None]
    ) -> Iterator[Visit]:
        call = self._call.get()
        cancel = None if call is None else call.step.cancel
        cancel_at = math.inf if call is None or cancel is None else call.began + cancel
        visit = Visit(self.now(), key=key, cancel_at=cancel_at)
        passage.visits.append(visit)
        passage.entries.append(Entry("arrived", visit.began, visit))
        token = here.set(visit)
        try:
            with self._notes(visit):
                yield visit
        finally:
            here.reset(token)
            visit.stats = self._stats(passage, key)
            passage.entries.append(Entry("left", self.now(), visit, stats=visit.stats))

    @contextlib.contextmanager
    def _runs(self, passage: Passage, visit: Visit | None) -> Iterator[Attempt]:
        run = Attempt(self.now())
        (passage.strays if visit is None else visit.runs).append(run)
        stats = self._stats(passage, None if visit is None else visit.key)
        passage.entries.append(Entry("began", run.began, visit, run, stats=stats))
        try:
            with self._notes(run):
                yield run
        finally:
            passage.entries.append(Entry("ended", self.now(), visit, run))

    def _stats(self, passage: Passage, key: object) -> Any:
        """Those of one key, where they are looked at."""
        policy = passage.policy
        if policy.kind not in {"breaker", "adaptive_limit"} or key is NO_KEY:
            return None
        return policy.of(key).stats() if policy._states.is_keyed else policy.stats()

    # What is left.

    def note(self, event: Event) -> None:
        """Keep an event, with its time as that of the script."""
        event = dataclasses.replace(event, at=event.at - self._zero)
        self._events.append(event)
        if isinstance(event, StateChanged):
            for passage in self._passages:
                if passage.policy.name == event.policy and passage.policy.kind == event.kind:
                    passage.entries.append(Entry("moved", event.at, move=event))

    def trace(self) -> Trace:
        """What happened."""
        return Trace(
            calls=self._calls,
            attempts=self._attempts,
            transitions=[one for one in self._events if isinstance(one, StateChanged)],
            events=self._events,
            stats=self._policy.stats(),
            seconds=self.now(),
            passages=self._passages,
        )


def _layers(policy: Any) -> Iterator[Any]:
    """The policies of a stack, outermost first."""
    if isinstance(policy, Pipeline):
        for member in policy.policies:
            yield from _layers(member)
    elif isinstance(policy, OfKey):
        raise TypeError(
            f"play() takes no handle, such as {policy!r}: play the policy itself, with steps of "
            "that key"
        )
    elif isinstance(policy, Policy) and not isinstance(policy, type):
        yield policy
    else:
        raise TypeError(f"play() takes a policy or a pipeline, not {policy!r}")


def _guarded(policy: Any, dependency: Function) -> tuple[Function, Function]:
    """*dependency* under a policy, and how that finds the key of a call of it."""
    dependency.__qualname__ = "dependency"  # which names a policy that has no name yet
    guarded, find = policy(dependency), _finder(policy, dependency)

    def found(key: object) -> object:
        try:
            return None if find is None else hashable(find(key))
        except Exception:  # noqa: BLE001  # the call will raise it
            return NO_KEY

    return guarded, found


def _finder(policy: Any, fn: Function) -> KeyOf | None:
    """How a policy reads the key off a call of *fn*; ``None`` if it has none."""
    match policy.kind:
        case "singleflight" | "cache":
            find: KeyOf = policy._finder(fn)
            return find
        case "retry":
            key = policy._settings.key
            return None if key is None else key_of(key, fn)
    states = getattr(policy, "_states", None)
    return None if states is None else states.finder(fn)


def _refreshes(policy: Any) -> bool:
    """Whether it runs a function when nobody waits for it."""
    if policy.kind != "cache":
        return False
    config = policy._settings.config
    return config.refresh_ahead is not None or config.stale > 0

"""Bulkhead against a model, and in a crowd: no place is ever lost.

First the model: it knows who gets in and when, whoever comes, leaves or is cut, and whatever
becomes of the limit, as long as no two of these happen at one instant. Then the crowd: there
everything happens at one instant, in an order that only the dice know, and at the end the
places must all be there, and the counts add up.
"""

from __future__ import annotations

import gc
import math
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import Bulkhead, BulkheadFull, DeadlineExceeded, bulkhead, deadline
from tests.policies.test_bulkhead import at_rest
from tests.worlds import World, in_threads, world_named

# The model.


@dataclass(frozen=True)
class Caller:
    """Comes at a moment and holds its place for a while, unless something comes between."""

    key: str
    comes: float
    holds: float
    cancelled_after: float
    limit: float


@dataclass(frozen=True)
class Situation:
    limit: int
    room: int
    max_wait: float
    callers: list[Caller]
    resizes: list[tuple[float, int]]


@dataclass
class Fate:
    """When a caller got in, if ever, and how it ended."""

    began: float | None = None
    how: str = "?"


@dataclass
class Pool:
    """The places of one key."""

    inside: set[int] = field(default_factory=set)
    line: list[int] = field(default_factory=list)


class Model:
    """The laws L1 to L3, one event after the other."""

    def __init__(self, situation: Situation) -> None:
        self.told = situation
        self.limit = situation.limit
        self.fates = [Fate() for _ in situation.callers]
        self.pools = {caller.key: Pool() for caller in situation.callers}

    def run(self) -> list[Fate]:
        coming = sorted((caller.comes, n) for n, caller in enumerate(self.told.callers))
        resizes = sorted(self.told.resizes)
        while True:
            ends = [
                self.next_end(n) for pool in self.pools.values() for n in (*pool.inside, *pool.line)
            ]
            now, what, who, how = min(
                (
                    *ends,
                    *((at, "comes", n, "") for at, n in coming[:1]),
                    *((at, "resize", limit, "") for at, limit in resizes[:1]),
                ),
                default=(math.inf, "", 0, ""),
            )
            if now == math.inf:
                return self.fates
            if what == "resize":
                self.limit = who
                resizes.pop(0)
            elif what == "comes":
                coming.pop(0)
                self.arrive(who)
            else:
                self.leave(who, how)
            for pool in self.pools.values():
                self.serve(pool, now)

    def next_end(self, n: int) -> tuple[float, str, int, str]:
        """How the stay of caller *n* will end, inside or in the queue, if nobody serves it."""
        caller, began = self.told.callers[n], self.fates[n].began
        waiting = began is None
        ways = [
            (caller.comes + caller.cancelled_after, "cancelled"),
            (caller.comes + caller.limit, "deadline" if waiting else "cut"),
            (caller.comes + self.told.max_wait, "max_wait")
            if began is None
            else (began + caller.holds, "ran"),
        ]
        at, how = min(ways)
        return at, "ends", n, how

    def arrive(self, n: int) -> None:
        pool = self.pools[self.told.callers[n].key]
        if len(pool.line) < self.told.room or (not pool.line and len(pool.inside) < self.limit):
            pool.line.append(n)
        else:
            self.fates[n].how = "full"

    def leave(self, n: int, how: str) -> None:
        pool = self.pools[self.told.callers[n].key]
        self.fates[n].how = how
        pool.inside.discard(n)
        if n in pool.line:
            pool.line.remove(n)

    def serve(self, pool: Pool, now: float) -> None:
        while pool.line and len(pool.inside) < self.limit:
            n = pool.line.pop(0)
            pool.inside.add(n)
            self.fates[n].began = now


def play(name: str, situation: Situation, keyed: bool) -> list[Fate]:
    """What really happens."""
    fates = [Fate() for _ in situation.callers]

    async def scenario(w: World) -> None:
        policy = bulkhead(
            situation.limit,
            queue=situation.room,
            max_wait=situation.max_wait,
            key=(lambda n, caller: caller.key) if keyed else None,
        )

        @policy
        async def work(n: int, caller: Caller) -> None:
            fates[n].began = w.now()
            await w.sleep(caller.holds)

        async def call(n: int, caller: Caller) -> None:
            await w.sleep(caller.comes)
            with anyio.move_on_after(caller.cancelled_after) as scope:
                try:
                    async with deadline(caller.limit):
                        await work(n, caller)
                        fates[n].how = "ran"
                except BulkheadFull as error:
                    fates[n].how = error.reason
                except DeadlineExceeded as error:
                    fates[n].how = "cut" if error.started else "deadline"
            if scope.cancelled_caught:
                fates[n].how = "cancelled"

        async def resize(at: float, limit: int) -> None:
            await w.sleep(at)
            policy.resize(limit)

        async with anyio.create_task_group() as group:
            for n, caller in enumerate(situation.callers):
                group.start_soon(call, n, caller)
            for at, limit in situation.resizes:
                group.start_soon(resize, at, limit)
        stats = policy.stats()
        assert stats.calls == sum(fate.began is not None for fate in fates)
        assert stats.rejected == sum(fate.how in {"full", "max_wait"} for fate in fates)
        last = situation.resizes[-1][1] if situation.resizes else situation.limit
        for key in set(policy.keys()):
            at_rest(policy.of(key), last)
        if not keyed:
            at_rest(policy, last)

    with world_named(name) as world:
        world.run(scenario)
    return fates


never = st.just(math.inf)


@st.composite
def situations(draw: st.DrawFn, keys: str) -> Situation:
    """No two things at one instant, so that there is one right answer.

    Everybody comes at a whole second and holds its place for a power of two more than whole
    ones, each its own; who leaves does it a few milliseconds after a whole second.
    """
    count = draw(st.integers(2, 6))
    moments = draw(st.permutations(range(9)))

    def leaves(n: int, later: float) -> st.SearchStrategy[float]:
        return never | st.integers(0, 5).map(lambda whole: whole + 0.001 * (n + 1) + later)

    callers = [
        Caller(
            draw(st.sampled_from(keys)),
            float(moments[n]),
            draw(st.integers(0, 5)) + 2.0 ** -(n + 2),
            draw(leaves(n, 0.0)),
            draw(leaves(n, 0.0001)),
        )
        for n in range(count)
    ]
    changes = draw(st.lists(st.integers(1, 4), max_size=min(3, 9 - count)))
    resizes = sorted((float(at), to) for at, to in zip(moments[count:], changes, strict=False))
    return Situation(
        draw(st.integers(1, 3)),
        draw(st.integers(0, 4)),
        draw(never | st.integers(0, 4).map(lambda whole: whole + 0.00001)),
        callers,
        resizes,
    )


@pytest.mark.rule("L1", "L2", "L3")
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("keys", ["a", "ab"])
@settings(max_examples=120)
@given(data=st.data())
def test_whoever_comes_and_leaves_the_model_knows_who_gets_in_and_when(
    name: str, keys: str, data: st.DataObject
) -> None:
    situation = data.draw(situations(keys))
    expected = Model(situation).run()
    found = play(name, situation, keyed=len(keys) > 1)
    assert [fate.how for fate in found] == [fate.how for fate in expected]
    assert [fate.began for fate in found] == [
        None if fate.began is None else pytest.approx(fate.began) for fate in expected
    ]


# The crowd.


class Crowd:
    """What a crowd does to one bulkhead, and what must come of it."""

    def __init__(self, w: World, seed: int, keyed: bool) -> None:
        self.w, self.dice = w, random.Random(seed)
        self.limit = self.most = self.dice.randint(1, 3)
        self.keys = "ab" if keyed else "a"
        self.policy: Bulkhead = bulkhead(
            self.limit,
            queue=self.dice.randint(0, 6),
            max_wait=self.dice.choice((None, 0.25 * w.unit, 1.0 * w.unit)),
            key=(lambda key, _: key) if keyed else None,
        )
        self.keyed = keyed
        self.counts: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        self.changing = threading.Lock()
        self.held: list[Any] = []

    def place(self, key: str) -> Any:
        return self.policy.of(key) if self.keyed else self.policy

    def count(self, what: str) -> None:
        with self.changing:
            self.counts[what] += 1

    def enter(self, key: str) -> None:
        with self.changing:
            self.counts["ran"] += 1
            self.inside[key] += 1
            assert self.inside[key] <= self.most, "more at once than there ever were places"

    def leave(self, key: str) -> None:
        with self.changing:
            self.inside[key] -= 1

    def resize(self, limit: int) -> None:
        with self.changing:
            self.most = max(self.most, limit)
            self.limit = limit
            self.policy.resize(limit)

    def hold(self) -> None:
        """Take a place by hand: to be closed by anybody, or to be lost."""
        try:
            call = self.place(self.dice.choice(self.keys)).admit()
        except BulkheadFull:
            self.count("rejected")
            return
        except DeadlineExceeded:
            return
        self.count("ran")
        if self.dice.random() < 0.3:
            circle: list[Any] = [call]
            circle.append(circle)
        else:
            self.held.append(call)

    def _release_evicted(self) -> None:
        while self.held and self.dice.random() < 0.7:
            try:
                self.held.pop().close()
            except IndexError:
                return

    def check(self) -> None:
        while self.held:
            self.held.pop().close()
        gc.collect()
        stats = self.policy.stats()
        assert (stats.in_flight, stats.queued) == (0, 0)
        assert stats.calls == self.counts["ran"]
        assert stats.rejected == self.counts["rejected"]
        for key in self.policy.keys() if self.keyed else "a":
            at_rest(self.place(str(key)), self.limit)
        assert not +self.inside


CALLERS = 8


async def pause(w: World, dice: random.Random) -> None:
    """No time, or a little, which is the same for many, so that they meet."""
    if dice.random() < 0.7:
        await anyio.lowlevel.checkpoint()
    else:
        await w.sleep(dice.choice((0.25, 0.25, 0.5)))


async def async_crowd(crowd: Crowd) -> None:
    w, dice, policy = crowd.w, crowd.dice, crowd.policy
    scopes: list[anyio.CancelScope] = []

    async def body(key: str, steps: int) -> None:
        crowd.enter(key)
        try:
            for _ in range(steps):
                await pause(w, dice)
            if dice.random() < 0.1:
                raise LookupError
        finally:
            crowd.leave(key)

    fn = policy(body)

    async def block(key: str, steps: int) -> None:
        async with crowd.place(key):
            await body(key, steps)

    async def call() -> None:
        limit = dice.choice((math.inf, math.inf, 0.25, 0.5)) * w.unit
        try:
            async with deadline(limit):
                use = fn if dice.random() < 0.7 else block
                await use(dice.choice(crowd.keys), dice.randint(0, 3))
        except BulkheadFull:
            crowd.count("rejected")
        except (LookupError, DeadlineExceeded):
            pass

    async def caller() -> None:
        for _ in range(6):
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await call()
            scopes.remove(scope)
            if dice.random() < 0.3:
                await pause(w, dice)
        crowd.count("left")

    async def control() -> None:
        for _ in range(30):
            deed = dice.random()
            if deed < 0.4 and scopes:
                for scope in dice.sample(scopes, dice.randint(1, len(scopes))):
                    scope.cancel()
            elif deed < 0.55:
                crowd.resize(dice.randint(1, 4))
            elif deed < 0.75:
                crowd.hold()
            crowd._release_evicted()  # in the same tick in which others were cancelled
            await pause(w, dice)
        while crowd.held:
            crowd.held.pop().close()
        gc.collect(0)

    async with anyio.create_task_group() as group:
        for _ in range(CALLERS):
            group.start_soon(caller)
        group.start_soon(control)
        group.start_soon(collect, w, crowd)


async def collect(w: World, crowd: Crowd) -> None:
    """Calls that were lost are found again now and then, as they would be in the end."""
    while crowd.counts["left"] < CALLERS:
        await w.sleep(1)
        gc.collect()


def crowd_of_threads(crowd: Crowd) -> None:
    w = crowd.w

    def body(key: str, steps: int, dice: random.Random) -> None:
        crowd.enter(key)
        try:
            for _ in range(steps):
                w.time.advance(0.25)  # type: ignore[attr-defined]  # plain threads have virtual time
            if dice.random() < 0.1:
                raise LookupError
        finally:
            crowd.leave(key)

    fn = crowd.policy(lambda key, rest: body(key, *rest))

    def work(seed: int) -> None:
        try:
            calls(random.Random(seed))
        finally:
            crowd.count("left")

    def calls(dice: random.Random) -> None:
        for _ in range(25):
            key, steps = dice.choice(crowd.keys), dice.randint(0, 2)
            try:
                with deadline(dice.choice((math.inf, math.inf, 0.25, 0.5))):
                    if dice.random() < 0.7:
                        fn(key, (steps, dice))
                    else:
                        with crowd.place(key):
                            body(key, steps, dice)
            except BulkheadFull:
                crowd.count("rejected")
            except (LookupError, DeadlineExceeded):
                pass

    def control() -> None:
        for _ in range(40):
            if crowd.dice.random() < 0.3:
                crowd.resize(crowd.dice.randint(1, 4))
            elif crowd.dice.random() < 0.5:
                crowd.hold()
            crowd._release_evicted()
            w.time.advance(0.125)  # type: ignore[attr-defined]  # the same
        while crowd.held:
            crowd.held.pop().close()
        while crowd.counts["left"] < len(
            seeds
        ):  # a collection does nothing while another thread has one
            gc.collect()
            brief.wait(0.0005)

    brief = threading.Event()
    seeds = [crowd.dice.random() for _ in range(6)]
    works = [lambda seed=seed: work(int(seed * 2**32)) for seed in seeds]
    outcomes = in_threads(*works, control)
    assert outcomes == [None] * 7


@pytest.fixture
def crowded() -> Iterator[None]:
    """Leave what is there already out of every collection: then it takes no time.

    And let threads take turns as often as they can.
    """
    gc.collect()
    gc.freeze()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
    gc.unfreeze()


@pytest.mark.rule("L1", "L2", "L3", "F4", "F9")
@pytest.mark.usefixtures("crowded")
@pytest.mark.parametrize("name", ["asyncio", "uvloop", "trio", "threads"])
@pytest.mark.parametrize("keyed", [False, True], ids=["one", "keyed"])
def test_in_a_crowd_no_place_is_lost_and_the_counts_add_up(name: str, keyed: bool) -> None:
    seeds, ran = 2 if name == "uvloop" else 100, 0
    for seed in range(seeds):
        with world_named(name) as world:
            crowds: list[Crowd] = []

            async def scenario(w: World, seed: int = seed, crowds: list[Crowd] = crowds) -> None:
                crowds.append(Crowd(w, seed, keyed))
                if w.is_async:
                    await async_crowd(crowds[0])
                else:
                    crowd_of_threads(crowds[0])

            world.run(scenario)
            crowds[0].check()
            ran += crowds[0].counts["ran"]
    assert ran > 10 * seeds, "there was no crowd"

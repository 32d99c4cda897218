"""Caches of one thing tell each other what is no longer true."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from resilient import Cache, cache
from resilient.integrations.invalidation import InProcessInvalidation, Invalidation
from tests.policies.caches import PATIENCE, Source
from tests.worlds import World, in_threads


def made(w: World, channel: Invalidation, **settings: Any) -> Cache[Any]:
    return cache(1000 * w.unit, key=lambda key: key, invalidation=channel, **settings)


@pytest.mark.rule("C6")
def test_what_one_cache_invalidates_all_of_the_channel_forget(world: World) -> None:
    async def scenario(w: World) -> None:
        channel = InProcessInvalidation()
        ours, theirs, other = Source(w), Source(w), Source(w)
        policies = [made(w, channel), made(w, channel), made(w, InProcessInvalidation())]
        fns = [
            policy(source.fn)
            for policy, source in zip(policies, (ours, theirs, other), strict=True)
        ]
        for key in ("a", "b"):
            for fn in fns:
                await w.call(fn, key)
        policies[0].invalidate("a")
        for key in ("a", "b"):
            for fn in fns:
                await w.call(fn, key)
        assert (ours.runs, theirs.runs, other.runs) == (3, 3, 2)

    world.run(scenario)


@pytest.mark.rule("C6")
def test_what_is_heard_while_a_run_is_under_way_is_not_kept(async_world: World) -> None:
    async def scenario(w: World) -> None:
        channel = InProcessInvalidation()
        source = Source(w, lasts=2)
        policy = made(w, channel)
        fn: Callable[..., Any] = policy(source.fn)

        async def telling() -> None:
            await w.sleep(1)
            channel.publish("a")

        assert await w.together(lambda: fn("a"), telling) == ["value 0", None]
        assert await fn("a") == "value 1"

    async_world.run(scenario)


@pytest.mark.rule("C6")
def test_clearing_is_of_one_cache_alone(world: World) -> None:
    async def scenario(w: World) -> None:
        channel = InProcessInvalidation()
        source = Source(w)
        one, other = made(w, channel), made(w, channel)
        fn = other(source.fn)
        await w.call(fn, "a")
        one.clear()
        await w.call(fn, "a")
        assert source.runs == 1

    world.run(scenario)


@pytest.mark.rule("C6")
def test_a_channel_holds_its_caches_weakly() -> None:
    channel = InProcessInvalidation()
    policy = cache(10.0, invalidation=channel)
    gone = weakref.ref(policy)
    del policy
    gc.collect()
    assert gone() is None
    channel.publish("a")


class Remote:
    """A channel of one's own, whose messages arrive later, its own too, in another thread."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Hashable], None]] = []
        self.sent: list[Hashable] = []

    def publish(self, key: Hashable, /) -> None:
        self.sent.append(key)

    def subscribe(self, callback: Callable[[Hashable], None], /) -> None:
        self.callbacks.append(callback)

    def deliver(self) -> None:
        sent, self.sent = self.sent, []

        def work() -> None:
            for key in sent:
                for callback in self.callbacks:
                    callback(key)

        assert in_threads(work) == [None]


@pytest.mark.rule("C6")
def test_any_channel_will_do_and_what_is_heard_is_not_told_again(world: World) -> None:
    async def scenario(w: World) -> None:
        channel = Remote()
        ours, theirs = Source(w), Source(w)
        policy = made(w, channel)
        one, other = policy(ours.fn), made(w, channel)(theirs.fn)
        await w.call(one, "a")
        await w.call(other, "a")
        policy.invalidate("a")
        assert channel.sent == ["a"]
        await w.call(one, "a")
        await w.call(other, "a")
        assert (ours.runs, theirs.runs) == (2, 1), "ours at once, theirs when they hear"
        channel.deliver()
        assert not channel.sent
        await w.call(other, "a")
        assert theirs.runs == 2

    world.run(scenario)


@pytest.mark.rule("C6")
def test_a_channel_that_fails_is_the_callers_to_know_and_the_key_is_gone_here(
    world: World,
) -> None:
    class Broken(Remote):
        def publish(self, key: Hashable, /) -> None:
            raise ConnectionError("no broker")

    async def scenario(w: World) -> None:
        source = Source(w)
        policy = made(w, Broken())
        fn = policy(source.fn)
        await w.call(fn, "a")
        with pytest.raises(ConnectionError, match="no broker"):
            policy.invalidate("a")
        await w.call(fn, "a")
        assert source.runs == 2

    world.run(scenario)


@pytest.mark.rule("C6", "F4")
def test_threads_may_subscribe_and_publish_at_once() -> None:
    channel = InProcessInvalidation()
    kept: list[Cache[Any]] = []
    heard: list[Hashable] = []
    channel.subscribe(heard.append)

    def work() -> None:
        for number in range(50):
            kept.append(cache(10.0, invalidation=channel))
            channel.publish(number)

    assert in_threads(*[work] * 4) == [None] * 4
    assert sorted(heard, key=repr) == sorted([*range(50)] * 4, key=repr)
    runs: list[str] = []
    fns = [policy(runs.append) for policy in kept]
    for fn in fns[:10]:
        fn("a")
    before = len(runs)
    kept[0].invalidate(kept[0].key_of(runs.append, "a"))
    for fn in fns[:10]:
        fn("a")
    assert len(runs) == 2 * before


def test_a_slow_subscriber_holds_no_lock() -> None:
    channel = InProcessInvalidation()
    inside, go_on = threading.Event(), threading.Event()

    def slow(key: Hashable) -> None:
        if key == "slow":
            inside.set()
            assert go_on.wait(PATIENCE)

    channel.subscribe(slow)
    thread = threading.Thread(target=channel.publish, args=("slow",), daemon=True)
    thread.start()
    assert inside.wait(PATIENCE)
    assert in_threads(lambda: channel.publish("quick")) == [None]
    go_on.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()

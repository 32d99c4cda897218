"""A channel kept a callback for every cache there ever was; one that raised hid the news."""

from __future__ import annotations

import gc
from collections.abc import Hashable

import pytest

from resilient import cache
from resilient.integrations.invalidation import InProcessInvalidation


@pytest.mark.rule("C6")
def test_caches_that_are_gone_leave_nothing_in_their_channel() -> None:
    channel = InProcessInvalidation()
    for _ in range(100):
        cache(10.0, invalidation=channel)
    kept = cache(10.0, invalidation=channel)
    gc.collect()
    channel.publish("k")
    assert len(channel._callbacks) == 1
    del kept
    gc.collect()
    channel.subscribe(lambda _: None)
    assert len(channel._callbacks) == 1


@pytest.mark.rule("C6")
def test_a_subscriber_that_raises_keeps_the_news_from_nobody() -> None:
    channel = InProcessInvalidation()
    error = OSError("the first")
    heard: list[Hashable] = []

    def fail(key: Hashable) -> None:
        heard.append(key)
        raise error if len(heard) == 1 else OSError("another")

    channel.subscribe(fail)
    channel.subscribe(fail)
    runs: list[int] = []
    fn = cache(10.0, invalidation=channel, key=lambda: "k")(lambda: runs.append(1))
    fn()
    with pytest.raises(OSError, match="the first") as caught:
        channel.publish("k")
    assert caught.value is error
    fn()
    assert (heard, len(runs)) == (["k", "k"], 2)
